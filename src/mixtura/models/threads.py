"""An executor with a daemon thread per job, for calls to synchronous clients and C libraries."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from mixtura.ending import start_daemon

_P = ParamSpec("_P")
_Result = TypeVar("_Result")


class DaemonThreads(Executor):
    """Runs each job in a daemon thread of its own.

    On small machines the loop's default executor has fewer threads than a mixture has drafts. Its threads also keep
    the process alive until the last call ends, even when its caller has been cancelled.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def submit(self, fn: Callable[_P, _Result], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_Result]:
        """Start `fn` in a new thread and return the future of its result; see `start_daemon` for the interpreter's end.

        Raises:
            RuntimeError: the system cannot start another thread.
        """
        outcome: Future[_Result] = Future()

        def run() -> None:
            try:
                outcome.set_result(fn(*args, **kwargs))
            except StopIteration as error:
                # A future of asyncio cannot hold one.
                outcome.set_exception(RuntimeError(f"StopIteration: {error}"))
            except BaseException as error:  # noqa: BLE001  # the future passes it to the waiting task
                outcome.set_exception(error)

        outcome.set_running_or_notify_cancel()
        start_daemon(run, self._name)
        return outcome
