"""Windows kept in Redis for several processes: never passed, fair, learned together, and not missed when it is gone."""

import asyncio
import contextlib
import itertools
import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import redis
import redis.asyncio

import servers
from mixtura.chat import RateLimitHeaders
from mixtura.errors import ConfigError, Exceeded
from mixtura.limits.current import current_limiter
from mixtura.limits.limiter import Hold, Limiter, NoRoomError
from mixtura.limits.queue import PATIENCE, Need, Priority
from mixtura.limits.redis.store import RedisStore
from mixtura.limits.window import Limits
from mixtura.secret import Secret
from mixtura.sim.quota import ModelQuota
from mixtura.virtual import run_virtual

pytestmark = pytest.mark.server

BEGUN, INTERACTIVE, BATCH = Priority
KEYS = (f"test-{number}" for number in itertools.count())
WIDE = Limits(rpm=600, tpm=6_000)

# What another process does: send calls as fast as it may, and print when each was counted, by Redis' clock.
SENDER = """
import asyncio, json, sys
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need
from mixtura.limits.redis.store import RedisStore
from mixtura.limits.window import Limits

async def main(url, key, seconds, sizes):
    limiter = Limiter(RedisStore(url))
    account = limiter.account(key, Limits(rpm=600, tpm=60_000), known=True)
    loop = asyncio.get_running_loop()
    taken = []

    async def send(size):
        while loop.time() < until:
            hold = await limiter.admit([Need(key, 2 * size, 2)])
            for _ in range(2):
                sent = await limiter.send(account, size, hold=hold.id)
                taken.append((sent.moment, size))
                await limiter.settle(sent)
            await hold.close()

    print("ready", flush=True)
    sys.stdin.readline()
    until = loop.time() + seconds
    await asyncio.gather(*(send(size) for size in sizes))
    assert not limiter.degraded
    print(json.dumps(taken))

asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4])))
"""

# What a process does that dies: it holds something, stands in line for more, and is gone.
DYING = """
import asyncio, os, sys
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need
from mixtura.limits.redis.store import RedisStore
from mixtura.limits.window import Limits

async def main(url, key):
    limiter = Limiter(RedisStore(url))
    limiter.account(key, Limits(tpm=6_000), known=True)
    await limiter.admit([Need(key, 4_000)], lifetime=2.0)
    waiting = asyncio.create_task(limiter.admit([Need(key, 5_000)]))
    await asyncio.sleep(0.2)
    os._exit(0)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def ticket(name: str, age: float = 0.0) -> str:
    """Return a ticket that was taken `age` seconds ago."""
    return f"{name}@{asyncio.get_running_loop().time() - age}"


async def held(limiter: Limiter, needs: list[Need], name: str, priority: Priority = INTERACTIVE) -> float:
    """Try once to hold `needs`; return the wait."""
    place = ticket(name)
    quote = await limiter.store.book(Hold(limiter, name, 600.0), needs, place, priority)
    await limiter.store.leave(place)
    return quote.wait


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent to Redis from now on: one entry a round trip."""
    found: list[str] = []
    execute: Any = redis.asyncio.Redis.execute_command

    async def count(self: Any, *args: Any, **options: Any) -> Any:
        found.append(args[0])
        return await execute(self, *args, **options)

    monkeypatch.setattr(redis.asyncio.Redis, "execute_command", count)
    return found


def opened(url: str, key: str, limits: Limits | None = WIDE, *, count: int = 1, known: bool = True) -> Any:
    """Return limiters that stand for processes of their own, each with an account of `key`."""
    limiters = [Limiter(RedisStore(url)) for _ in range(count)]
    for limiter in limiters:
        limiter.account(key, limits, known=known)
    return limiters if count > 1 else limiters[0]


def test_two_processes_never_pass_a_window(redis_url: str) -> None:
    key = next(KEYS)
    sizes = ([600, 70, 311], [300, 20, 133, 422])
    senders = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SENDER, redis_url, key, "3", json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for asked in sizes
    ]
    taken: list[list[float]] = []
    with contextlib.ExitStack() as stack:
        for sender in senders:
            stack.enter_context(sender)
            assert sender.stdout is not None
            assert sender.stdout.readline() == "ready\n"
        for sender in senders:
            assert sender.stdin is not None
            sender.stdin.write("go\n")
            sender.stdin.flush()
        counts = []
        for sender in senders:
            assert sender.stdout is not None
            said = json.loads(sender.stdout.readline())
            counts.append(len(said))
            taken += said
    assert all(sender.returncode == 0 for sender in senders)
    assert min(counts) > 5
    quota = ModelQuota(Limits(rpm=600, tpm=60_000))
    for moment, size in sorted(taken):
        assert quota.admit(int(size), moment) is None
    # And the window was used: what was taken is close to all there was.
    spent = sum(size for _, size in taken)
    assert spent > 0.9 * 60_000


async def test_a_reservation_is_one_round_trip(redis_url: str, sends: list[str]) -> None:
    key = next(KEYS)
    limiter = opened(redis_url, key)
    account = limiter.accounts[key]
    await (await limiter.admit([Need(key, 10)])).close()
    sends.clear()
    hold = await limiter.admit([Need(key, 100, 2)])
    assert sends == ["EVALSHA"]
    sent = await limiter.send(account, 50, hold=hold.id)
    assert sends == ["EVALSHA"] * 2
    await limiter.settle(sent, headers=RateLimitHeaders(None, None, 6_000, 5_900), actual=20)
    assert sends == ["EVALSHA"] * 3
    await limiter.send(account, 50)
    assert sends == ["EVALSHA"] * 4
    await hold.close()
    assert sends == ["EVALSHA"] * 5


async def test_an_account_without_windows_costs_no_round_trip(redis_url: str, sends: list[str]) -> None:
    key = next(KEYS)
    limiter = opened(redis_url, key, None, known=False)
    account = limiter.accounts[key]
    await limiter.settle(await limiter.send(account, 10))
    sends.clear()
    await limiter.settle(await limiter.send(account, 10))
    assert sends == []


async def test_holds_of_several_accounts_are_all_or_nothing(redis_url: str) -> None:
    wide, narrow = next(KEYS), next(KEYS)
    one, two = (Limiter(RedisStore(redis_url)) for _ in range(2))
    for limiter in (one, two):
        limiter.account(wide, WIDE, known=True)
        limiter.account(narrow, Limits(tpm=100), known=True)
    hold = await one.admit([Need(narrow, 90)])
    with pytest.raises(NoRoomError) as refused:
        await two.admit([Need(wide, 1_000), Need(narrow, 50)], until=asyncio.get_running_loop().time() + 0.2)
    assert refused.value.quote.account == narrow
    assert refused.value.quote.dimension == "tpm"
    assert (two.accounts[wide].held_tokens, two.accounts[wide].held_requests) == (0, 0)
    assert (two.accounts[narrow].held_tokens, two.accounts[narrow].held_requests) == (90, 1)
    await hold.close()
    await two.admit([Need(wide, 1_000), Need(narrow, 50)])
    assert (two.accounts[wide].held_tokens, two.accounts[narrow].held_tokens) == (1_000, 50)


async def test_a_dead_process_leaves_neither_a_hold_nor_a_place_for_long(redis_url: str) -> None:
    key = next(KEYS)
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", DYING, redis_url, key)
    assert await dying.wait() == 0
    limiter = opened(redis_url, key, Limits(tpm=6_000))
    assert await held(limiter, [Need(key, 1_500)], "early") > 0
    assert limiter.accounts[key].held_tokens == 4_000
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.timeout(9):
        await limiter.admit([Need(key, 3_000)])
    assert loop.time() - begun > 0.5
    assert limiter.accounts[key].held_tokens == 3_000


async def test_who_came_first_goes_first_whichever_process_it_is(redis_url: str) -> None:
    key = next(KEYS)
    one, two = opened(redis_url, key, Limits(tpm=6_000), count=2)
    await one.send(one.accounts[key], 5_950)
    order: list[int] = []

    async def come(limiter: Limiter, number: int, tokens: int, priority: Priority) -> None:
        await limiter.admit([Need(key, tokens)], priority=priority)
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            # The later ones would fit sooner.
            limiter = (one, two)[number % 2]
            group.create_task(come(limiter, number, 60 - 8 * number, BATCH if number < 2 else INTERACTIVE))
            await asyncio.sleep(0.02)
    assert order == [2, 3, 4, 5, 0, 1]


async def test_a_batch_that_waited_long_is_the_first_of_the_interactive(redis_url: str) -> None:
    key = next(KEYS)
    one, two = opened(redis_url, key, Limits(tpm=6_000), count=2)
    await one.send(one.accounts[key], 6_000)
    old = await one.store.book(Hold(one, "old", 9.0), [Need(key, 500)], ticket("old", PATIENCE + 1), BATCH)
    new = await two.store.book(Hold(two, "new", 9.0), [Need(key, 500)], ticket("new"), INTERACTIVE)
    young = await one.store.book(Hold(one, "young", 9.0), [Need(key, 500)], ticket("young", PATIENCE - 9), BATCH)
    begun = await one.store.book(Hold(one, "begun", 9.0), [Need(key, 500)], ticket("begun"), BEGUN)
    assert old.wait == pytest.approx(5.1, abs=0.2)
    assert begun.wait == pytest.approx(5.1, abs=0.2)
    assert new.wait == pytest.approx(10.1, abs=0.2)
    assert young.wait == pytest.approx(15.1, abs=0.2)


async def test_who_gives_up_leaves_the_line(redis_url: str) -> None:
    key = next(KEYS)
    one, two = opened(redis_url, key, Limits(tpm=6_000), count=2)
    await one.send(one.accounts[key], 6_000)
    waiting = asyncio.create_task(one.admit([Need(key, 3_000)]))
    await asyncio.sleep(0.1)
    before = await held(two, [Need(key, 100)], "early")
    assert before > 30
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(NoRoomError):
        await one.admit([Need(key, 3_000)], until=asyncio.get_running_loop().time() + 1)
    assert await held(two, [Need(key, 100)], "early") < 3


async def test_what_one_process_is_told_all_know(redis_url: str) -> None:
    key = next(KEYS)
    plan = Limits(rpm=30, rpd=1_000, tpm=6_000)
    one, two = Limiter(RedisStore(redis_url)), Limiter(RedisStore(redis_url))
    for limiter in (one, two):
        limiter.account(key, Limits(rpm=10, tpm=1_000), plans=[plan])
    sent = await one.send(one.accounts[key], 500)
    second = await two.send(two.accounts[key], 200)
    await one.settle(sent, headers=RateLimitHeaders(1_000, 990, 6_000, 2_000))
    assert one.accounts[key].limits == plan
    assert one.accounts[key].known
    await two.settle(second, headers=None)
    assert two.accounts[key].limits == plan
    assert two.accounts[key].known
    now = asyncio.get_running_loop().time()
    assert two.accounts[key].buckets["tpm"].level(now) == pytest.approx(4_200, abs=30)
    # A process that begins now knows it before its first call.
    three = opened(redis_url, key, Limits(rpm=10, tpm=1_000), known=False)
    with pytest.raises(NoRoomError) as refused:
        await three.send(three.accounts[key], 5_900, until=now + 1)
    assert refused.value.quote.limit == 6_000
    assert three.accounts[key].limits == plan


async def test_what_a_refusal_says_all_know(redis_url: str) -> None:
    key = next(KEYS)
    one, two = opened(redis_url, key, count=2)
    sent = await one.send(one.accounts[key], 500)
    await one.refused(sent, exceeded=Exceeded("tpm", 3_000, 2_900), wait=1.0)
    assert await held(two, [Need(key, 500)], "a") == pytest.approx(8.1, abs=0.2)
    assert two.accounts[key].limits == Limits(rpm=600, tpm=3_000)
    sent = await one.send(one.accounts[key], 10)
    await one.refused(sent, exceeded=None, wait=20.0)
    quote = await two.store.book(Hold(two, "b", 9.0), [Need(key, 1)], ticket("b"), BEGUN)
    assert (quote.dimension, round(quote.wait)) == ("blocked", 20)


async def test_a_clock_set_back_freezes_nothing(clock: servers.RedisClock, redis_url: str) -> None:
    key = next(KEYS)
    limiter = opened(redis_url, key, Limits(tpm=6_000))
    account = limiter.accounts[key]
    await limiter.send(account, 6_000)
    clock.set(clock.now + 10)
    assert await held(limiter, [Need(key, 2_000)], "a") == pytest.approx(10.11)
    clock.set(clock.now - 3_600)
    assert await held(limiter, [Need(key, 2_000)], "a") == pytest.approx(10.11)
    clock.set(clock.now + 10.2)
    assert await held(limiter, [Need(key, 2_000)], "a") == 0


async def test_a_hold_ends_with_its_lifetime(clock: servers.RedisClock, redis_url: str) -> None:
    key = next(KEYS)
    one, two = opened(redis_url, key, Limits(tpm=6_000), count=2)
    hold = await one.admit([Need(key, 6_000)], lifetime=30.0)
    clock.set(clock.now + 29)
    assert await held(two, [Need(key, 5_000)], "a") > 0
    clock.set(clock.now + 2)
    assert await held(two, [Need(key, 5_000)], "a") == 0
    with pytest.raises(NoRoomError):
        await one.store.take(one.accounts[key], 2_000, hold, ticket("b"), BEGUN)
    await hold.close()
    assert one.accounts[key].held_tokens == 5_000


async def test_redis_that_forgets_is_told_again(redis_url: str) -> None:
    key = next(KEYS)
    one, two = opened(redis_url, key, Limits(tpm=6_000), count=2)
    hold = await one.admit([Need(key, 3_000, 2)])
    sent = await one.send(one.accounts[key], 1_000, hold=hold.id)
    assert await held(two, [Need(key, 3_500)], "a") > 0
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        client.script_flush()
    assert await held(two, [Need(key, 5_500)], "a") > 0, "two knew that 1,000 of 6,000 were used"
    await one.settle(sent, headers=RateLimitHeaders(None, None, 6_000, 4_000))
    now = asyncio.get_running_loop().time()
    assert one.accounts[key].held_tokens == 2_000
    assert one.accounts[key].buckets["tpm"].level(now) == pytest.approx(1_000, abs=50)
    await hold.close()
    assert one.accounts[key].held_tokens == 0
    assert not one.degraded


async def test_redis_that_dies_is_not_missed_and_is_used_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixtura.limits.redis.exchange._RETRY", 0.2)
    caplog.set_level(logging.INFO, "mixtura")
    with servers.redis_server() as server:
        limiter = opened(server.url, "k")
        account = limiter.accounts["k"]
        hold = await limiter.admit([Need("k", 1_000, 4)])
        first = await limiter.send(account, 250, hold=hold.id)
        lost = await limiter.send(account, 250, hold=hold.id)
        server.kill()
        sent = await asyncio.gather(*(limiter.send(account, 250, hold=hold.id) for _ in range(2)))
        assert limiter.degraded
        assert (account.held_tokens, account.held_requests) == (0, 0)
        another = await limiter.admit([Need("k", 300, 3)])
        for one in sent:
            await limiter.settle(one, headers=RateLimitHeaders(None, None, 6_000, 5_200), actual=200)
        await limiter.refused(lost, exceeded=None, wait=0.0)
        with pytest.raises(NoRoomError):
            await limiter.send(account, 5_900, until=asyncio.get_running_loop().time() + 0.3)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "are kept in this process until it is back" in caplog.text
        server.start()
        await asyncio.sleep(0.25)
        last = await limiter.send(account, 100, hold=another.id)
        assert not limiter.degraded
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
        # An empty Redis was told what had been taken and what is held.
        other = opened(server.url, "k")
        await held(other, [Need("k", 9)], "x")
        now = asyncio.get_running_loop().time()
        level = other.accounts["k"].buckets["tpm"].level(now)
        assert 550 < level < 660
        assert other.accounts["k"].held_tokens == 209
        await limiter.settle(first, headers=RateLimitHeaders(None, None, 6_000, 5_700))
        await limiter.settle(last)
        await another.close()
        await hold.close()
        assert account.in_flight == 0
        assert account.held_tokens == 9


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nhello\r\n", b":1\r\n", b"+OK\r\n", b""]
)
async def test_nonsense_is_no_reason_to_fail(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while answer and await reader.read(1_000):
                writer.write(answer * 20)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        url = f"redis://user:s3cret@127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        limiter = opened(url, "k")
        sent = await limiter.send(limiter.accounts["k"], 100, hold=(await limiter.admit([Need("k", 100)])).id)
        await limiter.settle(sent, headers=RateLimitHeaders(None, None, 6_000, 5_900))
        await limiter.store.exchange.connections[asyncio.get_running_loop()].close()
    assert limiter.degraded
    assert len(caplog.records) == 1
    assert "s3cret" not in caplog.text


async def test_a_server_that_is_silent_costs_about_a_second_once(caplog: pytest.LogCaptureFixture) -> None:
    silence = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silence.wait()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with server:
        limiter = opened(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", "k")
        await asyncio.gather(*(limiter.send(limiter.accounts["k"], 10) for _ in range(50)))
        assert 0.5 < loop.time() - begun < 3
        silence.set()
        await limiter.store.exchange.connections[loop].close()
    assert len(caplog.records) == 1


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:port", "localhost:6379", "redis://[", ""])
def test_an_address_that_cannot_be_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="MIXTURA_REDIS_URL"):
        RedisStore(url)


def test_the_password_of_a_wrong_address_is_not_shown() -> None:
    with pytest.raises(ConfigError) as wrong:
        RedisStore("redis://user:s3cret@host:port/0")
    assert "s3cret" not in str(wrong.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mixtura.limits.redis.exchange", None)
    with pytest.raises(ConfigError, match=r"pip install 'mixtura\[redis\]'"):
        RedisStore("redis://localhost")


def test_loops_come_and_go_and_leave_nothing_behind(redis_url: str) -> None:
    key = next(KEYS)

    async def once() -> Limiter:
        limiter = current_limiter(Secret.of_address(redis_url))
        account = limiter.account(key, WIDE, known=True)
        await asyncio.gather(*(limiter.send(account, 1) for _ in range(20)))
        return limiter

    limiters = {asyncio.run(once()) for _ in range(3)}
    assert len(limiters) == 1
    limiter = limiters.pop()
    assert isinstance(limiter.store, RedisStore)
    assert not limiter.store.exchange.connections
    assert not limiter.degraded
    # Virtual time knows nothing of a real server.
    virtual = run_virtual(once())
    assert virtual is not limiter
    assert not isinstance(virtual.store, RedisStore)
