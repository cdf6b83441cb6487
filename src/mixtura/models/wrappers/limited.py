"""The limits of one key and model, kept: `Limited` wraps any model. See `limits/limiter.py` for the windows."""

import asyncio
import math
import weakref

import msgspec

from mixtura.chat import ChatRequest, Completion
from mixtura.errors import ModelError, OverloadedError, RateLimitedError, TooLargeError, UnreachableError
from mixtura.limits.account import Account, Quote, Sent
from mixtura.limits.breaker import Breaker
from mixtura.limits.limiter import Limiter, NoRoomError
from mixtura.limits.policy import TRIPS, UNCOUNTED
from mixtura.limits.window import DIMENSIONS
from mixtura.models.base import ChatModel, Emit
from mixtura.models.served import Accounting
from mixtura.tokens import estimate_messages, estimate_tokens


class Limited:
    """A model whose calls are counted against its windows before they are sent, and settled when they are answered.

    A call that does not fit waits in line; one that does not fit before its deadline, or never will, is not sent.
    Calls to a model, or a whole provider, that keeps failing are not sent either, until its breaker lets one try.
    """

    def __init__(self, model: ChatModel, provider: str, accounting: Accounting) -> None:
        self._model = model
        self._provider = provider
        self._accounting = accounting
        self._kept: tuple[weakref.ref[asyncio.AbstractEventLoop], tuple[Limiter, Account, Breaker]] | None = None

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`."""
        loop = asyncio.get_running_loop()
        limiter, account, shared = self._kept_for(loop)
        own = account.breaker
        well = shared.well and own.well
        if not well:
            self._check(request, (shared, own), loop.time())
        estimate = tokens = 0
        now = loop.time()
        if account.unlimited:
            sent = account.take(0, now)
        else:
            estimate = _prompt_tokens(request)
            tokens = account.reserve_for(estimate, request.max_tokens)
            sent = await self._send(limiter, account, request, tokens, deadline)
            now = loop.time()
        context = request.context
        if context is not None:
            context.begin(now)
        try:
            completion = await self._model.chat(request, emit=emit, deadline=deadline)
        except ModelError as error:
            if context is not None:
                context.pause()
            if isinstance(error, UNCOUNTED) and error.usage is None:
                wait = error.retry_after or 0.0 if error.action == "wait" else 0.0
                await limiter.refused(sent, exceeded=error.exceeded, wait=wait)
            else:
                limiter.lost(sent)
            _judge(error, shared, own, loop.time())
            raise
        except BaseException:
            limiter.lost(sent)
            shared.gave_up()
            own.gave_up()
            raise
        if not well:
            shared.succeeded()
            own.succeeded()
        timing = completion.timing
        account.latency.add(timing.total, timing.first_token, completion.usage.completion_tokens)
        if account.unlimited and completion.rate_limits is None:
            # Nothing is kept and nothing was told: nobody can be waiting for what this call leaves behind.
            account.lost(sent)
        else:
            await _settle(limiter, sent, completion, estimate, tokens - (request.max_tokens or 0))
        return completion

    def _kept_for(self, loop: asyncio.AbstractEventLoop) -> tuple[Limiter, Account, Breaker]:
        """Return what is kept about the model for the running loop; found once a loop."""
        known = self._kept
        if known is not None and known[0]() is loop:
            return known[1]
        limiter = self._accounting.limiter()
        found = limiter, self._accounting.account(limiter), limiter.breaker(self._accounting.group)
        # One assignment: another thread reads both or neither.
        self._kept = weakref.ref(loop), found
        return found

    async def _send(
        self, limiter: Limiter, account: Account, request: ChatRequest, tokens: int, deadline: float | None
    ) -> Sent:
        """Count the call as sent, out of what its run was promised where that is; wait in line where it is not."""
        hold = "" if request.context is None else request.context.draw(account.key, tokens)
        until = math.inf if deadline is None else deadline
        try:
            return await limiter.send(account, tokens, hold=hold, until=until)
        except NoRoomError as error:
            now = asyncio.get_running_loop().time()
            if account.guessing:
                # A guess may delay a call; only what is known may refuse it.
                return account.take(tokens, now)
            raise self._no_room(request, error.quote, now, deadline) from None

    def _check(self, request: ChatRequest, breakers: tuple[Breaker, Breaker], now: float) -> None:
        """Let the call pass both breakers, or raise what they have seen last."""
        for breaker in breakers:
            left = breaker.retry_in(now)
            if left > 0:
                kind, reason = breaker.last or (OverloadedError, "it kept failing")
                error = kind(
                    self._provider,
                    request.model,
                    f"not asked again for {left:.2g} s after {breaker.failures} failures in a row ({reason})",
                    retry_after=left,
                )
                error.sent = False
                raise error
        for breaker in breakers:
            breaker.enter(now)

    def _no_room(self, request: ChatRequest, quote: Quote, now: float, deadline: float | None) -> ModelError:
        """Return the error for a call that was not sent for want of room."""
        words = {str(name): words for name, (words, _) in DIMENSIONS.items()}.get(quote.dimension)
        window = f"{quote.limit:,.0f} {words}" if words else "its rate limit"
        if quote.wait == math.inf:
            error: ModelError = TooLargeError(
                self._provider,
                request.model,
                f"it asks for {quote.requested:,.0f} of {window}, {quote.requested - quote.limit:,.0f} too many: "
                "lower max_tokens or shorten the prompt; not sent",
            )
        else:
            left = "" if deadline is None else f", only {max(0.0, deadline - now):.3g} s are left"
            error = RateLimitedError(
                self._provider,
                request.model,
                f"it would have to wait {quote.wait:.4g} s for room in {window}{left}; not sent",
                retry_after=quote.wait,
            )
        error.sent = False
        return error


async def _settle(limiter: Limiter, sent: Sent, completion: Completion, estimate: int, reserved: int) -> None:
    """Close the books of an answered call: `reserved` tokens for a prompt that was estimated at `estimate`."""
    usage = completion.usage
    if usage.estimated:
        await limiter.settle(sent, headers=completion.rate_limits)
        return
    if sent.marks:
        sent.account.learn_estimate(estimate, usage.prompt_tokens)
    await limiter.settle(
        sent,
        headers=completion.rate_limits,
        actual=usage.total_tokens - usage.cached_tokens,
        cached=usage.cached_tokens,
        excess=reserved - usage.prompt_tokens,
    )


def _judge(error: ModelError, shared: Breaker, own: Breaker, now: float) -> None:
    """Tell the breakers what a failure says: of the provider when it cannot be reached, else of the model."""
    if not isinstance(error, TRIPS):
        # It was well enough to refuse.
        shared.succeeded()
        own.succeeded()
        return
    unreachable = isinstance(error, UnreachableError)
    breaker, other = (shared, own) if unreachable else (own, shared)
    breaker.last = (type(error), error.reason)
    breaker.failed(now)
    if unreachable:
        other.gave_up()
    else:
        other.succeeded()


def _prompt_tokens(request: ChatRequest) -> int:
    size = estimate_messages(request.messages)
    tools = request.options.tools
    return size + estimate_tokens(msgspec.json.encode(tools).decode()) if tools else size
