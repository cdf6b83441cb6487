"""Windows in Redis against windows in memory: the same operations, on clocks that stand still, say the same."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import servers
from mixtura.chat import RateLimitHeaders
from mixtura.errors import Exceeded
from mixtura.limits.account import SentCall
from mixtura.limits.limiter import Hold, Limiter, NoRoomError
from mixtura.limits.queue import Need, Priority
from mixtura.limits.redis.store import RedisStore
from mixtura.limits.window import DIMENSIONS, Limits

pytestmark = pytest.mark.server

BEGUN, INTERACTIVE, BATCH = Priority
KEYS = (f"equal-{number}" for number in itertools.count())


class StillLoop(asyncio.SelectorEventLoop):
    """An event loop whose time a test sets."""

    now = 1_000.0

    def time(self) -> float:
        return self.now


class Pair:
    """The same operations on a limiter of this process and on one in Redis; both have to say the same."""

    def __init__(self, runner: asyncio.Runner, loop: StillLoop, clock: servers.RedisClock, url: str) -> None:
        self.run: Callable[[Any], Any] = runner.run
        self._loop = loop
        self._clock = clock
        self._url = url
        self.store = RedisStore(url)
        self.both = (Limiter(), Limiter(self.store))
        self.holds: list[tuple[Hold, Hold]] = []
        self.sent: list[tuple[SentCall, SentCall]] = []
        self.key = ""

    def begin(self, limits: Limits, known: bool, plans: list[Limits]) -> None:
        """Begin with a new account."""
        self.key = next(KEYS)
        self.holds, self.sent = [], []
        for limiter in self.both:
            limiter.account(self.key, limits, known=known, plans=plans)

    async def pass_time(self, seconds: float) -> None:
        """Let both clocks go on."""
        self._loop.now += seconds
        self._clock.set(self._clock.now + seconds)

    async def book(self, tokens: int, requests: int) -> None:
        """Try to hold."""
        name = next(KEYS)
        pair = (Hold(self.both[0], name, 1e6), Hold(self.both[1], name, 1e6))
        waits = []
        for limiter, hold in zip(self.both, pair, strict=True):
            quote = await limiter.store.book(hold, [Need(self.key, tokens, requests)], f"{hold.id}@0", INTERACTIVE)
            waits.append((quote.wait, quote.dimension))
            await self._leave(f"{hold.id}@0")
        self._same(*waits)
        if waits[0][0] <= 0:
            self.holds.append(pair)

    async def take(self, tokens: int, number: int) -> None:
        """Try to send, out of a hold or none."""
        holds = self.holds[number % len(self.holds)] if self.holds and number % 3 else (None, None)
        said: list[Any] = []
        for limiter, hold in zip(self.both, holds, strict=True):
            try:
                said.append(await limiter.store.take(limiter.accounts[self.key], tokens, hold, "t@0", BEGUN))
            except NoRoomError as error:
                said.append((error.quote.wait, error.quote.dimension))
            await self._leave("t@0")
        one, two = said
        if isinstance(one, SentCall):
            assert isinstance(two, SentCall)
            self.sent.append((one, two))
        else:
            self._same(one, two)

    async def learn(self, number: int, headers: RateLimitHeaders | None) -> None:
        """Hear the head of one call's reply."""
        if self.sent:
            for limiter, sent in zip(self.both, self.sent[number % len(self.sent)], strict=True):
                if not sent.told:
                    await limiter.learn(sent, headers)

    async def settle(
        self, number: int, headers: RateLimitHeaders | float | None, actual: int | None, cached: int
    ) -> None:
        """Count the outcome of one call; a number says what share of all that was not used the headers give back."""
        if self.sent:
            pair = self.sent.pop(number % len(self.sent))
            mark = (pair[0].snapshots or {}).get("tpm")
            if isinstance(headers, float):
                level = max(0.0, mark.level - headers * pair[0].unused) if mark is not None else 0.0
                headers = RateLimitHeaders(None, None, 6_000, round(max(0.0, 6_000 - level)))
            for limiter, sent in zip(self.both, pair, strict=True):
                await limiter.settle(sent, headers=headers, actual=actual, cached=cached, excess=cached % 7 - 3)

    async def refused(self, number: int, exceeded: Exceeded | None, wait: float) -> None:
        """Count the outcome of one call that was refused."""
        if self.sent:
            for limiter, sent in zip(self.both, self.sent.pop(number % len(self.sent)), strict=True):
                await limiter.refused(sent, exceeded=exceeded, wait=wait)

    async def close(self, number: int) -> None:
        """Close a hold."""
        if self.holds:
            for hold in self.holds.pop(number % len(self.holds)):
                await hold.close()

    async def _leave(self, name: str) -> None:
        await self.store.leave(name)

    def check(self) -> None:
        """Both believe the same."""
        one, two = (limiter.accounts[self.key] for limiter in self.both)
        assert not self.both[1].degraded
        assert (one.limits, one.known, one.unlimited, one.in_flight) == (
            two.limits,
            two.known,
            two.unlimited,
            two.in_flight,
        )
        assert (one.held_tokens, one.held_requests) == (two.held_tokens, two.held_requests)
        assert one.gives_back == two.gives_back
        for name in DIMENSIONS:
            if name in one.buckets:
                levels = [account.buckets[name].level(self._loop.now) for account in (one, two)]
                assert levels[0] == pytest.approx(levels[1], abs=1e-3)

    @staticmethod
    def _same(one: tuple[float, str], two: tuple[float, str]) -> None:
        assert one[0] == pytest.approx(two[0], abs=1e-3, rel=1e-6)
        # Where two windows ask for the same wait, either may be named.
        assert one[1] == two[1] or one[0] > 0


tokens = st.integers(1, 700) | st.integers(1, 3_000) | st.sampled_from([4_000, 6_000])
number = st.integers(0, 9)
left = st.none() | st.integers(0, 6_000)
stated = st.builds(
    RateLimitHeaders, st.sampled_from([None, 1_000]), left, st.sampled_from([None, 6_000, 6_000, 8_000]), left
)
told = st.one_of(st.sampled_from([None, -0.3, 0.0, 0.6, 0.9, 1.0]), stated)
exceeded = st.none() | st.builds(
    Exceeded, st.sampled_from(["rpm", "tpm", ""]), st.sampled_from([30.0, 6_000.0]), st.none() | st.integers(0, 7_000)
)
step = st.one_of(
    st.tuples(st.just("pass_time"), (st.integers(0, 3_000) | st.integers(0, 60_000)).map(lambda ms: ms / 1_000)),
    st.tuples(st.just("book"), tokens, st.integers(1, 3)),
    st.tuples(st.just("take"), tokens, number),
    st.tuples(st.just("take"), tokens, number),
    st.tuples(st.just("take"), tokens, number),
    st.tuples(st.just("learn"), number, st.none() | stated),
    st.tuples(st.just("settle"), number, told, st.integers(0, 300), st.integers(0, 50)),
    st.tuples(st.just("settle"), number, told, st.none() | st.integers(0, 3_000), st.integers(0, 50)),
    st.tuples(st.just("refused"), number, exceeded, st.sampled_from([0.0, 3.0])),
    st.tuples(st.just("close"), number),
)
PLAN = Limits(rpm=30, rpd=1_000, tpm=6_000)


def test_one_process_cannot_tell_redis_from_its_own_memory(clock: servers.RedisClock, redis_url: str) -> None:
    loop = StillLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        pair = Pair(runner, loop, clock, redis_url)

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            limits=st.sampled_from([PLAN, Limits(tpm=4_000, tpd=9_000), Limits()]),
            known=st.booleans(),
            plans=st.sampled_from([[], [PLAN]]),
            steps=st.lists(step, min_size=5, max_size=50),
        )
        def same(limits: Limits, known: bool, plans: list[Limits], steps: list[tuple[Any, ...]]) -> None:
            pair.begin(limits, known, plans)
            pair.run(pair.store.sync([pair.store.replica(pair.key)]))
            for name, *args in steps:
                pair.run(getattr(pair, name)(*args))
                pair.check()

        same()
