"""Which limiter counts a call that was handed none: the event loop's own, a Redis server's, or the process's."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

from mixtura.limits.current import _OF_LOOPS, current_limiter
from mixtura.limits.limiter import Limiter
from mixtura.limits.memory import MemoryStore
from mixtura.mixture.portal import portal
from mixtura.models.served import Accounting
from mixtura.secret import Secret
from mixtura.virtual import run_virtual

# Nothing listens there: a limiter that asked it would be degraded.
DEAD_REDIS = "redis://127.0.0.1:9/0"


async def find(redis: str = "") -> Limiter:
    return current_limiter(Secret.of_address(redis))


def test_all_loops_of_a_process_share_one_limiter() -> None:
    assert asyncio.run(find()) is asyncio.run(find())
    assert asyncio.run(find(DEAD_REDIS)) is asyncio.run(find(DEAD_REDIS))
    assert asyncio.run(find()) is not asyncio.run(find(DEAD_REDIS))


def test_virtual_time_neither_shares_the_windows_of_the_process_nor_asks_redis() -> None:
    async def main() -> tuple[Limiter, Limiter, bool]:
        accounting = Accounting(key="a", group="g", redis=Secret.of_address(DEAD_REDIS))
        limiter = accounting.limiter()
        sent = await limiter.send(accounting.account(limiter), 10)
        await limiter.settle(sent)
        return limiter, current_limiter(), limiter.degraded

    limiter, without_redis, degraded = run_virtual(main())
    assert limiter is without_redis
    assert isinstance(limiter.store, MemoryStore)
    assert not degraded
    assert limiter not in (asyncio.run(find()), asyncio.run(find(DEAD_REDIS)), run_virtual(find()))


def test_a_thread_and_the_portal_of_a_virtual_loop_count_in_real_time() -> None:
    async def main() -> list[Limiter]:
        in_thread = await asyncio.to_thread(lambda: asyncio.run(find()))
        nested = await asyncio.to_thread(lambda: run_virtual(find()))
        # What `ask_sync` does; it blocks this loop, whose clock then stands still.
        in_portal = portal().run(cast("Any", find()))
        return [current_limiter(), in_thread, nested, cast("Limiter", in_portal)]

    own, in_thread, nested, in_portal = run_virtual(main())
    assert in_thread is in_portal is asyncio.run(find())
    assert len({own, in_thread, nested}) == 3


def test_what_a_virtual_loop_ends_when_it_closes_is_counted_by_its_own_limiter() -> None:
    seen: list[Limiter] = []

    async def forever() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            seen.append(current_limiter())

    kept = forever()

    async def main() -> Limiter:
        await anext(kept)
        return current_limiter()

    assert [run_virtual(main())] == seen
    assert not _OF_LOOPS


def test_a_limiter_that_is_handed_in_goes_before_redis_and_the_loops_own() -> None:
    mine = Limiter()
    accounting = Accounting(key="a", group="g", keeper=mine, redis=Secret.of_address(DEAD_REDIS))

    async def main() -> Limiter:
        return accounting.limiter()

    assert accounting.limiter() is mine
    assert run_virtual(main()) is mine
    assert accounting.account(mine) is mine.accounts["a"]
