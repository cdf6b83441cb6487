"""What processes that share Redis learn of each other: limits that are known, plans, and reservations that ended."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from mixtura.chat import RateLimitHeaders
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need
from mixtura.limits.redis.connection import RedisConnection
from mixtura.limits.redis.snapshot import ScriptAnswer
from mixtura.limits.redis.store import RedisStore
from mixtura.limits.window import Limits

pytestmark = pytest.mark.server

KEYS = (f"known-{number}" for number in itertools.count())
GUESS, SURE = Limits(rpm=30, tpm=6_000), Limits(rpm=30, tpm=300_000)


async def test_limits_that_a_user_knows_replace_a_guess_for_every_process(redis_url: str) -> None:
    key = next(KEYS)
    one, other = Limiter(RedisStore(redis_url)), Limiter(RedisStore(redis_url))
    guessed = one.account(key, GUESS)
    one.lost(await one.send(guessed, 1_000))
    replaced = other.account(key, GUESS)
    other.lost(await other.send(replaced, 1_000))
    assert (replaced.known, replaced.limits) == (False, GUESS)
    assert other.account(key, SURE, known=True, plans=(SURE,)) is replaced
    assert (replaced.known, replaced.limits, replaced.plans, replaced.synced) == (True, SURE, (SURE,), False)
    other.lost(await other.send(replaced, 1_000))
    assert replaced.synced
    # The next call of the process that guessed brings it the news.
    one.lost(await one.send(guessed, 1_000))
    assert (guessed.known, guessed.limits) == (True, SURE)
    assert guessed.buckets["tpm"].level(asyncio.get_running_loop().time()) == pytest.approx(4_000, rel=0.5)


async def test_the_head_of_a_reply_tells_every_process_which_plan_it_is(redis_url: str) -> None:
    key = next(KEYS)
    plan = Limits(rpm=1_000, rpd=500_000, tpm=250_000)
    one, other = Limiter(RedisStore(redis_url)), Limiter(RedisStore(redis_url))
    guessed = one.account(key, GUESS, plans=(GUESS, plan))
    sent = await one.send(guessed, 1_000)
    await one.learn(sent, RateLimitHeaders(None, None, 250_000, 249_000))
    assert (guessed.known, guessed.limits) == (True, plan)
    elsewhere = other.account(key, GUESS, plans=(GUESS, plan))
    other.lost(await other.send(elsewhere, 1_000))
    assert (elsewhere.known, elsewhere.limits) == (True, plan)
    # The window of the minute is the one that was told, the others of the plan are empty but for these two calls.
    assert elsewhere.quote(240_000, asyncio.get_running_loop().time()).wait == 0


async def test_who_is_stopped_before_the_answer_has_come_leaves_nothing_reserved(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, reserved = next(KEYS), asyncio.Event()
    run = RedisConnection.run

    async def late(self: RedisConnection, accounts: Sequence[str], request: dict[str, Any]) -> ScriptAnswer:
        answer = await run(self, accounts, request)
        if request["op"] == "book" and not reserved.is_set():
            reserved.set()
            await asyncio.Event().wait()
        return answer

    monkeypatch.setattr(RedisConnection, "run", late)
    one, other = Limiter(RedisStore(redis_url)), Limiter(RedisStore(redis_url))
    for limiter in (one, other):
        limiter.account(key, Limits(tpm=6_000), known=True)
    booking = asyncio.create_task(one.admit([Need(key, 5_000)]))
    await reserved.wait()
    booking.cancel()
    await asyncio.wait([booking])
    assert booking.cancelled()
    assert one.holds == {}
    hold = await other.admit([Need(key, 5_000)], until=asyncio.get_running_loop().time() + 0.5)
    await hold.close()


async def test_a_call_that_redis_has_counted_ends_once(redis_url: str) -> None:
    limiter = Limiter(RedisStore(redis_url))
    account = limiter.account("ends-once", Limits(rpm=600, tpm=6_000), known=True)
    answered, refused = await limiter.send(account, 100), await limiter.send(account, 100)
    await limiter.settle(answered)
    await limiter.refused(answered, exceeded=None, wait=5.0)
    await limiter.refused(refused, exceeded=None, wait=0.0)
    await limiter.settle(refused)
    limiter.lost(answered)
    limiter.lost(refused)
    assert account.in_flight == 0


async def test_a_wait_of_less_than_a_second_blocks_the_copy_as_well(redis_url: str) -> None:
    limiter = Limiter(RedisStore(redis_url))
    account = limiter.account("short-wait", Limits(rpm=600, tpm=6_000), known=True)
    await limiter.refused(await limiter.send(account, 100), exceeded=None, wait=0.9)
    assert account.is_blocked(asyncio.get_running_loop().time())
    assert not account.is_blocked(asyncio.get_running_loop().time() + 1.0)


async def test_a_request_whose_answer_is_lost_is_not_sent_again() -> None:
    opened = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await reader.read(1_000)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        limiter = Limiter(RedisStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"))
        account = limiter.account("lost", Limits(rpm=10, tpm=1_000))
        sent = await limiter.send(account, 100)
        # What a reply states is learned in this process meanwhile.
        await limiter.learn(sent, RateLimitHeaders(None, None, 6_000, 5_900))
        assert account.limits.tpm == 6_000
    assert limiter.degraded
    assert opened == 1
