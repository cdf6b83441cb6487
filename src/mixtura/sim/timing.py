"""How long simulated calls take. A profile draws the times of each call from a random generator that is passed in.

`lpu` is fitted to recorded replies of the real cloud (data/timings.toml, written by `python -m bench.fit_timings`).
`heavy` is the same under load: queue times are log-normal with a median of 0.1 s and a 99th percentile of 2 s, and
two calls in a hundred stall for 10 s. `instant` takes no time, `fixed:SECONDS` takes the same time for every call, and
`rate:TOKENS_PER_SECOND` generates at that rate without any other delay. Profiles of GPUs, wafers and other machines,
which depend on the calls in flight, are in `machines.py`.
"""

import functools
import math
import random
import tomllib
from importlib.resources import files
from typing import Literal, Protocol

import msgspec

from mixtura.errors import ConfigError
from mixtura.models.catalog import CatalogModel
from mixtura.sim.bodies import CallTimes
from mixtura.sim.machines import PROFILE_FORMS, parse_machine_profile

_HEAVY_MEDIAN, _HEAVY_SIGMA = 0.1, math.log(2.0 / 0.1) / 2.326
_STALLED_SHARE, _STALL = 0.02, 10.0
# Times deviate from the usual one by a log-Student factor: recorded ones have more far outliers than a log-normal.
_DEGREES, _FARTHEST = 5, 6.0


class TimingProfile(Protocol):
    """Draws the times of one call."""

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> CallTimes:
        """Return the times of a call of `prompt` and `completion` tokens while `others` of its model are in flight."""
        ...


class FittedFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model's fitted figures. None means too few records: the figures of all models apply.

    `tps` is in tokens a second, `prefill` in prompt tokens a second on top of `prefill_base` seconds. `tps_spread` and
    `prefill_spread` are the standard deviations of the logarithms of what times these take, 0.1 being about 10 %.
    `congested` is the share of prompts that take several times longer. `queue` are evenly spaced percentiles of the
    queue time in seconds; `queue_stretch` is how much farther than they queue times lie from their median, on a
    logarithmic scale.
    """

    tps: float | None = None
    tps_spread: float | None = None
    queue: tuple[float, ...] | None = None
    queue_stretch: float | None = None
    prefill: float | None = None
    prefill_base: float | None = None
    prefill_spread: float | None = None
    congested: float | None = None


class PromptCongestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many times longer a congested prompt takes: the median, and the standard deviation of the logarithm."""

    factor: float
    spread: float


class FittedTimings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a fit to recorded replies found: figures of all models together, of each model, and its records' number."""

    default: FittedFigures
    congestion: PromptCongestion
    models: dict[str, FittedFigures]
    records: dict[str, int]


class FittedProfile(msgspec.Struct, frozen=True):
    """Draws times as recorded. A `load` of "heavy" replaces the queue times. `timings` are the shipped ones if None."""

    load: Literal["as_recorded", "heavy"] = "as_recorded"
    timings: FittedTimings | None = None

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> CallTimes:
        """Draw queue, prompt and completion times independently, each in proportion to its tokens.

        The tokens do not change which random numbers are drawn, so with the same `rng` more tokens take longer.
        """
        fitted = self.timings or _load_timings()
        own, usual = fitted.models.get(model.id, FittedFigures()), fitted.default

        def figure(name: str) -> float:
            value: float | None = getattr(own, name)
            return value if value is not None else getattr(usual, name) or 0.0

        tps = own.tps or model.speed or figure("tps")
        writing = completion / tps * _deviation(figure("tps_spread"), rng)
        if self.load == "heavy":
            queue = _HEAVY_MEDIAN * math.exp(rng.gauss(0.0, _HEAVY_SIGMA))
            queue += _STALL if rng.random() < _STALLED_SHARE else 0.0
        else:
            waits = own if own.queue else usual
            queue = _stretched(waits.queue or (0.0,), waits.queue_stretch or 1.0, rng.random())
        reading = figure("prefill_base") + prompt / figure("prefill")
        if rng.random() < figure("congested"):
            reading *= fitted.congestion.factor * _deviation(fitted.congestion.spread, rng)
        else:
            reading *= _deviation(figure("prefill_spread"), rng)
        return CallTimes.from_seconds(queue, reading, writing)


def _deviation(spread: float, rng: random.Random) -> float:
    """Return a factor with a median of one, whose logarithm is Student's t with `spread` as its scale."""
    student = rng.gauss() / math.sqrt(rng.gammavariate(_DEGREES / 2, 2 / _DEGREES))
    return math.exp(spread * min(max(student, -_FARTHEST), _FARTHEST))


def _stretched(percentiles: tuple[float, ...], stretch: float, share: float) -> float:
    """Return the value at `share`, moved away from the median by `stretch` on a logarithmic scale."""
    middle, value = _between(percentiles, 0.5), _between(percentiles, share)
    return middle * math.pow(value / middle, stretch) if middle > 0 else value


def _between(percentiles: tuple[float, ...], share: float) -> float:
    """Return the value at `share` (0 to 1) of a distribution given at evenly spaced percentiles."""
    place, beyond = divmod(share * (len(percentiles) - 1), 1)
    low, high = percentiles[int(place)], percentiles[min(int(place) + 1, len(percentiles) - 1)]
    return low + (high - low) * beyond


class FixedProfile(msgspec.Struct, frozen=True):
    """Takes `seconds` for every call, spread evenly over its tokens."""

    seconds: float = 0.0

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> CallTimes:
        """Return the fixed time as the completion time."""
        return CallTimes.from_seconds(completion=self.seconds)


class RateProfile(msgspec.Struct, frozen=True):
    """Generates `tps` tokens a second, without any other delay."""

    tps: float

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> CallTimes:
        """Return the time for the completion tokens."""
        return CallTimes.from_seconds(completion=completion / self.tps)


class PerModelProfile:
    """Uses one profile by default and other profiles for some models."""

    def __init__(self, usual: TimingProfile, special: dict[str, TimingProfile]) -> None:
        self._usual = usual
        self._special = special

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> CallTimes:
        """Draw from the model's own profile, else from the default one."""
        return self._special.get(model.id, self._usual).draw(model, prompt, completion, rng, others)


def parse_profile(text: str) -> TimingProfile:
    """Parse a profile: `lpu`, `instant`, `heavy`, `fixed:0.5`, `rate:200`, `gpu:8xb200`, `wafer`, `machine:lp30`.

    `model=profile` after a comma sets the profile of a single model.

    Raises:
        ConfigError: a part is not a profile, names an unknown chip, or needs NumPy and it is not installed.
    """
    usual: TimingProfile = FixedProfile()
    special: dict[str, TimingProfile] = {}
    for part in text.split(","):
        model, equals, name = part.strip().rpartition("=")
        if equals:
            special[model] = _parse_one(name)
        else:
            usual = _parse_one(name)
    return PerModelProfile(usual, special) if special else usual


def _parse_one(text: str) -> TimingProfile:
    name, _, value = text.partition(":")
    plain: dict[str, TimingProfile] = {
        "lpu": FittedProfile(),
        "instant": FixedProfile(),
        "heavy": FittedProfile("heavy"),
    }
    if not value and name in plain:
        return plain[name]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if name == "fixed" and number >= 0:
        return FixedProfile(number)
    if name == "rate" and number > 0:
        return RateProfile(number)
    machines = parse_machine_profile(name, value)
    if machines is not None:
        return machines
    plainly = "lpu, instant, heavy, fixed:SECONDS, rate:TOKENS_PER_SECOND"
    raise ConfigError(f"timing profile {text!r}: expected {plainly}, {PROFILE_FORMS}")


@functools.cache
def _load_timings() -> FittedTimings:
    text = (files("mixtura.sim") / "data" / "timings.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), FittedTimings)
