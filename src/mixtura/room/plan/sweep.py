"""Evaluates many configurations with the step models alone: machines kept at a constant batch, without queueing.

Batches and contexts are vectorised; only the construction of a host, a model on a chip, is not. `simulation.py` covers
mixtures under random load.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip, chip
from mixtura.hardware.gpu import SteadyLoad
from mixtura.hardware.host import ModelHost, host
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape
from mixtura.room.plan.machines import HostedModel, ModelServer
from mixtura.room.plan.work import Array, MixtureWork, Name

_MILLION = 1e6
_BATCHES = tuple(float(2**power) for power in range(11))


class SweepGrid(NamedTuple):
    """The parameters of a sweep over every combination.

    `chips` is the number of GPUs of one copy; on LPUs and wafers it multiplies the least number of chips instead.
    """

    models: Sequence[str | ModelShape]
    on: Sequence[str | Chip]
    chips: Sequence[int] = (1, 2, 4, 8)
    batches: Sequence[float] = (1, 2, 4, 8, 16, 32, 64, 128)
    contexts: Sequence[float] = (512, 2048, 8192, 32768)
    output: float = 400.0

    @property
    def size(self) -> int:
        """The number of configurations."""
        return len(self.models) * len(self.on) * len(self.chips) * len(self.batches) * len(self.contexts)


class SweepResult(NamedTuple):
    """The result of a sweep; all arrays have the shape (models, machines, chips, batches, contexts).

    Values are NaN for configurations that do not fit.

    Attributes:
        token: seconds per output token (TPOT).
        first: seconds to the first token (TTFT).
        spread: standard deviation of the logarithm of real over predicted time per token.
        chips: number of chips of one copy.
        dollars: dollars per million output tokens, the geometric mean of low and high; NaN without a known price.
    """

    token: Array
    first: Array
    spread: Array
    chips: Array
    dollars: Array

    @property
    def fits(self) -> NDArray[np.bool_]:
        """Which configurations fit."""
        return np.isfinite(self.token)


def sweep(grid: SweepGrid) -> SweepResult:
    """Return the times and costs of every combination of `grid`.

    A context is the length of the prompt, which `output` tokens follow.

    Raises:
        ConfigError: a model or chip is unknown, or a size is not above 0.
    """
    shapes = [each if isinstance(each, ModelShape) else shape(each) for each in grid.models]
    machines = [each if isinstance(each, Chip) else chip(each) for each in grid.on]
    for name, sizes in (("chips", grid.chips), ("batches", grid.batches), ("contexts", grid.contexts)):
        if not len(sizes) or min(sizes) <= 0:
            raise ConfigError(f"{name} of a sweep: expected numbers above 0, got {list(sizes)}")
    whole = (len(shapes), len(machines), len(grid.chips), len(grid.batches), len(grid.contexts))
    found = SweepResult(*(np.full(whole, np.nan) for _ in SweepResult._fields))
    for place in np.ndindex(whole[:3]):
        made = _host(shapes[place[0]], machines[place[1]], grid, place[2])
        if made is not None:
            _fill(found, place, made, grid)
    return found


def _host(model: ModelShape, on: Chip, grid: SweepGrid, place: int) -> ModelHost | None:
    """Return a host; None if not even one sequence of the shortest context fits."""
    least = float(min(grid.contexts)) + grid.output
    try:
        if on.kind in ("lpu", "wafer"):
            needed = host(model, on, context=least).chips
            return host(model, on, needed * grid.chips[place], context=least)
        return host(model, on, grid.chips[place], context=least)
    except ConfigError:
        return None


def _fill(found: SweepResult, place: tuple[int, ...], made: ModelHost, grid: SweepGrid) -> None:
    batches = np.asarray(grid.batches, np.float64)
    try:
        price = float(made.hour().middle)
    except ConfigError:
        price = np.nan
    for at, context in enumerate(grid.contexts):
        fits = batches <= made.room(float(context) + grid.output)
        if not fits.any():
            continue
        load = SteadyLoad(batches[fits], float(context), grid.output)
        token = made.token(load)
        found.token[place][fits, at] = token.seconds
        found.first[place][fits, at] = made.first(load).seconds
        found.spread[place][fits, at] = token.spread
        found.chips[place][fits, at] = made.chips
        found.dollars[place][fits, at] = price / 3600 * token.seconds / batches[fits] * _MILLION


class FrontierPoint(NamedTuple):
    """A mixture on machines kept at a batch: mean seconds, dollars per 1,000 mixtures (low, high), the batch."""

    seconds: float
    low: float
    high: float
    batch: float


def frontier(
    work: MixtureWork, fleets: Iterable[Mapping[Name, ModelServer]], batches: Sequence[float] = _BATCHES
) -> list[FrontierPoint]:
    """Return the Pareto-optimal points in seconds and dollars, the fastest first.

    Args:
        work: the mixture; calls have their mean lengths, and a stage ends with its slowest call.
        fleets: servers of its models; fleets with a provider, or without a known price, are left out.
        batches: batches at which all machines are kept, as far as they fit.
    """
    found = [point for fleet in fleets for point in _points(work, fleet, np.asarray(batches, np.float64))]
    best: list[FrontierPoint] = []
    for point in sorted(found):
        if not best or point.high < best[-1].high:
            best.append(point)
    return best


def _points(work: MixtureWork, fleet: Mapping[Name, ModelServer], batches: Array) -> list[FrontierPoint]:
    hosts = {model: machine for model, machine in fleet.items() if isinstance(machine, HostedModel)}
    hours = {model: machine.hour() for model, machine in hosts.items()}
    if len(hosts) < len(fleet) or any(hour is None for hour in hours.values()):
        return []
    room = min(machine.host.room(machine.context) for machine in hosts.values())
    kept = batches[batches <= room]
    if not len(kept):
        return []
    stages = np.zeros((len(work.stages), len(kept)))
    low, high = np.zeros(len(kept)), np.zeros(len(kept))
    for call in work.calls:
        taken = hosts[call.model].steady(SteadyLoad(kept, *work.tokens(call)))
        often = 1 - work.skip_share(call)
        stages[call.stage] = np.maximum(stages[call.stage], often * taken)
        hour = hours[call.model]
        assert hour is not None
        low += often * float(hour.low) / 3600 * taken / kept * 1000
        high += often * float(hour.high) / 3600 * taken / kept * 1000
    seconds = stages.sum(axis=0)
    return [FrontierPoint(*(float(value) for value in values)) for values in zip(seconds, low, high, kept, strict=True)]
