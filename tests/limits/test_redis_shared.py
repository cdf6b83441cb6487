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
