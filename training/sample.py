"""Samples from a toy model in PyTorch: many prompts per batch, with a key-value cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.model import ToyModel
from training.vocabulary import END, PAD

_BATCH = 384


@torch.inference_mode()
def sample(
    model: ToyModel, prompts: Sequence[Sequence[int]], *, temperature: float, seed: int, longest: int = 120
) -> list[list[int]]:
    """Return the model's completion of each prompt, without the end token.

    Args:
        model: the model. It runs in the precision of its weights.
        prompts: the tokens of each prompt.
        temperature: 0 decodes greedily.
        seed: seeds the random numbers, which are drawn in the order of the prompts' lengths.
        longest: the number of tokens after which a completion is cut off.
    """
    chance = torch.Generator().manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    written: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        for place, tokens in zip(
            places, _sample_batch(model, [prompts[at] for at in places], temperature, chance, longest), strict=True
        ):
            written[place] = tokens
    return written


def _sample_batch(
    model: ToyModel, prompts: Sequence[Sequence[int]], temperature: float, chance: torch.Generator, longest: int
) -> list[list[int]]:
    # Pad on the left, so that all prompts end at the same column.
    widest = max(map(len, prompts))
    tokens = torch.full((len(prompts), widest), PAD)
    for row, prompt in enumerate(prompts):
        tokens[row, widest - len(prompt) :] = torch.tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    real = torch.arange(widest) >= (widest - lengths)[:, None]
    places = (torch.arange(widest) - (widest - lengths)[:, None]).clamp(min=0)
    mask = real[:, None, None, :] & torch.ones(widest, widest, dtype=torch.bool).tril()
    mask |= torch.eye(
        widest, dtype=torch.bool
    )  # padding attends to itself: a row without any true entry would give NaN
    logits, cache = model.step(tokens, places, None, mask)
    seen = real
    written: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(len(prompts))
    for count in range(longest):
        chosen = _choose_tokens(logits, temperature, chance)
        going = chosen != END
        for row, token in zip(rows[going].tolist(), chosen[going].tolist(), strict=True):
            written[row].append(token)
        if not going.any():
            break
        # Finished texts leave the batch.
        rows, chosen, seen = rows[going], chosen[going], seen[going]
        cache = [(key[going], value[going]) for key, value in cache] if not going.all() else cache
        seen = torch.cat((seen, torch.ones(len(rows), 1, dtype=torch.bool)), 1)
        logits, cache = model.step(chosen[:, None], (lengths[rows] + count)[:, None], cache, seen[:, None, None, :])
    return written


def _choose_tokens(logits: Tensor, temperature: float, chance: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=chance).squeeze(-1)
