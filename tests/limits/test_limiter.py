"""Waiting in line for the windows of a key: in order, in threads, for whole mixtures, and never for ever."""

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtura.chat import RateLimitHeaders
from mixtura.engine.progress import Progress
from mixtura.limits.account import Account, Quote
from mixtura.limits.current import current_limiter
from mixtura.limits.limiter import Limiter, NoRoomError
from mixtura.limits.queue import PATIENCE, Need, Priority
from mixtura.limits.window import LeakyBucket, Limits, Window
from mixtura.virtual import run_virtual

FREE = Limits(rpm=30, rpd=1000, tpm=8000, tpd=200_000)


def limiter(**accounts: Limits) -> Limiter:
    """A limiter of its own with known accounts."""
    made = Limiter()
    for name, limits in (accounts or {"a": FREE}).items():
        made.account(name, limits, known=True)
    return made


def virtually(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return run_virtual(main())


def test_calls_that_do_not_fit_wait_and_leave_in_the_order_they_came() -> None:
    async def main() -> list[tuple[int, float]]:
        keeper, left = limiter(), []
        loop = asyncio.get_running_loop()

        async def call(number: int) -> None:
            sent = await keeper.send(keeper.accounts["a"], 4000)
            left.append((number, loop.time()))
            await keeper.settle(sent, headers=None)

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(call(number))
        return left

    left = virtually(main)
    assert [number for number, _ in left] == list(range(6))
    # Two fit nearly at once (what is kept free drains first), then one every 30 seconds: 4,000 of 8,000 a minute.
    assert [at for _, at in left] == pytest.approx([0, 0, 30, 60, 90, 120], abs=0.2)


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.floats(0, 90), st.integers(1, 6000), st.sampled_from(list(Priority)), st.floats(0, 20)),
        min_size=1,
        max_size=40,
    )
)
def test_no_window_is_ever_exceeded_whoever_asks_for_what(calls: list[tuple[float, int, Priority, float]]) -> None:
    async def main() -> list[tuple[float, int]]:
        keeper, left = limiter(), []
        loop = asyncio.get_running_loop()

        async def call(start: float, tokens: int, priority: Priority, takes: float) -> None:
            await asyncio.sleep(start)
            sent = await keeper.send(keeper.accounts["a"], tokens, priority=priority)
            left.append((loop.time(), tokens))
            await asyncio.sleep(takes)
            await keeper.settle(sent)

        async with asyncio.TaskGroup() as group:
            for row in calls:
                group.create_task(call(*row))
        return left

    left = virtually(main)
    assert len(left) == len(calls)
    tokens, requests = LeakyBucket(Window(8000, 60)), LeakyBucket(Window(30, 60))
    for at, amount in left:
        assert tokens.wait(amount, at) == 0
        assert requests.wait(1, at) == 0
        tokens.take(amount, at)
        requests.take(1, at)


def test_a_mixture_is_promised_all_it_needs_or_nothing() -> None:
    async def main() -> None:
        keeper = limiter(a=FREE, b=FREE)
        keeper.accounts["b"].take(6000, 0.0)
        waiting = asyncio.create_task(keeper.admit([Need("a", 5000, 2), Need("b", 4000, 1)]))
        await asyncio.sleep(0)
        assert keeper.accounts["a"].held_tokens == 0
        hold = await waiting
        assert keeper.accounts["a"].held_tokens == 5000
        assert keeper.accounts["b"].held_requests == 1
        assert asyncio.get_running_loop().time() == pytest.approx((6000 + 4000 - 8000) / (8000 / 60), abs=0.3)
        await hold.close()
        assert keeper.accounts["a"].held_tokens == keeper.accounts["b"].held_requests == 0

    virtually(main)


def test_no_run_can_take_what_another_holds_for_its_aggregator() -> None:
    async def main() -> None:
        keeper = limiter()
        account = keeper.accounts["a"]
        hold = await keeper.admit([Need("a", 7000, 2)])
        other = asyncio.create_task(keeper.admit([Need("a", 7000, 2)]))
        draft = await keeper.send(account, 3000, hold=hold.id)
        await asyncio.sleep(5)
        assert not other.done()
        await keeper.settle(draft)
        began = asyncio.get_running_loop().time()
        aggregate = await keeper.send(account, 4000, hold=hold.id)
        assert asyncio.get_running_loop().time() == began
        await keeper.settle(aggregate)
        await hold.close()
        await (await other).close()

    virtually(main)


def test_interactive_runs_go_before_batch_ones_that_came_first() -> None:
    async def main() -> list[str]:
        keeper, order = limiter(), []
        keeper.accounts["a"].take(8000, 0.0)

        async def run(name: str, priority: Priority) -> None:
            hold = await keeper.admit([Need("a", 3000)], priority=priority)
            order.append(name)
            await keeper.settle(await keeper.send(keeper.accounts["a"], 3000, hold=hold.id))
            await hold.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(run("batch", Priority.BATCH))
            await asyncio.sleep(0)
            group.create_task(run("first", Priority.INTERACTIVE))
            group.create_task(run("second", Priority.INTERACTIVE))
        return order

    assert virtually(main) == ["first", "second", "batch"]


def test_a_batch_is_not_starved_by_a_stream_of_interactive_runs() -> None:
    async def main() -> float:
        keeper = limiter()
        account = keeper.accounts["a"]
        account.take(8000, 0.0)
        loop = asyncio.get_running_loop()
        batch = asyncio.create_task(keeper.admit([Need("a", 4000)], priority=Priority.BATCH))
        running: set[asyncio.Task[None]] = set()

        async def interactive() -> None:
            await keeper.settle(await keeper.send(account, 2000, priority=Priority.INTERACTIVE))

        while not batch.done() and loop.time() < 1000:
            running.add(asyncio.create_task(interactive()))
            await asyncio.sleep(10)
        for task in running:
            task.cancel()
        return loop.time()

    assert virtually(main) < PATIENCE + 120


def test_what_cannot_fit_before_its_deadline_is_refused_at_once_with_the_time_it_would_take() -> None:
    async def main() -> None:
        keeper = limiter()
        keeper.accounts["a"].take(8000, 0.0)
        with pytest.raises(NoRoomError) as refused:
            await keeper.send(keeper.accounts["a"], 4000, until=10.0)
        assert asyncio.get_running_loop().time() == 0
        assert refused.value.quote.wait == pytest.approx(30.1, abs=0.1)
        with pytest.raises(NoRoomError) as never:
            await keeper.send(keeper.accounts["a"], 9000)
        assert never.value.quote.wait == math.inf

    virtually(main)


def test_a_waiter_that_is_cancelled_leaves_its_place_to_the_next() -> None:
    async def main() -> None:
        keeper = limiter()
        account = keeper.accounts["a"]
        account.take(8000, 0.0)
        first = asyncio.create_task(keeper.send(account, 8000))
        await asyncio.sleep(0)
        second = asyncio.create_task(keeper.send(account, 100))
        await asyncio.sleep(3)
        assert not second.done()
        first.cancel()
        await second
        assert asyncio.get_running_loop().time() < 4

    virtually(main)


def test_a_guess_paces_by_one_call_until_a_reply_tells_better() -> None:
    async def main() -> None:
        keeper = Limiter()
        account = keeper.account("a", FREE, plans=(FREE, Limits(rpm=1000, tpm=250_000)))
        sent = [await keeper.send(account, 3900) for _ in range(2)]
        third = asyncio.create_task(keeper.send(account, 3900))
        await asyncio.sleep(0.5)
        assert not third.done()
        await keeper.settle(sent[0], headers=RateLimitHeaders(None, None, 250_000, 246_000))
        await third
        assert asyncio.get_running_loop().time() < 1
        assert account.limits == Limits(rpm=1000, tpm=250_000)
        # A guess refuses nothing and is promised nothing: a whole run begins, and its calls are paced.
        other = keeper.account("b", FREE)
        assert keeper.quote([Need("b", 10**6)]).wait == 0
        await keeper.send(other, 10**6)

    virtually(main)


def test_a_call_draws_on_the_hold_of_its_run_for_one_attempt_only() -> None:
    async def main() -> None:
        keeper = limiter()
        hold = await keeper.admit([Need("a", 5000, 2)], owed={"a": 3000})
        first, late = Progress("p", "a", hold), Progress("p", "a", hold, held=False)
        assert first.draw("a", 2500) == hold.id
        assert first.draw("a", 2500) == ""
        assert keeper.accounts["a"].owed_tokens == 500
        assert late.draw("a", 500) == ""
        assert keeper.accounts["a"].owed_tokens == 0
        await hold.close()

    virtually(main)


def test_what_a_run_owes_is_forgotten_when_it_ends_or_never_begins() -> None:
    async def main() -> None:
        keeper = limiter()
        account = keeper.accounts["a"]
        hold = await keeper.admit([], owed={"a": 3000})
        assert account.owed_tokens == 3000
        await hold.close()
        account.take(8000, 0.0)
        with pytest.raises(NoRoomError):
            await keeper.admit([Need("a", 4000)], owed={"a": 2000}, until=5.0)
        assert account.owed_tokens == account.held_tokens == 0

    virtually(main)


def test_threads_share_the_windows_of_a_process() -> None:
    limits = Limits(tpm=600_000)
    keeper = limiter(a=limits)
    account = keeper.accounts["a"]
    # 590,000 of 600,000 are in use: of the 20,000 that four threads ask for, half has to wait for about a second.
    begun = threading_time()
    account.take(590_000, begun)
    left: list[float] = []
    lock = threading.Lock()

    async def work() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(10):
            sent = await keeper.send(account, 500)
            with lock:
                left.append(loop.time())
            await keeper.settle(sent)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(left) == 40
    assert account.in_flight == 1
    window = LeakyBucket(Window(600_000, 60))
    window.take(590_000, begun)
    for at in sorted(left):
        assert window.wait(500, at) == 0
        window.take(500, at)
    assert max(left) - begun > 0.9


def threading_time() -> float:
    async def now() -> float:
        return asyncio.get_running_loop().time()

    return asyncio.run(now())


def test_loops_with_a_clock_of_their_own_keep_windows_of_their_own() -> None:
    async def find() -> Limiter:
        return current_limiter()

    virtual = run_virtual(find())
    assert asyncio.run(find()) is asyncio.run(find())
    assert asyncio.run(find()) is not virtual


def test_waiting_for_hours_costs_no_busy_loop() -> None:
    turns = 0

    async def main() -> None:
        nonlocal turns
        keeper = limiter(a=Limits(rpd=24))
        account: Account = keeper.accounts["a"]
        looked = account.quote

        def counted(*args: Any, **named: Any) -> Any:
            nonlocal turns
            turns += 1
            return looked(*args, **named)

        account.quote = counted  # type: ignore[method-assign]  # to count how often anybody looks
        for _ in range(30):
            await keeper.settle(await keeper.send(account, 1))
        assert asyncio.get_running_loop().time() > 5 * 3600

    virtually(main)
    assert turns < 30 + 6 * 3600 / 30 * 2


def test_a_hold_says_what_is_left_of_it_for_each_account() -> None:
    async def main() -> tuple[int, int]:
        keeper = limiter(a=FREE, b=FREE)
        hold = await keeper.admit([Need("a", 4000, 2)])
        await keeper.send(keeper.accounts["a"], 1500, hold=hold.id)
        return hold.tokens("a"), hold.tokens("b")

    assert virtually(main) == (2500, 0)


def test_only_breakers_that_nobody_uses_are_forgotten_with_the_accounts_at_rest() -> None:
    async def main() -> None:
        keeper = limiter(**{f"a{number}": FREE for number in range(300)})
        used, unused = keeper.breaker("used"), keeper.breaker("unused")
        keeper.drop_idle(lambda: {"used", "a0"})
        assert list(keeper.accounts) == ["a0"]
        assert keeper.breaker("used") is used
        assert keeper.breaker("unused") is not unused

    virtually(main)


def test_who_is_not_first_behind_a_guess_waits_to_be_woken() -> None:
    class Counted(Limiter):
        quotes = 0

        def quote(self, needs: Sequence[Need], priority: Priority = Priority.INTERACTIVE) -> Quote:
            self.quotes += 1
            return super().quote(needs, priority)

    async def main() -> int:
        keeper = Counted()
        account = keeper.account("a", FREE)
        sent = await keeper.send(account, 8000)
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(keeper.send(account, 4000))
            await asyncio.sleep(20)
            await keeper.settle(sent, headers=RateLimitHeaders(1e6, 1e6, 1e6, 1e6))
        return keeper.quotes

    assert virtually(main) < 20
