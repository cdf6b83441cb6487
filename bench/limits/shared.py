"""What a reservation costs where windows are kept in Redis: round trips, and microseconds of CPU and of waiting.

The server is the one that MIXTURA_REDIS_URL names, else a program of this machine, started on a free port.
"""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.limits.table import Table
from bench.measure import Spread
from mixtura.errors import ConfigError
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need
from mixtura.limits.window import Limits

if TYPE_CHECKING:
    from redis import Redis

ROUNDS = 7
CALLS = 1_000
_TOKENS = 1224
_PLENTY = Limits(rpm=100_000_000, rpd=2_000_000_000, tpm=100_000_000_000, tpd=2_000_000_000_000)
_PATIENCE = 10.0


class OperationCost(NamedTuple):
    """What one operation takes: microseconds of CPU in this process and of wall time, and scripts the server ran."""

    cpu: Spread
    wall: Spread
    trips: float


@contextmanager
def server() -> Iterator[str | None]:
    """Give the address of a Redis server, None where there is none."""
    named = os.environ.get("MIXTURA_REDIS_URL", "").strip()
    if named:
        yield named
        return
    kept = Path(sys.prefix) / "servers" / "redis-server"
    program = shutil.which("valkey-server") or shutil.which("redis-server") or (str(kept) if kept.exists() else None)
    if program is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            _await_port(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.wait()


def _await_port(port: int) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def _commands(client: "Redis") -> int:
    """Return how often the server ran a script, which is one round trip each."""
    stats = client.info("commandstats")
    assert isinstance(stats, dict)
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("eval", "evalsha"))


async def measure(url: str, rounds: int = ROUNDS, calls: int = CALLS) -> dict[str, OperationCost]:
    """Measure one reservation of a call, its settling, and the admission of a whole run."""
    from redis import Redis

    from mixtura.limits.redis.store import RedisStore

    client = Redis.from_url(url)
    limiter = Limiter(RedisStore(url))
    names = [f"bench/{uuid.uuid4().hex}/{model}" for model in ("small", "other", "large")]
    for name in names:
        limiter.account(name, _PLENTY, known=True)
    try:
        return await _measure(limiter, client, names, rounds, calls)
    finally:
        client.close()


async def _measure(
    limiter: Limiter, client: "Redis", names: list[str], rounds: int, calls: int
) -> dict[str, OperationCost]:
    needs = [Need(names[0], 2 * _TOKENS, 2), Need(names[1], _TOKENS), Need(names[2], 2 * _TOKENS)]
    account = limiter.accounts[names[0]]

    async def send() -> None:
        sent.append(await limiter.send(account, _TOKENS))

    async def settle() -> None:
        await limiter.settle(sent.pop(), actual=400)

    async def admit() -> None:
        holds.append(await limiter.admit(needs))

    async def release() -> None:
        await holds.pop().close()

    sent, holds = [await limiter.send(account, _TOKENS)], [await limiter.admit(needs)]
    await settle()
    await release()
    steps = {"a reservation": send, "its settling": settle, "admission of a run": admit, "its end": release}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    trips: dict[str, float] = {}
    for _ in range(rounds):
        for name, step in steps.items():
            before, begun, used = _commands(client), time.perf_counter(), time.process_time()
            for _ in range(calls):
                await step()
            cpu[name].append((time.process_time() - used) / calls * 1e6)
            wall[name].append((time.perf_counter() - begun) / calls * 1e6)
            trips[name] = (_commands(client) - before) / calls
    if limiter.degraded:
        raise ConfigError("Redis went away while it was measured")
    return {name: OperationCost(Spread.of(cpu[name]), Spread.of(wall[name]), trips[name]) for name in steps}


def table(found: Table, rounds: int = ROUNDS, calls: int = CALLS) -> None:
    """Add the rows, one round trip each at most."""
    with server() as url:
        if url is None:
            found.skip("windows in Redis", "no redis-server or valkey-server, and MIXTURA_REDIS_URL is not set")
            return
        try:
            measured = asyncio.run(measure(url, rounds, calls))
        except ImportError:
            found.skip("windows in Redis", "the package is missing: pip install 'mixtura[redis]'")
            return
    for name, taken in measured.items():
        shown = f"{taken.trips:.2f} ({taken.wall.median:.0f} us, of it {taken.cpu.median:.0f} us of CPU)"
        found.add(f"windows in Redis, {name}: round trips", taken.trips, shown, 1)
