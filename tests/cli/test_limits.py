"""Limits and money on the command line: options of ask and chat, exit codes, what is said while a run waits."""

import datetime as dt
import json
from pathlib import Path

import pytest

from commands import at, environment, run, sentence
from mixtura.limits.window import Limits
from mixtura.sim import SimOptions, simulated_cloud

pytestmark = pytest.mark.slow

TODAY = dt.date(2026, 11, 22)
SINGLE = ("ask", "-m", "openai/gpt-oss-20b", "Why?")


async def test_a_run_that_fits_no_window_in_time_is_told_which_and_when_and_to_try_again() -> None:
    async with simulated_cloud(SimOptions(tokens=20, as_of=TODAY, profile="fixed:0.3")) as cloud:
        env = at(cloud, MIXTURA_PLAN="free")
        done = await run(env, "ask", "--quiet", "-r", "self", "--deadline", "3", "Why is the sky blue?")
        assert done.code == 0  # less was asked
        told = await run(env, "ask", "--max-cost", "0", *SINGLE[1:])
        assert told.code == 1
        assert "nothing was sent" in sentence(told)


async def test_a_call_larger_than_its_window_is_refused_with_75_and_by_how_much() -> None:
    tiny = SimOptions(limits={"*": Limits(tpm=500)}, as_of=TODAY)
    async with simulated_cloud(tiny) as cloud:
        env = at(cloud, MIXTURA_PLAN="free")
        done = await run(env, *SINGLE, *["word"] * 9000)
        assert done.code == 75
        assert "can never fit: a call of openai/gpt-oss-20b asks for" in sentence(done)
        assert not cloud.requests


async def test_the_days_budget_is_kept_across_commands_and_refuses_with_75(tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(tokens=20, as_of=TODAY)) as cloud:
        env = at(cloud, MIXTURA_HOME=str(tmp_path))
        first = await run(env, *SINGLE, "--json", "--daily-budget", "0.002")
        assert first.code == 0
        spent = json.loads(first.out)["cost"]
        second = await run(env, *SINGLE, "--daily-budget", f"{spent + 1e-9:.9f}")
        assert second.code == 75
        assert f"(${spent:.6f} spent" in sentence(second)
        assert "until the next day begins" in sentence(second)
        chat = await run(env, "chat", "-m", "openai/gpt-oss-20b", "--daily-budget", "0", stdin=b"Hello?\n")
        assert chat.code == 75


async def test_a_simulated_cloud_spends_nothing_of_the_real_budget(tmp_path: Path) -> None:
    env = environment(MIXTURA_HOME=str(tmp_path), MIXTURA_DAILY_BUDGET="0", MIXTURA_REDIS_URL="redis://127.0.0.1:9/0")
    done = await run(env, *SINGLE, "--sim", "--daily-budget", "1")
    assert done.code == 0, done.err
    assert not (tmp_path / "budget.db").exists()


async def test_a_simulated_key_is_of_the_plan_that_is_asked_for() -> None:
    env = environment()
    told = await run(env, *SINGLE, "--sim", "--plan", "free", "--priority", "batch", "--json")
    assert json.loads(told.out)["status"] == "ok"
    wrong = await run(env, *SINGLE, "--sim", "--plan", "gold")
    assert (wrong.code, "'gold' is not one of" in wrong.err) == (2, True)


async def test_a_dry_run_says_what_a_smaller_budget_would_leave_out() -> None:
    env = environment()
    less = await run(env, "ask", "--dry-run", "--max-cost", "0.005", "Why is the sky blue?")
    assert "the whole run could cost more than $0.005000: output limits cut to" in less.err
    (total,) = [line for line in less.out.splitlines() if line.startswith("at most")]
    assert float(total.rpartition("$")[2]) <= 0.005
    enough = await run(env, "ask", "--dry-run", "--max-cost", "1", "Why is the sky blue?")
    assert "could cost more" not in enough.err
    none = await run(env, "ask", "--dry-run", "--max-cost", "0.00001", "Why is the sky blue?")
    assert "with --max-cost 1e-05 the run would be refused" in none.err


async def test_less_than_the_recipe_is_said_on_stderr_before_its_drafts() -> None:
    async with simulated_cloud(SimOptions(tokens=20, as_of=TODAY)) as cloud:
        done = await run(at(cloud), "ask", "--max-cost", "0.005", "Why is the sky blue?")
        lines = done.err.splitlines()
        assert lines[0].startswith("! the whole run could cost more than $0.005000: output limits cut to")
        assert sum("could cost more" in line for line in lines) == 1
