"""A daily budget under many workers, forks, locks and accidents: no answer is lost, the books stay whole."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from mixtura import Answer, ChatRequest, Completion, Event, Layer, Mixture, ModelCard, Price, Proposer, Recipe, Usage
from mixtura.errors import ConfigError, DeadlineError
from mixtura.events import RunFinished
from mixtura.limits.budget.stores import RedisBudget, SqliteBudget
from mixtura.models.base import Emit
from mixtura.models.served import Served

RECIPE = Recipe(layers=(Layer(proposers=(Proposer(model="m", max_tokens=100),)),))
COST = 50e-6

# What a web worker does: a Mixture a request, in several threads with an event loop each.
WORKER = """
import asyncio, json, sys
from concurrent.futures import ThreadPoolExecutor
from mixtura import Mixture
from test_budget_shared import RECIPE, Paid

async def serve(requests):
    async def one():
        mixture = Mixture(RECIPE, models=Paid(), env={"MIXTURA_HOME": sys.argv[1]}, daily_budget=100.0)
        return await mixture.ask("Hello?")
    failed, cost = [], 0
    for _ in range(requests):
        for got in await asyncio.gather(*(one() for _ in range(3)), return_exceptions=True):
            if isinstance(got, BaseException):
                failed.append(f"{got!r}")
            else:
                failed += got.warnings
                cost += round(got.cost * 1e9)
    return failed, cost

with ThreadPoolExecutor(3) as pool:
    print(json.dumps(list(pool.map(lambda _: asyncio.run(serve(int(sys.argv[2]))), range(3)))))
"""


class Paid:
    """A model that costs something; `meanwhile` happens while it answers."""

    def __init__(self, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        self._meanwhile = meanwhile

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        if self._meanwhile is not None:
            await self._meanwhile()
        return Completion(model="m", text="An answer.", usage=Usage(prompt_tokens=3, completion_tokens=50), cost=COST)

    def find(self, provider: str, model: str) -> Served:
        return Served(self, self.card(provider, model))

    def card(self, provider: str, model: str) -> ModelCard:
        return ModelCard(id=model, provider=provider, max_output=100, price=Price(input=0.0, output=1.0))

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def kept(home: Path) -> tuple[str, int, int]:
    """Whether the books are whole, and what of all days is spent and reserved (billionths)."""
    with contextlib.closing(sqlite3.connect(home / "budget.db")) as file:
        whole = file.execute("PRAGMA integrity_check").fetchone()[0]
        spent, reserved = file.execute("SELECT sum(spent), sum(reserved) FROM days").fetchone()
    return whole, spent, reserved


def serve(home: Path, requests: int) -> subprocess.Popen[str]:
    """Start a worker."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", WORKER, str(home), str(requests)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)


@pytest.mark.slow
def test_workers_that_make_a_mixture_a_request_lose_no_answer_and_keep_the_sum(tmp_path: Path) -> None:
    workers = [serve(tmp_path, 6) for _ in range(4)]
    found = [pair for worker in workers for pair in json.loads(worker.communicate(timeout=120)[0])]
    assert [failed for failed, _ in found] == [[]] * 12
    total = sum(cost for _, cost in found)
    assert total == 4 * 3 * 6 * 3 * round(COST * 1e9)
    assert kept(tmp_path) == ("ok", total, 0)


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_books_that_others_go_on_with(tmp_path: Path) -> None:
    killed, other = serve(tmp_path, 500), serve(tmp_path, 6)
    found = json.loads(other.communicate(timeout=120)[0])
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert [failed for failed, _ in found] == [[]] * 3
    found = json.loads(serve(tmp_path, 2).communicate(timeout=120)[0])
    assert [failed for failed, _ in found] == [[]] * 3
    assert kept(tmp_path)[0] == "ok"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.slow
def test_children_that_are_forked_amid_transactions_use_the_books_beside_their_parent(tmp_path: Path) -> None:
    def ask() -> None:
        mixture = Mixture(RECIPE, models=Paid(), env={"MIXTURA_HOME": str(tmp_path)}, daily_budget=1.0)
        assert asyncio.run(mixture.ask("Hello?")).warnings == []

    def be_child() -> None:
        code = 1
        try:
            for _ in range(5):
                ask()
            code = 0
        finally:
            os._exit(code)  # a child of pytest must not go on as pytest

    asked = 0
    enough = threading.Event()

    def keep_asking() -> None:
        nonlocal asked
        while not enough.is_set():
            ask()
            asked += 1

    parent = threading.Thread(target=keep_asking)
    parent.start()
    children = []
    for _ in range(6):
        child = os.fork()
        if not child:
            be_child()
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    enough.set()
    parent.join()
    assert codes == [0] * 6
    assert kept(tmp_path) == ("ok", (asked + 30) * 50_000, 0)


async def test_a_locked_file_ends_a_run_at_its_deadline_and_it_can_be_cancelled(tmp_path: Path) -> None:
    mixture = Mixture(RECIPE, models=Paid(), env={"MIXTURA_HOME": str(tmp_path)}, daily_budget=1.0)
    await mixture.ask("Hello?")
    with locked(tmp_path):
        async with asyncio.timeout(10):
            with pytest.raises(DeadlineError, match=r"within the deadline of 0\.2 s; nothing was sent"):
                await mixture.ask("Hello?", deadline=0.2)
            with pytest.raises(DeadlineError):
                await asyncio.to_thread(mixture.ask_sync, "Hello?", deadline=0.2)
            asked = asyncio.ensure_future(mixture.ask("Hello?"))
            await asyncio.sleep(0.1)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
    await mixture.ask("Hello?")
    assert kept(tmp_path) == ("ok", 100_000, 0)


async def test_the_time_that_the_books_took_counts_for_the_deadline(tmp_path: Path) -> None:
    waits: list[float] = []

    async def wait() -> None:
        waits.append(asyncio.get_running_loop().time())
        await asyncio.sleep(60)

    mixture = Mixture(RECIPE, models=Paid(wait), env={"MIXTURA_HOME": str(tmp_path)}, daily_budget=1.0)
    with locked(tmp_path) as release:
        begun = asyncio.get_running_loop().time()
        asyncio.get_running_loop().call_later(0.8, release)
        with pytest.raises(DeadlineError):
            await mixture.ask("Hello?", deadline=1.0)
    ended = asyncio.get_running_loop().time()
    assert waits[0] - begun >= 0.8
    assert ended - waits[0] < 0.9  # less than a whole deadline


@contextlib.contextmanager
def locked(home: Path) -> Iterator[Callable[[], object]]:
    """Hold the file as another process would; what is yielded lets it go."""
    with contextlib.closing(sqlite3.connect(home / "budget.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield lambda: other.execute("ROLLBACK")


def replace_by_folder(home: Path) -> None:
    for file in home.iterdir():
        file.unlink()
    (home / "budget.db").mkdir()


def corrupt(home: Path) -> None:
    (home / "budget.db").write_bytes(b"garbage!" * 4000)


def cut(home: Path) -> None:
    os.truncate(home / "budget.db", 700)


def replace_by_somebody_elses(home: Path) -> None:
    (home / "budget.db").unlink()
    with contextlib.closing(sqlite3.connect(home / "budget.db")) as file:
        file.execute("CREATE TABLE days (name TEXT)")


async def ask_somehow(mixture: Mixture, how: str, **asked: Any) -> Answer:
    if how == "ask":
        return await mixture.ask("Hello?", **asked)
    if how == "ask_sync":
        return await asyncio.to_thread(mixture.ask_sync, "Hello?", **asked)
    async with mixture.stream("Hello?", **asked) as stream:
        async for _ in stream:
            pass
        return stream.answer


@pytest.mark.parametrize("how", ["ask", "stream", "ask_sync"])
@pytest.mark.parametrize("accident", [replace_by_folder, corrupt, cut, replace_by_somebody_elses])
async def test_books_that_break_while_a_model_answers_cost_no_answer(
    tmp_path: Path, accident: Callable[[Path], None], how: str
) -> None:
    async def break_books() -> None:
        accident(tmp_path)

    events: list[Event] = []
    mixture = Mixture(
        RECIPE,
        models=Paid(break_books),
        env={"MIXTURA_HOME": str(tmp_path)},
        daily_budget=1.0,
        listeners=[events.append],
    )
    answer = await ask_somehow(mixture, how)
    assert (answer.text, answer.status, answer.cost) == ("An answer.", "ok", COST)
    (warning,) = answer.warnings
    assert warning.startswith("the daily budget could not be told that the run cost $0.000050 (the daily budget cannot")
    assert sum(isinstance(event, RunFinished) for event in events) == 1
    # From now on nothing can be sent, and the error says what to do.
    events.clear()
    with pytest.raises(ConfigError, match="delete it to begin anew, or set MIXTURA_HOME to another folder"):
        await ask_somehow(mixture, how)
    assert events == []


async def test_a_file_that_is_deleted_while_a_model_answers_is_begun_anew(tmp_path: Path) -> None:
    async def delete() -> None:
        (tmp_path / "budget.db").unlink()

    mixture = Mixture(RECIPE, models=Paid(delete), env={"MIXTURA_HOME": str(tmp_path)}, daily_budget=1.0)
    assert (await mixture.ask("Hello?")).warnings == []
    assert kept(tmp_path) == ("ok", 50_000, 0)


async def test_a_full_disk_costs_no_answer(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))

    mixture = Mixture(RECIPE, models=Paid(fill), env={"MIXTURA_HOME": str(tmp_path)}, daily_budget=1.0)
    try:
        answer = await mixture.ask("Hello?")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert answer.text == "An answer."
    assert "could not be told" in answer.warnings[0]
    assert kept(tmp_path)[0] == "ok"


async def test_a_settlement_that_the_answer_did_not_wait_for_is_written_later(tmp_path: Path) -> None:
    events: list[Event] = []
    with contextlib.ExitStack() as stack:

        async def lock() -> None:
            stack.enter_context(locked(tmp_path))

        mixture = Mixture(
            RECIPE, models=Paid(lock), env={"MIXTURA_HOME": str(tmp_path)}, daily_budget=1.0, listeners=[events.append]
        )
        async with asyncio.timeout(10):
            answer = await mixture.ask("Hello?", deadline=0.5)
        assert answer.text == "An answer."
        assert "no reply within 0.4" in answer.warnings[0] or "no reply within 0.5" in answer.warnings[0]
        assert sum(isinstance(event, RunFinished) for event in events) == 1
    spent = await SqliteBudget(tmp_path / "budget.db", 1.0, time.time).today()
    assert (spent.spent, spent.reserved) == (COST, 0.0)


async def test_a_run_that_is_cancelled_while_it_settles_has_one_end(tmp_path: Path) -> None:
    events: list[Event] = []
    with contextlib.ExitStack() as stack:

        async def lock() -> None:
            stack.enter_context(locked(tmp_path))
            asyncio.get_running_loop().call_later(0.2, asked.cancel)

        mixture = Mixture(
            RECIPE, models=Paid(lock), env={"MIXTURA_HOME": str(tmp_path)}, daily_budget=1.0, listeners=[events.append]
        )
        asked = asyncio.ensure_future(mixture.ask("Hello?"))
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(10):
                await asked
    assert sum(isinstance(event, RunFinished) for event in events) == 1


@pytest.mark.server
@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_redis_that_is_gone_or_silent_at_settlement_costs_no_answer(signalled: signal.Signals) -> None:
    events: list[Event] = []
    with servers.redis_server() as server:

        async def silence() -> None:
            server.send_signal(signalled)

        budget = RedisBudget(server.url, 1.0, time.time)
        mixture = Mixture(RECIPE, models=Paid(silence), env={}, budget=budget, listeners=[events.append])
        try:
            async with asyncio.timeout(20):
                answer = await mixture.ask("Hello?", deadline=2.0)
        finally:
            if signalled == signal.SIGSTOP:
                server.send_signal(signal.SIGCONT)
        assert answer.text == "An answer."
        assert "could not be told" in answer.warnings[0]
        assert sum(isinstance(event, RunFinished) for event in events) == 1
        await budget.close()


@pytest.mark.server
async def test_a_reservation_that_a_silent_redis_makes_later_is_given_back() -> None:
    with servers.redis_server() as server:
        budget = RedisBudget(server.url, 1.0, time.time)
        await budget.settle("before", 0.1)
        server.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(DeadlineError):
                await Mixture(RECIPE, models=Paid(), env={}, budget=budget).ask("Hello?", deadline=0.5)
            reserving = asyncio.ensure_future(budget.reserve("late", 0.5))
            await asyncio.sleep(0.2)
            reserving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reserving
        finally:
            server.send_signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            while True:
                today = await budget.today()
                if today.reserved == 0 and not budget._open:
                    break
                await asyncio.sleep(0.1)
        assert (today.spent, today.reserved) == (0.1, 0.0)
        await budget.close()


@pytest.mark.server
async def test_a_reservation_that_redis_makes_after_it_was_refused_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mixtura.limits.budget.stores._REDIS_TIMEOUT", 0.2)
    with servers.redis_server() as server:
        budget = RedisBudget(server.url, 1.0, time.time)
        await budget.settle("before", 0.1)
        server.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(ConfigError, match="Timeout reading"):
                await budget.reserve("late", 0.5)
        finally:
            server.send_signal(signal.SIGCONT)
        async with asyncio.timeout(30):
            while True:
                if (await budget.today()).reserved == 0 and not budget._open:
                    break
                await asyncio.sleep(0.1)
        await budget.reserve("other", 0.9)
        await budget.close()
