"""Costs of tokens: dollars and joules per million, and the mean number of requests in flight under a load.

Machine prices are known only roughly and electricity prices differ by place, so every result is a `CostRange`: the low
end combines the cheap end of every assumption, the high end the expensive ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip
from mixtura.hardware.step import Array, array

_HOURS = 8766.0  # in a year of 365.25 days
_MILLION = 1e6
_STEPS = 400  # points of the grid on which the first crossing is searched
_HALVINGS = 60  # bisections of one grid cell: down to the precision of a float


class CostRange(NamedTuple):
    """The least and the greatest value that the assumptions allow; both have the shape of the inputs."""

    low: Array
    high: Array

    @property
    def middle(self) -> Array:
        """The geometric mean of both ends."""
        return np.sqrt(self.low * self.high)


class SiteAssumptions(msgspec.Struct, frozen=True, kw_only=True):
    """Assumptions on the cost of owning and running machines, each as (low, high). The defaults are not measured.

    Attributes:
        life: years of straight-line depreciation.
        utilisation: share of that time in which the machines produce tokens at the given rate.
        pue: power usage effectiveness, the power of the whole building over that of the machines.
        electricity: dollars per kWh.
        source: the source of these figures.
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
                raise ConfigError(f"{name} of {low:g} to {high:g}: expected two numbers above 0, the lower one first")
        if self.utilisation[1] > 1:
            raise ConfigError(f"utilisation of {self.utilisation[1]:g}: expected at most 1 (all the time)")
        if self.pue[0] < 1:
            raise ConfigError(f"pue of {self.pue[0]:g}: expected at least 1, the power of the machines themselves")


def dollars_an_hour(chip: Chip, chips: ArrayLike, site: SiteAssumptions | None = None) -> CostRange:
    """Return the dollars of one hour of work on `chips` chips: depreciation over the hours in use, and electricity.

    Args:
        chip: the chip whose price (dollars, low and high) and power (watts) are used, without its host.
        chips: number of chips; any shape.
        site: the assumptions; None takes the defaults.

    Raises:
        ConfigError: the chip's price or power is not known, or `chips` is not above 0.

    Source: straight-line depreciation, `price / (life * utilisation) + kW * PUE * $/kWh` for each chip.
    """
    site = site or SiteAssumptions()
    if chip.price is None:
        raise ConfigError(f"no price is known for {chip.name}: add price = [low, high], in dollars, to its row")
    many = _positive(chips, "chips")
    dear, cheap = (site.life[0] * site.utilisation[0], site.life[1] * site.utilisation[1])
    kilowatts = _watts(chip) / 1e3
    return CostRange(
        many * (chip.price[0] / (cheap * _HOURS) + kilowatts * site.pue[0] * site.electricity[0]),
        many * (chip.price[1] / (dear * _HOURS) + kilowatts * site.pue[1] * site.electricity[1]),
    )


def dollars(chip: Chip, chips: ArrayLike, rate: ArrayLike, site: SiteAssumptions | None = None) -> CostRange:
    """Return the dollars of a million tokens.

    Args:
        chip: as for `dollars_an_hour`.
        chips: number of chips that work together; broadcasts with `rate`.
        rate: tokens per second of all chips together.
        site: the assumptions; None takes the defaults.

    Raises:
        ConfigError: the chip's price or power is not known, or `chips` or `rate` is not above 0.

    Source: dollars per hour over tokens per hour.
    """
    hours = _MILLION / _positive(rate, "tokens a second") / 3600
    low, high = dollars_an_hour(chip, chips, site)
    return CostRange(low * hours, high * hours)


def joules(chip: Chip, chips: ArrayLike, rate: ArrayLike, site: SiteAssumptions | None = None) -> CostRange:
    """Return the joules of a million tokens: the power of all chips, times the building's overhead (PUE).

    Args:
        chip: the chip whose power (watts) is used.
        chips: number of chips that work together; broadcasts with `rate`.
        rate: tokens per second of all chips together.
        site: the assumptions, of which only the PUE is used; None takes the defaults.

    Raises:
        ConfigError: the chip's power is not known, or `chips` or `rate` is not above 0.

    Source: watts times seconds; PUE as defined by The Green Grid.
    """
    site = site or SiteAssumptions()
    watts = _positive(chips, "chips") * _watts(chip)
    seconds = _MILLION / _positive(rate, "tokens a second")
    return CostRange(watts * site.pue[0] * seconds, watts * site.pue[1] * seconds)


def concurrency(arrivals: ArrayLike, residence: Callable[[Array], Array], *, most: float) -> Array:
    """Return the mean number of requests in flight: the least N with `N = arrivals * residence(N)`.

    The time a request takes depends on how many requests share the machines, and that number depends on the time, so
    the result is a fixed point.

    Args:
        arrivals: requests per second; any shape, which is the result's.
        residence: seconds that a request stays when N are in flight, vectorised over N; usually time to first token
            plus output length times time per token, `ttft(N) + length * tpot(N)`.
        most: the largest N that the machines hold.

    Raises:
        ConfigError: `arrivals` is negative, `most` is not above 0, or the machines cannot serve that rate at any N;
            the message gives the greatest rate they can serve.

    Source: Little (1961), L = lambda * W. Only means enter: the simulator covers queues that build up by chance.
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
            f"{float(np.max(wanted)):g} requests a second arrive and the machines serve at most {served[-1]:.4g} with "
            f"{most:g} in flight: use more machines or send fewer requests"
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
        raise ConfigError(f"the power of {chip.name} is not known: add power = watts to its row")
    return chip.power


def _positive(values: ArrayLike, what: str) -> Array:
    given = array(values)
    if not np.all((given > 0) & np.isfinite(given)):
        raise ConfigError(f"{what}: expected more than 0, got {float(np.min(given)):g}")
    return given
