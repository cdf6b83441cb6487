"""A circuit breaker: a model that fails again and again is left alone for a while, then tried with one call."""

from mixtura.errors import ModelError

# Few enough to spare a dead provider, enough for the proposers of one run to try again first.
_FAILURES = 8
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class CircuitBreaker:
    """Opens after `most` failures in a row; each time it opens again the pause is twice as long.

    Closed: calls pass. Open: no call passes until the pause is over. Then one call is let through as a probe, and its
    outcome closes or reopens the breaker.

    Attributes:
        failures: failures in a row.
        healthy: no failure is on record, so that a call need neither ask nor report.
        last_failure: class and reason of the latest failure.
    """

    __slots__ = ("_most", "_pause", "_probing", "_until", "failures", "healthy", "last_failure")

    def __init__(self, most: int = _FAILURES) -> None:
        self._most = most
        self.failures = 0
        self.healthy = True
        self.last_failure: tuple[type[ModelError], str] | None = None
        self._pause = _FIRST_PAUSE
        self._until: float | None = None
        self._probing: float | None = None

    def retry_in(self, now: float) -> float:
        """Return the seconds until a call may pass, 0 when one may now."""
        if self._until is None:
            return 0.0
        if self._probing is not None and now - self._probing < self._pause:
            return min(self._pause, self._pause - (now - self._probing))
        # More than the whole pause to go means that the clock was set back.
        left = self._until - now
        return 0.0 if left <= 0 or left > self._pause else left

    def enter(self, now: float) -> None:
        """Note that a call passes; on an open breaker it is the probe."""
        if self._until is not None:
            self._probing = now

    def record_success(self) -> None:
        """Note a call that was answered, or refused by a provider that works."""
        if self.failures or self._until is not None:
            self.failures = 0
            self.healthy = True
            self._pause = _FIRST_PAUSE
            self._until = self._probing = None

    def record_failure(self, now: float) -> None:
        """Note a call that failed because the provider does not work."""
        self.failures += 1
        self.healthy = False
        if self._until is not None and self._probing is not None:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._until, self._probing = now + self._pause, None
        elif self._until is None and self.failures >= self._most:
            self._until = now + self._pause

    def release_probe(self) -> None:
        """Note a call that was stopped before its outcome was known: another call may probe."""
        self._probing = None
