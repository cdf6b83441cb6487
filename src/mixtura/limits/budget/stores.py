"""A daily budget in dollars, kept across processes: in a file of one machine, or in Redis for several.

A run reserves what it could cost at worst before it sends anything, and settles to what it really cost. Spent and
reserved dollars together never exceed `allowed`, however many processes reserve at once: each operation is one
transaction (SQLite) or one script (Redis). `limits/budget/base.py` says which day a run counts for.

A budget that cannot be kept refuses every run: each failure of the file or of Redis is a ConfigError.
"""

import asyncio
import contextlib
import sqlite3
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from mixtura.errors import ConfigError
from mixtura.limits.budget.base import DAY, KEPT_DAYS, DailyBudget, DailySpending, ReservationResult, StoredBudget
from mixtura.limits.budget.shared_file import Work, transact, transaction_thread
from mixtura.limits.redis.url import failure_text, pool_at, without_password
from mixtura.loops import close_with_loop
from mixtura.places import state_folder
from mixtura.secret import Secret, drop_frames

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["DailyBudget", "DailySpending", "RedisBudget", "SqliteBudget", "budget_file"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# Seconds that a process waits for its turn at the file, and for Redis to connect or answer.
_TURN = 20.0
_REDIS_TIMEOUT = 3.0
_REDIS_CONNECTIONS = 8
# Seconds between two tries to give back a reservation that a silent server may make.
_RELEASE_PAUSE = 1.0

# `days` holds each day's sums; `runs` the day of a run's last reservation, and what it still reserves of it.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS days (day INTEGER PRIMARY KEY, spent INTEGER NOT NULL, reserved INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, day INTEGER NOT NULL, reserved INTEGER) WITHOUT ROWID",
)


class SqliteBudget(StoredBudget):
    """A daily budget in a small SQLite file at `path`, for all processes of one machine.

    The file and the folders it needs are made when first used, readable for their owner only. It has to lie on a
    local disk. Nothing is lost when a process is killed; a power cut may lose the last moments. Any number of budgets
    may use the file, in any thread and process, also in a forked one.
    """

    def __init__(self, path: Path, allowed: float, clock: Callable[[], float]) -> None:
        super().__init__(allowed, clock)
        self._path = path.absolute()

    async def close(self) -> None:
        """Nothing is left open: each operation opens the file and closes it."""

    async def _reserve(self, run: str, day: int, amount: int, given_up: threading.Event) -> ReservationResult:
        return await self._in_thread(self._reserve_now, run, day, amount, given_up)

    async def _release(self, run: str, day: int) -> None:
        await self._settle(run, day, 0)

    async def _settle(self, run: str, day: int, amount: int) -> None:
        await self._in_thread(self._settle_now, run, day, amount)

    async def _sums(self, day: int, given_up: threading.Event) -> tuple[int, int]:
        return await self._in_thread(self._transact, lambda file: _sums_in(file, day), given_up)

    async def _in_thread(self, job: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(transaction_thread(self._path), job, *args)
        except (sqlite3.Error, OSError) as error:
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ConfigError(
                f"the daily budget cannot be kept in {self._path}: {said}: make it a file that you may "
                "write, delete it to begin anew, or set MIXTURA_HOME to another folder"
            ) from error

    # What follows runs in the file's thread.

    def _transact(self, work: Work[T], given_up: threading.Event | None = None) -> T:
        return transact(self._path, _SCHEMA, work, _TURN, given_up or threading.Event())

    def _reserve_now(self, run: str, day: int, amount: int, given_up: threading.Event) -> ReservationResult:
        result = self._transact(lambda file: self._reserve_in(file, run, day, amount), given_up)
        if result.fits and given_up.is_set():
            # The event loop may have ended by now, so this is the last who can.
            self._settle_now(run, day, 0)
            return result._replace(fits=False)
        return result

    def _settle_now(self, run: str, day: int, amount: int) -> None:
        self._transact(lambda file: _settle_in(file, run, day, amount))

    def _reserve_in(self, file: sqlite3.Connection, run: str, day: int, amount: int) -> ReservationResult:
        spent, reserved = _sums_in(file, day)
        kept = file.execute("SELECT reserved FROM runs WHERE run = ? AND day = ?", (run, day)).fetchone()
        held = (kept and kept[0]) or 0
        fits = spent + reserved - held + amount <= self._limit
        if fits:
            _add(file, day, 0, amount - held)
            file.execute("REPLACE INTO runs VALUES (?, ?, ?)", (run, day, amount))
        return ReservationResult(fits, spent, reserved - held)


# KEYS: the day, the run. ARGV: the day's number, billionths, what is allowed, seconds to keep. Gives fits, spent,
# reserved (without the run's own).
_RESERVE = """
local sums = redis.call('HMGET', KEYS[1], 'spent', 'reserved')
local kept = redis.call('HMGET', KEYS[2], 'day', 'reserved', 'released')
local spent, held = tonumber(sums[1] or 0), 0
if kept[3] then return {0, spent, tonumber(sums[2] or 0)} end
if kept[1] == ARGV[1] then held = tonumber(kept[2] or 0) end
local others = tonumber(sums[2] or 0) - held
if spent + others + tonumber(ARGV[2]) > tonumber(ARGV[3]) then return {0, spent, others} end
redis.call('HINCRBY', KEYS[1], 'reserved', tonumber(ARGV[2]) - held)
redis.call('HSET', KEYS[2], 'day', ARGV[1], 'reserved', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return {1, spent, others}
"""
# KEYS: today, the run. ARGV: today's number, billionths, seconds to keep, how the key of a day begins. (Lua writes a
# negated 0 as -0, which Redis takes for no integer; hence the subtraction.)
_SETTLE = """
local kept = redis.call('HMGET', KEYS[2], 'day', 'reserved')
local day = KEYS[1]
if kept[1] then
  if not kept[2] then return {} end
  day = ARGV[4] .. kept[1]
  redis.call('HINCRBY', day, 'reserved', 0 - tonumber(kept[2]))
  redis.call('HDEL', KEYS[2], 'reserved')
else
  redis.call('HSET', KEYS[2], 'day', ARGV[1])
end
redis.call('HINCRBY', day, 'spent', ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('EXPIRE', day, ARGV[3])
return {}
"""
# KEYS: the day, the run. ARGV: seconds to keep. A reservation of the run that arrives later is not made.
_RELEASE = """
local held = redis.call('HGET', KEYS[2], 'reserved')
if held then
  redis.call('HINCRBY', KEYS[1], 'reserved', 0 - tonumber(held))
  redis.call('HDEL', KEYS[2], 'reserved')
end
redis.call('HSET', KEYS[2], 'released', 1)
redis.call('EXPIRE', KEYS[2], ARGV[1])
return {}
"""
# KEYS: the day.
_SUMS = """
local sums = redis.call('HMGET', KEYS[1], 'spent', 'reserved')
return {tonumber(sums[1] or 0), tonumber(sums[2] or 0)}
"""
# The braces keep all keys on one node of a cluster, where a script has to find them together.
_PREFIX = "{mixtura:budget}:"
_DAY_PREFIX = f"{_PREFIX}day:"
_REDIS_KEPT = (KEPT_DAYS + 1) * DAY


class RedisBudget(StoredBudget):
    """A daily budget in the Redis or Valkey server at `url`, for all machines that reach it.

    What the server loses (in a restart without persistence, or to eviction) is lost to the budget. Connections are
    closed with their event loop.
    """

    def __init__(self, url: str | Secret, allowed: float, clock: Callable[[], float]) -> None:
        url = Secret.of_address(url)
        super().__init__(allowed, clock)
        self._url = url
        # A connection belongs to the loop it was made in, and a budget may outlive a loop.
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = weakref.WeakKeyDictionary()
        self._keepers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None]] = (
            weakref.WeakKeyDictionary()
        )
        _redis_client(url)  # a wrong address or a missing package is better reported now than at the first run

    async def close(self) -> None:
        """Close this loop's connections; they close themselves when it ends."""
        keeper = self._keepers.pop(asyncio.get_running_loop(), None)
        if keeper is not None:
            await keeper.aclose()

    async def _end(self) -> None:
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose(close_connection_pool=True)

    async def _reserve(self, run: str, day: int, amount: int, given_up: threading.Event) -> ReservationResult:
        keys = (f"{_DAY_PREFIX}{day}", f"{_PREFIX}run:{run}")
        try:
            fits, spent, reserved = await self._call(_RESERVE, keys, day, amount, self._limit, _REDIS_KEPT)
        except ConfigError as error:
            from redis.exceptions import TimeoutError as NoReplyError

            if isinstance(error.__cause__, NoReplyError | TimeoutError):
                # The server may make the reservation yet. Its caller does not wait until it is sure.
                self._begin(self._release(run, day))
            raise
        return ReservationResult(bool(fits), spent, reserved)

    async def _release(self, run: str, day: int) -> None:
        keys = (f"{_DAY_PREFIX}{day}", f"{_PREFIX}run:{run}")
        clock = asyncio.get_running_loop().time
        until = clock() + _TURN
        while True:
            try:
                await self._call(_RELEASE, keys, _REDIS_KEPT)
                return
            except ConfigError:
                if clock() >= until:
                    raise
            await asyncio.sleep(_RELEASE_PAUSE)

    async def _settle(self, run: str, day: int, amount: int) -> None:
        keys = (f"{_DAY_PREFIX}{day}", f"{_PREFIX}run:{run}")
        await self._call(_SETTLE, keys, day, amount, _REDIS_KEPT, _DAY_PREFIX)

    async def _sums(self, day: int, given_up: threading.Event) -> tuple[int, int]:
        spent, reserved = await self._call(_SUMS, (f"{_DAY_PREFIX}{day}",))
        return spent, reserved

    async def _call(self, script: str, keys: tuple[str, ...], *args: str | int) -> list[int]:
        from redis.exceptions import RedisError

        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = _redis_client(self._url)
            self._keepers[loop] = close_with_loop(self._end)
        try:
            found: list[int] = await client.eval(script, len(keys), *keys, *args)
        except (RedisError, OSError) as error:
            where, why = without_password(self._url), failure_text(error, self._url)
            drop_frames(error)
            raise ConfigError(
                f"the daily budget cannot be kept in Redis at {where}: {why}: check the address, and that the server "
                "runs and may be written"
            ) from error
        return found


def budget_file(env: Mapping[str, str]) -> Path:
    """Return the path of a machine's budget: in MIXTURA_HOME, else in the folder for the user's state.

    Raises:
        ConfigError: there is no such folder, and so no budget that would be kept to.
    """
    try:
        return state_folder(env) / "budget.db"
    except ConfigError as error:
        raise ConfigError(f"the daily budget cannot be kept: {error.message}") from None


def _settle_in(file: sqlite3.Connection, run: str, day: int, amount: int) -> None:
    kept = file.execute("SELECT day, reserved FROM runs WHERE run = ?", (run,)).fetchone()
    day, held = kept or (day, 0)
    if held is not None:
        _add(file, day, amount, -held)
        file.execute("REPLACE INTO runs VALUES (?, ?, NULL)", (run, day))


def _sums_in(file: sqlite3.Connection, day: int) -> tuple[int, int]:
    found: tuple[int, int] | None = file.execute("SELECT spent, reserved FROM days WHERE day = ?", (day,)).fetchone()
    return found or (0, 0)


def _add(file: sqlite3.Connection, day: int, spent: int, reserved: int) -> None:
    """Add to a day's sums; the first entry of a day also deletes the days that are too old."""
    changes = (spent, reserved, day)
    if not file.execute("UPDATE days SET spent = spent + ?, reserved = reserved + ? WHERE day = ?", changes).rowcount:
        file.execute("INSERT INTO days VALUES (?, ?, ?)", (day, spent, reserved))
        file.execute("DELETE FROM days WHERE day < ?", (day - KEPT_DAYS,))
        file.execute("DELETE FROM runs WHERE day < ?", (day - KEPT_DAYS,))


def _redis_client(url: Secret) -> "Redis":
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise ConfigError("a daily budget in Redis needs a package: pip install 'mixtura[redis]'") from error
    options: dict[str, Any] = {
        "max_connections": _REDIS_CONNECTIONS,
        "timeout": _TURN,
        "socket_timeout": _REDIS_TIMEOUT,
        "socket_connect_timeout": _REDIS_TIMEOUT,
        # One immediate retry covers a server that was restarted since. Reserving for the same run twice changes
        # nothing.
        "retry": Retry(NoBackoff(), 1),
    }
    with contextlib.suppress(ValueError):
        return Redis.from_pool(pool_at(BlockingConnectionPool.from_url, url, options))
    # Outside of its handler: the text of the ValueError may hold the password, and an error keeps its context.
    raise ConfigError(
        f"daily budget: {without_password(url)} is no address of a Redis server: write redis://HOST:PORT/0"
    )
