"""Answer questions in worker processes: a job of RQ, which forks a process for each job; Celery's prefork is alike.

    rq worker --path examples questions       # the worker; REDIS_URL names the server of both
    python examples/rq_worker.py              # asks, and waits for the answer

Questions and answers cross between processes, and errors do. A `Mixture` holds keys and does not: each process has
its own, made when this module is imported.
"""

import os

from redis import Redis
from rq import Queue

from mixtura import Answer, Mixture

MIXTURE = Mixture("toy")


def answer(question: str) -> dict[str, object]:
    """Return the answer as plain data, which any serializer takes."""
    return MIXTURE.ask_sync(question, deadline=30).to_dict()


def main() -> None:
    """Ask two questions of the workers."""
    queue = Queue("questions", connection=Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")))
    for question in ("Leo has 12 shells. He finds 30 more. How many shells does Leo have now?", ""):
        # By name: run as a program, this module is not the one that a worker imports.
        result = queue.enqueue("rq_worker.answer", question).latest_result(timeout=60)
        if result is not None and result.return_value is not None:
            print(Answer.from_dict(result.return_value).text)
        elif result is not None:
            print(str(result.exc_string).strip().splitlines()[-1])


if __name__ == "__main__":
    main()
