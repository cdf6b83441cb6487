"""The mutants that mutmut has made, and what it found out about them: read from its folder."""

import difflib
import itertools
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Verdict = Literal["killed", "survived", "no tests", "timeout"]

# Exit statuses of pytest, and mutmut's own; every other one is a limit that was passed, or a crash.
_VERDICTS: Mapping[int, Verdict] = {0: "survived", 1: "killed", 3: "killed", 5: "no tests", 33: "no tests"}


class Mutant(NamedTuple):
    """One change of one function. `name` is mutmut's; `file` is the source file below `src/mixtura`."""

    name: str
    file: str
    verdict: Verdict | None

    @property
    def package(self) -> str:
        """The part of the house that it stands in."""
        return self.file.split("/", 1)[0]


class Change(NamedTuple):
    """What a mutant changes: the lines that go, and those that come in their place, without indentation."""

    old: str
    new: str


def read_mutants(project: Path) -> list[Mutant]:
    """Return all mutants of the copy of `project`, by file and number."""
    source = project / "mutants" / "src" / "mixtura"
    found: list[Mutant] = []
    for path in sorted(source.rglob("*.py.meta")):
        file = path.relative_to(source).as_posix().removesuffix(".meta")
        for name, status in json.loads(path.read_text("utf-8"))["exit_code_by_key"].items():
            found.append(Mutant(name, file, None if status is None else _VERDICTS.get(status, "timeout")))
    return found


def forget_unreadable(project: Path) -> None:
    """Delete the files of the copy whose verdicts were cut off while they were written: they are made anew."""
    for path in (project / "mutants" / "src").rglob("*.py.meta"):
        try:
            json.loads(path.read_text("utf-8"))
        except ValueError:
            path.unlink()
            path.with_suffix("").unlink(missing_ok=True)


def forget_survivors(project: Path) -> None:
    """Have mutmut judge again what survived."""
    for path in (project / "mutants" / "src").rglob("*.py.meta"):
        told = json.loads(path.read_text("utf-8"))
        statuses = told["exit_code_by_key"]
        survived = [name for name, status in statuses.items() if _VERDICTS.get(status) in ("survived", "no tests")]
        if survived:
            statuses.update(dict.fromkeys(survived))
            path.write_text(json.dumps(told), "utf-8")


def draw_sample(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """Return `count` of the mutants, from every file its share; the same ones for the same seed.

    What is drawn from one file depends on no other file's text, but for the size of its share.
    """
    sizes = Counter(mutant.file for mutant in mutants)
    if count >= len(mutants):
        return list(mutants)
    shares = {file: count * size / len(mutants) for file, size in sizes.items()}
    drawn = {file: int(share) for file, share in shares.items()}
    by_rest = sorted(shares, key=lambda file: (drawn[file] - shares[file], file))
    for file in by_rest[: count - sum(drawn.values())]:
        drawn[file] += 1
    sample: list[Mutant] = []
    for file, group in itertools.groupby(sorted(mutants, key=lambda one: one.file), key=lambda one: one.file):
        sample += random.Random(f"{seed}:{file}").sample(list(group), drawn[file])
    return sample


def change_of(project: Path, mutant: Mutant) -> Change:
    """Return what `mutant` changes, from the copy that holds every function in all its forms."""
    path = project / "mutants" / "src" / "mixtura" / mutant.file
    spans = json.loads(path.with_name(f"{path.name}.spans").read_text("utf-8"))["spans"]
    lines = path.read_text("utf-8").splitlines()
    local = mutant.name.rpartition(".")[2]
    original = f"{local.rpartition('__mutmut_')[0]}__mutmut_orig"
    before, after = (
        [line.replace(function, "") for line in lines[spans[function][0] - 1 : spans[function][1]]]
        for function in (original, local)
    )
    told = [line for line in difflib.ndiff(before, after) if line[:2] in ("- ", "+ ")]
    old, new = ("\n".join(line[2:].strip() for line in told if line[0] == sign) for sign in "-+")
    return Change(old, new)


def function_of(mutant: Mutant) -> str:
    """Return the function that a mutant changes, as `file:function` or `file:Class.function`."""
    local = mutant.name.rpartition(".")[2].rpartition("__mutmut_")[0]
    return f"{mutant.file}:{local.removeprefix('x').removeprefix('_' if 'ǁ' not in local else 'ǁ').replace('ǁ', '.')}"
