"""The queue before a machine: how many it serves is learned, and nobody who waits is forgotten."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtura.limits.concurrency import ServerQueue, Visit
from mixtura.virtual import run_virtual


class Server:
    """A server of so many slots, as the visits to a queue see it; `there` counts the calls that it has not answered."""

    def __init__(self, queue: ServerQueue, slots: int) -> None:
        self.queue = queue
        self.slots = asyncio.Semaphore(slots)
        self.there = self.most = 0

    async def call(self, first: float = 2.0, pieces: int = 20, gap: float = 0.1) -> Visit:
        clock = asyncio.get_running_loop().time
        visit = await self.queue.enter()
        visit.streamed = True
        self.there += 1
        self.most = max(self.most, self.there)
        try:
            async with self.slots:
                await asyncio.sleep(first)
                for _ in range(pieces):
                    visit.piece(clock())
                    await asyncio.sleep(gap)
        finally:
            self.there -= 1
            self.queue.leave(visit, clock())
        return visit


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_calls_that_had_to_wait_for_others_show_how_many_slots_there_are(slots: int) -> None:
    async def main() -> None:
        server = Server(ServerQueue(), slots)
        await asyncio.gather(*(server.call() for _ in range(slots + 4)))
        assert server.most == slots + 4
        assert server.queue.width == slots
        server.most = 0
        await asyncio.gather(*(server.call() for _ in range(slots + 4)))
        # One more is let through now and then, to see whether there are more slots.
        assert server.most <= slots + 1

    run_virtual(main())


def test_more_slots_are_noticed() -> None:
    async def main() -> None:
        queue = ServerQueue()
        small = Server(queue, 1)
        await asyncio.gather(*(small.call() for _ in range(4)))
        assert queue.width == 1
        large = Server(queue, 3)
        await asyncio.gather(*(large.call() for _ in range(120)))
        assert queue.width == 3

    run_virtual(main())


def test_short_replies_that_do_not_overlap_prove_nothing() -> None:
    async def main() -> None:
        server = Server(ServerQueue(), 8)
        for _ in range(20):
            await asyncio.gather(server.call(first=1.0, pieces=1, gap=0.01), server.call(first=1.2, pieces=1, gap=0.01))
        assert server.queue.width is None

    run_virtual(main())


def test_what_was_learned_is_forgotten_after_a_while() -> None:
    async def main() -> None:
        server = Server(ServerQueue(), 1)
        await asyncio.gather(*(server.call() for _ in range(4)))
        assert server.queue.width == 1
        await asyncio.sleep(601)
        await server.call()
        assert server.queue.width is None

    run_virtual(main())


def test_a_width_that_is_known_is_kept() -> None:
    async def main() -> None:
        server = Server(ServerQueue(2), 8)
        await asyncio.gather(*(server.call() for _ in range(40)))
        assert server.most == 2
        assert server.queue.width == 2

    run_virtual(main())


def test_a_waiting_call_counts_as_begun_when_the_call_before_it_ended() -> None:
    async def main() -> None:
        server = Server(ServerQueue(), 1)
        one, other = asyncio.create_task(server.call()), asyncio.create_task(server.call())
        await asyncio.sleep(5.0)
        (waiting,) = server.queue.visits
        assert one.done()
        assert waiting.sent == 0
        assert waiting.begun == pytest.approx(4.0)
        assert waiting.waiting == 1
        visit = await other
        assert visit.begun == pytest.approx(4.0)
        assert visit.first == pytest.approx(6.0)

    run_virtual(main())


@settings(deadline=None, max_examples=60)
@given(
    slots=st.integers(1, 4),
    width=st.none() | st.integers(1, 3),
    calls=st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 5), st.integers(0, 30), st.booleans()), max_size=25),
    seed=st.integers(0, 1000),
)
def test_nobody_is_forgotten_whoever_is_cancelled(
    slots: int, width: int | None, calls: list[tuple[float, float, int, bool]], seed: int
) -> None:
    async def main() -> None:
        rng = random.Random(seed)
        server = Server(ServerQueue(width), slots)

        async def one(at: float, first: float, pieces: int, cancelled: bool) -> bool:
            await asyncio.sleep(at)
            task = asyncio.create_task(server.call(first, pieces))
            if cancelled:
                await asyncio.sleep(rng.uniform(0, 20))
                task.cancel()
            await asyncio.wait([task])
            return not task.cancelled()

        ended = await asyncio.gather(*(one(*call) for call in calls))
        assert all(done or call[3] for done, call in zip(ended, calls, strict=True))
        assert not server.queue.visits
        if width is not None:
            assert server.most <= width
        await asyncio.wait_for(server.call(), 60)

    run_virtual(main())
