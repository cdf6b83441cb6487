"""`mixtura machines`: chips and models with their sources, a model's steps by cause."""

import json

import pytest
from click.testing import CliRunner, Result

from mixtura.cli import group, main
from mixtura.hardware.chip import chips


def invoke(*args: str) -> Result:
    return CliRunner().invoke(group, ["machines", *args], prog_name="mixtura")


def test_the_list_has_every_chip_and_model() -> None:
    text = invoke().stdout
    assert all(each.name in text for each in chips())
    assert "4 of 128" in text
    told = json.loads(invoke("--json").stdout)
    assert len(told["chips"]) == len(chips())
    assert {"gpt-oss-120b", "kimi-k2"} <= {row["name"] for row in told["models"]}


def test_a_chip_is_shown_with_its_source_and_what_is_unverified() -> None:
    lines = {line.split("  ")[0]: line for line in invoke("h100").stdout.splitlines()}
    assert "3.35 TB/s" in lines["bandwidth"]
    assert "unverified" in lines["price"]
    assert "unverified" not in lines["peak bf16"]
    assert lines["source: aiconfigurator-core 0.12.0 (2026-11-21)"]
    assert json.loads(invoke("h100", "--json").stdout)["name"] == "h100_sxm"


def test_a_models_step_is_split_into_causes_that_add_up() -> None:
    told = json.loads(invoke("gpt-oss-120b", "--on", "h100", "--on", "lpu", "--json").stdout)
    assert [(step["on"].split()[2].strip(","), step["batch"]) for step in told["steps"]] == [
        (on, batch) for on in ("h100_sxm", "lpu_v1") for batch in (1, 8, 64)
    ]
    for step in told["steps"]:
        assert sum(step["parts"].values()) == pytest.approx(step["seconds"])
        assert step["range"][0] < step["seconds"] < step["range"][1]
    text = invoke("gpt-oss-120b").stdout
    assert "116.83 billion parameters" in text
    assert "experts 85%" in text


def test_the_output_notes_where_a_model_does_not_fit_and_shows_the_others() -> None:
    shown = invoke("kimi-k2", "--on", "h200", "--on", "tpu_v5e")
    assert shown.exit_code == 0
    assert "16 x h200_sxm" in shown.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [(["h10"], "nearest are h100_sxm"), (["gpt-oss-12b"], "nearest are"), (["kimi-k2", "--on", "h10"], "unknown chip")],
)
def test_an_unknown_name_raises_a_one_sentence_error(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["machines", *args]) == 3
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
