"""Ask from the threads of a pool: one `Mixture` for all of them, and an error that says what a client is told.

The runs share one event loop in a thread of their own, so that waiting threads cost nothing but themselves.
"""

from concurrent.futures import ThreadPoolExecutor

from mixtura import MixturaError, Mixture

MIXTURE = Mixture("toy")  # made once: it may be shared between threads
QUESTIONS = (
    "Leo has 12 shells. He finds 30 more. How many shells does Leo have now?",
    "Leo owns 6 bags with 16 shells in each. How many shells does Leo have?",
    "",
)


def ask(question: str) -> str:
    """Return the last line of the answer, or the status and the sentence of an error."""
    try:
        return MIXTURE.ask_sync(question, deadline=20).text.splitlines()[-1]
    except MixturaError as error:
        return f"{error.status or 502} {error.message}"


if __name__ == "__main__":
    with ThreadPoolExecutor(4) as threads:
        for said in threads.map(ask, QUESTIONS):
            print(said)
