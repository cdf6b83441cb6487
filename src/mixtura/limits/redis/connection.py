"""The connections of one event loop to Redis or Valkey, and the script that is run there. See `limiter.py`."""

import asyncio
import functools
import importlib.resources
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mixtura.errors import ConfigError
from mixtura.limits.account import LONGEST_BLOCK, SIGNS, SLACK, TELLING, TOKENS
from mixtura.limits.limiter import LATER
from mixtura.limits.queue import PATIENCE, Priority
from mixtura.limits.redis.snapshot import Reply
from mixtura.limits.redis.url import shown
from mixtura.limits.window import DIMENSIONS
from mixtura.loops import close_with_loop

FAILURES = (RedisError, OSError, ValueError, msgspec.MsgspecError)
"""What it looks like when Redis cannot be used: no connection, no answer in time, a refusal, or nonsense."""

# Seconds that Redis may take to connect or to answer.
_TIMEOUT = 1.0
# Commands under way at once in one loop. More would not be faster, and would all have to time out together.
_AT_ONCE = 8
# A place in line ends after so many seconds: a few after its process should have looked again. Accounts that nobody
# uses end after two days.
_STANDS = 5.0
_KEPT = 172_800
# The braces keep all keys on one node of a cluster, where a script has to find them together.
_PREFIX = "{mixtura:limits}:"
_CLOCK = f"{_PREFIX}clock"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Reply).decode


class Link:
    """What one event loop needs to talk to the server at `url`.

    It closes itself when its loop shuts down, as the pool of `models/openai/pool.py` does; `links` is where it is kept.

    Attributes:
        gate: whoever wants to run the script goes through it.
        meeting: held while Redis is told what this process knows.
    """

    def __init__(self, url: str, links: "WeakKeyDictionary[asyncio.AbstractEventLoop, Link]") -> None:
        self.gate = asyncio.Semaphore(_AT_ONCE)
        self.meeting = asyncio.Lock()
        self._client = _client(url)
        self._script = self._client.register_script(script())
        self._links = links
        self._keeper = close_with_loop(self._end)

    async def _end(self) -> None:
        # Connections refer to their loop, so a link left here would keep a finished loop alive.
        loop = asyncio.get_running_loop()
        if self._links.get(loop) is self:
            del self._links[loop]
        await self._client.aclose(close_connection_pool=True)

    async def close(self) -> None:
        """Close every connection, those in use included."""
        await self._keeper.aclose()

    async def run(self, accounts: Sequence[str], asked: dict[str, Any]) -> Reply:
        """Run the script once on `accounts` (their keys): one round trip.

        Raises:
            Exception: one of `FAILURES`.
        """
        keys = [_CLOCK]
        for account in accounts:
            name = _PREFIX + account
            keys += (name, f"{name}:expiries", f"{name}:parts", f"{name}:line")
        raw = await self._script(keys=keys, args=[_encode(asked)])
        if not isinstance(raw, bytes):
            raise msgspec.ValidationError(f"a reply of type {type(raw).__name__}")
        reply = _decode(raw)
        known = range(1, len(accounts) + 1)
        whole = len(reply.states) == (0 if reply.strangers else len(accounts))
        if not whole or reply.quote[1] not in known or any(number not in known for number in reply.strangers):
            raise msgspec.ValidationError("a reply of other accounts than were asked for")
        return reply


def check(url: str) -> None:
    """Raise a ConfigError if `url` cannot be the address of a server."""
    _client(url)


@functools.cache
def script() -> str:
    """Return the text of the script, which begins with the constants it shares with the code here."""
    constants = {
        "SLACK": SLACK,
        "TELLING": TELLING,
        "SIGNS": SIGNS,
        "LONGEST_BLOCK": LONGEST_BLOCK,
        "LATER": LATER,
        "PATIENCE": PATIENCE,
        "INTERACTIVE": int(Priority.INTERACTIVE),
        "BATCH": int(Priority.BATCH),
        "STANDS": _STANDS,
        "KEPT": _KEPT,
        "NAMES": "{" + ", ".join(f"'{name}'" for name in DIMENSIONS) + "}",
        "SECONDS": "{" + ", ".join(f"{name} = {seconds}" for name, (_, seconds) in DIMENSIONS.items()) + "}",
        "IS_TOKENS": "{" + ", ".join(f"{name} = true" for name in TOKENS) + "}",
    }
    head = "".join(f"local {name} = {value}\n" for name, value in constants.items())
    return head + importlib.resources.files(__package__).joinpath("limits.lua").read_text("utf-8")


def _client(url: str) -> Redis:
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": _TIMEOUT,
        "socket_connect_timeout": _TIMEOUT,
        # What was sent may have been done: asking again could count it twice.
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        return Redis.from_pool(ConnectionPool.from_url(url, **options))
    except ValueError:
        # Not said from the cause: its text may hold the password.
        raise ConfigError(
            f"MIXTURA_REDIS_URL: {shown(url)} is no address of a Redis server: write redis://HOST:PORT/0"
        ) from None
