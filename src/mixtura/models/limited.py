"""The limits of one key and model, kept: `Limited` wraps any model. See `limits/admission.py` for the windows."""

import asyncio
import math

import msgspec

from mixtura.chat import ChatRequest, Completion
from mixtura.errors import ModelError, OverloadedError, RateLimitedError, TooLargeError, UnreachableError
from mixtura.limits.account import Quote
from mixtura.limits.admission import Claim, NoRoomError
from mixtura.limits.breaker import Breaker
from mixtura.limits.policy import TRIPS, UNCOUNTED
from mixtura.limits.window import DIMENSIONS
from mixtura.models.base import Accounting, ChatModel, Emit
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

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`."""
        limiter = self._accounting.limiter()
        account = self._accounting.account(limiter)
        clock = asyncio.get_running_loop().time
        shared = limiter.breaker(self._accounting.group)
        self._check(request, (shared, account.breaker), clock())
        estimate = 0 if account.open else _prompt_tokens(request)
        claim = request.claim if isinstance(request.claim, Claim) else Claim(None)
        try:
            sent = await limiter.send(
                account,
                account.reserve_for(estimate, request.max_tokens),
                hold=claim.hold,
                until=math.inf if deadline is None else deadline,
            )
        except NoRoomError as error:
            raise self._no_room(request, error.quote, clock(), deadline) from None
        claim.begin(clock())
        try:
            completion = await self._model.chat(request, emit=emit, deadline=deadline)
        except ModelError as error:
            claim.pause()
            if isinstance(error, UNCOUNTED):
                wait = error.retry_after or 0.0 if error.action == "wait" else 0.0
                await limiter.refused(sent, exceeded=error.exceeded, wait=wait)
            else:
                limiter.lost(sent)
            _judge(error, shared, account.breaker, clock())
            raise
        except BaseException:
            limiter.lost(sent)
            shared.gave_up()
            account.breaker.gave_up()
            raise
        shared.succeeded()
        account.breaker.succeeded()
        usage, timing = completion.usage, completion.timing
        account.pace.add(timing.total, timing.first_token, usage.completion_tokens)
        told = completion.told
        if sent.marks and not usage.estimated:
            account.learn_estimate(estimate, usage.prompt_tokens)
        await limiter.settle(
            sent,
            told=told,
            actual=None if usage.estimated else usage.total_tokens - usage.cached_tokens,
            cached=0 if usage.estimated else usage.cached_tokens,
        )
        return completion

    def _check(self, request: ChatRequest, breakers: tuple[Breaker, Breaker], now: float) -> None:
        """Let the call pass both breakers, or raise what they have seen last."""
        for breaker in breakers:
            left = breaker.closed_in(now)
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
