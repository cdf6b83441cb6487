"""The one place where a failed call is tried again: `Retrying` wraps any model.

What may be tried again is the error's own word (`ModelError.action`): "retry" after a growing, jittered pause,
"wait" after as long as the provider says, the rest never.
"""

import asyncio
import random

import msgspec

from mixtura.chat import ChatRequest, Completion, Delta, Timing, Usage
from mixtura.errors import BrokenReplyError, ModelError, OverloadedError, followed
from mixtura.limits.policy import may_be_billed
from mixtura.limits.window import in_words
from mixtura.models.base import ChatModel, Emit


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how patiently a call is tried.

    `attempts` counts the tries that may fail for passing reasons. Rate limits are waited for on top, as long as the
    deadline allows, since many calls that share one limit clear it one after the other: `waits` times as long as the
    provider says, and then `cap` seconds at the least. Pauses are `base` seconds, doubled each time up to `cap`, of
    which a random half is taken off. A `patient` call counts no overload among its attempts: one machine that is busy
    will be there. Nor does any call count that its model is still loaded. `max_wait` bounds all waiting of a call
    without deadline.
    """

    attempts: int = 4
    waits: int = 12
    patient: bool = False
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
        wasted: Usage | None = None
        cause: ModelError | None = None
        repeats, waits = self._policy.attempts - 1, 0
        while True:
            tried = clock()
            try:
                completion = await self._model.chat(request, emit=None if emit is None else watched, deadline=deadline)
            except ModelError as error:
                error.attempts = attempt
                if error.usage is not None:
                    wasted = error.usage if wasted is None else wasted + error.usage
                if request.context is not None and (error.usage is not None or (error.sent and may_be_billed(error))):
                    # The engine may stop this call before it ends, and has to know what it took by then.
                    request.context.waste(error.usage)
                if isinstance(error, BrokenReplyError) and error.alike:
                    # It came whole. One more try tells a slip from a server that always answers so.
                    repeats = min(repeats, 1)
                repeats -= error.action == "retry" and not self._waits_for(error)
                waits += error.action == "wait"
                if shown or repeats < 0 or error.action not in ("retry", "wait"):
                    error.usage = wasted
                    raise
                if error.sent and request.context is not None and (dear := request.context.refuse_repeat()):
                    error.usage = wasted
                    raise _reworded(error, followed(error.reason, dear)) from error
                left = None if deadline is None else deadline - clock()
                pause = self._pause(error, attempt, waits, left)
                refused = self._refusal(pause, waited, left)
                if refused:
                    error.usage = wasted
                    if error.sent:
                        raise _too_long(error, pause, refused) from error
                    # One that was not even sent says itself why.
                    if cause is None:
                        raise
                    raise _after(error, cause) from error
                cause = error if error.sent else cause
            else:
                if attempt == 1:
                    return completion
                return _counted(completion, Timing(total=tried - begun, waited=waited), attempt, wasted)
            paused = clock()
            await asyncio.sleep(pause)
            waited += clock() - paused
            attempt += 1

    def _waits_for(self, error: ModelError) -> bool:
        """Say whether a failure of a busy machine is waited for, however often it comes."""
        return isinstance(error, OverloadedError) and (self._policy.patient or error.loading)

    def _pause(self, error: ModelError, attempt: int, waits: int, left: float | None) -> float:
        """Return the seconds until the next attempt: the provider's word where it gave one and its word was good."""
        told = error.retry_after if error.action == "wait" else None
        if told is not None and waits > self._policy.waits:
            return max(told, self._policy.cap)
        # "At once" is taken at its word one time; a provider that keeps saying it is not asked in a tight loop.
        if told is not None and (attempt == 1 or told >= self._policy.base):
            return told
        pause, asked = self._policy.pause(attempt, self._rng), error.retry_after or 0.0
        # How long a model still loads is a guess, and a rough one: it may be there before the time is up.
        guess = isinstance(error, OverloadedError) and error.loading
        return pause if guess and asked >= (self._policy.max_wait if left is None else left) else max(pause, asked)

    def _refusal(self, pause: float, waited: float, left: float | None) -> str:
        """Say why a pause is too long to begin; "" when it is not. `left` are the seconds to the deadline."""
        if left is None:
            too_long = waited + pause > self._policy.max_wait
            return f"without a deadline at most {self._policy.max_wait:g} s are waited" if too_long else ""
        return f"only {max(0.0, left):.3g} s are left" if pause >= left else ""


def _too_long(error: ModelError, pause: float, refused: str) -> ModelError:
    """Return the same error, saying why it was not waited for; what is wrong with the provider comes first."""
    wait = f"it would have to wait {in_words(pause)}, {refused}"
    reason = f"{wait}: {error.reason}" if error.action == "wait" else followed(error.reason, wait)
    return _reworded(error, reason)


def _after(error: ModelError, cause: ModelError) -> ModelError:
    """Return an error that kept a call from being sent again, with the failure that made it necessary."""
    reason = error.reason
    # A circuit breaker that opened on that very failure says it already.
    if not reason.startswith(cause.reason.rstrip(".")):
        reason += f"; the attempt before failed: {cause.reason}"
    return _reworded(error, reason)


def _reworded(error: ModelError, reason: str) -> ModelError:
    """Return the same error with another reason."""
    late = type(error)(
        error.provider,
        error.model,
        reason,
        status=error.status,
        code=error.code,
        retry_after=error.retry_after,
        attempts=error.attempts,
    )
    late.exceeded, late.usage, late.sent = error.exceeded, error.usage, error.sent
    return late


def _counted(completion: Completion, before: Timing, attempts: int, wasted: Usage | None) -> Completion:
    """Return `completion` with the attempts `before` it counted in."""
    timing = completion.timing
    return msgspec.structs.replace(
        completion,
        attempts=attempts,
        timing=Timing(
            total=timing.total + before.total,
            queue=timing.queue,
            first_token=None if timing.first_token is None else timing.first_token + before.total,
            waited=timing.waited + before.waited,
        ),
        wasted=wasted,
    )
