"""The step model of GPUs: what decoding and prefill have to move and calculate, and how long that takes.

Every cause of time is a *work*: the seconds it would take at the data sheet's figures (bytes over bandwidth, operations
over peak, or microseconds a layer). What real engines make of it is a factor for each work, fitted on measured points
(`fitted.py`): a factor of 1.3 for weights means that 77 % of the bandwidth is reached.

    decode step = sum over works of factor * work

After the roofline of Williams, Waterman and Patterson (2009) with the experts that a batch really wakes in the place
of all weights; an engine that mixes prefill into decode steps adds its share (continuous batching, Orca, OSDI 2022).
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware.chip import Chip
from mixtura.hardware.precision import bits, bytes_of
from mixtura.hardware.routing import distinct
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.step import Array, array

# Share of the peak that decode's thin matrix products reach once they are bound by calculating; found with the factors.
_THIN = 0.65
_MICRO = 1e-6
_LINK = 2.0  # bytes of an activation on its way between chips

ExpertCount = Callable[[ModelShape, Array], Array]
Works = Mapping[str, Array]


class GpuSetup(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is laid over GPUs.

    Attributes:
        chips: GPUs that hold one copy of the model together.
        attention_ranks: groups of these GPUs that each serve their own part of the batch with all of the attention's
            weights (data-parallel attention); the others split heads (tensor parallel). 1: all split heads.
        precision: of weights, None: as released; given alone it is that of the experts, too.
        expert_precision: of the routed experts.
        kv_precision: of the KV cache.
    """

    chips: int = 1
    attention_ranks: int = 1
    precision: str | None = None
    expert_precision: str | None = None
    kv_precision: str = "fp8"

    def __post_init__(self) -> None:
        if self.chips < 1:
            raise ConfigError(f"{self.chips} GPUs hold no model: give 1 or more")
        if not 1 <= self.attention_ranks <= self.chips:
            raise ConfigError(f"attention_ranks is {self.attention_ranks}, expected 1 to the {self.chips} GPUs")

    @property
    def tensor(self) -> int:
        """GPUs that split the heads of one attention rank."""
        return max(1, self.chips // self.attention_ranks)

    def unrouted_bytes(self, shape: ModelShape) -> float:
        """Bytes a weight outside the experts."""
        return bytes_of(self.precision or shape.precision)

    def expert_bytes(self, shape: ModelShape) -> float:
        """Bytes a weight of the routed experts."""
        return bytes_of(self.expert_precision or self.precision or shape.expert_precision or shape.precision)


class GpuMemory(NamedTuple):
    """What one GPU has to hold, bytes, and how many sequences of a given context fit beside the weights."""

    weights: float
    kv_a_sequence: float
    room: float
    sequences: int


def activated_experts(shape: ModelShape, tokens: Array) -> Array:
    """Return how many experts a layer loads for `tokens` tokens, routed alike and independently; 0 without experts.

    Source: as `routing.distinct`.
    """
    if not shape.experts:
        return np.zeros_like(tokens)
    return distinct(tokens, shape.experts, shape.used)


def all_experts(shape: ModelShape, tokens: Array) -> Array:
    """Return all experts of a layer: what a model that knows no routing assumes. Source: none, for comparison."""
    return np.full_like(tokens, shape.experts)


def one_tokens_experts(shape: ModelShape, tokens: Array) -> Array:
    """Return one token's experts, whatever the batch: what "active parameters" say. Source: none, for comparison."""
    return np.full_like(tokens, shape.used)


def memory(shape: ModelShape, chip: Chip, setup: GpuSetup, context: float) -> GpuMemory:
    """Say what a GPU of `setup` holds with sequences of `context` tokens.

    Of its memory 90 % is for weights and KV cache. Source: bytes over bytes; the share is vLLM's default.

    Raises:
        ConfigError: the weights alone do not fit; the text says how many GPUs would hold them.
    """
    whole = shape.memory(setup.precision or shape.precision, setup.expert_precision or shape.expert_precision)
    routed = shape.routed_weights * setup.expert_bytes(shape)
    weights = routed / setup.chips + (whole - routed) / setup.tensor
    room = 0.9 * chip.memory
    if weights > room:
        least = int(np.ceil(whole / room))
        raise ConfigError(
            f"{shape.name} does not fit {setup.chips} x {chip.name}: its weights take {whole / 1e9:,.0f} GB of "
            f"{setup.chips * room / 1e9:,.0f} GB; give at least {least} (or fewer bits a weight)"
        )
    kept = float(shape.kv_read(context, setup.kv_precision)) * _copies(shape, setup) / setup.chips
    return GpuMemory(weights, kept, room, int((room - weights) / kept) if kept else 0)


def decode_works(
    shape: ModelShape,
    chip: Chip,
    setup: GpuSetup,
    batch: ArrayLike,
    context: ArrayLike,
    expert_count: ExpertCount = activated_experts,
) -> dict[str, Array]:
    """Return the works of one decode step, seconds at the data sheet's figures.

    Args:
        shape: the model.
        chip: the GPU.
        setup: how the one lies on the other.
        batch: sequences in flight, over all GPUs; any shape.
        context: tokens each of them looks back at, on average; broadcasts with `batch`.
        awake: how many experts a layer loads for a number of tokens.

    Source: the roofline (Williams, Waterman and Patterson, 2009), bytes over bandwidth and operations over peak; 2 FLOP
    a weight and token (Kaplan et al., arXiv 2001.08361, 2.1); steps of an all-reduce by rings and trees (Thakur,
    Rabenseifner and Gropp, 2005), whose latency alone counts at the sizes of a decode step.
    """
    tokens, context = np.broadcast_arrays(np.maximum(1.0, array(batch)), array(context))
    chips, layers = setup.chips, shape.layers
    weights = shape.unrouted * setup.unrouted_bytes(shape) / setup.tensor / chip.bandwidth + 0 * tokens
    experts = np.zeros_like(tokens)
    if shape.experts:
        one = shape.expert_weights * setup.expert_bytes(shape) / chips / chip.bandwidth
        experts = shape.moe_layers * expert_count(shape, tokens) * one
    products = 2 * shape.active * tokens / chips / (_peak(chip, setup, shape) * _THIN)
    kv = tokens * shape.kv_read(context, setup.kv_precision) * _copies(shape, setup) / chips / chip.bandwidth
    scores = 2 * tokens * shape.kv_tokens(context) * layers * shape.heads * _decode_width(shape) / chips
    apart = 1.0 if chips > 1 else 0.0
    return {
        "weights": weights,
        "experts": experts,
        "kv": kv,
        # What calculating takes beyond the time in which the weights arrive.
        "products": np.maximum(0.0, products - weights - experts),
        "scores": scores / chip.peak["bf16"],
        "layers": np.full_like(tokens, layers * _kernels(shape) * _MICRO),
        "moe layers": np.full_like(tokens, shape.moe_layers * _MICRO),
        "hops": np.full_like(tokens, apart * layers * _MICRO),
        "ring": np.full_like(tokens, layers * np.log2(chips) * _MICRO),
        "sequences": tokens * _MICRO,
        "host": np.full_like(tokens, 1000 * _MICRO),
    }


def prefill_works(shape: ModelShape, chip: Chip, setup: GpuSetup, prompt: ArrayLike) -> dict[str, Array]:
    """Return the works of prefilling one prompt of `prompt` tokens, seconds at the data sheet's figures.

    Scores are causal, so a prompt of T tokens costs `T * T / 2` of them a head; windowed layers look back less.

    Source: 2 FLOP a weight and token (Kaplan et al., arXiv 2001.08361, 2.1); an all-reduce sends
    `2 * (n - 1) / n` of its bytes (Thakur, Rabenseifner and Gropp, 2005), and a layer has two.
    """
    tokens = array(prompt)
    chips, peak = setup.chips, _peak(chip, setup, shape)
    routed = shape.moe_layers * shape.used * shape.expert_weights if shape.experts else 0
    windowed = shape.windowed_layers / shape.layers
    back = (1 - windowed) * tokens + windowed * np.minimum(tokens, 2 * shape.window)
    scores = 2 * shape.layers * shape.heads * _prefill_width(shape) * tokens * back
    everything = shape.unrouted * setup.unrouted_bytes(shape) + shape.routed_weights * setup.expert_bytes(shape)
    sent = 2 * shape.layers * tokens * shape.hidden * _LINK * (chips - 1) / chips
    return {
        "prefill": (2 * (shape.active - routed) * tokens + scores) / chips / peak,
        "prefill experts": 2 * routed * tokens / chips / peak,
        "prefill weights": everything / chips / chip.bandwidth + 0 * tokens,
        "prefill links": sent / chip.link / setup.attention_ranks if chips > 1 else 0 * tokens,
    }


def mixed_works(
    shape: ModelShape, chip: Chip, setup: GpuSetup, load: "SteadyLoad", expert_count: ExpertCount = activated_experts
) -> dict[str, Array]:
    """Return the works of a decode step under steady load: of the step, and of the prompts mixed into it.

    With `batch` sequences of `output` tokens in flight, `batch / output` of them end at each step and as many prompts
    take their place; an engine whose prefill has machines of its own (`load.apart`) is spared them. All seconds.

    Source: continuous batching (Orca, Yu et al., OSDI 2022), prompts in the steps (Sarathi-Serve, arXiv 2403.02310).
    """
    works = decode_works(shape, chip, setup, load.batch, load.context, expert_count)
    share = 0.0 if load.apart else array(load.batch) / array(load.output)
    return works | {name: share * work for name, work in prefill_works(shape, chip, setup, load.prompt).items()}


def first_works(shape: ModelShape, chip: Chip, setup: GpuSetup, load: "SteadyLoad", step: Array) -> dict[str, Array]:
    """Return the works of a request's time to its first token; `step` is a decode step's time, seconds.

    Beside its own prefill a request waits for prompts that came at the same time, whose number grows with the batch.
    All seconds. Source: ours; which of these works count is left to the fit.
    """
    own = prefill_works(shape, chip, setup, load.prompt)
    batch = array(load.batch)
    flow = batch * batch / array(load.output)
    return (
        {f"own {name}": work for name, work in own.items()}
        | {f"other {name}": batch * work for name, work in own.items()}
        | {
            "flow": flow * own["prefill"],
            "step": step + 0 * batch,
            "host": np.full_like(step + batch, 10_000 * _MICRO),
            "layers": np.full_like(step + batch, 100 * shape.layers * _MICRO),
            "arrivals": 1000 * _MICRO * batch + 0 * step,
            "tokens": 10 * _MICRO * array(load.prompt) + 0 * batch,
            "batch tokens": _MICRO * array(load.prompt) * batch,
        }
    )


class SteadyLoad(NamedTuple):
    """Steady load on one copy of a model: `batch` sequences in flight, each of `prompt` and `output` tokens.

    `apart`: prefill has machines of its own (disaggregated serving). All broadcast together.
    """

    batch: ArrayLike
    prompt: ArrayLike
    output: ArrayLike
    apart: bool = False

    @property
    def context(self) -> Array:
        """Tokens a sequence looks back at, in the middle of its output."""
        return array(self.prompt) + array(self.output) / 2


def _peak(chip: Chip, setup: GpuSetup, shape: ModelShape) -> float:
    """Return the operations a second that the weights' format allows: of the wider one where experts have their own."""
    names = [setup.precision or shape.precision]
    if shape.experts:
        names.append(setup.expert_precision or setup.precision or shape.expert_precision or shape.precision)
    return chip.flops(max(names, key=bits))


def _copies(shape: ModelShape, setup: GpuSetup) -> float:
    """Return how often an attention rank holds its KV cache: a head cannot be split, and latent KV is one for all."""
    return float(setup.tensor) if shape.mla is not None else max(1.0, setup.tensor / shape.kv_heads)


def _decode_width(shape: ModelShape) -> float:
    """Return multiply-adds a head does for a token it looks back at: query with key, weight with value."""
    if shape.mla is None:
        return 2.0 * shape.head_size
    return 2.0 * shape.mla.kv_rank + shape.mla.rope


def _prefill_width(shape: ModelShape) -> float:
    """Return multiply-adds a head does for half a token it looks back at, heads not compressed."""
    if shape.mla is None:
        return float(shape.head_size)
    return (shape.mla.nope + shape.mla.rope + shape.mla.value) / 2


def _kernels(shape: ModelShape) -> float:
    """Return the fixed work of a layer against one of 4,096 elements with grouped queries.

    Latent attention launches more kernels, and wider layers take a little longer to start and to end.
    """
    return (1.3 if shape.mla is not None else 1.0) * math.sqrt(math.sqrt(shape.hidden / 4096))
