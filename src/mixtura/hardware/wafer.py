"""Decoding on wafers: a model's layers side by side on one or several wafers, all weights in SRAM.

As on LPUs a token takes about the same time for each layer. What is published are speeds that customers see, with
little said of how they came about, so the spread is wide. The latency is fitted by `calibration/assembly.py`, which
writes `data/wafer.json`.
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

WIDEST = 16.0  # bits: 70 billion weights are said to take four wafers, which is what 16 bits take
_VECTOR = 2.0  # bytes of each element of the residual stream between wafers: 16 bits
_UNMEASURED = math.log(2)  # spread of a wafer of which nothing is measured: a factor of two


class WaferCoefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the fit found.

    Attributes:
        chip: the wafer that the published speeds are of.
        layer: seconds of a layer, where nobody says that decoding was speculative.
        speculative: seconds of a layer for each token that came out, where somebody says so: one speed alone.
        spread: standard deviation of the logarithm of published over predicted time, of models left out of the fit.
        left_out: mean relative error of tokens a second, each model left out of the fit in turn.
        models: how many were fitted.
        date: month of the newest speed.
        sources: where the speeds are from.
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
    """Return the least number of wafers that hold a model and the KV cache of its users.

    Arguments and errors as for `step`. Source: as for LPUs, bytes over bytes; Cerebras gives 4 wafers for a 70B.
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
        line: wafers, bits a weight and micro-batches; None: as few wafers as needed.
        speculative: whether the vendor's speculative decoding is on; the time is that of a token that came out.
        fitted: other coefficients than the kept ones.

    Returns:
        The parts "layers" (latency of the layers), "sram" (reading weights and KV cache), "compute", "links" (bytes
        between wafers, none for one wafer) and "wait" (for a stage that is busy). Latency between wafers is not known
        apart and is a part of the layers'.

    Raises:
        ConfigError: the chip is no wafer, a size is zero or negative, or the model does not fit the wafers.

    Source: as for LPUs; the latencies are fitted to published speeds (`Coefficients`).
    """
    job = _job(shape, chip, batch, context, layout)
    fitted = fitted or coefficients()
    group = np.maximum(job.users / job.groups, 1.0)
    wafers = job.chips
    crossings = np.where(wafers > 1, wafers, 0.0) * group * shape.hidden * _VECTOR / chip.link
    # Inside a wafer the fabric is as wide as the memory: only what leaves one is counted.
    inside = job._replace(chip=msgspec.structs.replace(chip, link=0.0))
    latency = LayerLatency(fitted.speculative if speculative else fitted.layer)
    seconds = parts(stages(inside, latency), inside, crossings)
    del seconds["experts"]
    spread = fitted.spread if chip.name == fitted.chip else math.hypot(fitted.spread, _UNMEASURED)
    return TimeEstimate(seconds, spread)


def throughput(
    shape: ModelShape, chip: Chip, batch: ArrayLike = 1, context: ArrayLike = 1024, layout: OnChipLayout | None = None
) -> Array:
    """Return the tokens a second of all users together: `batch` over the time of a step, not speculative.

    Arguments and errors as for `step`. Source: the arithmetic of pipelines.
    """
    return array(array(batch) / step(shape, chip, batch, context, layout).seconds)


def _job(shape: ModelShape, chip: Chip, batch: ArrayLike, context: ArrayLike, layout: OnChipLayout | None) -> DecodeJob:
    if chip.kind != "wafer":
        raise ConfigError(f"{chip.name} is of the kind {chip.kind}, not wafer: take its own step model")
    return DecodeJob.of(chip, (shape, batch, context), layout, WIDEST)
