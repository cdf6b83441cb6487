"""The common part of the step models of LPUs and wafers: all weights stay in on-chip memory.

A token passes the layers one after another. A layer owns chips (or a part of a wafer) in proportion to the bytes it
stores and uses all of them at once; every expert is spread over all chips of its layer. The machine is therefore a
pipeline: while one micro-batch of users is in a layer, other micro-batches are in other layers. The step models add the
latency of a layer, which is fitted to measurements.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip
from mixtura.hardware.precision import bits
from mixtura.hardware.routing import distinct
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.step import Array, array

_VECTOR = 2.0  # bytes of each element of the residual stream on a link: 16 bits
_MANY = 0.1  # share of the layers from which a kind of layer can limit the pipeline
_EXCHANGES = 2  # of a layer's result among its chips: after attention and after the feed-forward block


class OnChipLayout(msgspec.Struct, frozen=True, kw_only=True):
    """The layout of a model over chips with on-chip memory.

    Attributes:
        chips: total chips (or wafers); None: as few as hold the weights and the KV cache.
        bits: bits per stored weight, scales included; None: as released, but at most the machine's widest format.
        kv: format of the KV cache.
        fill: usable share of the memory. 1 gives the least number of chips; programs and activations need some memory.
        groups: micro-batches in flight; None: one per layer, or one per user if there are fewer users.

    Raises:
        ConfigError: a size is zero or negative, or `fill` exceeds 1.
    """

    chips: int | None = None
    bits: float | None = None
    kv: str = "bf16"
    fill: float = 1.0
    groups: int | None = None

    def __post_init__(self) -> None:
        for name in ("chips", "bits", "fill", "groups"):
            given = getattr(self, name)
            if given is not None and not given > 0:
                raise ConfigError(f"{name} of {given:g}: expected more than 0")
        if self.fill > 1:
            raise ConfigError(f"fill of {self.fill:g}: at most the whole memory (1) is usable")
        bits(self.kv)


class StoredBits(NamedTuple):
    """Bits per stored weight: of routed experts, and of all other weights."""

    routed: float
    others: float

    @classmethod
    def of(cls, shape: ModelShape, layout: OnChipLayout, widest: float) -> "StoredBits":
        """Return the bits that `layout` sets, else those of the released weights but at most `widest`."""
        if layout.bits is not None:
            return cls(layout.bits, layout.bits)
        routed = bits(shape.expert_precision or shape.precision)
        return cls(min(routed, widest), min(bits(shape.precision), widest))

    def weights(self, shape: ModelShape) -> float:
        """Return the bytes of all weights."""
        return ((shape.weights - shape.routed_weights) * self.others + shape.routed_weights * self.routed) / 8


class LayerLatency(NamedTuple):
    """Seconds of a layer beyond memory, arithmetic and links, and additional seconds of a layer with experts."""

    layer: float
    experts: float = 0.0


class PipelineStage(NamedTuple):
    """The time of a micro-batch in one stage of a kind, in seconds by cause; the pipeline has `times` such stages."""

    times: int
    layers: Array
    experts: Array
    sram: Array
    compute: Array
    links: Array

    @property
    def seconds(self) -> Array:
        """The total time of one stage."""
        return self.layers + self.experts + self.sram + self.compute + self.links


class DecodeJob(NamedTuple):
    """The inputs of a decode step; `users` and `context` have been broadcast against each other."""

    shape: ModelShape
    chip: Chip
    users: Array
    context: Array
    layout: OnChipLayout
    stored: StoredBits

    @classmethod
    def of(
        cls, chip: Chip, wanted: tuple[ModelShape, ArrayLike, ArrayLike], layout: OnChipLayout | None, widest: float
    ) -> "DecodeJob":
        """Check the sizes and return the job.

        Raises:
            ConfigError: a batch or context that is not above 0.
        """
        shape, batch, context = wanted
        layout = layout or OnChipLayout()
        users, tokens = np.broadcast_arrays(array(batch), array(context))
        for name, given in (("batch", users), ("context", tokens)):
            if not np.all((given > 0) & np.isfinite(given)):
                raise ConfigError(f"{name} of {float(np.min(given)):g}: expected more than 0")
        return cls(shape, chip, users, tokens, layout, StoredBits.of(shape, layout, widest))

    @property
    def kv(self) -> Array:
        """The bytes of KV cache of all users and layers."""
        return self.users * self.shape.kv_read(self.context, self.layout.kv)

    @property
    def least_chips(self) -> Array:
        """The least number of chips that hold the weights and the KV cache."""
        return np.ceil((self.stored.weights(self.shape) + self.kv) / (self.chip.memory * self.layout.fill))

    @property
    def chips(self) -> Array:
        """The chips in use: those of the layout, else the least number.

        Raises:
            ConfigError: the model does not fit the chips of the layout.
        """
        needed = self.least_chips
        if self.layout.chips is None:
            return needed
        worst = float(np.max(needed))
        if worst > self.layout.chips:
            place = np.unravel_index(int(np.argmax(needed)), needed.shape)
            raise ConfigError(
                f"{self.shape.name} with {self.users[place]:,g} x {self.context[place]:,g} tokens of KV cache needs "
                f"{worst:,.0f} {self.chip.name}, more than the {self.layout.chips:,} given: "
                "give more chips, fewer users, less context or fewer bits a weight"
            )
        return np.full_like(needed, self.layout.chips)

    @property
    def groups(self) -> Array:
        """Micro-batches in flight: at most one per layer and one per user."""
        most = self.shape.layers if self.layout.groups is None else min(self.layout.groups, self.shape.layers)
        return np.clip(self.users, 1, most)


def bits_that_fit(shape: ModelShape, chip: Chip, chips: float, kv: float = 0.0) -> float:
    """Return the greatest mean bits per weight with which a model fits `chips` chips beside `kv` bytes of KV cache.

    Raises:
        ConfigError: the KV cache alone does not fit, or `chips` is not above 0.

    Source: `chips = ceil((weights * bits / 8 + KV) / memory)`, solved for bits.
    """
    room = chips * chip.memory - kv
    if room <= 0:
        raise ConfigError(f"{chips:g} {chip.name} have no room beside {kv:g} bytes of KV cache: give more chips")
    return room * 8 / shape.weights


def stages(job: DecodeJob, latency: LayerLatency) -> dict[str, PipelineStage]:
    """Return the stages of the pipeline by kind: "dense" and "moe" layers, and "head", the output matrix."""
    shape, stored, group = job.shape, job.stored, np.maximum(job.users / job.groups, 1.0)
    routers = shape.moe_layers * (shape.router_weights + shape.shared_weights)
    common = (shape.unrouted - shape.head - shape.dense_layers * shape.dense_weights - routers) / shape.layers
    found = {}
    if shape.dense_layers:
        each = _LayerWork(common + shape.dense_weights, 0.0, array(0.0), 0.0)
        found["dense"] = _layer(job, group, each)._replace(times=shape.dense_layers, layers=array(latency.layer))
    if shape.moe_layers:
        expert = shape.expert_weights * stored.routed / 8
        activated = distinct(group, shape.experts, shape.used)
        each = _LayerWork(
            common + shape.router_weights + shape.shared_weights,
            shape.experts * expert,
            activated * expert,
            shape.used * shape.expert_weights,
        )
        found["moe"] = _layer(job, group, each)._replace(
            times=shape.moe_layers, layers=array(latency.layer), experts=array(latency.experts)
        )
    head = _LayerWork(shape.head, 0.0, array(0.0), 0.0)
    return found | {"head": _layer(job, group, head, attends=False)}


class _LayerWork(NamedTuple):
    """The contents of a layer: weights that every token uses, bytes of experts held and read, and a token's experts.

    `routed` counts the weights of the experts that one token uses.
    """

    weights: float
    held: float
    read: Array
    routed: float


def _layer(job: DecodeJob, group: Array, layer: _LayerWork, *, attends: bool = True) -> PipelineStage:
    """Return the stage of one layer without its latency.

    The layer gets memory bandwidth and arithmetic in proportion to its share of all bytes.
    """
    shape, chip, layout = job.shape, job.chip, job.layout
    plain = layer.weights * job.stored.others / 8
    cache = shape.kv_read(job.context, layout.kv) / shape.layers if attends else array(0.0)  # bytes a user
    share = (plain + layer.held + job.users * cache) / (job.stored.weights(shape) + job.kv)
    flop = 2 * (layer.weights + layer.routed) + (_attention(shape, job.context) if attends else 0.0)
    vector = group * shape.hidden * _VECTOR / chip.link if chip.link else array(0.0)
    return PipelineStage(
        times=1,
        layers=array(0.0),
        experts=array(0.0),
        sram=(plain + layer.read + group * cache) / (share * job.chips * chip.bandwidth),
        compute=group * flop / (share * job.chips * chip.flops("int8")),
        links=vector * (_EXCHANGES if attends else 1),
    )


def parts(found: dict[str, PipelineStage], job: DecodeJob, crossings: Array) -> dict[str, Array]:
    """Return the seconds of a token by cause: the sum over the stages, and the wait for a busy stage.

    A micro-batch starts its next round when it has passed all stages, but not before all micro-batches have passed the
    slowest layer. The output matrix and rare kinds of layers never limit the pipeline: they can get more chips.

    Args:
        found: the stages.
        job: the inputs of the step.
        crossings: seconds that a token spends between chips in addition to the stages' links.

    Source: the arithmetic of pipelines: the slowest stage bounds the rate of the work in flight.
    """
    seconds = {
        name: sum((stage.times * getattr(stage, name) for stage in found.values()), start=array(0.0))
        for name in ("layers", "experts", "sram", "compute", "links")
    }
    seconds["links"] = seconds["links"] + crossings
    passed = sum(seconds.values(), start=array(0.0))
    many = [
        stage.seconds for name, stage in found.items() if name != "head" and stage.times >= _MANY * job.shape.layers
    ]
    slowest = np.max(np.stack(np.broadcast_arrays(*many)), axis=0)
    seconds["wait"] = np.maximum(job.groups * slowest - passed, 0.0)
    return {name: np.array(np.broadcast_to(value, job.users.shape)) for name, value in seconds.items()}


def _attention(shape: ModelShape, context: Array) -> Array:
    """Return the FLOP of one layer's attention for one token: scores over the context, and weighted values."""
    sizes = 2 * shape.head_size if shape.mla is None else 2 * shape.mla.kv_rank + shape.mla.rope
    return 2 * shape.heads * sizes * shape.kv_tokens(context)
