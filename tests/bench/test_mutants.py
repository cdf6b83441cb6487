"""The sample of `make mutants` is the same for the same seed, and its report says what survived."""

import json
from collections import Counter
from pathlib import Path

import pytest
from bench.mutants.report import Argument, listing, read_arguments, survivors_of, table, without_effect
from bench.mutants.verdicts import (
    Mutant,
    change_of,
    draw_sample,
    forget_survivors,
    forget_unreadable,
    function_of,
    read_mutants,
)

MANY = [
    Mutant(f"mixtura.limits.{file}.x_run__mutmut_{number}", f"limits/{file}.py", None)
    for file, size in (("a", 10), ("b", 60), ("c", 131))
    for number in range(size)
]
COPY = """\
class Bucket:
    def xǁBucketǁtake__mutmut_orig(self, amount):
        self.level += amount
        return self.level
    def xǁBucketǁtake__mutmut_1(self, amount):
        self.level = amount
        return self.level
    def xǁBucketǁtake__mutmut_2(self, amount):
        self.level -= amount
        return self.level
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose copy has one file of two mutants, one of which survived."""
    source = tmp_path / "mutants" / "src" / "mixtura" / "limits"
    source.mkdir(parents=True)
    (source / "bucket.py").write_text(COPY, "utf-8")
    names = [f"xǁBucketǁtake__mutmut_{end}" for end in ("orig", "1", "2")]
    spans = {name: [2 + 3 * place, 4 + 3 * place] for place, name in enumerate(names)}
    (source / "bucket.py.spans").write_text(json.dumps({"version": 1, "spans": spans}), "utf-8")
    verdicts = {f"mixtura.limits.bucket.{names[1]}": 0, f"mixtura.limits.bucket.{names[2]}": -24}
    (source / "bucket.py.meta").write_text(json.dumps({"exit_code_by_key": verdicts}), "utf-8")
    return tmp_path


def test_every_file_gives_its_share_and_the_same_seed_the_same_mutants() -> None:
    sample = draw_sample(MANY, 50, 1)
    assert Counter(mutant.file for mutant in sample) == {"limits/a.py": 2, "limits/b.py": 15, "limits/c.py": 33}
    assert len(set(sample)) == 50
    assert draw_sample(MANY, 50, 1) == sample
    assert draw_sample(MANY, 50, 2) != sample
    assert draw_sample(MANY, 1000, 1) == MANY


def test_verdicts_and_changes_are_read_from_the_copy(project: Path) -> None:
    survived, late = read_mutants(project)
    assert (survived.file, survived.package, survived.verdict, late.verdict) == (
        "limits/bucket.py",
        "limits",
        "survived",
        "timeout",
    )
    assert function_of(survived) == "limits/bucket.py:Bucket.take"
    assert function_of(MANY[0]) == "limits/a.py:run"
    assert function_of(Mutant("mixtura.a.x__own__mutmut_1", "a.py", None)) == "a.py:_own"
    assert change_of(project, survived) == ("self.level += amount", "self.level = amount")


def test_a_file_whose_verdicts_were_cut_off_is_made_anew_and_no_other(project: Path) -> None:
    source = project / "mutants" / "src" / "mixtura" / "limits"
    (source / "cut.py").write_text("", "utf-8")
    (source / "cut.py.meta").write_text('{"exit_code_by_key": {"mixtura.limits', "utf-8")
    forget_unreadable(project)
    assert sorted(path.name for path in source.iterdir()) == ["bucket.py", "bucket.py.meta", "bucket.py.spans"]
    forget_unreadable(project / "elsewhere")


def test_survivors_are_judged_again_and_no_others(project: Path) -> None:
    forget_survivors(project)
    assert [mutant.verdict for mutant in read_mutants(project)] == [None, "timeout"]


def test_the_report_counts_and_tells_argued_survivors_from_others(project: Path) -> None:
    mutants = read_mutants(project)
    (survivor,) = survivors_of(project, mutants, [])
    assert survivor.why == ""
    argument = Argument("limits/bucket.py:Bucket.take", "self.level += amount", "self.level = amount", "It is empty.")
    survivors = survivors_of(project, mutants, [argument])
    assert [one.why for one in survivors] == ["It is empty."]
    row = list(table(mutants, survivors))[-1].split()
    assert row == ["all", "2", "0", "1", "1", "0", "1", "50.0%"]
    text = "\n".join(listing(survivors))
    assert "no argument is given: 0" in text
    assert "+ self.level = amount\n    It is empty." in text


def test_an_argument_is_a_sentence_about_a_change_and_one_about_code_that_is_gone_is_named(project: Path) -> None:
    for argument in read_arguments():
        assert argument.old != argument.new
        assert argument.why.endswith("."), argument
    gone = Argument("limits/bucket.py:Bucket.take", "self.level = 0", "self.level = 1", "It was so.")
    kept = Argument("limits/bucket.py:Bucket.take", "self.level += amount", "", "It is so.")
    elsewhere = Argument("limits/none.py:take", "self.level += amount", "", "It was elsewhere.")
    source = project / "src" / "mixtura" / "limits"
    source.mkdir(parents=True)
    (source / "bucket.py").write_text("def take(self, amount):\n    self.level += amount\n", "utf-8")
    assert without_effect(project, [gone, kept, elsewhere]) == [gone, elsewhere]
