"""The tables of `python -m bench.limits` run, at sizes that say nothing but that they do."""

from pathlib import Path

import pytest
from bench.limits import asking, backlog, cost, crowd, estimate, heavy
from bench.limits.__main__ import TABLES
from bench.limits.cloud import MARKER, reply
from bench.limits.table import Table

from mixtura.sim import TUTORIAL_ERA
from mixtura.virtual import run_virtual

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def word_problems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ask word problems of our own, also where recordings lie beside the checkout."""
    monkeypatch.setattr(asking, "RECORDINGS", tmp_path / "none")


def test_a_table_holds_values_against_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    found = Table()
    found.add("seconds", 1.0, "1 s", 2.0, " s")
    found.add("to be read", 9.0, "9")
    before = found.missed
    found.add("misses", 3.0, "3", 2.0)
    assert [row.verdict for row in found.rows] == ["holds", "", "MISSED"]
    assert found.rows[0].bound == "<= 2 s"
    assert (before, found.missed) == (False, True)
    assert "MISSED" in capsys.readouterr().out


def test_the_heavy_tail_compares_both_pipelines_on_the_same_questions() -> None:
    both = heavy.compare(asking.answered_questions(20), 1)
    assert len(both.ours.seconds) == len(both.theirs.seconds) == 20
    assert all(seconds > 0 for seconds in (*both.ours.seconds, *both.theirs.seconds))
    assert both.ours.share > 0.5
    assert both.theirs.share > 0.5
    assert both.ours.tokens > 0


def test_the_heavy_tail_has_its_rows() -> None:
    found = Table()
    heavy.table(found, 4, (1,))
    assert [row.bound for row in found.rows] == ["<= 1", "<= 0.3", found.rows[2].bound, "", ""]


@pytest.mark.parametrize("case", [backlog.CASES[0], backlog.CASES[-1]], ids=lambda case: case.name)
def test_a_backlog_is_held_against_what_the_limits_allow(case: backlog.BacklogCase) -> None:
    asked = asking.questions(20)
    ours, theirs = backlog.ours(case, asked, 1), backlog.theirs(case, asked, 1)
    assert ours.answered == 20
    assert ours.refused == 0
    assert ours.reduced == 0
    # Twenty runs are few: what the last one waits for weighs more than in a long backlog.
    assert 0.99 <= ours.ratio <= 1.10
    assert ours.bound.seconds > 60
    assert theirs.answered < 20
    assert theirs.answered + theirs.lost.total() == 20


def test_the_bound_counts_what_the_cloud_charged() -> None:
    case = backlog.BacklogCase("classic", TUTORIAL_ERA, days=False)
    asked = asking.questions(1)
    found = run_virtual(backlog.charges_of_run(case, asked[0]))
    assert {model: calls for model, (calls, _) in found.items()} == backlog.slots(backlog.recipe_of(case))
    # Two drafts of at most 1,024 tokens each; no prompt has more tokens than characters.
    _, tokens = found["llama-3.1-8b-instant"]
    assert 2 * 1024 < tokens < 2 * (1024 + len(asked[0]))


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert asking.percentile(values, 0.5) == 50.0
    assert asking.percentile(values, 0.99) == 99.0
    assert asking.percentile([7.0], 0.99) == 7.0


def test_the_crowd_marks_its_questions_and_the_cloud_says_the_marks_again() -> None:
    one, other = crowd.marker(1), crowd.marker(2)
    assert one != other
    assert MARKER.fullmatch(one)
    said = reply({"messages": [{"role": "user", "content": f"{other} {one} {one}"}]}, 7)
    assert MARKER.findall(said) == sorted([one, other])


def test_every_kind_of_call_is_timed() -> None:
    found = Table()
    cost.table(found, rounds=1, calls=40)
    assert len(found.rows) == len(cost.KINDS)


WIRE = """\
interactions:
- id: 0
  request:
    body: '{"model":"m","messages":[{"role":"user","content":"What''s that?"}],
      "tools":[{"type":"function"}]}'
  response:
    body: |
      {"usage":{"prompt_tokens":12}}
- request:
    parsed_body:
      messages:
      - content: First
          and more
        role: system
      - content: |-
          One
            two
        role: user
      model: other
      n: 1
  response:
    body: 'data: {"usage":{"prompt_tokens": 20}}'
"""


def test_recorded_requests_are_read_without_a_yaml_library(tmp_path: Path) -> None:
    (tmp_path / "both.yaml").write_text(WIRE, "utf-8")
    quoted, listed = estimate.samples(tmp_path)
    assert (quoted.model, quoted.real, quoted.offers) == ("m", 12, True)
    assert quoted.tools > 0
    assert (listed.model, listed.real, listed.offers) == ("other", 20, False)
    found = Table()
    estimate.table(found, tmp_path)
    assert len(found.rows) == 4


def test_every_table_has_a_name() -> None:
    assert list(TABLES) == ["heavy", "backlog", "crowd", "cost", "redis", "estimate"]
