"""How many copies of each machine a rate of mixtures needs, and what they cost."""

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
"""Share of what machines can do at their best batch that is planned with: beyond it waits grow fast. Assumed."""
CALM = 2.0
"""How many times longer than alone a decode step may take in the batches that are planned with. Assumed: a machine
carries more in larger ones, and every call then waits for it."""
_SEARCHED = 600  # mixtures of the runs in which a fleet is looked for
_MOST = 4096  # copies of one machine
_TRIES = 40


class MixtureCost(NamedTuple):
    """What a mixture takes: dollars, and joules of machines of one's own; None where not known.

    Machines of one's own are paid for the whole time, so both ends of `dollars` fall as the rate grows. `joules` go
    from machines that draw nothing when idle to such that always draw their full power.
    """

    dollars: CostRange | None
    joules: CostRange | None


def size_for_rate(
    work: MixtureWork, machines: Mapping[Name, ModelServer], rate: float, slower: float = CALM
) -> dict[Name, ModelCopies]:
    """Return the least copies that carry `rate` mixtures a second with a fifth to spare; a provider is one.

    Batches in which a decode step takes more than `slower` times that of a call alone are not planned with.

    Raises:
        ConfigError: more than 4,096 copies of a machine.
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
                f"{rate * 60:,.0f} mixtures a minute take {copies:,} copies of {machine.name} for {model[1]}, more "
                f"than the {_MOST:,} that are planned with: lower the rate"
            )
        stations[model] = ModelCopies(machine, copies)
    return stations


def size_for_slo(
    work: MixtureWork, machines: Mapping[Name, ModelServer], rate: float, within: float
) -> tuple[dict[Name, ModelCopies], SimulatedMixtures]:
    """Return a small fleet with which 95 % of the mixtures take at most `within` seconds, and the run that shows it.

    Copies are added to the model for which mixtures wait most beyond what an empty machine takes, then taken away
    again one machine at a time where the promise still holds. Of equally small fleets it finds one.

    Raises:
        ConfigError: not even empty machines meet it: the text gives the floor and its reason.
    """
    best = floor(work, machines)
    if best.at(95) > within:
        raise ConfigError(why_not(work, machines, best, within))
    stations = size_for_rate(work, machines, rate)
    # Found with few mixtures, then held against many: what the few promised too much costs another copy or two.
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
    """Add copies to the model that is waited for most until the promise, (rate, seconds), is kept."""
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
        f"no fleet was found that ends 95 % of {work.name} within {text_of(within)}, though empty machines take "
        f"{text_of(best.at(95))}: allow a little more"
    )


def why_not(work: MixtureWork, machines: Mapping[Name, ModelServer], best: SimulatedMixtures, within: float) -> str:
    """Return the sentence for an SLO below the floor `best`."""
    model = max(best.waits, key=lambda name: best.waits[name])
    call = max((call for call in work.calls if call.model == model), key=work.tokens)
    return (
        f"nothing here ends 95 % of {work.name} within {text_of(within)}: the floor is {text_of(best.at(95))} because "
        f"{machines[model].reason(*work.tokens(call))}; allow more time, faster machines or shorter replies (--output)"
    )


def bill(stations: Mapping[Name, ModelCopies], result: SimulatedMixtures, rate: float) -> MixtureCost:
    """Return what one mixture takes at `rate` mixtures a second.

    Source: dollars an hour of all copies over mixtures an hour (`hardware.cost`); a provider's list price of the
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
            powered = False  # what a provider draws is not known
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
    """Take away copies one by one while the promise holds, from the machines with most first."""
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
