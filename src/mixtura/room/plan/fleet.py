"""Sizes a fleet: the copies of each machine that a rate of mixtures needs, and their cost."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mixtura.chat import Usage
from mixtura.errors import ConfigError
from mixtura.hardware.cost import CostRange
from mixtura.room.plan.machines import HostedModel, ModelServer, ProviderModel, text_of
from mixtura.room.plan.simulation import MIXTURES, ModelCopies, SimulatedMixtures, floor, run
from mixtura.room.plan.work import MixtureWork, Name

FULL = 0.8
"""Planned share of a machine's capacity at its best batch; above it, waiting times grow fast. Assumed."""
CALM = 2.0
"""Greatest decode step time in planned batches, relative to a call alone. Assumed: larger batches carry more load, but
slow down every call."""
_SEARCHED = 600  # mixtures per simulation while searching for a fleet
_MOST = 4096  # copies of one machine
_TRIES = 40


class MixtureCost(NamedTuple):
    """The cost of one mixture: dollars, and joules of the user's own machines; None if not known.

    Own machines cost money all the time, so both ends of `dollars` fall as the rate grows. The low end of `joules`
    assumes that idle machines draw no power, the high end that machines always draw full power.
    """

    dollars: CostRange | None
    joules: CostRange | None


def size_for_rate(
    work: MixtureWork, machines: Mapping[Name, ModelServer], rate: float, slower: float = CALM
) -> dict[Name, ModelCopies]:
    """Return the fewest copies that serve `rate` mixtures per second with 20 % to spare; a provider counts as one.

    Only batches whose decode step takes at most `slower` times as long as that of a call alone are used.

    Raises:
        ConfigError: a model needs more than 4,096 copies.
    """
    stations = {}
    for model, machine in machines.items():
        copies = 1
        if isinstance(machine, HostedModel):
            load = rate * sum(
                (1 - work.skip_share(call)) * machine.seconds_of_work(*work.tokens(call), slower)
                for call in work.calls
                if call.model == model
            )
            copies = max(1, math.ceil(load / FULL))
        if copies > _MOST:
            raise ConfigError(
                f"{rate * 60:,.0f} mixtures a minute need {copies:,} copies of {machine.name} for {model[1]}, more "
                f"than the maximum of {_MOST:,}: lower the rate"
            )
        stations[model] = ModelCopies(machine, copies)
    return stations


def size_for_slo(
    work: MixtureWork, machines: Mapping[Name, ModelServer], rate: float, within: float
) -> tuple[dict[Name, ModelCopies], SimulatedMixtures]:
    """Return a small fleet with which 95 % of the mixtures take at most `within` seconds, and its simulation.

    The search adds copies to the model whose calls wait longest beyond the time of an empty machine, then removes
    copies from one model after another as long as the fleet meets the bound. The fleet is small, not proven smallest.

    Raises:
        ConfigError: even empty machines miss the bound; the message gives the floor and its reason.
    """
    best = floor(work, machines)
    if best.at(95) > within:
        raise ConfigError(why_not(work, machines, best, within))
    stations = size_for_rate(work, machines, rate)
    # Search with few mixtures, then verify with many, which may add a copy or two that the small sample missed.
    stations, _ = _grow(work, stations, (rate, within), best, _SEARCHED)
    stations = _trim(work, stations, rate, within)
    return _grow(work, stations, (rate, within), best, MIXTURES)


def _grow(
    work: MixtureWork,
    stations: dict[Name, ModelCopies],
    asked: tuple[float, float],
    best: SimulatedMixtures,
    count: int,
) -> tuple[dict[Name, ModelCopies], SimulatedMixtures]:
    """Add copies to the model whose calls wait longest until the fleet meets `asked`, (rate, seconds)."""
    rate, within = asked
    least = float(best.seconds.mean())
    share = 0.5 if count == _SEARCHED else 0.1
    hosted = [model for model in work.models if isinstance(stations[model].machine, HostedModel)]
    for _ in range(_TRIES):
        result = run(work, stations, rate, count=count)
        if result.at(95) <= within:
            return stations, result
        mean = float(result.seconds.mean())
        slow = max(hosted, key=lambda model: result.waits[model] * mean - best.waits[model] * least, default=None)
        if slow is None or stations[slow].copies >= _MOST:
            break
        copies = stations[slow].copies
        more = min(_MOST, copies + max(1, int(share * copies)))
        stations = stations | {slow: stations[slow]._replace(copies=more)}
    raise ConfigError(
        f"the search found no fleet that ends 95 % of {work.name} within {text_of(within)}, though empty machines take "
        f"{text_of(best.at(95))}: allow a little more time"
    )


def why_not(work: MixtureWork, machines: Mapping[Name, ModelServer], best: SimulatedMixtures, within: float) -> str:
    """Return the error text for an SLO below the floor `best`."""
    model = max(best.waits, key=lambda name: best.waits[name])
    call = max((call for call in work.calls if call.model == model), key=work.tokens)
    return (
        f"no fleet ends 95 % of {work.name} within {text_of(within)}: the floor is {text_of(best.at(95))} because "
        f"{machines[model].reason(*work.tokens(call))}; allow more time, faster machines or shorter replies (--output)"
    )


def bill(stations: Mapping[Name, ModelCopies], result: SimulatedMixtures, rate: float) -> MixtureCost:
    """Return the cost of one mixture at `rate` mixtures per second.

    Source: dollars per hour of all copies over mixtures per hour (`hardware.cost`); the provider's list price of the
    tokens.
    """
    low = high = 0.0
    less = more = 0.0
    priced = powered = True
    for model, (machine, copies) in stations.items():
        if isinstance(machine, ProviderModel):
            prompt, output = (round(1e6 * tokens) for tokens in result.spent[model])
            if machine.card.price is None:
                priced = False
                continue
            cost = machine.card.price.cost(Usage(prompt_tokens=prompt, completion_tokens=output)) / 1e6
            low, high = low + cost, high + cost
            powered = False  # a provider's power is not known
        elif isinstance(machine, HostedModel):
            hour, watts = machine.hour(), machine.watts()
            if hour is not None:
                low, high = (
                    each + copies * float(end) / 3600 / rate for each, end in zip((low, high), hour, strict=True)
                )
            priced = priced and hour is not None
            busy = result.served[model].busy or 0.0
            if watts is not None:
                less += copies * float(watts.low) * busy / rate
                more += copies * float(watts.high) / rate
            powered = powered and watts is not None
    return MixtureCost(_range(low, high) if priced else None, _range(less, more) if powered else None)


def _trim(work: MixtureWork, stations: dict[Name, ModelCopies], rate: float, within: float) -> dict[Name, ModelCopies]:
    """Remove copies while the fleet meets `within`, from the model with the most copies first."""
    least = size_for_rate(work, {model: station.machine for model, station in stations.items()}, rate, math.inf)
    for model in sorted(stations, key=lambda name: -stations[name].copies):
        low, high = least[model].copies - 1, stations[model].copies
        while high - low > 1:
            middle = (low + high) // 2
            tried = stations | {model: ModelCopies(stations[model].machine, middle)}
            if run(work, tried, rate, count=_SEARCHED).at(95) <= within:
                high = middle
            else:
                low = middle
        stations = stations | {model: ModelCopies(stations[model].machine, high)}
    return stations


def _range(low: float, high: float) -> CostRange:
    return CostRange(np.asarray(low), np.asarray(high))
