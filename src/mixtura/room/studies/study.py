"""What a study says: the claim, the verdict, the one sentence, and what they rest on."""

from typing import Literal

import msgspec

from mixtura.errors import ConfigError
from mixtura.room.draw.charts import Chart

Verdict = Literal["holds", "holds when", "does not hold", "cannot be checked"]

ARTICLE = "the LPU article"
"""An interview with the head of Groq about mixture-of-experts models, Analytics India Magazine, August 2025."""
TUTORIAL = "the tutorial"
"""A tutorial on mixtures of agents on Groq, March 2026."""


class StudyTable(msgspec.Struct, frozen=True):
    """Cells as they are printed. Every row has as many as there are headers.

    Raises:
        ConfigError: a row has not.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ConfigError(f"a row of {len(row)} cells under {len(self.headers)} headers: give as many, {row!r}")


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """A claim and what became of it.

    Attributes:
        name: in lower case with hyphens, as the command takes it.
        title: what it is about, in a few words.
        claim: what was said, as near to the words as is short.
        who: who said it.
        verdict: what the figures make of it. "holds when": under a condition that the sentence names.
        sentence: the finding, with its figures.
        assumption: what decides the verdict, and would change it.
        table: the figures.
        charts: at least one.
        sources: where the measured figures and the formulas are from.
        method: what was calculated, and which figures are measured, fitted or assumed.
    """

    name: str
    title: str
    claim: str
    who: str
    verdict: Verdict
    sentence: str
    assumption: str
    table: StudyTable
    charts: tuple[Chart, ...]
    sources: tuple[str, ...]
    method: str


def with_range(middle: float, low: float, high: float, unit: str = "") -> str:
    """Return an estimate as a user sees it: "4.1 ms (3.6 to 4.8)", all of them with three digits."""
    return f"{digits(middle)}{f' {unit}' if unit else ''} ({digits(low)} to {digits(high)})"


def digits(value: float, count: int = 3) -> str:
    """Return a number with that many digits that mean something, thousands set apart: "1,230", "0.0456"."""
    rounded = float(f"{value:.{count}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (count - 1) else f"{rounded:.{count}g}"
