"""A model's shape, and the parameters, bytes of weights and bytes of KV cache that follow from it. Pure arithmetic.

Parameters are counted exactly as in the published checkpoints, except for parts that decoding does not use: the extra
layer for multi-token prediction (DeepSeek-V3: 14 billion in addition to 671) and image encoders.
"""

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware.precision import bits, bytes_of
from mixtura.hardware.step import Array, array

# Parameters of a family besides the plain matrices. "qk_norm": a norm of each query and key head. "sinks": one learned
# logit per head. "norms": four norms per layer instead of two.
Extra = Literal["qkv_bias", "out_bias", "dense_bias", "expert_bias", "router_bias", "qk_norm", "sinks", "norms"]

_LARGEST = 10_000_000  # far above every size of a real model


class LatentAttention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Multi-head latent attention, MLA (DeepSeek-V2, arXiv 2405.04434): ranks and head sizes, in elements.

    `q_rank` 0: queries are not compressed. `nope` and `rope` are the sizes of the parts of a query or key head without
    and with rotary embedding, `value` is the size of a value head.
    """

    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    value: int


class PublishedSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model's published size, for comparison with the count from its shape.

    Attributes:
        total: total parameters.
        active: parameters that a token uses; None if not published.
        with_embedding: whether `active` includes the input embedding, of which a token reads only one row.
        source: the source of the shape and the figures.
        date: the day they were last checked against the source, as in 2026-11-21.
        doubt: what is uncertain about this row, or "".
    """

    total: float
    active: float | None = None
    with_embedding: bool = False
    source: str
    date: str
    doubt: str = ""


class ModelShape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sizes of a decoder-only transformer.

    Attributes:
        layers: decoder layers; `dense_layers` of them have a dense feed-forward block, the others experts.
            In a model without experts, 0 dense layers means all layers.
        hidden: width of the residual stream.
        vocabulary: rows of the embedding.
        head_size: size of a query and key head; under `mla` the sum of its two parts.
        inner: width of a dense feed-forward block (gate, up and down matrices).
        experts: experts per layer, of which each token uses `used`; `expert_inner` is the width of one.
        shared: experts per layer that every token uses; `shared_inner` is their total width.
        groups: groups of experts; a token's experts come from `groups_used` of them.
        window: greatest context, in tokens, of `windowed_layers` of the layers (sliding or chunked attention).
        tied: whether the output matrix is the embedding.
        precision: format of the released weights; `expert_precision` is that of the routed experts if it differs.

    Raises:
        ConfigError: a size is zero, negative or inconsistent with another.
    """

    name: str
    layers: int
    hidden: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_size: int
    mla: LatentAttention | None = None
    inner: int = 0
    dense_layers: int = 0
    experts: int = 0
    used: int = 0
    shared: int = 0
    expert_inner: int = 0
    shared_inner: int = 0
    groups: int = 1
    groups_used: int = 1
    window: int = 0
    windowed_layers: int = 0
    tied: bool = False
    extras: frozenset[Extra] = frozenset()
    precision: str = "bf16"
    expert_precision: str | None = None
    published: PublishedSize | None = None

    def __post_init__(self) -> None:
        if not self.experts and not self.dense_layers:
            msgspec.structs.force_setattr(self, "dense_layers", self.layers)
        _check(self)

    @property
    def moe_layers(self) -> int:
        """The number of layers with experts."""
        return self.layers - self.dense_layers

    @property
    def attention_weights(self) -> int:
        """Parameters of one layer's attention: query, key, value and output matrices, their biases and norms."""
        if self.mla is not None:
            return _mla_weights(self.mla, self.hidden, self.heads)
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return (
            2 * self.hidden * (queries + keys)
            + (queries + 2 * keys) * ("qkv_bias" in self.extras)
            + self.hidden * ("out_bias" in self.extras)
            + 2 * self.head_size * ("qk_norm" in self.extras)
            + self.heads * ("sinks" in self.extras)
        )

    @property
    def dense_weights(self) -> int:
        """Parameters of one dense feed-forward block."""
        return _block(self.hidden, self.inner, biased="dense_bias" in self.extras)

    @property
    def expert_weights(self) -> int:
        """Parameters of one routed expert of one layer."""
        return _block(self.hidden, self.expert_inner, biased="expert_bias" in self.extras)

    @property
    def shared_weights(self) -> int:
        """Parameters of one layer's shared experts."""
        return _block(self.hidden, self.shared_inner)

    @property
    def router_weights(self) -> int:
        """Parameters of one layer's router."""
        return (self.hidden + ("router_bias" in self.extras)) * self.experts

    @property
    def routed_weights(self) -> int:
        """Parameters of all routed experts of all layers."""
        return self.moe_layers * self.experts * self.expert_weights

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding."""
        return self.vocabulary * self.hidden

    @property
    def head(self) -> int:
        """Parameters of the output matrix, which every decode step reads; if `tied`, it is the embedding."""
        return self.vocabulary * self.hidden

    @property
    def weights(self) -> int:
        """All parameters."""
        return self.unrouted + self.routed_weights + (0 if self.tied else self.embedding)

    @property
    def active(self) -> int:
        """Parameters that one token uses: its experts and everything not routed, without the input embedding.

        OpenAI counts this way in the model card of gpt-oss; a token takes about 2 FLOP per active parameter.
        """
        return self.unrouted + self.moe_layers * self.used * self.expert_weights

    @property
    def unrouted(self) -> int:
        """Parameters that every decode step reads: all but the routed experts and the input embedding."""
        norms = self.hidden * (4 if "norms" in self.extras else 2)
        return (
            self.head
            + self.hidden  # the last norm
            + self.layers * (self.attention_weights + norms)
            + self.dense_layers * self.dense_weights
            + self.moe_layers * (self.router_weights + self.shared_weights)
        )

    def unrouted_memory(self, precision: str | None = None) -> float:
        """Return the bytes of `unrouted` in `precision`, or as released; the output matrix counts as in `memory`.

        Raises:
            ConfigError: no such precision.
        """
        kept = precision or self.precision
        return (self.unrouted - self.head) * bytes_of(kept) + self.head * max(2.0, bytes_of(kept))

    def memory(self, precision: str | None = None, expert_precision: str | None = None) -> float:
        """Return the bytes of all weights.

        Embedding and output matrix take at least 16 bits per weight: checkpoints released in 8 or 4 bits keep them so.

        Args:
            precision: format of the weights; None: as released. Applies to experts unless `expert_precision` is given.
            expert_precision: format of the routed experts.

        Raises:
            ConfigError: no such precision.
        """
        routed = expert_precision or precision or self.expert_precision or self.precision
        embedding = 0.0 if self.tied else self.embedding * max(2.0, bytes_of(precision or self.precision))
        return self.unrouted_memory(precision) + embedding + self.routed_weights * bytes_of(routed)

    def kv_bytes(self, precision: str = "bf16") -> float:
        """Return the bytes of KV cache of one token of context over all layers, ignoring windows.

        Grouped queries: `2 * kv_heads * head_size` elements per layer (arXiv 2305.13245). Latent attention: `kv_rank +
        rope` elements (arXiv 2405.04434), shared by all heads, so a chip with some of the heads holds all of them.

        Raises:
            ConfigError: no such precision.
        """
        elements = 2 * self.kv_heads * self.head_size if self.mla is None else self.mla.kv_rank + self.mla.rope
        return self.layers * elements * bytes_of(precision)

    def kv_tokens(self, context: ArrayLike) -> Array:
        """Return the tokens of KV cache held at `context` tokens, mean over layers; same shape as `context`.

        A windowed layer holds at most its window. A chunked layer (Llama 4) starts a new chunk every `window` tokens,
        so its value here is an upper bound.
        """
        tokens = array(context)
        if not self.windowed_layers:
            return tokens
        share = self.windowed_layers / self.layers
        return (1 - share) * tokens + share * np.minimum(tokens, self.window)

    def kv_read(self, context: ArrayLike, precision: str = "bf16") -> Array:
        """Return the bytes of KV cache that decoding one token at `context` tokens reads; same shape as `context`.

        Raises:
            ConfigError: no such precision.
        """
        return self.kv_tokens(context) * self.kv_bytes(precision)


def _block(hidden: int, inner: int, *, biased: bool = False) -> int:
    """Return the parameters of a gated feed-forward block: gate, up, down and their biases."""
    return 3 * hidden * inner + (2 * inner + hidden) * biased


def _mla_weights(mla: LatentAttention, hidden: int, heads: int) -> int:
    query = heads * (mla.nope + mla.rope)
    queries = (hidden + query + 1) * mla.q_rank if mla.q_rank else hidden * query
    down = hidden * (mla.kv_rank + mla.rope) + mla.kv_rank
    up = mla.kv_rank * heads * (mla.nope + mla.value)
    return queries + down + up + heads * mla.value * hidden


def _check(shape: ModelShape) -> None:
    """Raise ConfigError for the first size that is out of range or inconsistent."""
    positive = ["layers", "hidden", "vocabulary", "heads", "kv_heads", "head_size", "groups", "groups_used"]
    positive += ["inner"] * (shape.dense_layers > 0) + ["window"] * (shape.windowed_layers > 0)
    positive += ["used", "expert_inner"] * (shape.experts > 0) + ["shared_inner"] * (shape.shared > 0)
    others = ("inner", "dense_layers", "experts", "used", "shared", "expert_inner", "shared_inner", "window")
    sizes = {name: getattr(shape, name) for name in (*positive, *others, "windowed_layers")}
    if shape.mla is not None:
        sizes |= (latent := msgspec.structs.asdict(shape.mla))
        positive += [name for name in latent if name != "q_rank"]
    for name, size in sizes.items():
        least = 1 if name in positive else 0
        if not least <= size <= _LARGEST:
            raise ConfigError(f"{shape.name}: {name} is {size}, expected {least} to {_LARGEST:,}")
    for inner, outer in (
        ("kv_heads", "heads"),
        ("used", "experts"),
        ("dense_layers", "layers"),
        ("windowed_layers", "layers"),
        ("groups_used", "groups"),
    ):
        if sizes[inner] > (whole := getattr(shape, outer)):
            raise ConfigError(f"{shape.name}: {inner} is {sizes[inner]}, more than the {whole} {outer}")
    if shape.heads % shape.kv_heads:
        raise ConfigError(f"{shape.name}: {shape.heads} heads cannot share {shape.kv_heads} kv_heads evenly")
    if shape.experts % shape.groups:
        raise ConfigError(f"{shape.name}: {shape.experts} experts cannot be split into {shape.groups} equal groups")
    if not shape.experts and shape.dense_layers != shape.layers:
        raise ConfigError(f"{shape.name}: {shape.moe_layers} layers have neither a dense block nor experts")
    for precision in (shape.precision, shape.expert_precision or shape.precision):
        bits(precision)
