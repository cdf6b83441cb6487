"""`mixtura ask --vs MODEL`: a mixture's answer and one model's alone, each with what it took."""

import json
import re

import pytest

from commands import at, environment, run, sentence
from mixtura.chat import JsonObject
from mixtura.cli.common import today
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.sim.faults import Fault
from terminals import terminal

pytestmark = pytest.mark.slow

STRONG = "openai/gpt-oss-120b"
VS = ("ask", "--vs", STRONG)


def says(request: JsonObject, call: int) -> str:
    if request["model"] != STRONG:
        return f"Draft number {call} says something else than all others."
    return "What all of them say." if "Draft number" in str(request["messages"]) else "What one says alone."


CLOUD = SimOptions(as_of=today(), plan="developer", profile="fixed:0.2", reply=says)


async def test_both_answers_stand_on_stdout_and_a_line_each_on_stderr() -> None:
    async with simulated_cloud(CLOUD) as cloud:
        done = await run(at(cloud), *VS, "Why?")
        both = f"--- balanced\nWhat all of them say.\n\n--- {STRONG} alone\nWhat one says alone.\n"
        assert (done.code, done.out) == (0, both)
        heading, mixture, alone = done.err.splitlines()[-3:]
        assert heading.split() == ["first", "word", "seconds", "dollars", "tokens"]
        figures = r"\d\.\d\d s +\d\.\d\d s +\$0\.\d{6} +\d+"
        assert re.fullmatch(rf"balanced +{figures}", mixture)
        assert re.fullmatch(rf"{STRONG} alone +{figures}", alone)
        assert cloud.requests[-1]["model"] == STRONG  # one after the other, the mixture first
        quiet = await run(at(cloud), *VS, "-q", "Why?")
        assert (quiet.code, quiet.out, quiet.err) == (0, both, "")


async def test_json_is_one_document_with_both() -> None:
    async with simulated_cloud(CLOUD) as cloud:
        told = json.loads((await run(at(cloud), *VS, "--json", "Why?")).out)
        assert (told["status"], told["mixture"]["text"], told["vs"]["text"]) == (
            "ok",
            "What all of them say.",
            "What one says alone.",
        )
        assert [found["name"] for found in told["compared"]] == ["balanced", f"{STRONG} alone"]
        assert sum(found["cost"] for found in told["compared"]) == pytest.approx(
            told["mixture"]["cost"] + told["vs"]["cost"]
        )
        assert told["compared"][1]["first_word"] <= told["compared"][1]["seconds"]


async def test_the_mixtures_answer_stands_where_the_other_fails() -> None:
    # The model's first call belongs to the mixture, and its second one is the model alone.
    async with simulated_cloud(
        SimOptions(as_of=today(), plan="developer", reply=says, faults=(Fault(kind="400", model=STRONG, first=2),))
    ) as cloud:
        done = await run(at(cloud), *VS, "Why?")
        assert (done.code, done.out) == (1, "--- balanced\nWhat all of them say.\n")
        assert done.err.splitlines()[-1].startswith(f"mixtura: {STRONG} on groq: ")
    async with simulated_cloud(SimOptions(keys={"gsk_other": "org"})) as cloud:
        wrong = await run(at(cloud), *VS, "--json", "Why?")
        told = json.loads(wrong.out)
        assert (wrong.code, told["status"], told["vs"]) == (3, "failed", None)
        assert told["error"] in sentence(wrong)


async def test_max_cost_is_for_both_together() -> None:
    async with simulated_cloud(CLOUD) as cloud:
        refused = await run(at(cloud), *VS, "--max-cost", "0.002", "Why?")
        assert (refused.code, refused.out, cloud.ledger.arrived) == (1, "", 0)
        assert "at most $0.002000 is allowed; nothing was sent" in sentence(refused)
        # What the model alone costs at most is left for it: the mixture gets less than for itself.
        less = await run(at(cloud), *VS, "--max-cost", "0.01", "Why?")
        assert less.code == 0
        assert "! the whole run could cost more than $0.007" in less.err


async def test_a_dry_run_forecasts_both_and_sends_nothing() -> None:
    env = environment()
    done = await run(env, *VS, "--dry-run", "--max-cost", "0.002", "Why?")
    assert done.code == 0
    totals = [float(line.rpartition("$")[2]) for line in done.out.splitlines() if line.startswith("at most")]
    assert f"both at most ${sum(totals):.4f}" in done.out
    assert "with this --max-cost both would be refused" in sentence(done)
    told = json.loads((await run(env, *VS, "--dry-run", "--json", "Why?")).out)
    assert told["cost"] == pytest.approx(told["mixture"]["cost"] + told["vs"]["cost"])
    unknown = await run(env, *VS, "--dry-run", "--provider", "nobody", "Why?")
    assert (unknown.code, "nobody" in sentence(unknown)) == (3, True)


async def test_with_a_provider_both_are_asked_there() -> None:
    async with simulated_cloud(CLOUD) as cloud:
        env = environment(MIXTURA_API_KEY="gsk_very_secret")
        done = await run(env, *VS, "--provider", cloud.base_url, "Why?")
        assert (done.code, len(cloud.requests)) == (0, 5)
        assert done.err.splitlines()[-1].split()[-2] == "?"


@pytest.mark.parametrize("columns", [40, 80])
async def test_on_a_terminal_both_stream_and_the_lines_fit(columns: int) -> None:
    async with simulated_cloud(CLOUD) as cloud, terminal(cloud, *VS, "Why?", columns=columns) as shown:
        assert await shown.end() == 0
        assert shown.plain.index("--- balanced") < shown.plain.index("What all of them say.")
        assert shown.plain.index("What all of them say.") < shown.plain.index(f"--- {STRONG} alone")
        assert all(len(line) < columns for line in shown.plain.splitlines()[-3:])
