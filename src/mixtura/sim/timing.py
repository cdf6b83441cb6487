"""How long simulated calls take: profiles, drawn per call from a passed-in generator.

`lpu` is fitted to recorded replies of the real cloud (data/timings.toml, written by bench/fit_timings.py).
`heavy` is the same under load: queue times log-normal with median 0.1 s and 99th percentile 2 s, and two calls
in a hundred stalled for 10 s. `instant` takes no time, `fixed:SECONDS` the same for every call, and
`rate:TOKENS_PER_SECOND` writes at that rate and does nothing else. Profiles of GPUs, wafers and other machines, which
depend on the calls in flight, stand in `machines.py`.
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
from mixtura.sim.bodies import Times
from mixtura.sim.machines import FORMS, parse_machines

_HEAVY_MEDIAN, _HEAVY_SIGMA = 0.1, math.log(2.0 / 0.1) / 2.326
_STALLED_SHARE, _STALL = 0.02, 10.0
# Models with too few records of their own: dense models and gpt-oss were recorded at 2 to 4 %.
_SPREAD = 0.03
# About one recorded call in ten read its prompt 5 to 50 times slower than usual.
_CONGESTED_SHARE = 0.1


class Profile(Protocol):
    """Draws the times of one call."""

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> Times:
        """Return the times of a call of `prompt` and `completion` tokens, `others` of its model being in flight."""
        ...


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted figures of a model; None where the records do not support one. See bench/fit_timings.py."""

    tps: float | None = None
    tps_spread: float | None = None
    queue: tuple[float, ...] | None = None
    prefill: float | None = None
    prefill_base: float | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    default: Figures
    models: dict[str, Figures]
    records: dict[str, int]


class Fitted(msgspec.Struct, frozen=True):
    """Times as recorded; `load` "heavy" replaces the queue times."""

    load: Literal["as_recorded", "heavy"] = "as_recorded"

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> Times:
        """Draw each part on its own; nothing recorded says that they depend on each other."""
        fitted = _fitted()
        own, usual = fitted.models.get(model.id, Figures()), fitted.default

        def figure(name: str) -> float:
            value: float | None = getattr(own, name)
            return value if value is not None else getattr(usual, name) or 0.0

        tps = own.tps or model.speed or figure("tps")
        tps *= max(0.2, rng.gauss(1.0, _SPREAD if own.tps_spread is None else own.tps_spread))
        if self.load == "heavy":
            queue = _HEAVY_MEDIAN * math.exp(rng.gauss(0.0, _HEAVY_SIGMA))
            queue += _STALL if rng.random() < _STALLED_SHARE else 0.0
        else:
            queue = _between(own.queue or usual.queue or (0.0,), rng.random())
        reading = figure("prefill_base") + prompt / figure("prefill")
        if rng.random() < _CONGESTED_SHARE:
            reading *= math.exp(rng.uniform(math.log(5), math.log(50)))
        return Times.of_seconds(queue, reading, completion / tps)


def _between(percentiles: tuple[float, ...], share: float) -> float:
    """Return the value at `share` (0 to 1) of a distribution given at evenly spaced percentiles."""
    place, beyond = divmod(share * (len(percentiles) - 1), 1)
    low, high = percentiles[int(place)], percentiles[min(int(place) + 1, len(percentiles) - 1)]
    return low + (high - low) * beyond


class Fixed(msgspec.Struct, frozen=True):
    """Every call takes `seconds`, spread evenly over its tokens."""

    seconds: float = 0.0

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> Times:
        """Return the fixed time as completion time."""
        return Times.of_seconds(completion=self.seconds)


class Rate(msgspec.Struct, frozen=True):
    """Writes `tps` tokens a second, and does nothing else."""

    tps: float

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> Times:
        """Return the time for the completion's tokens."""
        return Times.of_seconds(completion=completion / self.tps)


class ByModel:
    """One profile for all models, others for some."""

    def __init__(self, usual: Profile, special: dict[str, Profile]) -> None:
        self._usual = usual
        self._special = special

    def draw(self, model: CatalogModel, prompt: int, completion: int, rng: random.Random, others: int = 0) -> Times:
        """Draw from the model's own profile, or the usual one."""
        return self._special.get(model.id, self._usual).draw(model, prompt, completion, rng, others)


def parse_profile(text: str) -> Profile:
    """Read a profile: `lpu`, `instant`, `heavy`, `fixed:0.5`, `rate:200`, `gpu:8xb200`, `wafer`, `machine:lp30`.

    After commas `model=profile` sets single models.

    Raises:
        ConfigError: a part is none of these, names no chip, or needs NumPy, which is missing.
    """
    usual: Profile = Fixed()
    special: dict[str, Profile] = {}
    for part in text.split(","):
        model, equals, name = part.strip().rpartition("=")
        if equals:
            special[model] = _parse_one(name)
        else:
            usual = _parse_one(name)
    return ByModel(usual, special) if special else usual


def _parse_one(text: str) -> Profile:
    name, _, value = text.partition(":")
    plain: dict[str, Profile] = {"lpu": Fitted(), "instant": Fixed(), "heavy": Fitted("heavy")}
    if not value and name in plain:
        return plain[name]
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if name == "fixed" and number >= 0:
        return Fixed(number)
    if name == "rate" and number > 0:
        return Rate(number)
    machines = parse_machines(name, value)
    if machines is not None:
        return machines
    plainly = "lpu, instant, heavy, fixed:SECONDS, rate:TOKENS_PER_SECOND"
    raise ConfigError(f"timing profile {text!r}: expected {plainly}, {FORMS}")


@functools.cache
def _fitted() -> _File:
    text = (files("mixtura.sim") / "data" / "timings.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), _File)
