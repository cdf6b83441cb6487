"""The step model of GPUs: the bytes and operations of decoding and prefill, and the time they take.

Every cause of time is a *work*: its seconds at the data sheet's figures (bytes over bandwidth, operations over peak, or
microseconds per layer). Each work has a factor, fitted on measured points (`fitted.py`), that accounts for real
engines: a factor of 1.3 for weights means that the engine reaches 77 % of the bandwidth.

    decode step = sum over works of factor * work

The model extends the roofline of Williams, Waterman and Patterson (2009): of an MoE model it counts the experts that
a batch activates instead of all weights. An engine that mixes prefill into decode steps adds that prefill's share
(continuous batching, Orca, OSDI 2022).
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

# Share of the peak that decode's thin matrix products reach once they are compute bound; fitted with the factors.
_THIN = 0.65
_MICRO = 1e-6
_LINK = 2.0  # bytes per activation sent between chips

ExpertCount = Callable[[ModelShape, Array], Array]
Works = Mapping[str, Array]


class GpuSetup(msgspec.Struct, frozen=True, kw_only=True):
    """The layout of a model over GPUs.

    Attributes:
        chips: GPUs that together hold one copy of the model.
        attention_ranks: number of GPU groups that each hold all attention weights and serve a part of the batch
            (data-parallel attention); the GPUs of a group split the heads (tensor parallel). 1: all GPUs split heads.
        precision: format of the weights; None: as released. Applies to experts too unless `expert_precision` is given.
        expert_precision: format of the routed experts.
        kv_precision: format of the KV cache.
    """

    chips: int = 1
    attention_ranks: int = 1
    precision: str | None = None
    expert_precision: str | None = None
    kv_precision: str = "fp8"

    def __post_init__(self) -> None:
        if self.chips < 1:
            raise ConfigError(f"{self.chips} GPUs cannot hold a model: give 1 or more")
        if not 1 <= self.attention_ranks <= self.chips:
            raise ConfigError(
                f"attention_ranks is {self.attention_ranks}, expected 1 to {self.chips}, the number of GPUs"
            )

    @property
    def tensor(self) -> int:
        """Number of GPUs that split the heads of one attention rank."""
        return max(1, self.chips // self.attention_ranks)

    def unrouted_bytes(self, shape: ModelShape) -> float:
        """Return the bytes per weight outside the routed experts."""
        return bytes_of(self.precision or shape.precision)

    def expert_bytes(self, shape: ModelShape) -> float:
        """Return the bytes per weight of the routed experts."""
        return bytes_of(self.expert_precision or self.precision or shape.expert_precision or shape.precision)


class GpuMemory(NamedTuple):
    """Memory of one GPU, in bytes, and the number of sequences of a given context that fit beside the weights.

    `room` is the memory available to weights and KV cache, `kv_a_sequence` one sequence's share of the KV cache.
    """

    weights: float
    kv_a_sequence: float
    room: float
    sequences: int


def activated_experts(shape: ModelShape, tokens: Array) -> Array:
    """Return the expected experts a layer loads for `tokens` evenly and independently routed tokens; 0 if dense.

    Source: as `routing.distinct`.
    """
    if not shape.experts:
        return np.zeros_like(tokens)
    return distinct(tokens, shape.experts, shape.used)


def all_experts(shape: ModelShape, tokens: Array) -> Array:
    """Return all experts of a layer, as a model that ignores routing assumes. Source: none, for comparison."""
    return np.full_like(tokens, shape.experts)


def one_tokens_experts(shape: ModelShape, tokens: Array) -> Array:
    """Return the experts of one token, whatever the batch, as "active parameters" do. Source: none, for comparison."""
    return np.full_like(tokens, shape.used)


def memory(shape: ModelShape, chip: Chip, setup: GpuSetup, context: float) -> GpuMemory:
    """Return what one GPU of `setup` holds with sequences of `context` tokens.

    Weights and KV cache get 90 % of the memory. Source: bytes over bytes; the share is vLLM's default.

    Raises:
        ConfigError: the weights alone do not fit; the message gives the number of GPUs that hold them.
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
        setup: the layout of the model over GPUs.
        batch: sequences in flight, over all GPUs; any shape.
        context: mean tokens of context of a sequence; broadcasts with `batch`.
        expert_count: number of experts that a layer loads, from the number of tokens in the step.

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
        # Compute time that reading the weights does not hide.
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

    Attention is causal, so a prompt of T tokens has `T * T / 2` scores per head; windowed layers have fewer.

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
    """Return the works of a decode step under steady load, in seconds: of the step, and of the prompts mixed into it.

    With `batch` sequences of `output` tokens in flight, `batch / output` sequences end per step and as many prompts
    replace them. An engine with disaggregated prefill (`load.apart`) has no prompts in its decode steps.

    Source: continuous batching (Orca, Yu et al., OSDI 2022), prompts in the steps (Sarathi-Serve, arXiv 2403.02310).
    """
    works = decode_works(shape, chip, setup, load.batch, load.context, expert_count)
    share = 0.0 if load.apart else array(load.batch) / array(load.output)
    return works | {name: share * work for name, work in prefill_works(shape, chip, setup, load.prompt).items()}


def first_works(shape: ModelShape, chip: Chip, setup: GpuSetup, load: "SteadyLoad", step: Array) -> dict[str, Array]:
    """Return the works of a request's time to first token, in seconds; `step` is the time of a decode step, seconds.

    Besides its own prefill a request waits for prompts that arrived at the same time; their number grows with the
    batch. Source: ours; the fit decides which of these works count.
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

    `apart`: prefill runs on machines of its own (disaggregated serving). The numbers broadcast against each other.
    """

    batch: ArrayLike
    prompt: ArrayLike
    output: ArrayLike
    apart: bool = False

    @property
    def context(self) -> Array:
        """Tokens of context of a sequence halfway through its output."""
        return array(self.prompt) + array(self.output) / 2


def _peak(chip: Chip, setup: GpuSetup, shape: ModelShape) -> float:
    """Return the peak FLOP/s for the weights' format; if experts have a format of their own, for the wider of both."""
    names = [setup.precision or shape.precision]
    if shape.experts:
        names.append(setup.expert_precision or setup.precision or shape.expert_precision or shape.precision)
    return chip.flops(max(names, key=bits))


def _copies(shape: ModelShape, setup: GpuSetup) -> float:
    """Return how many copies of its KV cache an attention rank holds.

    KV heads cannot be split over GPUs, and all heads share one latent KV cache.
    """
    return float(setup.tensor) if shape.mla is not None else max(1.0, setup.tensor / shape.kv_heads)


def _decode_width(shape: ModelShape) -> float:
    """Return a head's multiply-adds per token of context: query times key, and weight times value."""
    if shape.mla is None:
        return 2.0 * shape.head_size
    return 2.0 * shape.mla.kv_rank + shape.mla.rope


def _prefill_width(shape: ModelShape) -> float:
    """Return a head's multiply-adds per token of context in prefill, halved for causality, with heads uncompressed."""
    if shape.mla is None:
        return float(shape.head_size)
    return (shape.mla.nope + shape.mla.rope + shape.mla.value) / 2


def _kernels(shape: ModelShape) -> float:
    """Return the fixed time of a layer relative to a layer of width 4,096 with grouped-query attention.

    Latent attention launches more kernels, and kernels of wider layers take slightly longer to start and finish.
    """
    return (1.3 if shape.mla is not None else 1.0) * math.sqrt(math.sqrt(shape.hidden / 4096))
