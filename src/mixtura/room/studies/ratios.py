"""The ratio of two predictions, with its uncertainty."""

import math
from typing import NamedTuple

from mixtura.hardware.step import NINETIETH
from mixtura.room.studies.study import with_range


class PredictedRatio(NamedTuple):
    """A ratio of two predicted times or costs, with the range that holds the real ratio in 80 % of cases."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, over: float, under: float, *spreads: float) -> "PredictedRatio":
        """Return `over / under`; `spreads` are those of the predictions (see `TimeEstimate`), with independent errors.

        Errors of predictions for one machine are correlated, so the true range is narrower.
        """
        aside = math.exp(NINETIETH * math.hypot(*spreads)) if spreads else 1.0
        return cls(over / under, over / under / aside, over / under * aside)

    def __str__(self) -> str:
        """Return the ratio with its range: "1.2 (1.0 to 1.4)"."""
        return with_range(*self)


def to(low: float, high: float) -> str:
    """Return a span of figures as text: "1.03 to 1.26", or one figure if both round to the same text."""
    first, second = f"{low:.3g}", f"{high:.3g}"
    return first if first == second else f"{first} to {second}"
