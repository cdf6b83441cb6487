"""Decoding on LPUs: a pipeline of chips that hold all weights in SRAM.

A token's time is mostly latency, about equal for every layer whatever its size. The time of SRAM reads, arithmetic and
links is added, and is small until many users share a micro-batch. `calibration/assembly.py` fits the latency to
recorded speeds and writes `data/lpu.json`.
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

WIDEST = 8.0  # bits: 70 billion weights in 16 bits would not fit the 576 chips that served Llama-2-70B
_HOPS = 2  # per layer: after attention and after the feed-forward block
_UNMEASURED = math.log(2)  # spread of a chip without measurements: a factor of two


class LpuCoefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted coefficients: seconds of a layer, seconds that experts add to it, and the errors of the fit.

    Attributes:
        chip: the chip whose speeds were measured.
        layer: seconds of any layer.
        experts: additional seconds of a layer with experts.
        spread: standard deviation of the logarithm of measured over predicted time, for models left out of the fit.
        left_out: mean relative error of tokens per second, each model left out of the fit in turn.
        models: number of fitted models.
        date: month of the newest speed.
        sources: sources of the speeds.
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
    """Return the published latency, seconds, between chips that together hold `memory` bytes.

    Interpolates linearly between published points and is constant beyond them. Source: the chip's row.

    Raises:
        ConfigError: no latency of this chip is published.
    """
    if not chip.reach:
        raise ConfigError(f"{chip.name} has no latency between chips: add reach to its row")
    return float(np.interp(memory, *np.transpose(chip.reach)))


def chips_needed(
    shape: ModelShape, chip: Chip, batch: ArrayLike = 1, context: ArrayLike = 1024, layout: OnChipLayout | None = None
) -> Array:
    """Return the least number of chips that hold a model and its users' KV cache.

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
        batch: users decoding together, 1 or more, in the micro-batches of the layout; any shape.
        context: tokens of context of each user; broadcasts with `batch`.
        layout: chips, bits per weight and micro-batches; None: as few chips as needed.
        fitted: coefficients to use in place of the shipped ones.

    Returns:
        The parts "layers" (latency of the layers), "experts" (latency that experts add), "sram" (reading weights and
        KV cache), "compute", "links" (bytes between chips) and "wait" (for a busy stage).

    Raises:
        ConfigError: the chip is not an LPU, a size is zero or negative, or the model does not fit the chips.

    The model assumes the same latency for any number of users in a micro-batch, because the batches of the recorded
    endpoints are not known. The throughput of large micro-batches is therefore what the chips allow; no measurement
    confirms it.

    Source: the arithmetic of pipelines; the latencies are fitted to recorded speeds (`LpuCoefficients`). The time of
    a chip without measurements, but with a published latency between chips, lies between two bounds: the two hops of
    each layer alone, and the layer of the measured chip. The result is their geometric mean; its spread covers both.
    """
    job = _job(shape, chip, batch, context, layout)
    fitted = fitted or coefficients()
    scale, spread = _latency_scale(job, fitted)
    latency = LayerLatency(fitted.layer * scale, fitted.experts * scale)
    return TimeEstimate(parts(stages(job, latency), job, array(0.0)), spread)


def throughput(
    shape: ModelShape, chip: Chip, batch: ArrayLike = 1, context: ArrayLike = 1024, layout: OnChipLayout | None = None
) -> Array:
    """Return the tokens per second of all users together: `batch` over the time of a step.

    With a micro-batch in every layer this equals the users of one micro-batch over the time of the slowest layer. It
    grows with the micro-batch until memory, arithmetic or links exceed the latency. Arguments and errors as for
    `step`.

    Source: the arithmetic of pipelines: micro-batches in flight over the time of one round.
    """
    taken = step(shape, chip, batch, context, layout)
    return array(batch) / taken.seconds


def _job(shape: ModelShape, chip: Chip, batch: ArrayLike, context: ArrayLike, layout: OnChipLayout | None) -> DecodeJob:
    if chip.kind != "lpu":
        raise ConfigError(f"{chip.name} is of the kind {chip.kind}, not lpu: use the step model of that kind")
    return DecodeJob.of(chip, (shape, batch, context), layout, WIDEST)


def _latency_scale(job: DecodeJob, fitted: LpuCoefficients) -> tuple[float, float]:
    """Return the factor on the measured latencies for the job's chip, and the spread of the result."""
    if job.chip.name == fitted.chip:
        return 1.0, fitted.spread
    if not job.chip.reach:
        return 1.0, math.hypot(fitted.spread, _UNMEASURED)
    layer = float(np.max(job.chips)) * job.chip.memory / job.shape.layers
    half = math.log(fitted.layer / (_HOPS * hop(job.chip, layer))) / 2
    return math.exp(-half), math.hypot(fitted.spread, half / NINETIETH)
