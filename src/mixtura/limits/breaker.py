"""A circuit breaker: what fails again and again is left alone for a while, then tried with one call."""

from mixtura.errors import ModelError

# Few enough to spare a dead provider, enough for the proposers of one run to try again first.
_FAILURES = 8
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Breaker:
    """Opens after `failures` failures in a row; each time it opens again the pause is twice as long.

    Closed: calls pass. Open: none does until the pause is over. Then one call is let through, and its outcome decides.
    `failures` counts those in a row, `last` is the class and reason of the latest. `well`: nothing has failed of late,
    so there is nothing to ask and nothing to note.
    """

    __slots__ = ("_most", "_pause", "_probing", "_until", "failures", "last", "well")

    def __init__(self, most: int = _FAILURES) -> None:
        self._most = most
        self.failures = 0
        self.well = True
        self.last: tuple[type[ModelError], str] | None = None
        self._pause = _FIRST_PAUSE
        self._until: float | None = None
        self._probing: float | None = None

    def retry_in(self, now: float) -> float:
        """Return the seconds until a call may pass, 0 when one may now. Asking changes nothing."""
        if self._until is None:
            return 0.0
        if self._probing is not None and now - self._probing < self._pause:
            return min(self._pause, self._pause - (now - self._probing))
        # More than the whole pause to go means that the clock was set back.
        left = self._until - now
        return 0.0 if left <= 0 or left > self._pause else left

    def enter(self, now: float) -> None:
        """Note that a call passes; on an open breaker it is the one that probes."""
        if self._until is not None:
            self._probing = now

    def succeeded(self) -> None:
        """Note a call that was answered, or refused by a provider that is well."""
        if self.failures or self._until is not None:
            self.failures = 0
            self.well = True
            self._pause = _FIRST_PAUSE
            self._until = self._probing = None

    def gave_up(self) -> None:
        """Note a call that was stopped before its outcome: it says nothing, and frees the probe."""
        self._probing = None

    def failed(self, now: float) -> None:
        """Note a call that failed for want of a working provider."""
        self.failures += 1
        self.well = False
        if self._until is not None and self._probing is not None:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._until, self._probing = now + self._pause, None
        elif self._until is None and self.failures >= self._most:
            self._until = now + self._pause
