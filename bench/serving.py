"""The serving simulator: how long a million requests take, and how far it is from closed forms.

    python -m bench.serving            # everything, about two minutes
    python -m bench.serving --fast     # speed alone

Printed as Markdown. Figures beside closed forms are in virtual time: the same on every machine. Gaps and lengths
of these are stratified (one value out of each of n equally likely slices, in random order), and the second half of a
run is the mirror of the first (long where that was short). This takes noise out of a mean and leaves the distribution
as it is. Sharing is also corrected for the luck of its arrivals by a control variate.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtura.hardware.serving import closed
from mixtura.hardware.serving.arrivals import ClosedLoad, LognormalLength, PoissonArrivals, draw_open_load, open_load
from mixtura.hardware.serving.fleet import LatencySlo, smallest_fleet
from mixtura.hardware.serving.replica import Prefilling
from mixtura.hardware.serving.results import ServingResult
from mixtura.hardware.serving.simulator import FleetScheduling, simulate
from mixtura.hardware.serving.step_times import StepTimes, step_times_from_table

Array = NDArray[np.float64]

BOUND = 0.01  # how far the simulator may be from a closed form
MINUTE = 60.0
_TICK = 1e-6  # seconds of service per token: fine enough that whole tokens do not show
_MANY = 2_000_000


class Check(NamedTuple):
    """One mean of one queue: as simulated, as known, and whether Little's law holds in that run."""

    what: str
    found: float
    known: float
    little: float

    @property
    def error(self) -> float:
        """How far the simulation is off, relative."""
        return self.found / self.known - 1


def main() -> int:
    """Measure and print; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="speed alone")
    parser.add_argument("--count", type=int, default=1_000_000, help="requests of the speed rows")
    given = parser.parse_args()
    rows, slow = speed(given.count)
    print(_markdown(rows), end="\n\n")
    if given.fast:
        return int(slow)
    checks = [check for make in (single_servers, shared, several, users) for check in make()]
    shown: list[Sequence[str]] = [("queue", "simulated", "closed form", "error", "Little's law off by", "")]
    for check in checks:
        verdict = "holds" if abs(check.error) <= BOUND else "MISSED"
        figures = f"{check.found:.5g}", f"{check.known:.5g}", f"{check.error:+.2%}", f"{check.little:.0e}"
        shown.append((check.what, *figures, verdict))
    print(_markdown(shown))
    return int(slow or any(abs(check.error) > BOUND for check in checks))


def speed(count: int) -> tuple[list[Sequence[str]], bool]:
    """Time `count` requests of chat on one replica and on eight; also say whether any took a minute."""
    step_times = chat()
    rows: list[Sequence[str]] = [
        (f"{count:,} requests", "replicas", "seconds here", "mean batch", "TTFT p50, p99", "TPOT p50, p99", "")
    ]
    slow = False
    kinds: tuple[Prefilling, ...] = ("mixed", "first", "apart")
    for kind in kinds:
        for replicas in (1, 8):
            load = draw_open_load(
                PoissonArrivals(6 * replicas), LognormalLength(1000, 1), LognormalLength(250, 0.8), count=count, seed=1
            )
            begun = time.perf_counter()
            served = simulate(load, step_times, FleetScheduling(prefill=kind, replicas=replicas))
            took = time.perf_counter() - begun
            slow |= took > MINUTE
            figures = [
                ", ".join(f"{1e3 * value:.0f} ms" for value in served.percentiles(measure, (50, 99)))
                for measure in ("ttft", "tpot")
            ]
            verdict = "MISSED" if took > MINUTE else "holds"
            rows.append((kind, str(replicas), f"{took:.1f}", f"{served.mean_batch:.1f}", *figures, verdict))
    load = draw_open_load(
        PoissonArrivals(60), LognormalLength(1000, 1), LognormalLength(250, 0.8), count=20_000, seed=1
    )
    begun = time.perf_counter()
    fleet = smallest_fleet(load, step_times, LatencySlo(percentile=99, ttft=0.5, tpot=0.05))
    took = time.perf_counter() - begun
    rows.append((f"smallest fleet, 20,000 requests, {len(fleet.tried)} tried", str(fleet.replicas), f"{took:.1f}"))
    return rows, slow


def chat() -> StepTimes:
    """Return the step times of an invented machine: 10 ms and 0.2 ms per request, KV cache of 200,000 tokens."""
    batch = np.arange(1, 65)
    return step_times_from_table(0.01 + 0.0002 * batch, 1e-7 * batch, prefill=2e-5, capacity=200_000)


def single_servers(count: int = _MANY) -> list[Check]:
    """Hold one server with a queue against M/M/1, M/D/1, M/G/1 and G/M/1."""
    checks = []
    for load in (0.5, 0.7, 0.8):
        for name, variation, units in (
            ("M/M/1", 1.0, exponential(count, 2)),
            ("M/D/1", 0.0, np.ones(count)),
            ("M/G/1 (one of ten 5.5 times as long)", 1.5, two_kinds(count, 3)),
        ):
            served = one_server(exponential(count, 1) / load, units)
            known = closed.mg1(load, 1.0, variation)
            checks.append(_check(f"{name}, load {load}: waiting", served.queueing, known.waiting, served))
            checks.append(_check(f"{name}, load {load}: time", served.end_to_end, known.time, served))
    served = one_server(np.full(count, 1 / 0.7), exponential(count, 2))
    known = closed.gm1(0.7, 0.0, 1.0)
    return [*checks, _check("D/M/1, load 0.7: waiting", served.queueing, known.waiting, served)]


def shared(count: int = _MANY // 4, loads: Sequence[float] = (0.5, 0.7)) -> list[Check]:
    """Hold decode steps that take time proportional to their batch against processor sharing."""
    checks = []
    for load in loads:
        for name, variation, units in (
            ("all alike", 0.0, np.ones(count)),
            ("exponential", 1.0, exponential(count, 2)),
            ("one of ten 5.5 times as long", 1.5, two_kinds(count, 3)),
        ):
            gaps = exponential(count, 1) / load
            served = sharing(gaps, units)
            off = in_order(gaps, units) - closed.mg1(load, 1.0, variation).waiting
            known = closed.mg1_ps(load, 1.0).time
            values = controlled(served.end_to_end, off)
            checks.append(_check(f"M/G/1-PS, {name}, load {load}: time", values, known, served))
    return checks


def in_order(gaps: Array, seconds: Array) -> Array:
    """Return what each request would wait if one server took them in order of arrival.

    Source: Lindley, "The theory of queues with a single server", 1952.
    """
    sums = np.concatenate([[0.0], np.cumsum(seconds[:-1] - gaps[1:])])
    waits: Array = sums - np.minimum.accumulate(np.minimum(sums, 0.0))
    return waits


def controlled(values: Array, off: Array, groups: int = 100) -> Array:
    """Return `values` without what `off`, whose mean is known to be 0, explains of them: a control variate.

    Work that waits is the same whoever is served first, so a run with more of it than known had bad luck with its
    arrivals. How much that explains is found by least squares over the means of `groups` stretches of the run.
    """
    means = [np.array([part.mean() for part in np.array_split(kind, groups)]) for kind in (values, off)]
    slope = np.cov(means[0], means[1])[0, 1] / np.var(means[1], ddof=1)
    left: Array = values - slope * off
    return left


def several(count: int = _MANY // 2) -> list[Check]:
    """Hold workers that read prompts out of one queue against M/M/c."""
    checks = []
    for servers in (2, 4):
        load = open_load(np.cumsum(exponential(count, 1) / (0.7 * servers)), _tokens(exponential(count, 2)), 1)
        how = FleetScheduling(prefill="apart", workers=servers)
        served = simulate(load, step_times_from_table([1.0], prefill=_TICK), how)
        known = closed.mmc(0.7 * servers, 1.0, servers).time
        checks.append(_check(f"M/M/{servers}, load 0.7: time", served.end_to_end, known, served))
    return checks


def users(count: int = _MANY // 4) -> list[Check]:
    """Hold a closed load against the machine repairman."""
    checks = []
    one = np.ones(count, np.int64)
    for number in (2, 8):
        answers = 1 + np.rint(1 / _TICK * exponential(count, 2)).astype(np.int64)
        load = ClosedLoad(number, 5 * exponential(count, 1), one, answers)
        served = simulate(load, step_times_from_table([_TICK]), FleetScheduling(prefill="first"))
        known = closed.users(number, 5.0, 1.0).time
        checks.append(_check(f"{number} users, thinking 5 services: time", served.end_to_end, known, served))
    return checks


def one_server(gaps: Array, seconds: Array) -> ServingResult:
    """Serve one prompt after the other, in order of arrival; each takes `seconds` and wants one token."""
    load = open_load(np.cumsum(gaps), _tokens(seconds), 1)
    return simulate(load, step_times_from_table([1.0], prefill=_TICK), FleetScheduling(prefill="first"))


def sharing(gaps: Array, seconds: Array, *, fine: int = 2000) -> ServingResult:
    """Decode all together, a step takes time proportional to its batch; a request alone takes `seconds`."""
    load = open_load(np.cumsum(gaps), 1, np.maximum(1, np.rint(seconds * fine)).astype(np.int64) + 1)
    return simulate(load, step_times_from_table(np.arange(1, 513) / fine), FleetScheduling(prefill="first"))


def exponential(count: int, seed: int) -> Array:
    """Return stratified exponential values of mean 1, the second half the mirror of the first."""
    return _shuffled(-np.log1p(-(np.arange(count // 2) + 0.5) / (count // 2)), seed)


def two_kinds(count: int, seed: int) -> Array:
    """Return 0.5 in nine of ten cases and 5.5 in one: mean 1, variation 1.5; mirrored like `exponential`."""
    return _shuffled(np.where(np.arange(count // 2) * 10 < count // 2 * 9, 0.5, 5.5), seed)


def _shuffled(rising: Array, seed: int) -> Array:
    order = np.random.default_rng(seed).permutation(len(rising))
    return np.concatenate([rising[order], rising[::-1][order]])


def _tokens(seconds: Array) -> NDArray[np.int64]:
    return np.maximum(1, np.rint(seconds / _TICK)).astype(np.int64)


def _check(what: str, values: Array, known: float, served: ServingResult) -> Check:
    off = served.mean_number / (served.throughput * float(served.end_to_end.mean())) - 1
    return Check(what, float(values.mean()), known, abs(off))


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    width = len(rows[0])
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * width, *lines[1:]])


if __name__ == "__main__":
    sys.exit(main())
