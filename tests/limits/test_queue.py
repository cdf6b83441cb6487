"""The waiting queue: who is first, who waits behind whom, and who is woken."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import PATIENCE, Need, Priority, TicketQueue
from mixtura.limits.window import Limits
from mixtura.virtual import run_virtual

BEGUN, INTERACTIVE, BATCH = Priority


def virtually(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_virtual(main())


def test_a_ticket_waits_behind_those_of_its_own_priority_and_of_those_before_it() -> None:
    async def main() -> None:
        queue = TicketQueue()
        assert queue.ahead("a", BATCH) == (0, 0)
        tickets = [
            queue.join([Need("a", 100, 1)], BEGUN, 0.0),
            queue.join([Need("a", 20, 2)], INTERACTIVE, 0.0),
            queue.join([Need("a", 3, 4), Need("b", 5, 6)], BATCH, 0.0),
        ]
        assert [queue.ahead("a", priority) for priority in Priority] == [(100, 1), (120, 3), (123, 7)]
        assert [queue.ahead("b", priority) for priority in Priority] == [(0, 0), (0, 0), (5, 6)]
        queue.leave(tickets[1])
        assert queue.ahead("a", BATCH) == (103, 5)
        queue.leave(tickets[1])
        assert queue.ahead("a", BATCH) == (103, 5), "one that has left leaves once"

    virtually(main)


def test_a_quote_counts_what_waits_already_at_the_same_priority() -> None:
    async def main() -> None:
        limiter = Limiter()
        account = limiter.account("a", Limits(tpm=6000), known=True)
        account.take(6000, 0.0)
        alone = limiter.quote([Need("a", 1000)]).wait
        waiting = asyncio.create_task(limiter.send(account, 2000, priority=INTERACTIVE))
        await asyncio.sleep(0.0)
        await asyncio.sleep(0.0)
        behind = limiter.quote([Need("a", 1000)]).wait
        assert behind == pytest.approx(alone + 20.0, abs=0.5)
        assert limiter.quote([Need("a", 1000)], BEGUN).wait == pytest.approx(alone, abs=0.5)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert limiter.quote([Need("a", 1000)]).wait == pytest.approx(alone, abs=0.5)

    virtually(main)


def test_who_is_first_follows_priority_then_arrival_and_a_batch_that_has_waited_counts_as_interactive() -> None:
    async def main() -> None:
        queue = TicketQueue()
        batch = queue.join([Need("a", 1)], BATCH, 0.0)
        first = queue.join([Need("a", 1), Need("b", 1)], INTERACTIVE, 1.0)
        second = queue.join([Need("a", 1), Need("c", 1)], INTERACTIVE, 1.0)
        assert [queue.first(ticket, 2.0) for ticket in (batch, first, second)] == [False, True, False]
        assert batch.ages_in(2.0) == PATIENCE - 2.0
        assert queue.first(batch, PATIENCE), "it came before both"
        begun = queue.join([Need("a", 1)], BEGUN, 3.0)
        assert not queue.first(batch, PATIENCE), "a run under way goes before it all the same"
        for ticket in (begun, batch, first):
            queue.leave(ticket)
        assert queue.first(second, PATIENCE)
        assert queue.free("b", BATCH, 4.0)
        assert not queue.has_waiters("b")

    virtually(main)


@pytest.mark.parametrize(
    ("waits", "asks", "now", "free"),
    [
        (INTERACTIVE, BEGUN, 1.0, True),
        (INTERACTIVE, INTERACTIVE, 1.0, False),
        (INTERACTIVE, BATCH, 1.0, False),
        (BATCH, INTERACTIVE, 1.0, True),
        (BATCH, INTERACTIVE, PATIENCE, False),
    ],
)
def test_the_way_is_free_for_whom_nobody_of_the_same_rank_waits(
    waits: Priority, asks: Priority, now: float, free: bool
) -> None:
    async def main() -> None:
        queue = TicketQueue()
        queue.join([Need("a", 1)], waits, 0.0)
        assert queue.free("a", asks, now) is free
        assert queue.free("elsewhere", asks, now)

    virtually(main)


def test_whoever_leaves_wakes_the_next_of_every_priority_and_a_nudge_before_the_wait_is_not_lost() -> None:
    async def main() -> None:
        queue, clock = TicketQueue(), asyncio.get_running_loop().time
        first = queue.join([Need("a", 1)], INTERACTIVE, 0.0)
        second = queue.join([Need("a", 1)], INTERACTIVE, 0.0)
        third = queue.join([Need("a", 1)], INTERACTIVE, 0.0)
        batch = queue.join([Need("a", 1)], BATCH, 0.0)
        woken = [asyncio.create_task(ticket.wait(50.0)) for ticket in (second, third, batch)]
        await asyncio.sleep(1.0)
        queue.leave(first)
        await asyncio.wait([woken[0], woken[2]])
        assert clock() == pytest.approx(1.0)
        assert not woken[1].done(), "it is not the next"
        await woken[1]
        assert clock() == pytest.approx(50.0)
        second.nudge()
        await second.wait(10.0)
        assert clock() == pytest.approx(50.0)
        new, failed = queue.join([Need("a", 1)], BATCH, 50.0), []
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: failed.append(problem))
        new.nudge()
        await new.wait(10.0)
        assert clock() == pytest.approx(50.0)
        assert failed == []
        await second.wait(10.0)
        assert clock() == pytest.approx(60.0), "one nudge wakes once"

    virtually(main)


def test_a_nudge_before_the_wait_is_not_lost_and_breaks_nothing() -> None:
    async def main() -> tuple[float, list[object]]:
        loop, broken = asyncio.get_running_loop(), list[object]()
        loop.set_exception_handler(lambda _loop, context: broken.append(context))
        ticket = TicketQueue().join([Need("a", 1)], Priority.BEGUN, 0.0)
        ticket.nudge()
        await asyncio.sleep(1.0)
        await ticket.wait(100.0)
        return loop.time(), broken

    assert run_virtual(main()) == (1.0, [])
