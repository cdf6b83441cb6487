"""The axes of a chart: positions of values, choice of ticks, formatting of numbers. Pure functions."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)  # steps of a linear axis, times a power of ten
_FAR = 0.35  # a linear axis begins at 0 if the least value is below this share of the largest
_LETTERS = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
_CLOSE = 1e-9  # relative difference below which two ticks count as equal


class Axis(NamedTuple):
    """A linear or logarithmic axis from `low` to `high`, with the values and labels of its ticks."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    names: tuple[str, ...]

    def share(self, value: float) -> float:
        """Return a value's position: 0 at the beginning of the axis, 1 at its end; values outside are clipped."""
        if self.log:
            if value <= 0:
                return 0.0
            place = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            place = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, place))


def number(value: float) -> str:
    """Return a number as the label of a tick: "0.25", "1,000", "20M"."""
    for size, letter in _LETTERS:
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    if abs(value) >= 1:
        return f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.4g}"


def category_axis(names: Sequence[str]) -> Axis:
    """Return an axis with the labels `names` at the positions 0, 1, 2, ..."""
    places = tuple(float(place) for place in range(len(names)))
    return Axis(-0.5, len(names) - 0.5, False, places, tuple(names))


def linear_axis(values: Iterable[float], most: int = 7, *, zero: bool = False) -> Axis:
    """Return a linear axis that holds all values and ends on ticks.

    Args:
        values: finite, at least one.
        most: approximate maximum number of ticks.
        zero: whether the axis must include 0, as bars require.
    """
    found = list(values)
    low, high = min(found), max(found)
    if zero or 0 <= low < _FAR * high:
        low, high = min(0.0, low), max(0.0, high)
    if high - low <= _CLOSE * max(abs(high), abs(low), 1e-300):
        aside = abs(high) / 2 or 1.0
        low, high = low - aside, high + aside
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in _NICE if nice * power >= rough * (1 - _CLOSE))
    first, last = math.floor(low / step + _CLOSE), math.ceil(high / step - _CLOSE)
    decimals = 2 - math.floor(math.log10(step))  # so that 3 * 0.1 is 0.3
    ticks = tuple(round(place * step, decimals) + 0.0 for place in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], False, ticks, tuple(map(number, ticks)))


def log_axis(values: Iterable[float], marks: Iterable[float] = (), most: int = 8) -> Axis:
    """Return a logarithmic axis that holds all values.

    Ticks are 1, 2, 5, 10, ..., or powers of ten if those are too many, or powers of two if all `marks` are powers of
    two (as batches mostly are).

    Args:
        values: above 0, at least one.
        marks: the values that a reader will look up.
        most: maximum number of ticks.
    """
    found, looked = list(values), set(marks)
    low, high = min(found), max(found)
    if high / low < 1 + _CLOSE:
        low, high = low / 2, high * 2
    if len(looked) > 1 and all(_is_power_of_two(mark) for mark in looked):
        ticks = _powers(2.0, low, high, most)
    else:
        ticks = _decimal(low, high, most)
    if len(ticks) < 2:  # less than a factor of two between the ends: linear ticks are more useful
        ticks = [tick for tick in linear_axis((low, high), most).ticks if tick > 0]
        low, high = min(low, ticks[0]), max(high, ticks[-1])
    return Axis(low, high, True, tuple(ticks), tuple(map(number, ticks)))


def clip_axis(axis: Axis, low: float, high: float) -> Axis:
    """Return a linear axis from `low` to `high` with those ticks of `axis` that lie on it."""
    if not low < high < math.inf:
        return axis
    kept = [(tick, name) for tick, name in zip(axis.ticks, axis.names, strict=True) if low <= tick <= high]
    if not kept:
        return axis
    return Axis(low, high, False, tuple(tick for tick, _ in kept), tuple(name for _, name in kept))


def widen_axis(axis: Axis, share: float = 0.04) -> Axis:
    """Return a logarithmic axis extended a little beyond its values on both sides."""
    factor = (axis.high / axis.low) ** share
    return axis._replace(low=axis.low / factor, high=axis.high * factor)


def _decimal(low: float, high: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [
            tick
            for power in range(first, last + 1)
            for digit in digits
            if low * (1 - _CLOSE) <= (tick := digit * 10.0**power) <= high * (1 + _CLOSE)
        ]
        if len(ticks) <= most:
            return ticks
    return _powers(10.0, low, high, most)


def _powers(base: float, low: float, high: float, most: int) -> list[float]:
    """Return powers of `base` on the axis, or every second, third ... of them if there are too many."""
    first = math.ceil(math.log(low, base) - _CLOSE)
    last = math.floor(math.log(high, base) + _CLOSE)
    step = max(1, math.ceil((last - first + 1) / most))
    return [base**power for power in range(first, last + 1, step)]


def _is_power_of_two(value: float) -> bool:
    return value > 0 and math.frexp(value)[0] == 0.5
