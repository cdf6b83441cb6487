"""Measured serving points used by several studies, each with the step model's prediction for the same machine."""

import functools
import tomllib
from collections.abc import Mapping
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.hardware.gpu import GpuSetup, SteadyLoad, decode_works
from mixtura.hardware.host import ModelHost, host
from mixtura.hardware.step import NINETIETH, Array, TimeEstimate, array

FITTED: Mapping[str, str] = {
    "setup": "fitted to this setup",
    "build": "fitted to this build",
    "engine": "fitted to this model and engine",
    "new model": "this model was left out of the fit",
    "new chip": "this chip was left out of the fit",
}
"""Descriptions of the nearest measurements that a prediction's factors were fitted on; see `hardware.fitted.Level`."""


class MeasuredSweep(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """One model on one machine, measured at rising concurrency. `times` are milliseconds by requests in flight.

    `gain` is the measured growth of tokens per second per GPU from 4 to 64 requests; None if it was not recorded.
    """

    name: str
    model: str
    chip: str
    chips: int
    engine: str
    times: dict[int, float]
    precision: str | None = None
    expert_precision: str | None = None
    gain: float | None = None

    @functools.cached_property
    def host(self) -> ModelHost:
        """The machine that was measured."""
        setup = GpuSetup(chips=self.chips, precision=self.precision, expert_precision=self.expert_precision)
        return host(self.model, self.chip, self.chips, engine=self.engine, setup=setup)

    @property
    def dense(self) -> bool:
        """Whether the model has no experts."""
        return not self.host.shape.experts

    @property
    def level(self) -> str:
        """A description of the nearest measurements that the prediction was fitted on."""
        assert self.host.by is not None, "a sweep is of GPUs"
        return FITTED[self.host.by.level]

    @property
    def batches(self) -> Array:
        """The measured numbers of requests in flight, ascending."""
        return array(sorted(self.times))

    @property
    def measured(self) -> Array:
        """The measured seconds per token, in the order of `batches`."""
        return array([self.times[batch] for batch in sorted(self.times)]) / 1e3

    @property
    def measured_gain(self) -> float:
        """Tokens per second with 64 requests over those with 4: as measured, else from the times per token."""
        return self.gain or 64 / 4 * self.times[4] / self.times[64]

    def load(self, batch: ArrayLike) -> SteadyLoad:
        """Return the measured load with another number of requests in flight."""
        return SteadyLoad(batch, data().prompt, data().output)

    def predict(self, batch: ArrayLike) -> TimeEstimate:
        """Return the predicted time per output token, seconds."""
        return self.host.token(self.load(array(batch)))

    def reading(self, batch: ArrayLike) -> Array:
        """Return the seconds to read weights, activated experts and KV cache once at the data sheet's bandwidth."""
        load = self.load(array(batch))
        works = decode_works(self.host.shape, self.host.chip, self.host.setup, load.batch, load.context)
        return array(sum(works[part] for part in ("weights", "experts", "kv")))

    def predicted_gain(self) -> tuple[float, float, float]:
        """Return the predicted gain from 4 to 64 requests: middle, low, high.

        The range assumes independent errors of both times; errors on one machine are correlated in reality.
        """
        step = self.predict([4, 64])
        gain = 16 * float(step.seconds[0] / step.seconds[1])
        aside = float(np.exp(NINETIETH * np.sqrt(2) * step.spread))
        return gain, gain / aside, gain * aside


class MeasuredFrontier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both ends of a measured frontier: milliseconds per token, and tokens per second per GPU."""

    name: str
    token: tuple[float, float]
    rate: tuple[float, float]


class MeasuredNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Measured tokens per second of DeepSeek-V3 on a node of 8 H100, one of 12 nodes."""

    rate: float
    source: str


class SweepData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `sweeps.toml`: every sweep has prompts of `prompt` and answers of `output` tokens."""

    source: str
    date: str
    prompt: int
    output: int
    node: MeasuredNode
    sweeps: tuple[MeasuredSweep, ...]
    frontiers: tuple[MeasuredFrontier, ...]


@functools.cache
def data() -> SweepData:
    """Return the measurements; the file is read once."""
    text = (files("mixtura.room") / "data" / "sweeps.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), SweepData, strict=False)


def sweep(model: str, chip: str, chips: int) -> MeasuredSweep:
    """Return the sweep of a model on a machine, which must exist."""
    return next(each for each in data().sweeps if (each.model, each.chip, each.chips) == (model, chip, chips))


def source() -> str:
    """Return the source of the measured points, as text for a study."""
    return f"{data().source}; prompts and answers of {data().prompt:,} tokens"
