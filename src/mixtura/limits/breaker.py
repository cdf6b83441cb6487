"""A circuit breaker: a model that fails again and again is left alone for a while, then tried with one call."""

from typing import NamedTuple

from mixtura.errors import ModelError, followed

# Few enough to spare a dead provider, enough for the proposers of one run to try again first.
_FAILURES = 8
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class LastFailure(NamedTuple):
    """What the latest failure was: its class, what the provider said, and from when on it may be asked again."""

    kind: type[ModelError]
    reason: str
    status: int | None
    code: str
    retry_at: float | None


class CircuitBreaker:
    """Opens after `most` failures in a row; each time it opens again the pause is twice as long.

    Closed: calls pass. Open: no call passes until the pause is over. Then one call is let through as a probe, and its
    outcome closes or reopens the breaker.

    Attributes:
        failures: failures in a row.
        healthy: no failure is on record, so that a call need neither ask nor report.
        last_failure: the latest failure; None before the first.
    """

    __slots__ = ("_most", "_pause", "_probing", "_until", "failures", "healthy", "last_failure")

    def __init__(self, most: int = _FAILURES) -> None:
        self._most = most
        self.failures = 0
        self.healthy = True
        self.last_failure: LastFailure | None = None
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

    def record_failure(self, error: ModelError, now: float) -> None:
        """Note a call that failed because the provider does not work."""
        wait = error.retry_after
        retry_at = None if wait is None else now + wait
        self.last_failure = LastFailure(type(error), error.reason, error.status, error.code, retry_at)
        self.failures += 1
        self.healthy = False
        if self._until is not None and self._probing is not None:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._until, self._probing = now + self._pause, None
        elif self._until is None and self.failures >= self._most:
            self._until = now + self._pause

    def refusal(self, provider: str, model: str, now: float) -> ModelError | None:
        """Return the error for a call that may not pass, None when it may: the latest failure, and how long it counts.

        Its `retry_after` is the longer of the pause that is left and of what the provider asked for.
        """
        left, last = self.retry_in(now), self.last_failure
        if left <= 0 or last is None:
            return None
        pause = f"not asked again for {left:.2g} s after {self.failures} failures in a row"
        wait = left if last.retry_at is None else max(left, last.retry_at - now)
        error = last.kind(
            provider, model, followed(last.reason, pause), status=last.status, code=last.code, retry_after=wait
        )
        error.sent = False
        return error

    def release_probe(self) -> None:
        """Note a call that was stopped before its outcome was known: another call may probe."""
        self._probing = None
