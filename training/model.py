"""The toy models in PyTorch: the architecture that llama.cpp calls `qwen3` (dense) or `qwen3moe` (mixture of experts).

RMSNorm before attention and feed-forward, rotary positions on half-split heads, queries and keys normalised per head,
SwiGLU, tied embeddings, no biases. A router takes the softmax over all experts, keeps the best k and makes their
weights sum to one.
"""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class ModelShape:
    """The sizes of a model. `width` is the embedding's, `inner` the feed-forward layer's (or that of one expert)."""

    layers: int
    width: int
    heads: int
    inner: int
    experts: int = 0
    used: int = 0
    vocabulary: int = 0
    context: int = 1024
    base: float = 10_000.0
    epsilon: float = 1e-6

    @property
    def head(self) -> int:
        """The width of one attention head."""
        return self.width // self.heads

    @property
    def weights(self) -> int:
        """The number of weights, with the embedding counted once."""
        return self._count(max(self.experts, 1))

    @property
    def active(self) -> int:
        """The number of weights that take part in one token, with the embedding counted once (as the output layer)."""
        return self._count(max(self.used, 1))

    def _count(self, experts: int) -> int:
        attention = 4 * self.width * self.width
        feed = 3 * self.width * self.inner * experts + self.width * self.experts
        return self.layers * (attention + feed) + self.vocabulary * self.width

    def operations(self, length: int) -> float:
        """Return the operations (two per multiply-add) of a forward pass, per token, in a text of `length` tokens."""
        return 2.0 * self.active + 2.0 * self.layers * self.width * length


class ExpertLayer(nn.Module):
    """A mixture-of-experts layer: each token goes through its `used` best experts."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.router = nn.Linear(shape.width, shape.experts, bias=False)
        spread = shape.width**-0.5
        self.gate = nn.Parameter(torch.randn(shape.experts, shape.inner, shape.width) * spread)
        self.up = nn.Parameter(torch.randn(shape.experts, shape.inner, shape.width) * spread)
        self.down = nn.Parameter(torch.zeros(shape.experts, shape.width, shape.inner))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the layer's output for `x` [tokens, width], and the unevenness of the experts' use (1 is even)."""
        with torch.autocast("cpu", enabled=False):
            chances = self.router(x.float()).softmax(-1)
        best, chosen = chances.topk(self.shape.used, -1)
        best = best / best.sum(-1, keepdim=True)
        share = torch.zeros_like(chances).scatter(-1, chosen, 1.0).mean(0)
        uneven = self.shape.experts / self.shape.used * (share * chances.mean(0)).sum()
        return self._mix_experts(x, best, chosen), uneven

    def _mix_experts(self, x: Tensor, best: Tensor, chosen: Tensor) -> Tensor:
        # Sort the tokens by expert, so that each expert is one matrix product.
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        used, width = self.shape.used, self.shape.width
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        back = torch.empty_like(order).scatter(0, order, torch.arange(len(order)))
        counts = torch.bincount(flat, minlength=self.shape.experts).tolist()
        copies = x.to(half).unsqueeze(1).expand(-1, used, -1).reshape(-1, width)
        gate, up, down = self.gate.to(half), self.up.to(half), self.down.to(half)
        parts = []
        for place, part in enumerate(torch.split(_reorder(copies, order, back), counts)):
            inner = F.silu(part @ gate[place].T) * (part @ up[place].T)
            parts.append(inner @ down[place].T)
        each = _reorder(torch.cat(parts), back, order).view(-1, used, width)
        mixed: Tensor = (each * best.unsqueeze(-1).to(half)).sum(1)
        return mixed


def _reorder(rows: Tensor, order: Tensor, back: Tensor) -> Tensor:
    found: Tensor = _ReorderRows.apply(rows, order, back)  # type: ignore[no-untyped-call]
    return found


class _ReorderRows(torch.autograd.Function):
    """Reorders rows. The backward pass applies the inverse order, which is cheaper than a scatter-add."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, back: Tensor) -> Tensor:
        """Return `rows[order]`; `back` is the inverse of `order`."""
        ctx.save_for_backward(back)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient in the rows' original order."""
        (back,) = ctx.saved_tensors
        return gradient.index_select(0, back), None, None


class FeedForward(nn.Module):
    """A dense SwiGLU layer."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.inner, bias=False)
        self.up = nn.Linear(shape.width, shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.width, bias=False)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for `x` [..., width]."""
        fed: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return fed


Cache = list[tuple[Tensor, Tensor]]


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward or expert layer, each with a norm before it and a residual connection."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.before = nn.RMSNorm(width, shape.epsilon)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.query_norm = nn.RMSNorm(shape.head, shape.epsilon)
        self.key_norm = nn.RMSNorm(shape.head, shape.epsilon)
        self.between = nn.RMSNorm(width, shape.epsilon)
        self.feed = ExpertLayer(shape) if shape.experts else FeedForward(shape)
        nn.init.zeros_(self.out.weight)

    def forward(
        self,
        x: Tensor,
        turns: tuple[Tensor, Tensor],
        past: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Return the output for `x` [texts, tokens, width], the keys and values, and the experts' unevenness."""
        texts, tokens, width = x.shape
        split = (texts, tokens, self.shape.heads, self.shape.head)
        normed = self.before(x)
        query = _rotate(self.query_norm(self.query(normed).view(split)), turns).transpose(1, 2)
        key = _rotate(self.key_norm(self.key(normed).view(split)), turns).transpose(1, 2)
        value = self.value(normed).view(split).transpose(1, 2)
        if past is not None:
            key, value = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        with torch.autocast("cpu", enabled=False):
            # On CPUs the backward pass of attention is three times slower in bfloat16 than in float32.
            seen = F.scaled_dot_product_attention(
                query.float(), key.float(), value.float(), attn_mask=mask, is_causal=mask is None
            )
        x = x + self.out(seen.transpose(1, 2).reshape(texts, tokens, width))
        normed = self.between(x)
        if isinstance(self.feed, ExpertLayer):
            fed, uneven = self.feed(normed.reshape(texts * tokens, width))
            return x + fed.view(x.shape), (key, value), uneven
        return x + self.feed(normed), (key, value), x.new_zeros(())


def _rotate(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary position embedding in the half-split form."""
    cosine, sine = turns
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat((-second, first), -1) * sine


class ToyModel(nn.Module):
    """The whole model: maps token ids to the logits of the next token."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        nn.init.normal_(self.embedding.weight, std=shape.width**-0.5)
        self.blocks = nn.ModuleList(TransformerBlock(shape) for _ in range(shape.layers))
        self.last = nn.RMSNorm(shape.width, shape.epsilon)
        angle = shape.base ** (-torch.arange(0, shape.head, 2).float() / shape.head)
        angles = torch.outer(torch.arange(shape.context).float(), angle).repeat(1, 2)
        self.cosine: Tensor
        self.sine: Tensor
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)

    def hidden_states(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input of the output layer for `tokens` [texts, tokens], and the experts' mean unevenness."""
        count = tokens.shape[1]
        turns = (self.cosine[:count, None], self.sine[:count, None])
        x = self.embedding(tokens)
        unevenness = x.new_zeros(())
        for block in self.blocks:
            x, _, uneven = block(x, turns)
            unevenness = unevenness + uneven / len(self.blocks)
        return self.last(x), unevenness

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits [texts, tokens, vocabulary]."""
        return F.linear(self.hidden_states(tokens)[0], self.embedding.weight)

    def step(self, tokens: Tensor, places: Tensor, past: Cache | None, mask: Tensor) -> tuple[Tensor, Cache]:
        """Return the logits of the last of `tokens` [texts, n] at `places` [texts, n], and all keys and values so far.

        `mask` [texts, 1, n, seen] is true where a token may attend.
        """
        turns = (self.cosine[places][:, :, None], self.sine[places][:, :, None])
        x = self.embedding(tokens)
        kept: Cache = []
        for place, block in enumerate(self.blocks):
            x, seen, _ = block(x, turns, past[place] if past else None, mask)
            kept.append(seen)
        return F.linear(self.last(x[:, -1]), self.embedding.weight), kept
