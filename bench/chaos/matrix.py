"""The table of results: runs, answered runs and broken invariants for every fault and stage."""

from collections.abc import Iterable

import msgspec

from bench.chaos.scenarios import STAGES, ChaosScenario


class ScenarioVerdict(msgspec.Struct, frozen=True):
    """The result of one scenario. `answered` counts its runs that gave an answer."""

    id: str
    words: str
    recipe: str
    stage: str
    kind: str
    runs: int
    answered: int
    broken: tuple[str, ...] = ()

    @classmethod
    def of(cls, case: ChaosScenario, answered: int, broken: Iterable[str]) -> "ScenarioVerdict":
        """Return the verdict on a scenario. A mixture of faults has no stage."""
        aim = case.aims[0]
        stage, kind = ("", "") if case.mixed else (aim.stage, aim.kind)
        return cls(case.id, case.words, case.recipe, stage, kind, case.runs, answered, tuple(broken))


class MatrixCell:
    """The counts in one cell of the table: runs, answered runs and broken invariants."""

    def __init__(self) -> None:
        self.runs = self.answered = self.broken = 0

    def add(self, verdict: ScenarioVerdict) -> None:
        """Count one scenario."""
        self.runs += verdict.runs
        self.answered += verdict.answered
        self.broken += len(verdict.broken)

    def __str__(self) -> str:
        return f"{self.runs}/{self.answered}/{self.broken}" if self.runs else "-"


class ResultMatrix:
    """Counts verdicts by fault and stage, by recipe, and in all."""

    def __init__(self) -> None:
        self.total = MatrixCell()
        self.mixtures = MatrixCell()
        self.broken: list[ScenarioVerdict] = []
        self._cells: dict[tuple[str, str], MatrixCell] = {}
        self._recipes: dict[str, MatrixCell] = {}

    def add(self, verdict: ScenarioVerdict) -> None:
        """Count one scenario."""
        self.total.add(verdict)
        self._recipes.setdefault(verdict.recipe, MatrixCell()).add(verdict)
        if verdict.stage:
            self._cells.setdefault((verdict.kind, verdict.stage), MatrixCell()).add(verdict)
        else:
            self.mixtures.add(verdict)
        if verdict.broken:
            self.broken.append(verdict)

    def lines(self) -> list[str]:
        """Return the table, line by line."""
        wide = 14
        said = ["runs / answered / broken invariants", ""]
        said.append(f"{'fault':<16}" + "".join(f"{stage:>{wide}}" for stage in STAGES))
        for kind in sorted({kind for kind, _ in self._cells}):
            cells = (self._cells.get((kind, stage), MatrixCell()) for stage in STAGES)
            said.append(f"{kind:<16}" + "".join(f"{cell!s:>{wide}}" for cell in cells))
        said += ["", *(f"{name:<16}{cell!s:>{wide}}" for name, cell in sorted(self._recipes.items()))]
        said += ["", f"{'random mixtures':<16}{self.mixtures!s:>{wide}}", f"{'all':<16}{self.total!s:>{wide}}"]
        return said
