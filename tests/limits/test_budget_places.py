"""Where a daily budget is kept: who may read it, what becomes of old days, and places that refuse to keep one."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

import servers
from budgets import DAY, Clock, Place, books
from mixtura.errors import ConfigError
from mixtura.limits.budget.stores import RedisBudget, SqliteBudget, budget_file

# What a user without rights does; root is made one first, for whom no file is read-only.
STRANGER = """
import asyncio, os, sys
from pathlib import Path
from mixtura.errors import ConfigError
from mixtura.limits.budget.stores import SqliteBudget

asyncio.run(asyncio.to_thread(os.getpid))  # imports what may be out of reach for the stranger
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    asyncio.run(SqliteBudget(Path(sys.argv[1]), 1.0, lambda: 0.0).reserve("run", 0.1))
except ConfigError as error:
    print(error)
"""


@contextlib.contextmanager
def locked(file: Path, mode: str = "IMMEDIATE") -> Iterator[None]:
    """Hold the file as another process would in the middle of its transaction."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute(f"BEGIN {mode}")
        yield


@pytest.mark.parametrize("mode", ["IMMEDIATE", "EXCLUSIVE"])
async def test_a_reservation_whose_caller_is_cancelled_is_not_made_and_the_caller_does_not_wait(
    tmp_path: Path, mode: str
) -> None:
    place = Place(tmp_path / "budget.db")
    async with place.open() as budget:
        await budget.settle("a", 0.1)
        with locked(tmp_path / "budget.db", mode):
            reserving = asyncio.ensure_future(budget.reserve("b", 0.5))
            await asyncio.sleep(0.05)  # its thread now waits for the file; earlier is as good
            reserving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reserving
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(budget.today(), 0.1)
        assert await books(budget) == (0.1, 0.0)


async def test_a_reservation_that_is_made_when_nobody_waits_any_more_is_given_back(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(SqliteBudget):
        def _reserve_in(self, *args: Any) -> Any:
            begun.set()
            go_on.wait(10)
            return super()._reserve_in(*args)

    budget = Slow(tmp_path / "budget.db", 1.0, Clock())
    reserving = asyncio.ensure_future(budget.reserve("b", 0.5))
    await asyncio.to_thread(begun.wait, 10)
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    go_on.set()
    assert await books(budget) == (0.0, 0.0)


async def test_a_reservation_that_is_there_as_its_caller_is_cancelled_is_given_back(tmp_path: Path) -> None:
    budget = SqliteBudget(tmp_path / "budget.db", 1.0, Clock())
    reserving = asyncio.ensure_future(budget.reserve("b", 0.5))
    await asyncio.sleep(0)
    (inner,) = (task for task in asyncio.all_tasks() if "_reserve_for" in repr(task))
    # Called before the reservation's own waiter is woken.
    inner.add_done_callback(lambda _: reserving.cancel())
    with pytest.raises(asyncio.CancelledError):
        await reserving
    assert await books(budget) == (0.0, 0.0)


async def test_a_settlement_whose_caller_is_cancelled_is_written(tmp_path: Path) -> None:
    place = Place(tmp_path / "budget.db")
    async with place.open() as budget:
        await budget.reserve("a", 0.5)
        with locked(tmp_path / "budget.db"):
            settling = asyncio.ensure_future(budget.settle("a", 0.2))
            await asyncio.sleep(0.05)
            settling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await settling
        assert await books(budget) == (0.2, 0.0)


async def test_a_file_that_another_process_has_begun_is_shared_at_once(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "budget.db")) as other:
        other.execute("PRAGMA journal_mode = WAL")  # as an older version kept it
        other.execute("CREATE TABLE any_other (name)")
    async with Place(tmp_path / "budget.db").open() as budget:
        with locked(tmp_path / "budget.db"):
            reserving = asyncio.ensure_future(budget.reserve("a", 0.5))
            await asyncio.sleep(0.05)
        await reserving
        assert await books(budget) == (0.0, 0.5)


async def test_the_file_and_its_folders_are_for_their_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "state" / "mixtura" / "budget.db"
    async with Place(file).open() as budget:
        await budget.settle("a", 0.1)
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as another:
            another.execute("BEGIN IMMEDIATE")
            another.execute("DELETE FROM days")
            made = [file.parent.parent, file.parent, *file.parent.iterdir()]
            assert len(made) == 4  # with the one that SQLite writes beside it while it is written to
            assert all(stat.S_IMODE(one.stat().st_mode) & 0o077 == 0 for one in made)


async def test_days_older_than_forty_days_are_deleted(tmp_path: Path) -> None:
    place = Place(tmp_path / "budget.db")
    async with place.open() as budget:
        for run in range(60):
            await budget.settle(str(run), 0.5)
            place.clock.now += DAY
    with contextlib.closing(sqlite3.connect(tmp_path / "budget.db")) as file:
        for table in ("days", "runs"):
            assert file.execute(f"SELECT count(*), min(day), max(day) FROM {table}").fetchone() == (41, 20_019, 20_059)


@pytest.mark.server
async def test_redis_forgets_days_older_than_forty_days(redis_url: str) -> None:
    place = Place(redis_url).emptied()
    async with place.open() as budget:
        await budget.reserve("a", 0.5)
        await budget.settle("a", 0.5)
        place.clock.now += DAY
        await budget.settle("b", 0.1)
        place.clock.now += DAY
        await budget.reserve("c", 0.1)
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        keys = await client.keys("*")
        assert len(keys) == 6  # three days, three runs
        for key in keys:
            assert 40 * DAY < await client.ttl(key) <= 41 * DAY


async def test_a_file_that_was_deleted_is_begun_anew_by_all(tmp_path: Path) -> None:
    file = tmp_path / "budget.db"
    async with Place(file).open() as one, Place(file).open() as other:
        await one.settle("a", 0.9)
        await other.settle("b", 0.1)
        file.unlink()
        await other.settle("c", 0.3)
        await one.settle("d", 0.4)
        assert await books(one) == await books(other) == (0.7, 0.0)


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to be one\n" * 50, b"SQLite format 3\0???"]
)
async def test_a_corrupt_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "budget.db").write_bytes(content)
    async with Place(tmp_path / "budget.db").open() as budget:
        with pytest.raises(ConfigError, match=r"cannot be kept in .*budget\.db: .*, delete it to begin"):
            await budget.reserve("a", 0.1)
    assert (tmp_path / "budget.db").read_bytes() == content


async def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "budget.db")) as file:
        file.execute("CREATE TABLE days (name TEXT)")
    async with Place(tmp_path / "budget.db").open() as budget:
        for _ in range(2):  # the first must leave no transaction open
            with pytest.raises(ConfigError, match="no such column"):
                await budget.reserve("a", 0.1)


async def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    async with Place(tmp_path).open() as budget:
        with pytest.raises(ConfigError, match="directory: make it a file"):
            await budget.today()


async def test_a_file_in_place_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mixtura").touch()
    async with Place(tmp_path / "mixtura" / "budget.db").open() as budget:
        with pytest.raises(ConfigError, match="set MIXTURA_HOME to another folder"):
            await budget.settle("a", 0.1)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no such users here")
@pytest.mark.parametrize("exists", [True, False])
def test_a_place_that_is_read_only_is_refused(exists: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "budget.db"
        if exists:
            file.touch(0o444)
        Path(folder).chmod(0o555)
        done = subprocess.run([sys.executable, "-c", STRANGER, str(file)], capture_output=True, text=True, check=True)
        Path(folder).chmod(0o755)
    assert done.stdout.startswith(f"the daily budget cannot be kept in {file}: Permission denied: make it a file")


@pytest.mark.server
async def test_a_redis_that_cannot_be_reached_refuses_and_is_found_again_when_it_is_back() -> None:
    with servers.redis_server() as server:
        async with Place(server.url).open() as budget:
            await budget.reserve("a", 0.1)
            server.kill()
            with pytest.raises(ConfigError, match=r"cannot be kept in Redis at redis://127.*: check the address"):
                await budget.reserve("b", 0.1)
            server.start()
            await budget.reserve("b", 0.1)
            server.kill()
            server.start()
            await budget.reserve("c", 0.2)  # over a connection that broke unseen
            assert await books(budget) == (0.0, 0.2)


@pytest.mark.server
async def test_a_redis_that_holds_something_else_there_refuses(redis_url: str) -> None:
    place = Place(redis_url).emptied()
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.set("{mixtura:budget}:day:20000", "mine")
    async with place.open() as budget:
        with pytest.raises(ConfigError, match="WRONGTYPE"):
            await budget.reserve("a", 0.1)


@pytest.mark.parametrize("url", ["redis://:s3cret@127.0.0.1:1/0", "redis://me:s3cret@127.0.0.1:1/0?password=s3cret"])
async def test_a_password_in_the_address_is_never_said(url: str) -> None:
    async with Place(url).open() as budget:
        with pytest.raises(ConfigError, match=r"redis://127\.0\.0\.1:1/0") as refused:
            await budget.today()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["", "budget.db", "http://127.0.0.1", "redis://:s3cret#@127.0.0.1", "redis://h:s3cret"])
def test_what_is_no_address_of_a_redis_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a Redis server: write redis://HOST:PORT/0") as refused:
        RedisBudget(url, 1.0, Clock())
    assert "s3cret" not in str(refused.value)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match=r"pip install 'mixtura\[redis\]'$"):
        RedisBudget("redis://127.0.0.1", 1.0, Clock())


def test_a_file_budget_needs_no_redis_package() -> None:
    code = "import sys, mixtura.limits.budget.stores; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("env", "file"),
    [
        ({"MIXTURA_HOME": "/data", "XDG_STATE_HOME": "/state", "HOME": "/me"}, "/data/budget.db"),
        ({"XDG_STATE_HOME": "/state", "HOME": "/me"}, "/state/mixtura/budget.db"),
        ({"MIXTURA_HOME": "", "XDG_STATE_HOME": "", "HOME": "/me"}, "/me/.local/state/mixtura/budget.db"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/me"}, "/me/.local/state/mixtura/budget.db"),
    ],
)
def test_the_file_lies_where_the_environment_says(env: dict[str, str], file: str) -> None:
    assert budget_file(env) == Path(file)


def test_without_a_home_in_the_environment_the_users_own_is_asked_for() -> None:
    assert budget_file({}) == Path.home() / ".local" / "state" / "mixtura" / "budget.db"
