"""The connections of one event loop to Redis or Valkey, and the script that is run there."""

import asyncio
import contextlib
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
from mixtura.limits.account import EVIDENCE_NEEDED, EVIDENCE_SHARE, LONGEST_BLOCK, PROBE_DELAY, SLACK, TOKENS
from mixtura.limits.queue import PATIENCE, Priority
from mixtura.limits.redis.snapshot import ScriptAnswer
from mixtura.limits.redis.url import pool_at, without_password
from mixtura.limits.window import DIMENSIONS
from mixtura.loops import close_with_loop
from mixtura.secret import Secret

FAILURES = (RedisError, OSError, ValueError, msgspec.MsgspecError)
"""The errors by which Redis shows that it cannot be used: no connection, no answer in time, a refusal, or nonsense."""

# Seconds that Redis may take to connect or to answer.
_TIMEOUT = 1.0
# Commands under way at once in one loop. More would not be faster, and would all have to time out together.
_MAX_COMMANDS = 8
# A place in the queue ends after so many seconds: a few after its process should have asked again. Accounts that no
# process uses end after two days.
_TICKET_SECONDS = 5.0
_ACCOUNT_SECONDS = 172_800
# The braces keep all keys on one node of a cluster, where a script has to find them together.
_PREFIX = "{mixtura:limits}:"
_CLOCK = f"{_PREFIX}clock"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ScriptAnswer).decode


class RedisConnection:
    """What one event loop needs to talk to the server at `url`.

    It closes itself when its loop shuts down, as the pool of `models/openai/pool.py` does. It is kept in `connections`
    and takes itself out of there.

    Attributes:
        commands: limits how many commands are under way at once.
        introducing: held while this process sends Redis what it knows of accounts.
    """

    def __init__(
        self, url: Secret, connections: "WeakKeyDictionary[asyncio.AbstractEventLoop, RedisConnection]"
    ) -> None:
        self.commands = asyncio.Semaphore(_MAX_COMMANDS)
        self.introducing = asyncio.Lock()
        self._client = _client(url)
        self._script = self._client.register_script(script())
        self._connections = connections
        self._keeper = close_with_loop(self._end)

    async def _end(self) -> None:
        # The client refers to its loop, so a connection left in the dictionary would keep a finished loop alive.
        loop = asyncio.get_running_loop()
        if self._connections.get(loop) is self:
            del self._connections[loop]
        await self._client.aclose(close_connection_pool=True)

    async def close(self) -> None:
        """Close every connection, those in use included."""
        await self._keeper.aclose()

    async def run(self, accounts: Sequence[str], request: dict[str, Any]) -> ScriptAnswer:
        """Run the script once on `accounts` (their keys): one round trip.

        Raises:
            Exception: one of `FAILURES`.
        """
        keys = [_CLOCK]
        for account in accounts:
            name = _PREFIX + account
            keys += (name, f"{name}:expiries", f"{name}:parts", f"{name}:line")
        raw = await self._script(keys=keys, args=[_encode(request)])
        if not isinstance(raw, bytes):
            raise msgspec.ValidationError(f"an answer of type {type(raw).__name__}")
        answer = _decode(raw)
        numbers = range(1, len(accounts) + 1)
        whole = len(answer.states) == (0 if answer.unknown else len(accounts))
        if not whole or answer.quote[1] not in numbers or any(number not in numbers for number in answer.unknown):
            raise msgspec.ValidationError("an answer about other accounts than the request's")
        return answer


def check(url: Secret) -> None:
    """Raise a ConfigError if `url` cannot be the address of a server."""
    _client(url)


@functools.cache
def script() -> str:
    """Return the text of the script, headed by the constants that it shares with the Python code."""
    constants = {
        "SLACK": SLACK,
        "EVIDENCE_SHARE": EVIDENCE_SHARE,
        "EVIDENCE_NEEDED": EVIDENCE_NEEDED,
        "LONGEST_BLOCK": LONGEST_BLOCK,
        "PROBE_DELAY": PROBE_DELAY,
        "PATIENCE": PATIENCE,
        "INTERACTIVE": int(Priority.INTERACTIVE),
        "BATCH": int(Priority.BATCH),
        "TICKET_SECONDS": _TICKET_SECONDS,
        "ACCOUNT_SECONDS": _ACCOUNT_SECONDS,
        "NAMES": "{" + ", ".join(f"'{name}'" for name in DIMENSIONS) + "}",
        "SECONDS": "{" + ", ".join(f"{name} = {seconds}" for name, (_, seconds) in DIMENSIONS.items()) + "}",
        "IS_TOKENS": "{" + ", ".join(f"{name} = true" for name in TOKENS) + "}",
    }
    head = "".join(f"local {name} = {value}\n" for name, value in constants.items())
    return head + importlib.resources.files(__package__).joinpath("limits.lua").read_text("utf-8")


def _client(url: Secret) -> Redis:
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": _TIMEOUT,
        "socket_connect_timeout": _TIMEOUT,
        # A request whose answer was lost may have been carried out: sending it again could count a call twice.
        "retry": Retry(NoBackoff(), 0),
    }
    with contextlib.suppress(ValueError):
        return Redis.from_pool(pool_at(ConnectionPool.from_url, url, options))
    # Outside of its handler: the text of the ValueError may hold the password, and an error keeps its context.
    raise ConfigError(
        f"MIXTURA_REDIS_URL: {without_password(url)} is no address of a Redis server: write redis://HOST:PORT/0"
    )
