"""The result type of every step model: the time of a step, its parts by cause, and its uncertainty."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NINETIETH = 1.2815515655446004
"""Standard normal quantile: 80 % of values lie within this many standard deviations of the mean."""


class TimeEstimate(NamedTuple):
    """The predicted time of a step, or to a first token, and its parts.

    `parts` are seconds by cause and add up to the total; all have the broadcast shape of batch and context. `spread`
    is the standard deviation of the logarithm of real over predicted time, as fitted (0.1: two of three real values
    lie within about 10 %).
    """

    parts: Mapping[str, Array]
    spread: float

    @property
    def seconds(self) -> Array:
        """The total time."""
        return array(np.sum(np.broadcast_arrays(*self.parts.values()), axis=0))

    @property
    def low(self) -> Array:
        """Seconds below which one in ten real values lies."""
        return array(self.seconds * np.exp(-NINETIETH * self.spread))

    @property
    def high(self) -> Array:
        """Seconds above which one in ten real values lies."""
        return array(self.seconds * np.exp(NINETIETH * self.spread))

    @property
    def bound(self) -> str:
        """The largest part, summed over all values; the first of equals."""
        return max(self.parts, key=lambda name: float(np.sum(self.parts[name])))


def array(values: ArrayLike) -> Array:
    """Return numbers as an array of floats."""
    return np.asarray(values, dtype=np.float64)
