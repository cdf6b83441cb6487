"""What a limiter raises unexpectedly costs the counting of a call, never the call or its answer.

A limiter, or its store, may be handed in and is then a caller's own code. This is the one place that catches whatever
such code raises.
"""

from types import TracebackType
from typing import Protocol

from mixtura.errors import MixturaError
from mixtura.limits.store import NoRoomError


class ReportsFailures(Protocol):
    """The part of a limiter that `FailSafe` reports to."""

    def report_failure(self, error: Exception) -> None:
        """See `Limiter.report_failure`."""


class FailSafe:
    """A context manager, to be used any number of times, around operations of `limiter`.

    An unexpected error ends the block, is reported to the limiter (`Limiter.report_failure`), and goes no further.
    `passes` are the errors that are expected: by default those that say that a call may not be sent.
    """

    __slots__ = ("_limiter", "_passes")

    def __init__(
        self, limiter: ReportsFailures, *, passes: tuple[type[BaseException], ...] = (NoRoomError, MixturaError)
    ) -> None:
        self._limiter = limiter
        self._passes = passes

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # A cancellation is not an Exception, so it always passes.
        if not isinstance(error, Exception) or isinstance(error, self._passes):
            return False
        self._limiter.report_failure(error)
        return True
