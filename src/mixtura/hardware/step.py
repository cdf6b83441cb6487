"""What every step model answers: how long a step takes, what of it each cause takes, and how sure that is."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NINETIETH = 1.2815515655446004
"""Standard normal quantile: 80 % of values lie within so many standard deviations."""


class TimeEstimate(NamedTuple):
    """The time of a step and its parts.

    `parts` are seconds by cause and add up to the whole; all have the shape that batch and context broadcast to.
    `spread` is the standard deviation of the logarithm of real time over predicted time, as the fit found it
    (0.1: two of three real values lie within about 10 %).
    """

    parts: Mapping[str, Array]
    spread: float

    @property
    def seconds(self) -> Array:
        """The whole time of the step."""
        return array(np.sum(np.broadcast_arrays(*self.parts.values()), axis=0))

    @property
    def low(self) -> Array:
        """What one of ten real values is below, seconds."""
        return array(self.seconds * np.exp(-NINETIETH * self.spread))

    @property
    def high(self) -> Array:
        """What one of ten real values is above, seconds."""
        return array(self.seconds * np.exp(NINETIETH * self.spread))

    @property
    def bound(self) -> str:
        """The part that takes most, over all values given; the first of equals."""
        return max(self.parts, key=lambda name: float(np.sum(self.parts[name])))


def array(values: ArrayLike) -> Array:
    """Return numbers as an array of floats."""
    return np.asarray(values, dtype=np.float64)
