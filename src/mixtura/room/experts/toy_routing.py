"""The experts that the package's toy MoE models choose on held-out problems, compared with the routing models.

The models run in NumPy from their GGUF files (llama.cpp's `qwen3moe`), so that each router's choices are visible.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixtura.errors import ConfigError
from mixtura.hardware import routing
from mixtura.models.toy.provider import folder
from mixtura.room.experts.weights import Floats, GgufModel, Value, read

Choices = NDArray[np.int64]

MODELS = ("toy-moe-a", "toy-moe-b")
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 32)
_DRAWN = 400  # batches averaged for a measured D(B)
_USER, _ASSISTANT = "<|user|>", "<|assistant|>"
# llama.cpp's pre-tokenizer `llama-bpe`, with \p{L} and \p{N} in the syntax of the standard library.
_PIECES = re.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|(?:[^\r\n\w]|_)?[^\W\d_]+|\d{1,3}| ?(?:[^\s\w]|_)+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class ActivatedExperts(msgspec.Struct, frozen=True):
    """Distinct experts in a batch, mean over layers.

    `apart` counts tokens of different problems, `together` consecutive tokens of one text. `even` is the uniform D(B),
    `power_law` that of the fitted alpha of each layer, `popularity` that of the experts' own frequencies.
    `correlation` reduces `popularity` to `together`: it measures how similarly the tokens of one text choose, beyond
    what all texts have in common; see `routing.effective_batch`.
    """

    tokens: int
    apart: float
    together: float
    even: float
    power_law: float
    popularity: float
    correlation: float


class LayerSkew(msgspec.Struct, frozen=True):
    """The skew of one layer's router: each expert's share of the choices, and statistics of these shares."""

    layer: int
    shares: tuple[float, ...]
    alpha: float
    entropy: float
    gini: float


class RoutingObservation(msgspec.Struct, frozen=True):
    """The observed routing of one model: experts, experts per token, problems and tokens read, skew, D(B)."""

    model: str
    experts: int
    used: int
    problems: int
    tokens: int
    layers: tuple[LayerSkew, ...]
    activated: tuple[ActivatedExperts, ...]


class _RouterSizes(NamedTuple):
    layers: int
    heads: int
    shared: int
    head: int
    experts: int
    used: int
    base: float
    epsilon: float


class ToyTokenizer:
    """A model's tokenizer: a piece of text is one token if the vocabulary contains it, else one token per byte."""

    def __init__(self, model: GgufModel) -> None:
        listed = model.values.get("tokenizer.ggml.tokens")
        if not isinstance(listed, list):
            raise ConfigError("the file has no vocabulary: give a complete model")
        self.names = [str(token) for token in listed]
        self.number = {name: place for place, name in enumerate(self.names)}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text."""
        found: list[int] = []
        for piece in _PIECES.findall(text):
            word = "".join(_LETTERS[byte] for byte in piece.encode())
            found += [self.number[word]] if word in self.number else [self.number[letter] for letter in word]
        return found

    def prompt(self, question: str, solution: str = "") -> list[int]:
        """Return the token ids of a question and a solution in the models' chat template."""
        return [self.number[_USER], *self.encode(question), self.number[_ASSISTANT], *self.encode(solution)]


def _letters() -> list[str]:
    """Return the printable letter of each byte in a byte-level vocabulary such as GPT-2's."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


_LETTERS = _letters()


class ToyRouter:
    """A `qwen3moe` model in NumPy that returns logits and the choices of each layer's router."""

    def __init__(self, path: Path) -> None:
        model = read(path)
        if model.values.get("general.architecture") != "qwen3moe":
            raise ConfigError(
                f"{path.name} is not of the architecture qwen3moe: give a mixture-of-experts model of that architecture"
            )
        self.tokens = ToyTokenizer(model)
        self.sizes = _sizes(model.values)
        self._weights = model.tensors

    def run(self, tokens: Sequence[int]) -> tuple[Floats, Choices]:
        """Return the logits [tokens, vocabulary] of one text, and the experts chosen [layers, tokens, used]."""
        weights, sizes = self._weights, self.sizes
        x = weights["token_embd.weight"][np.asarray(tokens)]
        chosen = []
        for layer in range(sizes.layers):
            x = x + self._attention(layer, x)
            added, best = self._experts(layer, _rms_norm(x, weights[f"blk.{layer}.ffn_norm.weight"], sizes.epsilon))
            x = x + added
            chosen.append(best)
        last = _rms_norm(x, weights["output_norm.weight"], sizes.epsilon)
        head = weights.get("output.weight", weights["token_embd.weight"])
        return last @ head.T, np.stack(chosen)

    def _attention(self, layer: int, x: Floats) -> Floats:
        sizes, count = self.sizes, len(x)

        def part(name: str) -> Floats:
            return self._weights[f"blk.{layer}.attn_{name}.weight"]

        normed = _rms_norm(x, part("norm"), sizes.epsilon)
        query = _rms_norm((normed @ part("q").T).reshape(count, -1, sizes.head), part("q_norm"), sizes.epsilon)
        key = _rms_norm((normed @ part("k").T).reshape(count, -1, sizes.head), part("k_norm"), sizes.epsilon)
        value = (normed @ part("v").T).reshape(count, -1, sizes.head)
        query, key = _rotate(query, sizes.base), _rotate(key, sizes.base)
        key, value = (np.repeat(each, sizes.heads // sizes.shared, axis=1) for each in (key, value))
        scores = np.einsum("qhd,khd->hqk", query, key) / np.float32(np.sqrt(sizes.head))
        scores = np.where(np.tril(np.ones((count, count), dtype=bool)), scores, -np.inf)
        seen = np.einsum("hqk,khd->qhd", _softmax(scores), value).reshape(count, -1)
        return np.asarray(seen @ part("output").T)

    def _experts(self, layer: int, x: Floats) -> tuple[Floats, Choices]:
        def part(name: str) -> Floats:
            return self._weights[f"blk.{layer}.ffn_{name}.weight"]

        chances = _softmax(x @ part("gate_inp").T)
        best = np.argsort(-chances, axis=1, kind="stable")[:, : self.sizes.used]
        kept = np.take_along_axis(chances, best, axis=1)
        shares = kept / kept.sum(axis=1, keepdims=True)
        found = np.zeros_like(x)
        for expert in range(self.sizes.experts):
            rows, places = np.nonzero(best == expert)
            gate = x[rows] @ part("gate_exps")[expert].T
            inner = gate / (1 + np.exp(-gate)) * (x[rows] @ part("up_exps")[expert].T)
            found[rows] += inner @ part("down_exps")[expert].T * shares[rows, places, None]
        return found, best


def _sizes(values: dict[str, Value]) -> _RouterSizes:
    def figure(name: str) -> float:
        value = values.get(f"qwen3moe.{name}")
        if not isinstance(value, int | float):
            raise ConfigError(f"the file has no {name}: give a complete model")
        return value

    counts = ("block_count", "attention.head_count", "attention.head_count_kv", "attention.key_length")
    experts = ("expert_count", "expert_used_count")
    layers, heads, shared, head, many, used = (int(figure(name)) for name in (*counts, *experts))
    base, epsilon = figure("rope.freq_base"), figure("attention.layer_norm_rms_epsilon")
    return _RouterSizes(layers, heads, shared, head, many, used, base, epsilon)


def _rms_norm(x: Floats, weight: Floats, epsilon: float) -> Floats:
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(epsilon)) * weight)


def _rotate(x: Floats, base: float) -> Floats:
    """Apply rotary position embedding to the halves of each head; `x` is [tokens, heads, head]."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x))[:, None] * base ** (-np.arange(half) / half)
    cosine, sine = (part.astype(np.float32)[:, None] for part in (np.cos(angles), np.sin(angles)))
    first, second = x[..., :half], x[..., half:]
    return np.concatenate((first * cosine - second * sine, second * cosine + first * sine), axis=-1)


def _softmax(x: Floats) -> Floats:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def questions(count: int) -> list[str]:
    """Return the first held-out problems of the package."""
    lines = (folder() / "problems.jsonl").read_bytes().splitlines()[:count]
    return [msgspec.json.decode(line)["question"] for line in lines]


def observe(
    model: str = MODELS[0], *, texts: Sequence[str] = (), problems: int = 40, seed: int = 0
) -> RoutingObservation:
    """Run a toy MoE model over problems and return the choices of its routers.

    Args:
        model: its name, or the path of another qwen3moe file.
        texts: the texts to read; empty: the first held-out problems of the package.
        problems: how many of those problems.
        seed: seed of the sampled batches.

    Raises:
        ConfigError: there is no such model, or no text.
    """
    path = folder() / f"{model}.gguf" if model in MODELS else Path(model)
    router = ToyRouter(path)
    read_texts = list(texts) or questions(problems)
    if not read_texts:
        raise ConfigError("no text to read: give at least one problem")
    chosen = [router.run(router.tokens.prompt(text))[1] for text in read_texts]
    return describe(model, router.sizes.experts, chosen, seed)


def describe(model: str, experts: int, chosen: Sequence[Choices], seed: int = 0) -> RoutingObservation:
    """Return the skew by layer and D(B) of the choices [layers, tokens, used] of several texts."""
    every = np.concatenate(chosen, axis=1)
    used = every.shape[2]
    skews, popular = [], []
    for layer, choices in enumerate(every):
        counts = np.bincount(choices.ravel(), minlength=experts)
        shares = tuple(float(share) for share in counts / counts.sum())
        skew = routing.fitted_alpha(counts), routing.entropy(counts), routing.gini(counts)
        skews.append(LayerSkew(layer, shares, *skew))
        popular.append(np.minimum(1.0, counts / every.shape[1]))
    rng = np.random.default_rng(seed)
    activated = [
        _activation(tokens, experts, used, chosen, (skews, popular), rng)
        for tokens in BATCHES
        if tokens <= min(len(chosen), *(each.shape[1] for each in chosen))
    ]
    return RoutingObservation(model, experts, used, len(chosen), every.shape[1], tuple(skews), tuple(activated))


def _activation(
    tokens: int,
    experts: int,
    used: int,
    chosen: Sequence[Choices],
    skewed: tuple[Sequence[LayerSkew], Sequence[NDArray[np.float64]]],
    rng: np.random.Generator,
) -> ActivatedExperts:
    apart, together = [], []
    for _ in range(_DRAWN):
        texts = rng.choice(len(chosen), tokens, replace=False)
        picked = [chosen[text][:, int(rng.integers(chosen[text].shape[1]))] for text in texts]
        apart.append(_distinct(np.concatenate(picked, axis=1)))
        one = chosen[int(rng.integers(len(chosen)))]
        start = int(rng.integers(one.shape[1] - tokens + 1))
        together.append(_distinct(one[:, start : start + tokens].reshape(len(one), -1)))
    even = float(routing.distinct(tokens, experts, used))
    seen = float(np.mean(together))
    batch = np.linspace(1, tokens, 512)
    expected = np.mean([routing.distinct_given(batch, each) for each in skewed[1]], axis=0)
    alone = float(np.interp(seen, expected, batch))
    return ActivatedExperts(
        tokens=tokens,
        apart=float(np.mean(apart)),
        together=seen,
        even=even,
        power_law=_mean(float(routing.distinct_skewed(tokens, experts, used, each.alpha)) for each in skewed[0]),
        popularity=float(expected[-1]),
        correlation=1 - (alone - 1) / (tokens - 1) if tokens > 1 else 0.0,
    )


def _distinct(choices: Choices) -> float:
    """Return the distinct experts in `choices` [layers, ...], mean over layers."""
    return _mean(len(np.unique(row)) for row in choices)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
