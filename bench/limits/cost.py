"""What keeping limits costs a call: microseconds of CPU that `Limited` adds to a model that does nothing."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bench.limits.table import Table
from bench.measure import Spread
from mixtura.chat import ChatRequest, Completion, Message, RateLimitHeaders, Timing, Usage
from mixtura.engine.progress import Progress
from mixtura.limits.current import current_limiter
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need
from mixtura.limits.window import Limits
from mixtura.models.base import Emit
from mixtura.models.served import Accounting
from mixtura.models.wrappers.limited import Limited

ROUNDS = 9
CALLS = 10_000
_BOUND = 50.0
_PROMPT, _MOST, _WRITTEN = 200, 1024, 170
_PLENTY = Limits(rpm=100_000_000, rpd=2_000_000_000, tpm=100_000_000_000, tpd=2_000_000_000_000)
_QUESTION = "Explain the tradeoffs between B-tree and LSM-tree indexes for write-heavy workloads, in some detail. " * 8

Call = Callable[[], Awaitable[object]]


class IdleModel:
    """A model that does nothing, and states its limits as a provider's headers would."""

    def __init__(self, headers: RateLimitHeaders | None) -> None:
        self._completion = Completion(
            model="idle",
            text="Yes.",
            usage=Usage(prompt_tokens=_PROMPT, completion_tokens=_WRITTEN),
            timing=Timing(total=0.5, first_token=0.1),
            rate_limits=headers,
        )

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Return the same completion at once."""
        return self._completion


def _request(context: Progress | None = None) -> ChatRequest:
    messages = (Message(role="user", content=_QUESTION),)
    return ChatRequest(model="idle", messages=messages, max_tokens=_MOST, context=context)


def bare() -> Call:
    """A call of the model itself."""
    model, request = IdleModel(None), _request()

    async def call() -> None:
        await model.chat(request)

    return call


def open_account() -> Call:
    """A call where no limits are known."""
    model, request = Limited(IdleModel(None), "bench", Accounting(key="bench/open", group="bench")), _request()

    async def call() -> None:
        await model.chat(request)

    return call


def known_account(limits: Limits = _PLENTY) -> Call:
    """A call against four windows, two of which every reply states."""
    headers = RateLimitHeaders(limits.rpd, (limits.rpd or 0) - 1, limits.tpm, (limits.tpm or 0) - _PROMPT - _MOST)
    accounting = Accounting(key="bench/known", group="bench", limits=limits, known=True)
    model, request = Limited(IdleModel(headers), "bench", accounting), _request()

    async def call() -> None:
        await model.chat(request)

    return call


def whole_run(limits: Limits = _PLENTY) -> Call:
    """Four calls of a run that is admitted as a whole: three drafts of two models, and the answer of a third."""
    headers = RateLimitHeaders(limits.rpd, (limits.rpd or 0) - 1, limits.tpm, (limits.tpm or 0) - _PROMPT - _MOST)
    limiter: Limiter = current_limiter()
    models, needs = [], []
    for name, count in (("small", 2), ("other", 1), ("large", 1)):
        accounting = Accounting(key=f"bench/{name}", group="bench", limits=limits, known=True)
        models += [Limited(IdleModel(headers), "bench", accounting)] * count
        needs.append(Need(accounting.account(limiter).key, 2 * count * (_PROMPT + _MOST), count))

    async def call() -> None:
        hold = await limiter.admit(needs)
        for model in models:
            await model.chat(_request(Progress("idle", "idle", hold)))
        await hold.close()

    return call


class CallKind(NamedTuple):
    """A way to call, and how many calls of a model one such call makes."""

    make: Callable[[], Call]
    calls: int = 1


KINDS = {
    "no limits known": CallKind(open_account),
    "four windows, headers told": CallKind(known_account),
    "the same, run of four admitted as a whole": CallKind(whole_run, 4),
}


async def _round(call: Call, calls: int, at_once: int = 1) -> float:
    gc.collect()
    begun = time.process_time()
    for _ in range(calls // at_once):
        await call()
    return (time.process_time() - begun) / calls * 1e6


async def measure(rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, Spread]:
    """Return what each kind of call takes beyond the bare one of the same round, in microseconds of CPU."""
    made = {name: (kind.make(), kind.calls) for name, kind in KINDS.items()}
    without = bare()
    found: dict[str, list[float]] = {name: [] for name in made}
    for call, at_once in made.values():
        await _round(call, calls // 10, at_once)
    for _ in range(rounds):
        nothing = await _round(without, calls)
        for name, (call, at_once) in made.items():
            found[name].append(await _round(call, calls, at_once) - nothing)
    return {name: Spread.of(values) for name, values in found.items()}


def table(found: Table, rounds: int = ROUNDS, calls: int = CALLS) -> None:
    """Add the rows."""
    for name, spread in asyncio.run(measure(rounds, calls)).items():
        shown = f"{spread.median:.1f} us ({spread.low:.1f} to {spread.high:.1f})"
        found.add(f"CPU of limits a call, {name}", spread.median, shown, _BOUND, " us")
