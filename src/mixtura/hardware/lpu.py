"""Decoding on LPUs: an assembly line of chips that hold all weights in SRAM.

What a token takes is mostly latency: about the same for each layer, whatever the layer holds. Reading SRAM, arithmetic
and links are counted on top, and are small until many users share a micro-batch. The latency is fitted to recorded
speeds by `calibration/assembly.py`, which writes `data/lpu.json`.
"""

import functools
import math
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip
from mixtura.hardware.onchip import DecodeJob, LayerLatency, OnChipLayout, parts, stages
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.step import NINETIETH, Array, TimeEstimate, array

WIDEST = 8.0  # bits: 70 billion weights in 16 would not fit the 576 chips that served Llama-2-70B
_HOPS = 2  # of a layer: after attention and after the feed-forward block
_UNMEASURED = math.log(2)  # spread of a chip of which nothing is measured: a factor of two


class LpuCoefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the fit found: seconds of a layer, seconds that experts add to it, and how far measured speeds lie off.

    Attributes:
        chip: the chip that the measured speeds are of.
        layer: seconds of any layer.
        experts: seconds that a layer with experts takes on top.
        spread: standard deviation of the logarithm of measured over predicted time, of models left out of the fit.
        left_out: mean relative error of tokens a second, each model left out of the fit in turn.
        models: how many were fitted.
        date: month of the newest speed.
        sources: where the speeds are from.
    """

    chip: str
    layer: float
    experts: float
    spread: float
    left_out: float
    models: int
    date: str
    sources: tuple[str, ...]


@functools.cache
def coefficients() -> LpuCoefficients:
    """Return the fitted coefficients; read once."""
    return msgspec.json.decode((files("mixtura.hardware") / "data" / "lpu.json").read_bytes(), type=LpuCoefficients)


def hop(chip: Chip, memory: float) -> float:
    """Return the published latency, seconds, between chips that hold `memory` bytes together.

    Between two published points it is taken on the straight line; outside of them the nearest point holds.
    Source: the chip's row.

    Raises:
        ConfigError: nothing is published of this chip.
    """
    if not chip.reach:
        raise ConfigError(f"{chip.name} has no latency between chips in its row: give its reach")
    return float(np.interp(memory, *np.transpose(chip.reach)))


def chips_needed(
    shape: ModelShape, chip: Chip, batch: ArrayLike = 1, context: ArrayLike = 1024, layout: OnChipLayout | None = None
) -> Array:
    """Return the least number of chips that hold a model and the KV cache of its users.

    `ceil((weights * bits / 8 + KV) / (SRAM * fill))`; arguments and errors as for `step`.

    Source: bytes to store over bytes of SRAM.
    """
    return _job(shape, chip, batch, context, layout).least_chips


def step(
    shape: ModelShape,
    chip: Chip,
    batch: ArrayLike = 1,
    context: ArrayLike = 1024,
    layout: OnChipLayout | None = None,
    *,
    fitted: LpuCoefficients | None = None,
) -> TimeEstimate:
    """Return the time of one token of every user, seconds.

    Args:
        shape: the model.
        chip: an LPU.
        batch: users decoding together, 1 or more, in as many micro-batches as the line says; any shape.
        context: tokens of context of each user; broadcasts with `batch`.
        line: chips, bits a weight and micro-batches; None: as few chips as needed.
        fitted: other coefficients than the kept ones.

    Returns:
        The parts "layers" (latency of the layers), "experts" (what experts add to it), "sram" (reading weights and KV
        cache), "compute", "links" (bytes between chips) and "wait" (for a stage that is busy).

    Raises:
        ConfigError: the chip is no LPU, a size is zero or negative, or the model does not fit the chips.

    The latency is taken to be the same for any number of users in a micro-batch: what the recorded endpoints ran with
    is not known. So throughput of large micro-batches is what the chips allow, not what anybody has measured.

    Source: the arithmetic of pipelines; the latencies are fitted to recorded speeds (`Coefficients`). A chip that
    nobody has measured but whose latency between chips is published lies between two bounds: the two hops of each
    layer alone, and the measured chip's layer. The answer is their geometric mean and the spread reaches both.
    """
    job = _job(shape, chip, batch, context, layout)
    fitted = fitted or coefficients()
    scale, spread = _latency_scale(job, fitted)
    latency = LayerLatency(fitted.layer * scale, fitted.experts * scale)
    return TimeEstimate(parts(stages(job, latency), job, array(0.0)), spread)


def throughput(
    shape: ModelShape, chip: Chip, batch: ArrayLike = 1, context: ArrayLike = 1024, layout: OnChipLayout | None = None
) -> Array:
    """Return the tokens a second of all users together: `batch` over the time of a step.

    With a micro-batch in every layer that is the users of one over the time of the slowest layer, and it grows with
    the micro-batch until memory, arithmetic or links outweigh the latency. Arguments and errors as for `step`.

    Source: the arithmetic of pipelines, micro-batches in flight over the time they take to come round.
    """
    taken = step(shape, chip, batch, context, layout)
    return array(batch) / taken.seconds


def _job(shape: ModelShape, chip: Chip, batch: ArrayLike, context: ArrayLike, layout: OnChipLayout | None) -> DecodeJob:
    if chip.kind != "lpu":
        raise ConfigError(f"{chip.name} is of the kind {chip.kind}, not lpu: take its own step model")
    return DecodeJob.of(chip, (shape, batch, context), layout, WIDEST)


def _latency_scale(job: DecodeJob, fitted: LpuCoefficients) -> tuple[float, float]:
    """Return what the measured latencies are multiplied with for the job's chip, and the spread of the result."""
    if job.chip.name == fitted.chip:
        return 1.0, fitted.spread
    if not job.chip.reach:
        return 1.0, math.hypot(fitted.spread, _UNMEASURED)
    layer = float(np.max(job.chips)) * job.chip.memory / job.shape.layers
    half = math.log(fitted.layer / (_HOPS * hop(job.chip, layer))) / 2
    return math.exp(-half), math.hypot(fitted.spread, half / NINETIETH)
