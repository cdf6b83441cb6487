"""The smallest fleet that meets an SLO under a load, found by simulating fleets."""

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
    """What is promised: at most so many seconds for `percentile` % of the requests; None promises nothing.

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
        """Raise ConfigError for a promise that says nothing or cannot be meant."""
        if not 0 < self.percentile <= 100:
            raise ConfigError(f"the percentile of an SLO must be above 0 and at most 100, not {self.percentile:g}")
        if not self.bounds:
            raise ConfigError("the SLO promises nothing: give ttft, tpot or end_to_end in seconds")
        for measure, bound in self.bounds.items():
            if not bound > 0:
                raise ConfigError(f"the {MEASURES[measure]} of an SLO must be more than 0 seconds, not {bound:g}")

    @property
    def bounds(self) -> dict[Measure, float]:
        """What is promised, seconds by measure."""
        found = {measure: getattr(self, measure) for measure in MEASURES}
        return {measure: bound for measure, bound in found.items() if bound is not None}


class SmallestFleet(NamedTuple):
    """The answer of `smallest`.

    Attributes:
        replicas: how many.
        prefill_workers: workers for prompts besides, when prefill is apart.
        found: seconds of each promised measure at the SLO's percentile.
        served: the run that showed it.
        tried: replicas of each fleet that was simulated, and whether it met the SLO.
    """

    replicas: int
    prefill_workers: int
    found: dict[Measure, float]
    served: ServingResult
    tried: dict[int, bool]


def alone(traffic: OpenLoad, step_times: StepTimes, how: FleetScheduling | None = None) -> dict[Measure, Array]:
    """Return the seconds each request would take on an empty machine, by measure.

    A fleet of any size only comes down to that, as long as a larger batch is not faster than a batch of one.
    """
    prompt = step_times.prompt(traffic.prompts)
    decode = step_times.steps(1, traffic.prompts + 1, traffic.outputs - 1)
    if how is not None and how.prefill == "apart":
        decode = decode + np.where(traffic.outputs > 1, how.handover * traffic.prompts, 0.0)
    each = decode / np.where(traffic.outputs > 1, traffic.outputs - 1, np.nan)
    return {"ttft": prompt, "tpot": each, "end_to_end": prompt + decode}


def least_replicas(traffic: OpenLoad, step_times: StepTimes, how: FleetScheduling | None = None) -> int:
    """Return how many replicas the work alone needs, at the best batch that fits: with fewer, queues only grow.

    Each request costs at least its prompt and, for each further token, the least decode time per request over all
    batches that the KV cache can hold at the mean size. The work must be done between the first arrival and the
    longest that a request alone takes after the last: in a long run that is no allowance, in a short one it is fair.
    """
    style = how or FleetScheduling()
    prompts = float(step_times.prompt(traffic.prompts).sum())
    tokens = float((traffic.outputs - 1).sum())
    decode = 0.0
    if tokens:
        # A request holds what it needs for as long as it decodes, so sizes count by tokens.
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

    The number is doubled from the least that can do the work until the SLO is met, then halved in; this takes a
    larger fleet to be no slower. Fewer than can do the work are no answer, however patient the SLO. The requests
    should be many enough for the percentile (1,000 and more for the 99th) and for a queue that grows to show.

    Args:
        traffic: the load of the whole fleet.
        pace: of one replica.
        slo: what is promised.
        how: the scheduling; its number of replicas is not looked at.
        most: replicas to try at most.
        skip: share of the requests that came first and is not counted.

    Raises:
        ConfigError: an SLO that not even an empty machine meets, with the floor; none met with `most` replicas.
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
    """Raise ConfigError when a request alone on a machine already takes longer than promised."""
    single = alone(traffic, step_times, how)
    after = int(skip * len(traffic.times))
    for measure, bound in slo.bounds.items():
        values = single[measure][after:]
        known = values[~np.isnan(values)]
        if not len(known):
            raise ConfigError("no request has a second token, so that there is no time per output token to promise")
        floor = float(np.percentile(known, slo.percentile))
        if floor > bound * (1 + 1e-9):
            nearest = after + int(np.nanargmin(np.abs(values - floor)))
            raise ConfigError(
                f"no fleet meets a {MEASURES[measure]} of {_seconds(bound)} for {slo.percentile:g} % of the requests: "
                f"the floor is {_seconds(floor)} because {_because(measure, traffic, step_times, nearest)}; "
                "ask for more time, shorter requests or a faster machine"
            )


def _because(measure: Measure, traffic: OpenLoad, step_times: StepTimes, request: int) -> str:
    """Say what takes `request`, the one at the percentile, so long on an empty machine."""
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
    return f"{replicas} replicas do not meet the SLO: {missed}; allow more replicas, or take less traffic"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
