"""A daemon thread for each job: what a synchronous client, or a library of C, is called from."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_Result = TypeVar("_Result")


class DaemonThreads(Executor):
    """Runs each job in a daemon thread of its own.

    The loop's default executor has too few threads on small machines for the drafts of one mixture, and its
    threads keep the process from ending until the last call, which nobody may be waiting for any more, is over.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def submit(self, fn: Callable[_P, _Result], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_Result]:
        """Begin `fn` in a new thread and return the future of what comes of it.

        Raises:
            RuntimeError: no thread could be started.
        """
        outcome: Future[_Result] = Future()

        def run() -> None:
            try:
                outcome.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # carried to the task that waits, which raises it
                outcome.set_exception(error)

        outcome.set_running_or_notify_cancel()
        threading.Thread(target=run, name=self._name, daemon=True).start()
        return outcome
