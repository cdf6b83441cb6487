"""`mixtura doctor` on settings: the plan, the daily budget, the server that limits are shared through."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from commands import at, run
from mixtura.limits.budget.stores import SqliteBudget
from mixtura.sim import SimOptions, simulated_cloud

pytestmark = pytest.mark.slow

PASSWORD = "hunter2"


@asynccontextmanager
async def server(**replies: bytes) -> AsyncIterator[int]:
    """Speak as much of Redis' protocol as a greeting takes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2].decode())
            writer.write(replies.get(words[0], b"+OK\r\n"))
        writer.close()

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield running.sockets[0].getsockname()[1]


async def checks(code: int, *args: str, **env: str) -> dict[str, dict[str, object]]:
    """Run `doctor` against a simulated cloud and return its checks by name."""
    async with simulated_cloud(SimOptions()) as cloud:
        done = await run(at(cloud, **env), "doctor", "-r", "classic", "--json", *args)
    assert done.code == code, done.out + done.err
    assert PASSWORD not in done.out + done.err
    return {check["name"]: check for check in json.loads(done.out)}


async def test_the_plan_that_is_set_is_said() -> None:
    assert "not set" in str((await checks(0))["plan"]["said"])
    assert "MIXTURA_PLAN is free" in str((await checks(0, MIXTURA_PLAN="free"))["plan"]["said"])
    wrong = (await checks(1, MIXTURA_PLAN="gold"))["plan"]
    assert wrong["ok"] is False
    assert "unknown plan 'gold'" in str(wrong["said"])


async def test_predictions_are_counted_and_a_wrong_file_of_them_keeps_nothing_else_from_being_looked_at(
    tmp_path: Path,
) -> None:
    assert "predictions" not in await checks(0)
    path = tmp_path / "told.toml"
    path.write_text('[[predictions]]\nprovider = "vllm"\nmodel = "m"\nfirst = 1\ntoken = 0.1\n')
    told = (await checks(0, MIXTURA_PREDICTIONS=str(path)))["predictions"]
    assert told["said"] == "MIXTURA_PREDICTIONS says what calls of 1 model take until enough were measured"
    found = await checks(1, MIXTURA_PREDICTIONS="missing.toml", MIXTURA_PLAN="gold")
    assert "missing.toml: cannot be read as predictions" in str(found["predictions"]["said"])
    assert "unknown plan 'gold'" in str(found["plan"]["said"])
    assert "groq reached" in found


async def test_a_plan_that_is_not_the_one_told_is_named_with_the_one_to_set() -> None:
    told = (await checks(0, "--ask", MIXTURA_PLAN="developer"))["plan told"]
    assert told["said"] == "14400 requests per day, 6000 tokens per minute are those of free"
    assert told["fix"] == "export MIXTURA_PLAN=free"
    assert (await checks(0, "--ask", MIXTURA_PLAN="free"))["plan told"]["ok"] is True


async def test_what_is_left_of_the_daily_budget_is_told(tmp_path: Path) -> None:
    env = {"MIXTURA_HOME": str(tmp_path), "MIXTURA_DAILY_BUDGET": "2"}
    assert "daily budget" not in await checks(0, MIXTURA_HOME=str(tmp_path))
    assert str((await checks(0, **env))["daily budget"]["said"]).startswith(
        "$0.0000 of $2.00 spent today, $2.0000 left"
    )
    books = SqliteBudget(tmp_path / "budget.db", 2.0, time.time)
    await books.settle("a run", 1.5)
    await books.reserve("another", 0.5)
    await books.close()
    spent = (await checks(1, **env))["daily budget"]
    assert str(spent["said"]).startswith("$1.5000 of $2.00 spent and $0.5000 reserved today, $0.0000 left until 00:00")
    assert spent["fix"] == "raise MIXTURA_DAILY_BUDGET"
    wrong = (await checks(1, MIXTURA_DAILY_BUDGET="two"))["daily budget"]
    assert "expected dollars, 0 or more, got 'two'" in str(wrong["said"])


async def test_a_shared_server_is_asked_and_its_password_never_shown() -> None:
    async with server(PING=b"+PONG\r\n") as port:
        found = (await checks(0, MIXTURA_REDIS_URL=f"redis://me:{PASSWORD}@127.0.0.1:{port}/0"))["redis"]
    assert found["ok"] is True
    assert str(found["said"]).startswith(f"redis://127.0.0.1:{port}/0 answered in ")
    assert "redis" not in await checks(0)


@pytest.mark.parametrize(
    ("replies", "said"),
    [({"PING": b"-LOADING it reads its file\r\n"}, "it reads its file"), ({"PING": b"nonsense\r\n"}, "cannot be used")],
)
async def test_a_shared_server_that_does_not_work_is_a_failed_check(replies: dict[str, bytes], said: str) -> None:
    async with server(**replies) as port:
        found = (await checks(1, MIXTURA_REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{port}/0"))["redis"]
    assert found["ok"] is False
    assert said in str(found["said"])


async def test_an_address_that_is_none_is_said() -> None:
    found = (await checks(1, MIXTURA_REDIS_URL="http://127.0.0.1/"))["redis"]
    assert "is no address of a Redis server" in str(found["said"])
