"""The queue before a machine, step by step: what it learns from which reply, and whom it lets through."""

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable

import pytest

from mixtura.limits.concurrency import ServerQueue, Visit
from mixtura.virtual import run_virtual

LONG, SHORT = 8, 7


async def entered(queue: ServerQueue) -> bool:
    """Say whether the next call is let through at once; if not, it goes away again."""
    try:
        visit = await asyncio.wait_for(queue.enter(), 0.001)
    except TimeoutError:
        return False
    queue.leave(visit, asyncio.get_running_loop().time())
    return True


def write(visit: Visit, pieces: int, at: float) -> None:
    for number in range(pieces):
        visit.piece(at + number / 100)


def step_by_step(main: Callable[[ServerQueue], Awaitable[None]], width: int | None = None) -> None:
    async def begin() -> None:
        # Long after the queue was made, so that nothing is a matter of the first moments.
        await asyncio.sleep(5000.0)
        await main(ServerQueue(width))

    run_virtual(begin())


async def wait_for_each_other(queue: ServerQueue, calls: int, *, pieces: int = LONG) -> None:
    """Have a machine with one slot answer so many calls, which were all sent at once."""
    clock = asyncio.get_running_loop().time
    visits = [await queue.enter() for _ in range(calls)]
    for visit in visits:
        await asyncio.sleep(1.0)
        write(visit, pieces, clock())
        await asyncio.sleep(1.0)
        queue.leave(visit, clock())


@pytest.mark.parametrize(
    ("calls", "pieces", "width"), [(2, LONG, None), (3, LONG, 1), (5, LONG, 1), (3, SHORT, None), (9, SHORT, None)]
)
def test_two_calls_in_a_row_that_waited_for_a_long_reply_show_the_width(
    calls: int, pieces: int, width: int | None
) -> None:
    async def main(queue: ServerQueue) -> None:
        await wait_for_each_other(queue, calls, pieces=pieces)
        assert queue.width == width

    step_by_step(main)


def test_replies_that_came_at_once_say_nothing_of_how_many_are_served() -> None:
    """Behind a proxy that reads whole replies the first piece of each comes with its last."""

    async def main(queue: ServerQueue) -> None:
        clock = asyncio.get_running_loop().time
        for _ in range(3):
            visits = [await queue.enter() for _ in range(6)]
            await asyncio.sleep(1.0)
            for visit in visits:
                await asyncio.sleep(0.001)
                for _ in range(20):
                    visit.piece(clock())
                queue.leave(visit, clock())
            assert queue.width is None

    step_by_step(main)


def test_a_call_that_did_not_wait_breaks_the_row() -> None:
    async def main(queue: ServerQueue) -> None:
        for _ in range(4):
            await wait_for_each_other(queue, 2)  # the second of them waited, the first did not
        assert queue.width is None

    step_by_step(main)


def test_calls_that_are_seen_to_write_at_once_break_the_row_too() -> None:
    async def main(queue: ServerQueue) -> None:
        clock = asyncio.get_running_loop().time
        visits = [await queue.enter() for _ in range(4)]
        write(visits[0], LONG, clock())
        queue.leave(visits[0], clock() + 1.0)
        await asyncio.sleep(2.0)
        write(visits[1], LONG, clock())  # the first that had to wait
        write(visits[2], LONG, clock())  # beside it: there are two slots
        queue.leave(visits[1], clock() + 1.0)
        await asyncio.sleep(2.0)
        write(visits[3], LONG, clock())  # the first that had to wait for one of two
        assert queue.width is None
        for visit in visits[2:]:
            queue.leave(visit, clock())

    step_by_step(main)


def test_a_reply_that_ended_before_a_call_was_sent_or_after_it_began_held_nothing_up() -> None:
    async def main(queue: ServerQueue) -> None:
        now = asyncio.get_running_loop().time()
        for _ in range(5):
            before = await queue.enter()
            write(before, LONG, now)
            queue.leave(before, now)
            after = await queue.enter()  # sent at the very moment of that end
            write(after, 1, now)
            queue.leave(after, now)
        assert queue.width is None

    step_by_step(main)


def test_as_many_as_were_seen_to_write_at_once_are_let_through() -> None:
    async def main(queue: ServerQueue) -> None:
        visits = [await queue.enter() for _ in range(5)]
        now = asyncio.get_running_loop().time()
        write(visits[0], LONG, now)
        write(visits[1], LONG, now)
        await asyncio.sleep(1.0)
        for ended, begun in ((0, 2), (1, 3)):
            queue.leave(visits[ended], now + 1.0)
            write(visits[begun], LONG, now + 2.0)
        assert queue.width == 2
        assert queue.waiting == 1
        for visit in visits[2:]:
            queue.leave(visit, now + 3.0)
        one, other = await queue.enter(), await queue.enter()
        assert not await entered(queue)
        queue.leave(one, now + 4.0)
        assert await entered(queue)
        queue.leave(other, now + 4.0)

    step_by_step(main)


def test_more_that_write_at_once_than_are_let_through_widen_it_and_wake_who_waits() -> None:
    async def main(queue: ServerQueue) -> None:
        await wait_for_each_other(queue, 3)
        assert queue.width == 1
        clock = asyncio.get_running_loop().time
        for _ in range(20):  # until one more is let through to see whether there are more slots
            visit = await queue.enter()
            probe = asyncio.create_task(queue.enter())
            await asyncio.sleep(0.1)
            if probe.done():
                break
            probe.cancel()
            await asyncio.wait([probe])
            queue.leave(visit, clock())
        waiting = asyncio.create_task(queue.enter())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        visit.piece(clock())
        (await probe).piece(clock())
        assert queue.width == 2
        queue.leave(visit, clock())
        await asyncio.wait_for(waiting, 1.0)

    step_by_step(main)


@pytest.mark.parametrize(("pause", "width"), [(599.0, 1), (601.0, None)])
def test_ten_minutes_without_a_call_and_the_machine_is_a_new_one(pause: float, width: int | None) -> None:
    async def main(queue: ServerQueue) -> None:
        await wait_for_each_other(queue, 3)
        await asyncio.sleep(pause)
        queue.leave(await queue.enter(), asyncio.get_running_loop().time())
        assert queue.width == width
        if width is None:
            await wait_for_each_other(queue, 2)
            assert queue.width is None, "what was seen before counts for nothing"

    step_by_step(main)


def test_a_machine_that_works_for_ten_minutes_is_not_forgotten() -> None:
    async def main(queue: ServerQueue) -> None:
        await wait_for_each_other(queue, 3)
        visit = await queue.enter()
        await asyncio.sleep(3000.0)
        assert not await entered(queue)
        assert queue.width == 1
        queue.leave(visit, asyncio.get_running_loop().time())

    step_by_step(main)


def test_a_stated_width_is_never_exceeded_to_try_whether_there_is_more() -> None:
    async def main(queue: ServerQueue) -> None:
        clock = asyncio.get_running_loop().time
        first = await queue.enter()
        for _ in range(40):
            second = await queue.enter()
            assert not await entered(queue)
            first.piece(clock())
            second.piece(clock())
            queue.leave(second, clock())
        assert queue.width == 2

    step_by_step(main, 2)


def test_a_learned_width_is_exceeded_by_one_after_sixteen_calls_and_not_again_for_sixteen() -> None:
    async def main(queue: ServerQueue) -> None:
        clock = asyncio.get_running_loop().time
        await wait_for_each_other(queue, 3)
        probed: list[int] = []
        for number in range(4, 60):
            visit = await queue.enter()
            beside = asyncio.create_task(queue.enter())
            await asyncio.sleep(0.01)
            if beside.done():
                probed.append(number)
                assert not await entered(queue), "one more, not two"
                queue.leave(beside.result(), clock())
            beside.cancel()
            await asyncio.wait([beside])
            queue.leave(visit, clock())
        # A call that is let through beside the others counts as one, too.
        assert [after - before for before, after in itertools.pairwise(probed)] == [16, 16]

    step_by_step(main)


def test_a_call_has_begun_when_it_was_sent_or_when_the_one_before_its_first_piece_ended() -> None:
    async def main(queue: ServerQueue) -> None:
        now = asyncio.get_running_loop().time()
        one, other, third = [await queue.enter() for _ in range(3)]
        assert (other.begun, other.last) == (now, now)
        queue.leave(one, now + 3.0)
        assert other.begun == now + 3.0
        other.piece(now + 5.0)
        queue.leave(third, now + 9.0)
        assert other.begun == now + 3.0, "an end after its first piece did not hold it up"
        assert (other.first, other.last, other.pieces) == (now + 5.0, now + 5.0, 1)
        other.piece(now + 6.0)
        assert (other.first, other.last, other.pieces) == (now + 5.0, now + 6.0, 2)
        assert queue.ended_before(now + 2.9) == float("-inf")
        assert queue.ended_before(now + 3.0) == now + 3.0
        assert queue.ended_before(now + 50.0) == now + 9.0
        queue.leave(other, now + 9.0)

    step_by_step(main)


def test_the_machine_stirs_with_every_piece_and_every_end_of_any_call() -> None:
    async def main(queue: ServerQueue) -> None:
        now = asyncio.get_running_loop().time()
        one, other = await queue.enter(), await queue.enter()
        assert one.stirred == now
        other.piece(now + 1.0)
        assert one.stirred == now + 1.0
        other.piece(now + 2.0)
        assert one.stirred == now + 2.0
        assert queue.ended == float("-inf")
        queue.leave(other, now + 3.0)
        assert (one.stirred, queue.ended) == (now + 3.0, now + 3.0)
        queue.leave(one, now + 4.0)

    step_by_step(main)


def test_a_machine_is_busy_with_a_whole_reply_of_another_call_and_not_with_one_s_own() -> None:
    async def main(queue: ServerQueue) -> None:
        now = asyncio.get_running_loop().time()
        one, other = await queue.enter(), await queue.enter()
        other.streamed = True
        assert (one.busy, other.busy) == (False, True)
        queue.leave(one, now)
        assert not other.busy
        queue.leave(other, now)

    step_by_step(main)


def test_places_are_given_in_order_and_one_that_is_given_up_goes_to_the_next() -> None:
    async def main(queue: ServerQueue) -> None:
        clock = asyncio.get_running_loop().time
        first = await queue.enter()
        tasks = [asyncio.create_task(queue.enter()) for _ in range(4)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in tasks)
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        queue.leave(first, clock())
        tasks[1].cancel()  # in the very moment in which it is let through
        await asyncio.sleep(0.1)
        assert [task.done() for task in tasks] == [True, True, True, False]
        assert [task.cancelled() for task in tasks[:3]] == [True, True, False]
        queue.leave(tasks[2].result(), clock())
        await asyncio.sleep(0.1)
        queue.leave(await tasks[3], clock())
        assert await entered(queue)
        assert not queue.visits

    step_by_step(main, 1)


def test_who_comes_while_others_wait_stands_behind_them() -> None:
    async def main(queue: ServerQueue) -> None:
        clock = asyncio.get_running_loop().time
        first = await queue.enter()
        waiting = asyncio.create_task(queue.enter())
        await asyncio.sleep(0.1)
        queue.leave(first, clock())
        late = asyncio.create_task(queue.enter())  # there is a place, and it is the other's
        await asyncio.sleep(0.1)
        assert waiting.done()
        assert not late.done()
        queue.leave(await waiting, clock())
        queue.leave(await late, clock())

    step_by_step(main, 1)


def test_a_place_in_a_loop_that_was_closed_goes_to_the_next() -> None:
    queue = ServerQueue(1)
    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(queue.enter())

    async def wait_for_ever() -> None:
        gone = asyncio.ensure_future(queue.enter())
        await asyncio.sleep(0)
        queue.kept = gone  # type: ignore[attr-defined]  # nobody cancels it: its loop ends as a thread's may

    elsewhere = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: elsewhere.run_until_complete(wait_for_ever()))
    thread.start()
    thread.join()
    elsewhere.close()
    queue.leave(first, 1.0)
    visit = loop.run_until_complete(asyncio.wait_for(queue.enter(), 5.0))
    queue.leave(visit, 2.0)
    queue.kept._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


def test_a_forked_process_begins_with_an_empty_machine_and_keeps_its_width() -> None:
    async def main(queue: ServerQueue) -> None:
        await queue.enter()
        waiting = asyncio.create_task(queue.enter())
        await asyncio.sleep(0.1)
        queue.forget()
        assert not queue.visits
        assert await entered(queue)
        assert queue.width == 1
        waiting.cancel()

    step_by_step(main, 1)
