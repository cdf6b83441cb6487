"""`mixtura plan --limits`: the sentence, the table, notes on retired or unknown models and on calls that never fit."""

import json
import os
import re
import sys

import pytest
from click.testing import CliRunner, Result

from mixtura.cli import group, main


def invoke(*args: str, **env: str | None) -> Result:
    cleared: dict[str, str | None] = {name: None for name in os.environ if name.endswith("_API_KEY")}
    return CliRunner().invoke(
        group, ["plan", "--limits", *args], prog_name="mixtura", env=cleared | {"MIXTURA_PLAN": None, **env}
    )


def test_the_first_sentence_gives_the_rate_and_the_binding_limit() -> None:
    first = invoke().stdout.splitlines()[0]
    assert first == (
        "balanced on a free key: 1.3 mixtures a minute, 33 a day; tokens per minute and tokens per day of "
        "openai/gpt-oss-120b bind."
    )
    both = invoke("fast").stdout.splitlines()[0]
    assert both.endswith("tokens per minute and tokens per day of openai/gpt-oss-20b bind.")
    two = invoke("classic").stdout.splitlines()[0]
    assert two.endswith("tokens per minute of llama-3.1-8b-instant and tokens per day of llama-3.3-70b-versatile bind.")


def test_the_table_has_a_row_a_model_and_columns_that_line_up() -> None:
    lines = invoke("deep").stdout.splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("model"))
    rows = lines[head : head + 4]
    assert [row.split()[0] for row in rows] == [
        "model",
        "openai/gpt-oss-20b",
        "qwen/qwen3.8-27b",
        "openai/gpt-oss-120b",
    ]
    assert len({len(row) for row in rows}) == 1
    assert rows[1].split()[1] == "4"


def test_the_plan_is_the_options_then_the_environments_then_free() -> None:
    assert invoke().stdout.startswith("balanced on a free key")
    assert invoke(MIXTURA_PLAN="developer").stdout.startswith("balanced on a developer key")
    assert invoke("--plan", "free", MIXTURA_PLAN="developer").stdout.startswith("balanced on a free key")


def test_longer_questions_leave_fewer_mixtures() -> None:
    rates = [
        json.loads(invoke("--json", "--question-tokens", size).stdout)["minute"]["mixtures"]
        for size in ("50", "500", "2000")
    ]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 3


def test_models_without_known_limits_are_named() -> None:
    shown = invoke("--plan", "developer")
    assert "no limit per day is known" in shown.stdout
    assert "no limits of qwen/qwen3.8-27b are known on this plan" in shown.stderr
    nothing = invoke("--plan", "enterprise").stdout
    assert nothing.startswith("balanced on an enterprise key: no limits of its models are known")


def test_the_output_names_a_call_that_can_never_fit_and_its_excess() -> None:
    said = invoke("single", "--question-tokens", "6000").stdout
    assert "a call of openai/gpt-oss-120b asks for 10,396 tokens and its smallest window holds 8,000, 2,396" in said
    assert "can begin at once" not in said
    assert "halved: still not one." in said


def test_the_output_warns_that_a_mixture_larger_than_its_windows_waits() -> None:
    said = invoke("deep").stdout
    assert re.search(r"^One asks for more than fits at once: its calls wait for room, about \d+ s when it is alone\.$",
                     said, re.MULTILINE)  # fmt: skip


def test_retired_models_are_named_and_their_substitutes_counted() -> None:
    classic = invoke("classic").stderr
    assert "gemma2-9b-it is gone since 2025-10-08 by the catalogue: a key of this plan gets no answer" in classic
    diverse = invoke("diverse")
    assert "llama-3.3-70b-versatile is enterprise since" in diverse.stderr
    assert "its substitute openai/gpt-oss-120b is counted" in diverse.stderr
    assert "llama" not in diverse.stdout


def test_json_has_all_figures_of_the_text() -> None:
    told = json.loads(invoke("diverse", "--json").stdout)
    assert (told["plan"], told["recipe"], told["question_tokens"]) == ("free", "diverse", 200)
    assert told["minute"]["mixtures"] < told["halved"]["minute"]["mixtures"]
    assert told["shares"][0]["allows"]["rpm"] == 30
    assert told["shares"][0]["limits"]["tpm"] == 8000
    assert len(told["notes"]) == 1


@pytest.mark.parametrize("columns", [100, 50, 40])
def test_a_narrow_terminal_gets_shorter_names_and_fewer_columns(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("MIXTURA_PLAN", raising=False)
    assert main(["plan", "--limits"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "gpt-oss-20b " in line]
    assert len(rows) == 1
    assert len(rows[0]) < columns
    assert rows[0].startswith("openai/" if columns == 100 else "gpt-oss-20b")


def test_a_terminal_too_narrow_for_any_table_gets_a_block_of_lines_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.delenv("MIXTURA_PLAN", raising=False)
    assert main(["plan", "--limits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "gpt-oss-20b" in lines
    assert max(map(len, lines)) <= 20


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["plan", "blanced"], 3, "did you mean 'balanced'?"),
        (["plan", "--plan", "gold"], 2, "'gold' is not one of"),
        (["plan", "--question-tokens", "0"], 2, "0 is not in the range"),
    ],
)
def test_wrong_use_raises_a_one_sentence_error(
    args: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == code
    sentence = capsys.readouterr().err
    assert said in sentence
    assert sentence.count("\n") == 1


def test_an_invalid_plan_in_the_environment_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXTURA_PLAN", "gold")
    assert main(["plan", "--limits"]) == 3
    assert "unknown plan 'gold': expected free, developer, enterprise (MIXTURA_PLAN)" in capsys.readouterr().err
