"""`mixtura demo --live`: a mixture beside its strongest model, with the simulated cloud as the real provider."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from commands import Done, at, environment, run, sentence, start, until
from mixtura import Event, fold
from mixtura.chat import JsonObject
from mixtura.cli.common import today
from mixtura.events import RunStarted, UnknownEvent
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.sim.faults import Fault
from mixtura.stored import read_events
from terminals import terminal

pytestmark = pytest.mark.slow

LIVE = ("demo", "--live")
STRONG = "openai/gpt-oss-120b"
RIGHT = {"tank": "12", "friends": "24", "train": "132"}


def solves(request: JsonObject, _call: int) -> str:
    """Answer rightly, but for the strong model, which is alone with the last question."""
    asked = request["messages"][-1]["content"]
    answer = next(answer for word, answer in RIGHT.items() if word in asked)
    if request["model"] == STRONG and answer == "132":
        answer = "131"
    return f"We reckon {'and reckon ' * 20}until it is done.\nThe answer is {answer}."


def provider(**more: Any) -> SimOptions:
    return SimOptions(as_of=today(), plan="developer", profile="lpu", reply=solves, **more)


def home(cloud: SimulatedCloud, tmp_path: Path) -> dict[str, str]:
    return at(cloud, MIXTURA_HOME=str(tmp_path))


def records(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "demo").glob("*"))


def read(path: Path) -> tuple[list[list[Event]], dict[str, Any]]:
    """Return the events of each run of a record, and its summary."""
    text = path.read_bytes()
    assert b"gsk_" not in text
    *events, last = read_events(text)
    assert isinstance(last, UnknownEvent)
    assert last.data["event"] == "demo_summary"
    runs: list[list[Event]] = []
    for event in events:
        if isinstance(event, RunStarted):
            runs.append([])
        runs[-1].append(event)
    return runs, last.data


def cells(done: Done, label: str) -> list[str]:
    (line,) = re.findall(rf"^{label} .*$", done.out, re.MULTILINE)
    return re.split(r"\s{2,}", line)[1:]


async def test_mixture_and_strongest_model_stand_side_by_side_and_the_record_holds_every_run(tmp_path: Path) -> None:
    async with simulated_cloud(provider()) as cloud:
        done = await run(home(cloud, tmp_path), *LIVE, "--max-cost", "0.02")
        assert done.code == 0, done.err
        assert re.match(
            r"3 questions, each asked of balanced and of openai/gpt-oss-120b alone\.\n"
            r"At most 12 \+ 3 calls\. At most \$0\.0\d+ of the \$0\.020000 allowed \(--max-cost\)\.\n",
            done.out,
        )
        assert done.out.count("=> right") == 5
        assert done.out.count("=> WRONG, the answer is 132") == 1
        assert "\nThe answer is 12.\n✓ openai/gpt-oss-120b " in done.out
        assert cells(done, "right") == ["3 of 3", "2 of 3"]
        mixture, alone = cells(done, "dollars")
        # The simulated cloud predicts what it then takes itself, here with another process at its other end.
        assert all(0.5 < float(ratio) < 2.5 for ratio in cells(done, "ratio"))
        (file,) = records(tmp_path)
        assert done.err == f"mixtura: the record of 6 runs is in {file}\n"
        assert file.stat().st_mode & 0o077 == 0
        runs, summary = read(file)
        answers = [fold(events) for events in runs]
        assert len(answers) == 6
        assert sum(answer.usage.total_tokens for answer in answers) == cloud.ledger.total_tokens
        spent = sum(answer.cost or 0.0 for answer in answers)
        assert spent == pytest.approx(summary["cost"])
        assert spent == pytest.approx(float(mixture.strip("$")) + float(alone.strip("$")), abs=2e-6)
        assert spent < summary["worst"] <= summary["allowed"] == 0.02
        assert [found["run"] for found in summary["runs"]["alone"]] == [answers[at].run for at in (1, 2, 5)]
        assert all(found["predicted"] > 0 for found in summary["runs"]["mixture"])


async def test_json_is_one_document(tmp_path: Path) -> None:
    async with simulated_cloud(provider()) as cloud:
        saved = tmp_path / "mine.jsonl"
        done = await run(home(cloud, tmp_path), *LIVE, "--json", "--questions", "1", "--save", str(saved))
        told = json.loads(done.out)
        assert (done.code, told["status"], told["record"]) == (0, "ok", str(saved))
        assert (told["recipe"], told["alone"]) == ("balanced", STRONG)
        assert [found["right"] for found in told["runs"]["mixture"]] == [True]
        assert read(saved)[1]["runs"] == told["runs"]
        again = await run(home(cloud, tmp_path), *LIVE, "--save", str(saved))
        assert (again.code, "there is such a file already" in sentence(again)) == (3, True)
        refused = await run(home(cloud, tmp_path), *LIVE, "--json", "--max-cost", "0")
        assert (refused.code, json.loads(refused.out)["status"]) == (1, "failed")


async def test_more_than_is_allowed_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with simulated_cloud(provider()) as cloud:
        done = await run(home(cloud, tmp_path), *LIVE, "--max-cost", "0.001")
        assert (done.code, done.out) == (1, "")
        assert re.search(r"could cost up to \$0\.01\d+ and at most \$0\.001000 is allowed; nothing was", sentence(done))
        dear = await run(home(cloud, tmp_path), *LIVE, "-r", "deep")
        assert (dear.code, "at most $0.020000 is allowed" in sentence(dear)) == (1, True)
        assert (cloud.ledger.arrived, records(tmp_path)) == (0, [])


async def test_without_a_usable_key_or_a_network_there_is_one_sentence_and_no_record(tmp_path: Path) -> None:
    bare = await run(environment(MIXTURA_HOME=str(tmp_path)), *LIVE)
    assert (bare.code, bare.out) == (3, "")
    assert "set GROQ_API_KEY (a key is made at https://console.groq.com/keys)" in sentence(bare)
    async with simulated_cloud(SimOptions(keys={"gsk_other": "org"})) as cloud:
        wrong = await run(home(cloud, tmp_path), *LIVE)
        assert (wrong.code, "GROQ_API_KEY" in sentence(wrong)) == (3, True)
    env = environment(GROQ_BASE_URL="http://127.0.0.1:1", GROQ_API_KEY="gsk_very_secret", MIXTURA_HOME=str(tmp_path))
    lost = await run(env, *LIVE)
    assert (lost.code, sentence(lost).startswith("mixtura: nothing answers at 127.0.0.1:1 (Connection")) == (1, True)
    assert records(tmp_path) == []


async def test_a_failure_midway_leaves_what_was_recorded_by_then(tmp_path: Path) -> None:
    faults = (Fault(kind="400", contains="friends"),)
    async with simulated_cloud(provider(faults=faults)) as cloud:
        done = await run(home(cloud, tmp_path), *LIVE)
        assert done.code == 1
        (file,) = records(tmp_path)
        runs, summary = read(file)
        assert [fold(events).status for events in runs] == ["ok", "ok", "failed"]
        assert len(summary["runs"]["mixture"]) == 1
        said, failed = done.err.splitlines()
        assert said == f"mixtura: the record of 3 runs is in {file}"
        assert failed.startswith(f"mixtura: {STRONG} on groq: ")


async def test_ctrl_c_leaves_what_was_recorded_by_then(tmp_path: Path) -> None:
    async with simulated_cloud(provider(faults=(Fault(kind="silent", contains="friends"),))) as cloud:
        process = await start(home(cloud, tmp_path), *LIVE)
        await until(lambda: bool(cloud.requests) and "friends" in str(cloud.requests[-1]))
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        assert process.returncode == 130
        (file,) = records(tmp_path)
        assert err.decode() == f"mixtura: the record of 3 runs is in {file}\n"
        runs, _ = read(file)
        assert [fold(events).status for events in runs] == ["ok", "ok", "failed"]


async def test_without_prices_a_server_here_is_asked_and_any_other_is_not(tmp_path: Path) -> None:
    async with simulated_cloud(provider()) as cloud:
        env = environment(MIXTURA_API_KEY="gsk_very_secret", MIXTURA_HOME=str(tmp_path))
        here = (*LIVE, "--provider", cloud.base_url)
        done = await run(env, *here)
        assert done.code == 0, done.err
        assert "Dollars unknown: no price is known for openai/gpt-oss-120b, " in done.out
        assert cells(done, "dollars") == ["?", "?"]
        assert "No prediction: the simulated cloud stands for groq" in done.out
        sent = cloud.ledger.arrived
        bound = await run(env, *here, "--max-cost", "1")
        assert (bound.code, "has no known price" in sentence(bound)) == (1, True)
        assert cloud.ledger.arrived == sent
    away = await run(env, *LIVE, "--provider", "https://api.example.com/v1")
    assert (away.code, "has no known price" in sentence(away)) == (1, True)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--recipe", "balanced"], 2, "--recipe needs --live"),
        (["--max-cost", "1"], 2, "--max-cost needs --live"),
        (["--json"], 2, "--json needs --live"),
        (["--live", "--recorded"], 2, "give one of them"),
        (["--live", "-m", STRONG], 3, "there is nothing to compare"),
    ],
)
async def test_options_that_do_not_go_together_are_refused(args: list[str], code: int, said: str) -> None:
    done = await run(environment(GROQ_API_KEY="gsk_very_secret"), "demo", *args)
    assert (done.code, said in sentence(done)) == (code, True)


@pytest.mark.parametrize("columns", [40, 80])
async def test_the_table_fits_the_terminal(columns: int, tmp_path: Path) -> None:
    async with (
        simulated_cloud(provider()) as cloud,
        terminal(cloud, *LIVE, columns=columns, MIXTURA_HOME=os.fspath(tmp_path)) as shown,
    ):
        assert await shown.end() == 0
        lines = shown.plain.splitlines()
        top = next(at for at, line in enumerate(lines) if line.startswith("right "))
        assert all(len(line) < columns for line in lines[top - 1 : top + 7])
