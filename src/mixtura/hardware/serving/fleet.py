"""Finds the smallest fleet that meets an SLO under a load, by simulating fleets of different sizes."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from mixtura.errors import ConfigError
from mixtura.hardware.serving.arrivals import OpenLoad, positive
from mixtura.hardware.serving.results import Measure, ServingResult
from mixtura.hardware.serving.simulator import FleetScheduling, simulate
from mixtura.hardware.serving.step_times import Array, StepTimes

MEASURES: Mapping[Measure, str] = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "end_to_end": "time from end to end",
}


class LatencySlo(msgspec.Struct, frozen=True, kw_only=True):
    """A latency objective: bounds in seconds that `percentile` % of the requests must meet; None sets no bound.

    Attributes:
        percentile: above 0, up to 100.
        ttft: seconds to the first token, queueing included.
        tpot: seconds per output token after the first.
        end_to_end: seconds to the last token.
    """

    percentile: float = 99.0
    ttft: float | None = None
    tpot: float | None = None
    end_to_end: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError if there is no bound, or a value is out of range."""
        if not 0 < self.percentile <= 100:
            raise ConfigError(f"the percentile of an SLO must be above 0 and at most 100, not {self.percentile:g}")
        if not self.bounds:
            raise ConfigError("the SLO has no bound: give ttft, tpot or end_to_end in seconds")
        for measure, bound in self.bounds.items():
            if not bound > 0:
                raise ConfigError(f"the {MEASURES[measure]} of an SLO must be more than 0 seconds, not {bound:g}")

    @property
    def bounds(self) -> dict[Measure, float]:
        """The bounds that are set, in seconds, by measure."""
        found = {measure: getattr(self, measure) for measure in MEASURES}
        return {measure: bound for measure, bound in found.items() if bound is not None}


class SmallestFleet(NamedTuple):
    """The result of `smallest_fleet`.

    Attributes:
        replicas: number of replicas.
        prefill_workers: additional workers for prompts, if prefill is disaggregated.
        found: seconds of each bounded measure at the SLO's percentile.
        served: the simulation of this fleet.
        tried: whether each simulated fleet met the SLO, by its number of replicas.
    """

    replicas: int
    prefill_workers: int
    found: dict[Measure, float]
    served: ServingResult
    tried: dict[int, bool]


def alone(traffic: OpenLoad, step_times: StepTimes, how: FleetScheduling | None = None) -> dict[Measure, Array]:
    """Return the seconds of each request on an empty machine, by measure.

    This is a lower bound for a fleet of any size, as long as a larger batch is not faster than a batch of one.
    """
    prompt = step_times.prompt(traffic.prompts)
    decode = step_times.steps(1, traffic.prompts + 1, traffic.outputs - 1)
    if how is not None and how.prefill == "apart":
        decode = decode + np.where(traffic.outputs > 1, how.handover * traffic.prompts, 0.0)
    each = decode / np.where(traffic.outputs > 1, traffic.outputs - 1, np.nan)
    return {"ttft": prompt, "tpot": each, "end_to_end": prompt + decode}


def least_replicas(traffic: OpenLoad, step_times: StepTimes, how: FleetScheduling | None = None) -> int:
    """Return the replicas that the work needs at the best batch that fits; with fewer, queues grow without bound.

    A request needs at least the time of its prompt and, for each further token, the least decode time per request over
    all batches that fit the KV cache at the mean size. The work has to finish between the first arrival and the last
    arrival plus the longest time of a single request: a negligible allowance in a long run, a fair one in a short run.
    """
    style = how or FleetScheduling()
    prompts = float(step_times.prompt(traffic.prompts).sum())
    tokens = float((traffic.outputs - 1).sum())
    decode = 0.0
    if tokens:
        # A request holds its KV cache while it decodes, so the mean size is weighted by output tokens.
        weight = (traffic.outputs - 1) / tokens
        context = float((weight * (traffic.prompts + traffic.outputs / 2)).sum())
        held = float((weight * (traffic.prompts + traffic.outputs)).sum())
        batch = np.arange(1, max(1, int(min(step_times.max_batch, step_times.capacity / held))) + 1)
        decode = tokens * float((step_times.decode(batch, batch * context) / batch).min())
    work = max(prompts / style.workers, decode) if style.prefill == "apart" else prompts + decode
    length = float(traffic.times[-1] - traffic.times[0] + alone(traffic, step_times, style)["end_to_end"].max())
    return max(1, math.floor(work / length)) if length > 0 else 1


def smallest_fleet(
    traffic: OpenLoad,
    step_times: StepTimes,
    slo: LatencySlo,
    how: FleetScheduling | None = None,
    *,
    most: int = 1024,
    skip: float = 0.1,
) -> SmallestFleet:
    """Return the fewest replicas that meet `slo` under `traffic`.

    The search starts at the least number of replicas that can do the work, doubles it until the fleet meets the SLO,
    then bisects; it assumes that a larger fleet is no slower. It never goes below that start, however loose the SLO.
    Give enough requests for the percentile (1,000 or more for the 99th) and for a growing queue to become visible.

    Args:
        traffic: the load of the whole fleet.
        step_times: the step times of one replica.
        slo: the objective.
        how: the scheduling; its number of replicas is ignored.
        most: the largest number of replicas to try.
        skip: share of requests, the first to arrive, that is not counted.

    Raises:
        ConfigError: an empty machine already misses the SLO (the message gives the floor), or `most` replicas do.
    """
    style = how or FleetScheduling()
    _check_floor(traffic, step_times, slo, style, skip)
    runs: dict[int, tuple[dict[Measure, float], ServingResult]] = {}

    def meets(replicas: int) -> bool:
        served = simulate(traffic, step_times, msgspec.structs.replace(style, replicas=replicas))
        found = {measure: _at(served, measure, slo, skip) for measure in slo.bounds}
        runs[replicas] = found, served
        return all(found[measure] <= bound for measure, bound in slo.bounds.items())

    tried: dict[int, bool] = {}
    high = min(
        int(positive(most, "the number of replicas to try", least=1)), least_replicas(traffic, step_times, style)
    )
    low = high - 1
    while not tried.setdefault(high, meets(high)):
        if high >= most:
            raise ConfigError(_too_much(high, slo, runs[high][0]))
        low, high = high, min(most, high * 2)
        runs = {}
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = meets(middle)
        low, high = (low, middle) if tried[middle] else (middle, high)
    found, served = runs[high]
    workers = msgspec.structs.replace(style, replicas=high).prefill_workers
    return SmallestFleet(high, workers, found, served, tried)


def _at(served: ServingResult, measure: Measure, slo: LatencySlo, skip: float) -> float:
    return float(served.percentiles(measure, [slo.percentile], skip=skip)[0])


def _check_floor(traffic: OpenLoad, step_times: StepTimes, slo: LatencySlo, how: FleetScheduling, skip: float) -> None:
    """Raise ConfigError if requests on an empty machine already miss the SLO."""
    single = alone(traffic, step_times, how)
    after = int(skip * len(traffic.times))
    for measure, bound in slo.bounds.items():
        values = single[measure][after:]
        known = values[~np.isnan(values)]
        if not len(known):
            raise ConfigError("no request has a second token, so a bound on the time per output token has no meaning")
        floor = float(np.percentile(known, slo.percentile))
        if floor > bound * (1 + 1e-9):
            nearest = after + int(np.nanargmin(np.abs(values - floor)))
            raise ConfigError(
                f"no fleet meets a {MEASURES[measure]} of {_seconds(bound)} for {slo.percentile:g} % of the requests: "
                f"the floor is {_seconds(floor)} because {_because(measure, traffic, step_times, nearest)}; "
                "ask for more time, shorter requests or a faster machine"
            )


def _because(measure: Measure, traffic: OpenLoad, step_times: StepTimes, request: int) -> str:
    """Return why `request`, the one at the percentile, takes so long on an empty machine."""
    prompt, output = int(traffic.prompts[request]), int(traffic.outputs[request])
    read = f"{_seconds(float(step_times.prompt(prompt)))} to read a prompt of {prompt:,} tokens"
    step = _seconds(float(step_times.decode(1, prompt + 1)))
    if measure == "ttft":
        return f"a request alone on an empty machine takes {read}"
    if measure == "tpot":
        return f"a decode step of one request alone takes {step} at a context of {prompt + 1:,} tokens"
    return f"a request alone on an empty machine takes {read}, then {output - 1:,} steps of {step} or more"


def _too_much(replicas: int, slo: LatencySlo, found: Mapping[Measure, float]) -> str:
    missed = ", ".join(
        f"the {MEASURES[measure]} is {_seconds(found[measure])} instead of {_seconds(bound)}"
        for measure, bound in slo.bounds.items()
        if found[measure] > bound
    )
    return f"{replicas} replicas do not meet the SLO: {missed}; allow more replicas, or reduce the traffic"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
