"""Decoding on wafers: a model's layers side by side on one or several wafers, all weights in SRAM.

As on LPUs, a token takes about the same time in each layer. Only customer-visible speeds are published, with few
details of how they were reached, so the spread is wide. `calibration/assembly.py` fits the latency and writes
`data/wafer.json`.
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
from mixtura.hardware.step import Array, TimeEstimate, array

WIDEST = 16.0  # bits: Cerebras gives four wafers for 70 billion weights, which corresponds to 16 bits
_VECTOR = 2.0  # bytes of each element of the residual stream between wafers: 16 bits
_UNMEASURED = math.log(2)  # spread of a wafer without measurements: a factor of two


class WaferCoefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted coefficients.

    Attributes:
        chip: the wafer whose speeds were published.
        layer: seconds of a layer, from speeds not published as speculative decoding.
        speculative: seconds of a layer per output token under speculative decoding; rests on a single speed.
        spread: standard deviation of the logarithm of published over predicted time, for models left out of the fit.
        left_out: mean relative error of tokens per second, each model left out of the fit in turn.
        models: number of fitted models.
        date: month of the newest speed.
        sources: sources of the speeds.
    """

    chip: str
    layer: float
    speculative: float
    spread: float
    left_out: float
    models: int
    date: str
    sources: tuple[str, ...]


@functools.cache
def coefficients() -> WaferCoefficients:
    """Return the fitted coefficients; read once."""
    return msgspec.json.decode((files("mixtura.hardware") / "data" / "wafer.json").read_bytes(), type=WaferCoefficients)


def wafers_needed(
    shape: ModelShape, chip: Chip, batch: ArrayLike = 1, context: ArrayLike = 1024, layout: OnChipLayout | None = None
) -> Array:
    """Return the least number of wafers that hold a model and its users' KV cache.

    Arguments and errors as for `step`. Source: as for LPUs, bytes over bytes; Cerebras gives 4 wafers for a 70B model.
    """
    return _job(shape, chip, batch, context, layout).least_chips


def step(
    shape: ModelShape,
    chip: Chip,
    batch: ArrayLike = 1,
    context: ArrayLike = 1024,
    layout: OnChipLayout | None = None,
    *,
    speculative: bool = False,
    fitted: WaferCoefficients | None = None,
) -> TimeEstimate:
    """Return the time of one token of every user, seconds.

    Args:
        shape: the model.
        chip: a wafer.
        batch: users decoding together, 1 or more; any shape.
        context: tokens of context of each user; broadcasts with `batch`.
        layout: wafers, bits per weight and micro-batches; None: as few wafers as needed.
        speculative: whether the vendor's speculative decoding is on; the time is then that of an output token.
        fitted: coefficients to use in place of the shipped ones.

    Returns:
        The parts "layers" (latency of the layers), "sram" (reading weights and KV cache), "compute", "links" (bytes
        between wafers, 0 on one wafer) and "wait" (for a busy stage). The latency between wafers is not known
        separately and is included in "layers".

    Raises:
        ConfigError: the chip is not a wafer, a size is zero or negative, or the model does not fit the wafers.

    Source: as for LPUs; the latencies are fitted to published speeds (`WaferCoefficients`).
    """
    job = _job(shape, chip, batch, context, layout)
    fitted = fitted or coefficients()
    group = np.maximum(job.users / job.groups, 1.0)
    wafers = job.chips
    crossings = np.where(wafers > 1, wafers, 0.0) * group * shape.hidden * _VECTOR / chip.link
    # The fabric inside a wafer has the bandwidth of the memory, so only traffic between wafers is counted.
    inside = job._replace(chip=msgspec.structs.replace(chip, link=0.0))
    latency = LayerLatency(fitted.speculative if speculative else fitted.layer)
    seconds = parts(stages(inside, latency), inside, crossings)
    del seconds["experts"]
    spread = fitted.spread if chip.name == fitted.chip else math.hypot(fitted.spread, _UNMEASURED)
    return TimeEstimate(seconds, spread)


def throughput(
    shape: ModelShape, chip: Chip, batch: ArrayLike = 1, context: ArrayLike = 1024, layout: OnChipLayout | None = None
) -> Array:
    """Return the tokens per second of all users together: `batch` over the time of a step without speculation.

    Arguments and errors as for `step`. Source: the arithmetic of pipelines.
    """
    return array(array(batch) / step(shape, chip, batch, context, layout).seconds)


def _job(shape: ModelShape, chip: Chip, batch: ArrayLike, context: ArrayLike, layout: OnChipLayout | None) -> DecodeJob:
    if chip.kind != "wafer":
        raise ConfigError(f"{chip.name} is of the kind {chip.kind}, not wafer: use the step model of that kind")
    return DecodeJob.of(chip, (shape, batch, context), layout, WIDEST)
