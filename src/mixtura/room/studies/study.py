"""The result of a study: the claim, the verdict, the finding, and their basis."""

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
    """A table of printed cells; every row has as many cells as there are headers.

    Raises:
        ConfigError: a row has another number of cells.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ConfigError(f"a row of {len(row)} cells under {len(self.headers)} headers: {row!r}")


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """A claim and the result of checking it.

    Attributes:
        name: in lower case with hyphens, as the command takes it.
        title: the topic, in a few words.
        claim: the claim, close to its original wording.
        who: the claim's author.
        verdict: the verdict. "holds when": under a condition that `sentence` states.
        sentence: the finding, with its figures; its first sentence summarises it.
        assumption: the assumption that decides the verdict and could change it.
        table: the figures.
        charts: at least one.
        sources: sources of the measured figures and of the formulas.
        method: the calculation, and which figures are measured, fitted or assumed.
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
    """Return an estimate with its range as text: "4.1 ms (3.6 to 4.8)", each with three significant digits."""
    return f"{digits(middle)}{f' {unit}' if unit else ''} ({digits(low)} to {digits(high)})"


def digits(value: float, count: int = 3) -> str:
    """Return a number with that many significant digits and thousands separators: "1,230", "0.0456"."""
    rounded = float(f"{value:.{count}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (count - 1) else f"{rounded:.{count}g}"
