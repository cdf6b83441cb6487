"""What a sample of mutants came to, as text: counts by file and package, and the survivors."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.mutants.verdicts import Mutant, change_of, function_of

ARGUED = Path(__file__).with_name("argued.toml")


class Argument(NamedTuple):
    """Why no test is written for one change: it changes nothing that anybody can see, or nothing worth a test."""

    function: str
    old: str
    new: str
    why: str


class Survivor(NamedTuple):
    """A mutant that no test noticed, and the argument for leaving it, if there is one."""

    mutant: Mutant
    function: str
    old: str
    new: str
    why: str


def read_arguments(path: Path = ARGUED) -> list[Argument]:
    """Return the arguments of the file; an entry may hold for several functions' changes."""
    told = tomllib.loads(path.read_text("utf-8"))
    return [Argument(**entry) for entry in told.get("argued", [])]


def without_effect(project: Path, arguments: Sequence[Argument]) -> list[Argument]:
    """Return the arguments about lines that their files no longer have."""
    gone: list[Argument] = []
    for one in arguments:
        path = project / "src" / "mixtura" / one.function.partition(":")[0]
        lines = {line.strip() for line in path.read_text("utf-8").splitlines()} if path.is_file() else set[str]()
        if not set(one.old.splitlines()) <= lines:
            gone.append(one)
    return gone


def survivors_of(project: Path, mutants: Sequence[Mutant], arguments: Sequence[Argument]) -> list[Survivor]:
    """Return the mutants that survived, each with its change."""
    reasons = {(one.function, one.old, one.new): one.why for one in arguments}
    found: list[Survivor] = []
    for mutant in mutants:
        if mutant.verdict in ("survived", "no tests"):
            function, change = function_of(mutant), change_of(project, mutant)
            found.append(Survivor(mutant, function, *change, reasons.get((function, *change), "")))
    return found


def table(mutants: Sequence[Mutant], survivors: Sequence[Survivor]) -> Iterator[str]:
    """Yield the lines of the table: a row a file, a row a package, and the sum."""
    columns = (
        (9, "mutants"),
        (8, "killed"),
        (9, "timeout"),
        (10, "survived"),
        (10, "no tests"),
        (8, "argued"),
        (11, "survivors"),
    )
    yield " " * 34 + "".join(title.rjust(width) for width, title in columns)
    argued = {one.mutant.name for one in survivors if one.why}
    for package in sorted({mutant.package for mutant in mutants}):
        rows = [mutant for mutant in mutants if mutant.package == package]
        for file in sorted({mutant.file for mutant in rows}):
            yield _row(file, [mutant for mutant in rows if mutant.file == file], argued)
        yield _row(f"{package}/", rows, argued)
    yield _row("all", mutants, argued)


def _row(label: str, mutants: Sequence[Mutant], argued: set[str]) -> str:
    judged = [mutant for mutant in mutants if mutant.verdict is not None]
    counts = Counter(mutant.verdict for mutant in judged)
    reasons = sum(mutant.name in argued for mutant in judged)
    unnoticed = counts["survived"] + counts["no tests"]
    share = f"{unnoticed / len(judged):.1%}" if judged else "-"
    return (
        f"{label:34}{len(judged):9,}{counts['killed']:8,}{counts['timeout']:9,}{counts['survived']:10,}"
        f"{counts['no tests']:10,}{reasons:8,}{share:>11}"
    )


def listing(survivors: Sequence[Survivor]) -> Iterator[str]:
    """Yield the survivors, those without an argument first."""
    for title, part in (
        ("Survived, and no argument is given", [one for one in survivors if not one.why]),
        ("Survived, and argued in bench/mutants/argued.toml", [one for one in survivors if one.why]),
    ):
        yield ""
        yield f"{title}: {len(part):,}"
        for one in part:
            yield f"\n{one.function}  ({one.mutant.name}, {one.mutant.verdict})"
            yield from (f"    - {line}" for line in one.old.splitlines())
            yield from (f"    + {line}" for line in one.new.splitlines())
            if one.why:
                yield f"    {one.why}"
