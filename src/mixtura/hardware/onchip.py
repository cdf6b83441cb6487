"""What LPUs and wafers share: all weights stay in on-chip memory, and a token passes the layers one after another.

A layer owns chips (or a part of a wafer) in proportion to the bytes it stores, and works with all of them at once;
every expert is spread over all chips of its layer. So the machine is an assembly line: while one group of users is in
a layer, other groups are in the others. What the step models add is the latency of a layer, which is measured.
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
_MANY = 0.1  # share of the layers from which their kind sets the pace
_EXCHANGES = 2  # of a layer's result among its chips: after attention and after the feed-forward block


class OnChipLayout(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is laid out over chips with on-chip memory.

    Attributes:
        chips: chips (or wafers) in all; None: as few as hold the weights and the KV cache.
        bits: that a weight is stored in, scales included; None: as released, or the machine's widest if that is less.
        kv: precision of the KV cache.
        fill: usable share of the memory. 1 gives the least number of chips; programs and activations take something.
        groups: micro-batches in flight; None: one for each layer, or for each user where there are fewer of them.

    Raises:
        ConfigError: a size that is zero or negative, or more usable memory than there is.
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
    """Bits a weight as stored: of routed experts, and of all others."""

    routed: float
    others: float

    @classmethod
    def of(cls, shape: ModelShape, layout: OnChipLayout, widest: float) -> "StoredBits":
        """Return the bits that `line` asks for, else those released, at most `widest`."""
        if layout.bits is not None:
            return cls(layout.bits, layout.bits)
        routed = bits(shape.expert_precision or shape.precision)
        return cls(min(routed, widest), min(bits(shape.precision), widest))

    def weights(self, shape: ModelShape) -> float:
        """Return the bytes of all weights."""
        return ((shape.weights - shape.routed_weights) * self.others + shape.routed_weights * self.routed) / 8


class LayerLatency(NamedTuple):
    """Seconds that a layer takes beyond what memory, arithmetic and links do, and one with experts on top of that."""

    layer: float
    experts: float = 0.0


class PipelineStage(NamedTuple):
    """The time that one kind of stage takes a group of users, seconds by cause; `times` of them follow each other."""

    times: int
    layers: Array
    experts: Array
    sram: Array
    compute: Array
    links: Array

    @property
    def seconds(self) -> Array:
        """The whole time of one of them."""
        return self.layers + self.experts + self.sram + self.compute + self.links


class DecodeJob(NamedTuple):
    """What a step is asked for: users and context broadcast against each other."""

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
        """Check the sizes and return the job; raise ConfigError for those that cannot be."""
        shape, batch, context = wanted
        layout = layout or OnChipLayout()
        users, tokens = np.broadcast_arrays(array(batch), array(context))
        for name, given in (("batch", users), ("context", tokens)):
            if not np.all((given > 0) & np.isfinite(given)):
                raise ConfigError(f"{name} of {float(np.min(given)):g}: expected more than 0")
        return cls(shape, chip, users, tokens, layout, StoredBits.of(shape, layout, widest))

    @property
    def kv(self) -> Array:
        """Bytes of KV cache of all users and layers."""
        return self.users * self.shape.kv_read(self.context, self.layout.kv)

    @property
    def least_chips(self) -> Array:
        """The least number of chips that hold the weights and the KV cache."""
        return np.ceil((self.stored.weights(self.shape) + self.kv) / (self.chip.memory * self.layout.fill))

    @property
    def chips(self) -> Array:
        """The chips that work: those given, else those needed; ConfigError where the model does not fit."""
        needed = self.least_chips
        if self.layout.chips is None:
            return needed
        worst = float(np.max(needed))
        if worst > self.layout.chips:
            place = np.unravel_index(int(np.argmax(needed)), needed.shape)
            raise ConfigError(
                f"{self.shape.name} with {self.users[place]:,g} x {self.context[place]:,g} tokens of KV cache needs "
                f"{worst:,.0f} {self.chip.name} and {self.layout.chips:,} are given: "
                "give more, or fewer users, less context or fewer bits a weight"
            )
        return np.full_like(needed, self.layout.chips)

    @property
    def groups(self) -> Array:
        """Micro-batches in flight: never more than layers, of which each holds one, nor than users."""
        most = self.shape.layers if self.layout.groups is None else min(self.layout.groups, self.shape.layers)
        return np.clip(self.users, 1, most)


def bits_that_fit(shape: ModelShape, chip: Chip, chips: float, kv: float = 0.0) -> float:
    """Return the widest average weight, in bits, with which a model fits `chips` chips beside `kv` bytes of KV cache.

    Raises:
        ConfigError: there are no chips, or the KV cache alone does not fit.

    Source: `chips = ceil((weights * bits / 8 + KV) / memory)`, solved for bits.
    """
    room = chips * chip.memory - kv
    if room <= 0:
        raise ConfigError(f"{chips:g} {chip.name} have no room beside {kv:g} bytes of KV cache: give more chips")
    return room * 8 / shape.weights


def stages(job: DecodeJob, latency: LayerLatency) -> dict[str, PipelineStage]:
    """Return the stages of the line by kind: "dense" and "moe" layers, and "head", the output matrix."""
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
    """What a layer holds and does: weights that every token uses, bytes of experts held and read, their weights."""

    weights: float
    held: float
    read: Array
    routed: float


def _layer(job: DecodeJob, group: Array, layer: _LayerWork, *, attends: bool = True) -> PipelineStage:
    """Return the stage of one layer without its latency.

    Its memory and its arithmetic are its share of the machine's: as its bytes are of all bytes.
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
    """Return the seconds of a token by cause: the sum over the stages, and the wait for a stage that is busy.

    A group comes round again when it has passed all stages, and no sooner than all groups have passed the slowest
    layer. The output matrix and a few layers of another kind hold nobody up: they can be spread over more chips.

    Args:
        found: the stages.
        job: what is asked for.
        crossings: seconds that a token spends between chips beyond what the stages count.

    Source: the arithmetic of pipelines: what is in flight over the slowest stage bounds the rate.
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
    """Return the FLOP of one layer's attention over the context for one token: scores and weighted values."""
    sizes = 2 * shape.head_size if shape.mla is None else 2 * shape.mla.kv_rank + shape.mla.rope
    return 2 * shape.heads * sizes * shape.kv_tokens(context)
