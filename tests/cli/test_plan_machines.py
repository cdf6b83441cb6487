"""`mixtura plan` for machines: recommendation, table, omissions, plot, bad input, a process without numpy."""

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mixtura.cli import group, main
from mixtura.models.predictions import read_predictions
from mixtura.models.registry import ModelRegistry

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*(name for name in os.environ if name.endswith("_API_KEY")), "MIXTURA_PLAN"):
        monkeypatch.delenv(name, raising=False)


def invoke(*args: str) -> Result:
    return CliRunner().invoke(group, ["plan", *args], prog_name="mixtura")


def machines(*args: str) -> dict[str, Any]:
    shown = invoke(*args, "--json")
    assert shown.exit_code == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)["machines"]
    return found


def test_the_first_sentence_recommends_and_the_second_gives_the_limits() -> None:
    shown = invoke("fast")
    first, second = shown.stdout.splitlines()[:2]
    assert re.match(
        r"fast at 10 a minute: \w+ \(\d+ in all\) is the cheapest way, p95 [\d.]+ s \([\d.]+ s to [\d.]+ s\), \$", first
    )
    assert "groq would take" in first
    assert "its limits allow only 29 a day" in first
    assert second.startswith("fast on a free key: 1.1 mixtures a minute")


def test_every_option_has_a_row_and_one_is_recommended() -> None:
    lines = invoke("fast").stdout.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("on "))
    rows = lines[start + 1 : start + 7]
    assert [row.split()[0] for row in rows] == ["groq", "h100", "h200", "b200", "lpu", "wse3"]
    assert sum("advised" in row for row in rows) == 1


def test_a_provider_with_enough_limits_is_recommended_if_it_is_cheaper() -> None:
    told = machines("single", "--plan", "developer", "--rate", "1")
    assert told["options"][told["best"]]["on"] == "groq"
    assert told["options"][told["best"]]["limit"] > 1


def test_a_model_without_published_shape_gets_one_of_its_family_and_a_note() -> None:
    shown = invoke("--on", "h100")
    assert "qwen/qwen3.8-27b is planned with the shape of qwen3-32b, an assumption" in shown.stderr
    given = invoke("--on", "h100", "--shape", "qwen/qwen3.8-27b=qwen3-32b")
    assert "taken for" not in given.stderr
    assert given.stdout == shown.stdout


def test_every_output_notes_that_an_unknown_model_is_left_out(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[[proposers]]\nmodel = "acme/unheard-of-9b"\n[[proposers]]\nmodel = "openai/gpt-oss-20b"\n'
        '[aggregator]\nmodel = "openai/gpt-oss-120b"\n',
        "utf-8",
    )
    shown = invoke(str(recipe), "--on", "h100")
    assert "h100 (2 in all, without unheard-of-9b)" in shown.stdout.splitlines()[0]
    assert "the plan for machines leaves out acme/unheard-of-9b" in shown.stderr
    given = invoke(str(recipe), "--on", "h100", "--shape", "qwen3-8b")
    assert "without" not in given.stdout
    assert given.stdout == invoke(str(recipe), "--on", "h100", "--shape", "unheard-of-9b=qwen3-8b").stdout


def test_the_cheapest_option_that_meets_the_bound_is_recommended_and_the_others_give_reasons() -> None:
    told = machines("fast", "--rate", "120", "--within", "5", "--on", "a100", "--on", "h100", "--on", "b200")
    assert told["within"] == 5
    for option in told["options"]:
        assert option["problem"] or option["seconds"][1] <= 5
    kept = [option for option in told["options"] if not option["problem"]]
    best = told["options"][told["best"]]
    assert min(option["dollars"][1] for option in kept) == best["dollars"][1]


def test_the_error_for_an_unreachable_bound_gives_the_floor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "fast", "--on", "h100", "--within", "0.1"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(r"the floor is [\d.]+ s because a call of gpt-oss-\d+b alone on .* takes", said.err)
    assert said.err.count("\n") == 1


def test_one_model_can_be_placed_apart_and_the_others_stay_at_their_provider() -> None:
    told = machines("fast", "--on", "openai/gpt-oss-120b=8xh200")
    (option,) = told["options"]
    assert [post["machine"].partition(",")[0] for post in option["posts"]] == ["groq", "8 x h200_sxm"]
    assert option["limit"] is not None
    assert {post["basis"] for post in option["posts"]} >= {"published"}


def test_the_output_compares_the_mixture_with_a_single_model_and_a_cascade() -> None:
    told = machines("fast", "--on", "h100", "--differ", "0.1")
    single, cascade = told["against"]
    assert single["recipe"] == "gpt-oss-120b alone"
    assert cascade["recipe"] == "cascade of the same"
    mixture = told["options"][0]
    assert cascade["seconds"][1] < mixture["seconds"][1]
    assert single["outputs"] < cascade["outputs"] < mixture["outputs"]
    dearer = machines("fast", "--on", "h100", "--differ", "0.9")["against"][1]
    assert dearer["seconds"][0] > cascade["seconds"][0]
    text = invoke("fast", "--on", "h100", "--differ", "0.1").stdout
    assert "drafts that differ in 10% (--differ)" in text
    assert f"Percentiles are of {mixture['mixtures']:,} simulated mixtures" in text


def test_the_frontier_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "frontier.svg"
    assert invoke("fast", "--on", "h100", "--on", "lpu", "--on", "groq", "--plot", str(path)).exit_code == 0
    drawn = path.read_text("utf-8")
    assert drawn.startswith("<svg")
    assert "h100, kept busy" in drawn
    assert "groq, at 10 a minute" in drawn


def test_a_plot_that_cannot_be_written_raises_a_one_sentence_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["plan", "single", "--on", "h100", "--plot", str(tmp_path / "no" / "x.svg")]) == 3
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--on", "h10"], 3, "unknown machine 'h10': nearest are h100_sxm"),
        (["--on", "grok"], 3, "nearest are groq"),
        (["--on", "=h100"], 3, "cannot read '=h100'"),
        (["--on", "0xh100"], 3, "expected 1 to 100,000 chips"),
        (["--on", "gemma=h100"], 3, "balanced has no model 'gemma': its models are openai/gpt-oss-20b"),
        (["--on", "1xh100/vlllm"], 3, "unknown engine 'vlllm': nearest are vllm"),
        (["classic", "--on", "1xh100"], 3, "does not fit 1 x h100_sxm"),
        (["--rate", "0"], 2, "expected mixtures a minute above 0"),
        (["--rate", "-3/s"], 2, "expected mixtures a minute above 0"),
        (["--rate", "nan"], 2, "expected mixtures a minute above 0"),
        (["--rate", "3/fortnight"], 2, "expected mixtures a minute above 0"),
        (["--within", "0"], 2, "expected seconds above 0"),
        (["--output", "0"], 2, "0 is not in the range"),
        (["--differ", "1.5"], 2, "1.5 is not in the range"),
        (["--on", "h100", "--shape", "fast=qwen3-32b"], 3, "has no model 'fast'"),
        (["fast", "--on", "h100", "--shape", "qwen3-32b"], 3, "name the model"),
    ],
)
def test_wrong_use_raises_a_one_sentence_error(
    args: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *args]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""


def test_models_of_this_process_get_their_limits_and_a_reason() -> None:
    shown = invoke("toy")
    assert shown.exit_code == 0
    assert "no machines planned: cannot plan toy without" in shown.stderr
    assert "toy-aggregator" in shown.stdout


def test_without_numpy_only_limits_are_planned_and_a_note_names_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "numpy" else found(name))
    shown = invoke("fast")
    assert shown.stdout == invoke("fast", "--limits").stdout
    assert shown.stderr.count("\n") == 1
    assert "pip install 'mixtura[room]'" in shown.stderr
    assert main(["plan", "--on", "h100"]) == 3
    assert main(["machines"]) == 3
    assert capsys.readouterr().err.count("pip install 'mixtura[room]'") == 2


@pytest.mark.parametrize("columns", [120, 80, 60])
def test_a_narrow_terminal_gets_fewer_columns(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["plan", "fast"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("on ", "h100 ", "gpt-oss-20b "))]
    assert rows
    assert all(len(row) < columns for row in rows)


def test_predictions_of_the_advised_machines_are_written_for_the_engine(tmp_path: Path) -> None:
    file = tmp_path / "predictions.toml"
    shown = invoke("fast", "--on", "h100", "--predictions", str(file))
    assert f"MIXTURA_PREDICTIONS={file}" in shown.stderr
    found = read_predictions(file)
    assert set(found) == {("groq", "openai/gpt-oss-20b"), ("groq", "openai/gpt-oss-120b")}
    assert all(0.001 < one.token < 0.05 and 0.02 < one.first < 1 for one in found.values())
    registry = ModelRegistry(env={"MIXTURA_PREDICTIONS": str(file)})
    assert registry.card("groq", "openai/gpt-oss-120b").predicted == found["groq", "openai/gpt-oss-120b"]


def test_there_are_no_predictions_for_a_provider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "fast", "--on", "groq", "--predictions", str(tmp_path / "it.toml")]) == 3
    assert "there are no predictions for a provider" in capsys.readouterr().err
