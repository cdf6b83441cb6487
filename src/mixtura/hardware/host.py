"""A model on machines: one interface to the step models of GPUs, LPUs and wafers.

A `ModelHost` is one copy of a model on its chips. It predicts the time of a decode step and of a prompt, the latencies
of users under steady load, and the cost of an hour; `step_times` tabulates it for the serving simulator.
"""

import functools
import tomllib
from importlib.resources import files
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware import lpu, wafer
from mixtura.hardware.chip import Chip, chip
from mixtura.hardware.cost import CostRange, SiteAssumptions, dollars_an_hour
from mixtura.hardware.fitted import PARTS, FittedFactors, factors, first_token, token_step
from mixtura.hardware.gpu import GpuSetup, SteadyLoad, decode_works, memory, prefill_works
from mixtura.hardware.onchip import OnChipLayout
from mixtura.hardware.serving.step_times import StepTimes, sample_step_times, step_times_from_table
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape
from mixtura.hardware.step import Array, TimeEstimate, array

_CONTEXTS = (1.0, 1024.0, 4096.0, 16384.0, 131072.0)  # tokens; decode time is linear between them
_MOST = 1024  # sequences in one decode step; engines allow at least that many by default
_LEAST_ROOM = 1  # sequences of the usual context that a host must hold beside its weights
_HALF_PEAK = 0.5  # share of a wafer's peak reached in prefill; assumed, no measurement exists
_SPARSE = 10.0  # a wafer's published peak, which counts zeros, over the dense peak


class ModelHost(NamedTuple):
    """One copy of a model on the chips it needs.

    `setup` and the fitted factors `by` apply to GPUs (and chips modelled like them), `layout` to LPUs and wafers.
    """

    shape: ModelShape
    chip: Chip
    setup: GpuSetup
    by: FittedFactors | None = None
    layout: OnChipLayout | None = None
    engine: str | None = None

    @property
    def chips(self) -> int:
        """The number of chips of one copy."""
        if self.layout is not None and self.layout.chips is not None:
            return self.layout.chips
        return self.setup.chips

    @property
    def name(self) -> str:
        """The name shown in tables: "8 x h100_sxm, vllm"."""
        return f"{self.chips} x {self.chip.name}{f', {self.engine}' if self.engine else ''}"

    def decode(self, batch: ArrayLike, context: ArrayLike) -> TimeEstimate:
        """Return the time of a decode step without mixed-in prompts: `batch` sequences of `context` tokens each."""
        if self.by is None:
            return self._assembly(batch, context)
        works, by = decode_works(self.shape, self.chip, self.setup, batch, context), self.by.token
        parts = {
            part: array(sum(by[name] * works[name] for name in names))
            for part, names in PARTS.items()
            if part != "prefill"
        }
        return TimeEstimate(parts, self.by.token_spread)

    def prefill(self, tokens: ArrayLike) -> Array:
        """Return the seconds that the machine needs for a prompt of `tokens`."""
        if self.by is not None:
            works = prefill_works(self.shape, self.chip, self.setup, tokens)
            return array(sum(self.by.token[name] * work for name, work in works.items()))
        if self.chip.kind == "wafer":
            peak = self.chips * self.chip.peak["bf16"] / _SPARSE * _HALF_PEAK
            return 2 * self.shape.active * array(tokens) / peak
        rates = _prefill_rates()
        return array(tokens) / rates.models.get(self.shape.name, rates.usual)

    def token(self, load: SteadyLoad) -> TimeEstimate:
        """Return the time per output token (TPOT) under steady load, seconds."""
        if self.by is not None:
            return token_step(self.shape, self.chip, self.setup, load, self.by)
        mixed = array(load.batch) / array(load.output) * self.busy_time(load.prompt)
        step = self._assembly(load.batch, load.context)
        return TimeEstimate({**step.parts, "prefill": mixed}, step.spread)

    def first(self, load: SteadyLoad) -> TimeEstimate:
        """Return the time to the first token (TTFT) under steady load, seconds."""
        if self.by is not None:
            return first_token(self.shape, self.chip, self.setup, load, self.by)
        step = self._assembly(load.batch, load.context)
        return TimeEstimate({"own prompt": self.prefill(load.prompt) + 0 * step.seconds, **step.parts}, step.spread)

    def busy_time(self, tokens: ArrayLike) -> Array:
        """Return the seconds for which a prompt of `tokens` blocks other requests.

        In a pipeline of layers (LPUs, wafers) that is its time in one layer, since the next prompt or token follows
        directly behind.
        """
        return self.prefill(tokens) / (1 if self.by is not None else self.shape.layers)

    def delay(self, tokens: ArrayLike) -> Array:
        """Return the part of the time to first token, in seconds, that blocks no other request; queueing excluded.

        On GPUs this is tokenizing, scheduling and the network; on LPUs and wafers the prompt's time in the other
        layers of the pipeline.
        """
        if self.by is not None:
            return 0.01 * self.by.first["host"] + 0 * array(tokens)
        return self.prefill(tokens) - self.busy_time(tokens)

    def room(self, context: float) -> int:
        """Return how many sequences of `context` tokens one copy holds; 0 if none fits."""
        if self.by is not None:
            return min(_MOST, memory(self.shape, self.chip, self.setup, context).sequences)
        need = lpu.chips_needed if self.chip.kind == "lpu" else wafer.wafers_needed
        users = np.geomspace(1, _MOST, 64).round()
        fits = need(self.shape, self.chip, users, context, self.layout) <= self.chips
        return int(users[fits][-1]) if fits.any() else 0

    def step_times(self, context: float, most: int | None = None) -> StepTimes:
        """Return the host's step times for the serving simulator.

        Args:
            context: tokens of a usual sequence at its end, for which the host reserves KV cache.
            most: the largest batch; None: as many sequences as fit.

        Raises:
            ConfigError: not even one such sequence fits.
        """
        room = self.room(context)
        if room < _LEAST_ROOM:
            raise ConfigError(
                f"{self.name} holds {self.shape.name} but no sequence of {context:,.0f} tokens: give more chips"
            )
        width, capacity = min(room, most or _MOST), float(room) * context
        if self.by is None:
            # A layer's latency far exceeds the time to read its KV cache, so one context represents all.
            base = self.decode(np.arange(1, width + 1), context).seconds
            return step_times_from_table(base, prefill=self.busy_time, capacity=capacity)

        def decode(batch: Array, tokens: Array) -> Array:
            return self.decode(batch, tokens / batch).seconds

        return sample_step_times(decode, prefill=self.busy_time, max_batch=width, contexts=_CONTEXTS, capacity=capacity)

    def hour(self, site: SiteAssumptions | None = None) -> CostRange:
        """Return the dollars per hour of one copy.

        Raises:
            ConfigError: the chip's price or power is not known.
        """
        return dollars_an_hour(self.chip, self.chips, site)

    def _assembly(self, batch: ArrayLike, context: ArrayLike) -> TimeEstimate:
        users = np.maximum(1.0, array(batch))
        step = lpu.step if self.chip.kind == "lpu" else wafer.step
        return step(self.shape, self.chip, users, context, self.layout)


def host(
    model: str | ModelShape,
    on: str | Chip,
    chips: int | None = None,
    *,
    engine: str | None = None,
    setup: GpuSetup | None = None,
    context: float = 8192,
) -> ModelHost:
    """Return one copy of a model on chips of one kind.

    Args:
        model: a name or id of the catalogue of shapes, the path of a `config.json`, or a shape.
        on: a chip or its name.
        chips: number of chips of one copy; None: the least power of two of GPUs that holds the weights and eight
            sequences of `context` tokens, or as many LPUs or wafers as hold 64 such sequences.
        engine: the inference engine on GPUs; None: the one with the nearest measurements (see `fitted.factors`).
        setup: precision and attention ranks on GPUs; `chips` overrides its number of chips.
        context: tokens of a usual sequence.

    Raises:
        ConfigError: a name is unknown, or the model does not fit.
    """
    found = model if isinstance(model, ModelShape) else shape(model)
    machine = on if isinstance(on, Chip) else chip(on)
    if chips is not None and chips < 1:
        raise ConfigError(f"{chips} chips cannot hold a model: give 1 or more")
    if machine.kind in ("lpu", "wafer"):
        return _on_chip(found, machine, chips, context)
    setup = setup or GpuSetup()
    if chips is None:
        chips = _least(found, machine, setup, context)
    setup = msgspec.structs.replace(setup, chips=chips)
    memory(found, machine, setup, context)
    by = factors(machine, found, setup, engine=engine)
    return ModelHost(found, machine, setup, by, engine=by.engine)


def _on_chip(found: ModelShape, machine: Chip, chips: int | None, context: float) -> ModelHost:
    need = lpu.chips_needed if machine.kind == "lpu" else wafer.wafers_needed
    if chips is None:
        chips = int(need(found, machine, 64, context))
    elif chips < (least := int(need(found, machine, 1, context))):
        raise ConfigError(f"{found.name} does not fit {chips} x {machine.name}: give at least {least}")
    return ModelHost(found, machine, GpuSetup(chips=chips), layout=OnChipLayout(chips=chips))


def _least(found: ModelShape, machine: Chip, setup: GpuSetup, context: float) -> int:
    """Return the least power of two of GPUs that holds the weights and eight sequences of `context` tokens."""
    for chips in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        tried = msgspec.structs.replace(setup, chips=chips)
        try:
            if memory(found, machine, tried, context).sequences >= 8:
                return chips
        except ConfigError:
            continue
    raise ConfigError(f"{found.name} with {context:,.0f} tokens of context does not fit 1,024 x {machine.name}")


class _PrefillRates(msgspec.Struct, forbid_unknown_fields=True):
    source: str
    date: str
    usual: float
    models: dict[str, float]


@functools.cache
def _prefill_rates() -> _PrefillRates:
    text = (files("mixtura.hardware") / "data" / "prefill.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), _PrefillRates)
