"""`Limited` wraps any model and keeps its calls within the rate limits of its key. See `limits/limiter.py`."""

import asyncio
import math
import weakref
from functools import partial

import msgspec

from mixtura.chat import ChatRequest, Completion, RateLimitHeaders
from mixtura.errors import BlockedError, ModelError, OverloadedError, RateLimitedError, TooLargeError, UnreachableError
from mixtura.limits.account import Account, Quote, SentCall
from mixtura.limits.breaker import CircuitBreaker
from mixtura.limits.failsafe import FailSafe
from mixtura.limits.limiter import Limiter, NoRoomError
from mixtura.limits.policy import TRIPS, may_be_billed
from mixtura.limits.window import DIMENSIONS, in_words
from mixtura.models.base import ChatModel, Emit
from mixtura.models.openai.formats import format_words
from mixtura.models.served import Accounting
from mixtura.tokens import estimate_messages, estimate_tokens


class _Counting(msgspec.Struct, frozen=True):
    """What counts a model's calls in the event loop that `loop` refers to.

    `shared` is the breaker of the whole provider. `before` and `after` keep failures of the limiter from a call that
    is not sent yet, and from one whose outcome is there already.
    """

    loop: weakref.ref[asyncio.AbstractEventLoop]
    limiter: Limiter
    account: Account
    shared: CircuitBreaker
    before: FailSafe
    after: FailSafe


class Limited:
    """A model whose calls are counted against its windows before they are sent, and settled when they are answered.

    A call that does not fit waits in the queue. A call that cannot fit before its deadline, or never will, is not sent;
    nor is a call to a model, or a provider, that keeps failing, until its circuit breaker lets one through as a probe.
    A limiter that fails costs no call and no answer: the call is then sent uncounted, and its answer stands.
    """

    def __init__(self, model: ChatModel, provider: str, accounting: Accounting) -> None:
        self._model = model
        self._provider = provider
        self._accounting = accounting
        self._counting: _Counting | None = None

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request`. See `ChatModel.chat`."""
        loop = asyncio.get_running_loop()
        counting = self._counting
        if counting is None or counting.loop() is not loop:
            counting = self._look_up(loop)
        account, shared = counting.account, counting.shared
        own = account.breaker
        healthy = shared.healthy and own.healthy
        if not healthy:
            self._check(request, (shared, own), loop.time())
        estimate = tokens = 0
        call: SentCall | None = None
        if account.unlimited and not account.is_blocked(now := loop.time()):
            call = account.take(0, now)
        else:
            estimate = _prompt_tokens(request)
            tokens = account.reserve_for(estimate, request.max_tokens)
            with counting.before:
                call = await self._send(counting, request, tokens, deadline)
        context = request.context
        if context is not None:
            context.begin(loop.time())
            context.on_answered = partial(_learn, counting, call) if account.guessing and call is not None else None
        try:
            completion = await self._model.chat(request, emit=emit, deadline=deadline)
        except ModelError as error:
            if context is not None:
                context.pause()
            await _end_failed(counting, call, error)
            _record_failure(error, shared, own, loop.time())
            raise
        except BaseException:
            _end_lost(counting, call)
            shared.release_probe()
            own.release_probe()
            raise
        if not healthy:
            shared.record_success()
            own.record_success()
        timing = completion.timing
        account.latency.add(timing.total, timing.first_token, completion.usage.completion_tokens)
        if call is None:
            return completion
        if account.unlimited and completion.rate_limits is None:
            # The account has no windows and the reply states none, so nothing can wait for what this call leaves.
            account.abandon(call)
        else:
            await _settle(counting, call, completion, estimate, tokens - (request.max_tokens or 0))
        return completion

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> _Counting:
        """Return what counts calls in the running loop, and remember it for the next call."""
        limiter = self._accounting.limiter()
        before, after = FailSafe(limiter), FailSafe(limiter, passes=())
        with before:
            shared = limiter.breaker(self._accounting.group)
            account = self._accounting.open(limiter)
            # One assignment: another thread reads all of it or nothing.
            self._counting = counting = _Counting(weakref.ref(loop), limiter, account, shared, before, after)
            return counting
        # The limiter failed. This call goes out uncounted, and the next one asks the limiter again.
        return _Counting(weakref.ref(loop), limiter, Account(self._accounting.key), CircuitBreaker(), before, after)

    async def _send(self, counting: _Counting, request: ChatRequest, tokens: int, deadline: float | None) -> SentCall:
        """Count the call as sent: out of its run's hold, or else after waiting in the queue."""
        account = counting.account
        hold = "" if request.context is None else request.context.draw(account.key, tokens)
        until = math.inf if deadline is None else deadline
        try:
            return await counting.limiter.send(account, tokens, hold=hold, until=until)
        except NoRoomError as error:
            now = asyncio.get_running_loop().time()
            if account.guessing and account.in_flight == 0:
                # A guess may delay a call; only a limit that is known may refuse it. While others are under way, they
                # are the test: a call that they leave no time is too late.
                return account.take(tokens, now)
            raise self._no_room(request, error.quote, now, deadline) from None

    def _check(self, request: ChatRequest, breakers: tuple[CircuitBreaker, CircuitBreaker], now: float) -> None:
        """Let the call pass both breakers, or raise the latest failure that one of them has seen."""
        for breaker in breakers:
            refusal = breaker.refusal(self._provider, request.model, now)
            if refusal is not None:
                raise refusal
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
                f"it would have to wait {in_words(quote.wait)} for room in {window}{left}; not sent",
                retry_after=quote.wait,
            )
        error.sent = False
        return error


async def _learn(counting: _Counting, call: SentCall, headers: RateLimitHeaders | None) -> None:
    """Learn from the head of a reply what limits there are, while they are a guess that other calls wait for."""
    if call.account.guessing:
        with counting.after:
            await counting.limiter.learn(call, headers)


async def _settle(counting: _Counting, call: SentCall, completion: Completion, estimate: int, reserved: int) -> None:
    """Count the outcome of an answered call: `reserved` tokens for a prompt that was estimated at `estimate`."""
    usage = completion.usage
    limiter = counting.limiter
    with counting.after:
        if usage.estimated:
            await limiter.settle(call, headers=completion.rate_limits)
            return
        if call.snapshots:
            call.account.learn_estimate(estimate, usage.prompt_tokens)
        await limiter.settle(
            call,
            headers=completion.rate_limits,
            actual=usage.total_tokens - usage.cached_tokens,
            cached=usage.cached_tokens,
            excess=reserved - usage.prompt_tokens,
        )
        return
    call.account.abandon(call)


async def _end_failed(counting: _Counting, call: SentCall | None, error: ModelError) -> None:
    """Count a call that failed: one that the provider refused is taken back, and what the refusal says is learned."""
    if call is None:
        return
    if may_be_billed(error) or error.usage is not None:
        _end_lost(counting, call)
        return
    wait = error.retry_after or 0.0 if error.action == "wait" else 0.0
    with counting.after:
        await counting.limiter.refused(call, exceeded=error.exceeded, wait=wait)
        return
    call.account.abandon(call)


def _end_lost(counting: _Counting, call: SentCall | None) -> None:
    """Count a call that broke off: what it took stays taken."""
    if call is not None:
        with counting.after:
            counting.limiter.lost(call)
            return
        call.account.abandon(call)


def _record_failure(error: ModelError, shared: CircuitBreaker, own: CircuitBreaker, now: float) -> None:
    """Record a failure with the provider's breaker when it cannot be reached, else with the model's."""
    loading = isinstance(error, OverloadedError) and error.loading
    if isinstance(error, BlockedError) or not error.sent or loading:
        # What is in the way on this side, or is lacking on this machine, says nothing about the provider. And a model
        # that is still loaded is waited for, as one that answers late.
        shared.release_probe()
        own.release_probe()
        return
    if not isinstance(error, TRIPS):
        # The provider worked well enough to refuse.
        shared.record_success()
        own.record_success()
        return
    unreachable = isinstance(error, UnreachableError)
    breaker, other = (shared, own) if unreachable else (own, shared)
    breaker.record_failure(error, now)
    if unreachable:
        other.release_probe()
    else:
        other.record_success()


def _prompt_tokens(request: ChatRequest) -> int:
    size = estimate_messages(request.messages)
    options = request.options
    if options.tools:
        size += estimate_tokens(msgspec.json.encode(options.tools).decode())
    if options.response_format is not None or options.extra:
        size += estimate_tokens(format_words(options))
    if options.extra:
        # What a further field means is not known here; a long one is most often something that the model reads.
        size += estimate_tokens(msgspec.json.encode(options.extra).decode())
    return size
