"""The one place where a failed call is tried again: `Retrying` wraps any model.

What may be tried again is the error's own word (`ModelError.action`): "retry" after a growing, jittered pause,
"wait" after as long as the provider says, the rest never.
"""

import asyncio
import random

import msgspec

from mixtura.chat import ChatRequest, Completion, Delta, Timing
from mixtura.errors import ModelError, RateLimitedError
from mixtura.models.base import ChatModel, Emit


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how patiently a call is tried.

    Pauses are `base` seconds, doubled each time up to `cap`, of which a random half is taken off. `max_wait`
    bounds a wait the provider asks for when the caller set no deadline.
    """

    attempts: int = 4
    base: float = 0.25
    cap: float = 8.0
    max_wait: float = 60.0

    def pause(self, attempt: int, rng: random.Random) -> float:
        """Return the seconds to pause after the `attempt`-th attempt failed (the first is 1)."""
        return min(self.cap, self.base * 2.0 ** (attempt - 1)) * rng.uniform(0.5, 1.0)


class Retrying:
    """A model whose passing failures are tried again, within the deadline and never after a piece was shown."""

    def __init__(self, model: ChatModel, policy: RetryPolicy, rng: random.Random) -> None:
        self._model = model
        self._policy = policy
        self._rng = rng

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`, in as many attempts as it takes and the policy allows. See `ChatModel.chat`."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        shown = False

        def watched(delta: Delta) -> None:
            nonlocal shown
            shown = True
            assert emit is not None
            emit(delta)

        attempt, waited = 1, 0.0
        while True:
            tried = clock()
            try:
                completion = await self._model.chat(request, emit=None if emit is None else watched, deadline=deadline)
            except ModelError as error:
                error.attempts = attempt
                if shown:
                    raise
                pause = self._pause(error, attempt, None if deadline is None else deadline - clock())
                if pause is None:
                    raise
            else:
                return completion if attempt == 1 else _counted(completion, attempt, waited, tried - begun)
            paused = clock()
            await asyncio.sleep(pause)
            waited += clock() - paused
            attempt += 1

    def _pause(self, error: ModelError, attempt: int, left: float | None) -> float | None:
        """Return the seconds until the next attempt, None when there shall be none.

        Raises:
            RateLimitedError: the provider asks for a longer wait than there is time for.
        """
        if error.action not in ("retry", "wait") or attempt >= self._policy.attempts:
            return None
        pause = self._policy.pause(attempt, self._rng)
        if error.retry_after is not None:
            pause = error.retry_after if error.action == "wait" else max(error.retry_after, pause)
        allowed = self._policy.max_wait if left is None else left
        if pause < allowed or (left is None and pause == allowed):
            return pause
        if isinstance(error, RateLimitedError):
            raise _too_long(error, pause, left, allowed) from error
        return None


def _too_long(error: RateLimitedError, pause: float, left: float | None, allowed: float) -> RateLimitedError:
    if left is None:
        limit = f"without a deadline at most {allowed:g} s are waited"
    else:
        limit = f"only {max(0.0, left):.3g} s are left"
    return RateLimitedError(
        error.provider,
        error.model,
        f"it would have to wait {pause:.4g} s, {limit}: {error.reason}",
        status=error.status,
        code=error.code,
        retry_after=error.retry_after,
        attempts=error.attempts,
    )


def _counted(completion: Completion, attempts: int, waited: float, before: float) -> Completion:
    """Return `completion` with the attempts before it counted in; `before` is the seconds they took."""
    timing = completion.timing
    return msgspec.structs.replace(
        completion,
        attempts=attempts,
        timing=Timing(
            total=timing.total + before,
            queue=timing.queue,
            first_token=None if timing.first_token is None else timing.first_token + before,
            waited=timing.waited + waited,
        ),
    )
