"""Training: batches of similar length, Muon for matrices, AdamW for the rest, and a learning rate that falls to 0."""

import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model import ToyModel
from training.vocabulary import PAD

_PAD_MULTIPLE = 16  # batches are padded to a multiple of this many tokens
_BALANCE_WEIGHT = 0.01  # weight of the experts' unevenness in the loss


class TrainingText(NamedTuple):
    """A prompt and the text to learn after it, as tokens."""

    prompt: Sequence[int]
    target: Sequence[int]


class TrainingProgress(NamedTuple):
    """The progress of a training: the share done, tokens, operations (forward and backward), recent loss, seconds."""

    share: float
    tokens: int
    operations: float
    loss: float
    seconds: float


def batches(texts: Sequence[TrainingText], size: int, rng: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the texts in random order, in batches of about `size` tokens.

    A batch is a pair of tensors [texts, tokens]: the tokens, and the targets, which are -100 where nothing is to be
    learned. Texts of similar length share a batch, so that there is little padding.
    """
    order = sorted(range(len(texts)), key=lambda place: (len(texts[place][0]) + len(texts[place][1]), rng.random()))
    groups: list[list[int]] = []
    at = 0
    while at < len(order):
        # The longest text of the group decides its size. Neighbours differ little in length.
        longest = _padded_length(texts[order[min(at + size // 64, len(order) - 1)]])
        count = max(1, size // longest)
        groups.append(order[at : at + count])
        at += count
    rng.shuffle(groups)
    for group in groups:
        longest = max(_padded_length(texts[place]) for place in group)
        tokens = torch.full((len(group), longest), PAD)
        wanted = torch.full((len(group), longest), -100)
        for row, place in enumerate(group):
            prompt, target = texts[place]
            whole = torch.tensor([*prompt, *target])
            tokens[row, : len(whole)] = whole
            # The model predicts token i + 1 at position i.
            wanted[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
        yield tokens, wanted


def _padded_length(text: TrainingText) -> int:
    return math.ceil((len(text[0]) + len(text[1])) / _PAD_MULTIPLE) * _PAD_MULTIPLE


class Trainer:
    """Trains a model. `rate` scales the learning rates of both optimisers."""

    def __init__(self, model: ToyModel, *, rate: float = 1.0) -> None:
        self.model = model
        matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embedding" not in name]
        experts = [weight for weight in model.parameters() if weight.ndim == 3]
        taken = {id(weight) for weight in matrices}
        others = [weight for weight in model.parameters() if id(weight) not in taken and weight.ndim < 3]
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=0.015 * rate, momentum=0.95, weight_decay=0.01),
            torch.optim.AdamW(others, lr=0.003 * rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        if experts:
            self._optimisers.append(torch.optim.AdamW(experts, lr=0.003 * rate, betas=(0.9, 0.98), weight_decay=0.01))
        self._rates = [group["lr"] for optimiser in self._optimisers for group in optimiser.param_groups]

    def train(
        self,
        texts: Sequence[TrainingText],
        *,
        size: int,
        seed: int,
        note: Callable[[TrainingProgress], None] | None = None,
    ) -> TrainingProgress:
        """Train one epoch over `texts` in batches of `size` tokens, and return the final progress."""
        begun = time.perf_counter()
        total = sum(len(text[0]) + len(text[1]) for text in texts)
        seen, operations, late = 0, 0.0, math.nan
        progress = TrainingProgress(0.0, 0, 0.0, math.nan, 0.0)
        for step, (tokens, wanted) in enumerate(batches(texts, size, random.Random(seed)), start=1):
            self._set_rate(seen / total)
            loss, unevenness = _autocast_loss(self.model, tokens, wanted)
            torch.autograd.backward(loss + _BALANCE_WEIGHT * unevenness)
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimiser in self._optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            count = int((tokens != PAD).sum())
            seen += count
            operations += 3 * count * self.model.shape.operations(tokens.shape[1])
            value = float(loss.detach())
            late = value if math.isnan(late) else 0.98 * late + 0.02 * value
            progress = TrainingProgress(seen / total, seen, operations, late, time.perf_counter() - begun)
            if note is not None and step % 100 == 0:
                note(progress)
        return progress

    def _set_rate(self, share: float) -> None:
        """Warm up over the first 2 % of the training, then decay linearly to 0."""
        factor = min(1.0, share / 0.02 + 0.01) * (1.0 - share)
        rates = iter(self._rates)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = next(rates) * factor


def _autocast_loss(model: ToyModel, tokens: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss, with matrix products in bfloat16."""
    with warnings.catch_warnings(), torch.autocast("cpu", dtype=torch.bfloat16):
        # Norms keep their weights in float32 on purpose. PyTorch warns that its fused path does not apply.
        warnings.filterwarnings("ignore", message="Mismatch dtype")
        return _loss(model, tokens, wanted)


def _loss(model: ToyModel, tokens: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    hidden, unevenness = model.hidden_states(tokens)
    kept = wanted.flatten() >= 0
    # Only tokens with a target go through the output layer.
    logits = F.linear(hidden.flatten(0, 1)[kept], model.embedding.weight)
    return F.cross_entropy(logits.float(), wanted.flatten()[kept]), unevenness
