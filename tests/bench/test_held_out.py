"""What is chosen on one half is judged on the other, and the page says what the command prints."""

import re
from pathlib import Path

import pytest
from bench.held_out.__main__ import (
    alone,
    cascade,
    judge,
    judged,
    main,
    markdown,
    row,
    small_mixtures,
    vote,
    votes_of_three,
)
from bench.held_out.matrix import SOURCES, Matrix, from_recordings, read
from bench.tutorial.recorded import LARGE, SMALL

from resources import recorded_data

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/when-it-helps.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("answers", "first", "winner"),
    [("001", 1.0, "0"), ("110", 1.0, "1"), ("210", 1.0, "2"), ("1-0", 1.0, "1"), ("---", 1.0, "-"), ("-00", 1.0, "0"),
     ("0112", 1.5, "1"), ("0112", 2.5, "0"), ("0123", 1.5, "0")],
)  # fmt: skip
def test_a_vote_counts_answers_and_takes_the_first_of_equals(answers: str, first: float, winner: str) -> None:
    assert vote(answers, first) == winner


def test_a_cascade_asks_the_large_model_only_where_the_small_ones_differ() -> None:
    assert cascade(100.0)("0111") == "1"
    assert cascade(100.0)("0112") == "0"
    assert cascade(1.5)("0112") == "1"
    assert cascade(1.5)("0---") == "0"


def test_every_question_is_judged_once_by_what_was_best_on_the_other_half() -> None:
    # Each is right on one half and wrong on the other, where it is judged.
    matrix = Matrix(("first", "second"), ("01", "10", "01", "10"))
    one = judge("questions", matrix, [alone("first"), alone("second")], [alone("first"), alone("second")])
    assert one.one_right == [False] * 4
    assert one.one == "first, then second"


def test_the_page_has_the_table_that_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--markdown"])
    table = capsys.readouterr().out.strip()
    assert table == markdown(row(one) for one in judged())
    assert table in PAGE, "run: python -m bench.held_out --markdown"


def test_the_page_says_of_the_toys_what_their_page_says() -> None:
    told = (ROOT / "docs/lab-models.md").read_text("utf-8")
    rows = {line.split("|")[1].strip(): line for line in told.splitlines() if line.startswith("|")}
    mixture = re.findall(r"[\d.]+%", rows["**the mixture**"])[0]
    pairs = {
        "the best member, greedy": "toy-dense, greedy",
        "the majority of the same drafts": "majority of the drafts",
        "one larger model, about as much training and work an answer in all": "toy-single, greedy",
    }
    for ours, theirs in pairs.items():
        cells = [cell.strip() for cell in rows[theirs].strip("|").split("|")]
        assert f"| {ours} | {cells[1]} | {mixture} | {cells[6]}, {cells[7]} |" in PAGE


def test_every_figure_of_the_readmes_table_stands_on_the_page() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    lines = readme[readme.index("| does it help? |") :].split("\n\n")[0].splitlines()[2:]
    assert len(lines) == 5
    for line in lines:
        _, one, mixture, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        assert one in PAGE, line
        assert mixture in PAGE, line
    assert len(readme.splitlines()) < 150


def test_the_matrices_hold_marks_and_no_texts() -> None:
    for name in SOURCES:
        matrix = read(name)
        assert len(matrix.rows) > 300
        assert all(re.fullmatch(r"[-0-9A-Z]+", line) and len(line) == len(matrix.models) for line in matrix.rows)
    assert {LARGE, *SMALL} <= set(read("gsm8k").models)
    assert len(votes_of_three(read("mmlu").models)) == 364
    assert len(small_mixtures()) == 3


@pytest.mark.parametrize("name", SOURCES)
def test_the_matrices_are_what_the_recordings_give(name: str) -> None:
    recorded_data(f"recordings/{SOURCES[name].file}")
    assert from_recordings(name) == read(name)
