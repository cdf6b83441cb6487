"""What tokens cost: dollars and joules for a million of them, and how many requests are in flight under a load.

Prices of machines are known roughly and those of electricity differ by place, so every result is a `Range`: the low
end takes what is cheap of each assumption, the high end what is dear.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip
from mixtura.hardware.step import Array, array

_HOURS = 8766.0  # of a year: 365.25 days
_MILLION = 1e6
_STEPS = 400  # of the grid on which the first crossing is looked for
_HALVINGS = 60  # of one of its cells: to the last digit of a float


class CostRange(NamedTuple):
    """The least and the most that the assumptions allow; both have the shape of what was asked."""

    low: Array
    high: Array

    @property
    def middle(self) -> Array:
        """The geometric mean: as many times above `low` as `high` is above it."""
        return np.sqrt(self.low * self.high)


class SiteAssumptions(msgspec.Struct, frozen=True, kw_only=True):
    """What owning and running machines is assumed to cost, each as low..high. The defaults are planning assumptions.

    Attributes:
        life: years over which the price is written off, straight.
        utilisation: share of that time in which the machines make tokens at the rate they are asked about.
        pue: power of the whole building over that of the machines (power usage effectiveness).
        electricity: dollars a kWh.
        source: where these are from.
    """

    life: tuple[float, float] = (3.0, 5.0)
    utilisation: tuple[float, float] = (0.5, 0.9)
    pue: tuple[float, float] = (1.1, 1.4)
    electricity: tuple[float, float] = (0.05, 0.12)
    source: str = "planning assumptions, nothing of it measured"

    def __post_init__(self) -> None:
        for name in ("life", "utilisation", "pue", "electricity"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"{name} of {low:g} to {high:g}: both have to be above 0, the lower one first")
        if self.utilisation[1] > 1:
            raise ConfigError(f"utilisation of {self.utilisation[1]:g}: machines work at most all the time (1)")
        if self.pue[0] < 1:
            raise ConfigError(f"pue of {self.pue[0]:g}: a building takes at least what its machines take (1)")


def dollars_an_hour(chip: Chip, chips: ArrayLike, site: SiteAssumptions | None = None) -> CostRange:
    """Return dollars for an hour in which `chips` chips work: price over life and utilisation, and electricity.

    Args:
        chip: of which price (dollars, low..high) and power (watts) are taken, of the chip alone as its row says.
        chips: how many; any shape.
        site: the assumptions; None: the defaults.

    Raises:
        ConfigError: price or power of the chip are not known, or there are no chips.

    Source: straight-line depreciation, `price / (life * utilisation) + kW * PUE * $/kWh` for each chip.
    """
    site = site or SiteAssumptions()
    if chip.price is None:
        raise ConfigError(f"no price is known for {chip.name}: give its row one, as price = [low, high] in dollars")
    many = _positive(chips, "chips")
    dear, cheap = (site.life[0] * site.utilisation[0], site.life[1] * site.utilisation[1])
    kilowatts = _watts(chip) / 1e3
    return CostRange(
        many * (chip.price[0] / (cheap * _HOURS) + kilowatts * site.pue[0] * site.electricity[0]),
        many * (chip.price[1] / (dear * _HOURS) + kilowatts * site.pue[1] * site.electricity[1]),
    )


def dollars(chip: Chip, chips: ArrayLike, rate: ArrayLike, site: SiteAssumptions | None = None) -> CostRange:
    """Return dollars for a million tokens.

    Args:
        chip: as for `dollars_an_hour`.
        chips: how many work together; broadcasts with `rate`.
        rate: tokens a second that all of them make together.
        site: the assumptions; None: the defaults.

    Raises:
        ConfigError: no known price or power, no chips, or a rate that is not above 0.

    Source: dollars an hour over tokens an hour.
    """
    hours = _MILLION / _positive(rate, "tokens a second") / 3600
    low, high = dollars_an_hour(chip, chips, site)
    return CostRange(low * hours, high * hours)


def joules(chip: Chip, chips: ArrayLike, rate: ArrayLike, site: SiteAssumptions | None = None) -> CostRange:
    """Return joules for a million tokens: the power of all chips at work, and of the building around them.

    Args:
        chip: of which the power (watts) is taken.
        chips: how many work together; broadcasts with `rate`.
        rate: tokens a second that all of them make together.
        site: the assumptions, of which the PUE is taken; None: the defaults.

    Raises:
        ConfigError: no known power, no chips, or a rate that is not above 0.

    Source: watts times seconds; PUE as The Green Grid defines it.
    """
    site = site or SiteAssumptions()
    watts = _positive(chips, "chips") * _watts(chip)
    seconds = _MILLION / _positive(rate, "tokens a second")
    return CostRange(watts * site.pue[0] * seconds, watts * site.pue[1] * seconds)


def concurrency(arrivals: ArrayLike, residence: Callable[[Array], Array], *, most: float) -> Array:
    """Return how many requests are in flight on average: the least N with `N = arrivals * residence(N)`.

    Time in the system depends on how many share it, and how many share it on the time: a fixed point.

    Args:
        arrivals: requests a second; any shape, which is the result's.
        residence: seconds that a request stays when N are in flight, vectorised over N. As a rule the time to first
            token and the output's length times the time per token: `ttft(N) + length * tpot(N)`.
        most: the largest N that the machines hold.

    Raises:
        ConfigError: negative arrivals, no room, or more arrivals than are served at any N; it names what is.

    Source: Little (1961), L = lambda * W. It takes the mean alone: queues that build up by chance are the
    simulator's.
    """
    wanted = array(arrivals)
    if not np.all(wanted >= 0):
        raise ConfigError(f"{float(np.min(wanted)):g} requests a second arrive: expected 0 or more")
    if most <= 0:
        raise ConfigError(f"room for {most:g} requests holds none: expected more than 0")
    grid = np.geomspace(most * 1e-6, most, _STEPS)
    served = np.maximum.accumulate(grid / residence(grid))
    if np.any(wanted > served[-1]):
        raise ConfigError(
            f"{float(np.max(wanted)):g} requests a second arrive and at most {served[-1]:.4g} can be served with "
            f"{most:g} in flight: take more machines or fewer requests"
        )
    place = np.searchsorted(served, wanted)
    low, high = np.where(place > 0, grid[np.maximum(place - 1, 0)], 0.0), grid[place]
    for _ in range(_HALVINGS):
        half = (low + high) / 2
        enough = half >= wanted * residence(half)
        low, high = np.where(enough, low, half), np.where(enough, half, high)
    return np.where(wanted > 0, high, 0.0)


def _watts(chip: Chip) -> float:
    if chip.power is None:
        raise ConfigError(f"nobody says what power {chip.name} draws: give its row one, as power = watts")
    return chip.power


def _positive(values: ArrayLike, what: str) -> Array:
    given = array(values)
    if not np.all((given > 0) & np.isfinite(given)):
        raise ConfigError(f"{what}: expected more than 0, got {float(np.min(given)):g}")
    return given
