"""Sampling from a toy model in PyTorch: many prompts at once, with keys and values kept."""

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
    """Return what the model writes behind each prompt, without the end token.

    Args:
        model: the model; run in the precision of its weights.
        prompts: tokens of each prompt.
        temperature: 0 takes the likeliest token each time.
        seed: of the random numbers, which are drawn in the order of the prompts' lengths.
        longest: tokens after which a text is cut off.
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
    # Prompts stand to the right, so that all of them end at the same column.
    widest = max(map(len, prompts))
    tokens = torch.full((len(prompts), widest), PAD)
    for row, prompt in enumerate(prompts):
        tokens[row, widest - len(prompt) :] = torch.tensor(prompt)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    real = torch.arange(widest) >= (widest - lengths)[:, None]
    places = (torch.arange(widest) - (widest - lengths)[:, None]).clamp(min=0)
    mask = real[:, None, None, :] & torch.ones(widest, widest, dtype=torch.bool).tril()
    mask |= torch.eye(widest, dtype=torch.bool)  # padding looks at itself, since somewhere it has to look
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
        # Texts that have ended leave the batch.
        rows, chosen, seen = rows[going], chosen[going], seen[going]
        cache = [(key[going], value[going]) for key, value in cache] if not going.all() else cache
        seen = torch.cat((seen, torch.ones(len(rows), 1, dtype=torch.bool)), 1)
        logits, cache = model.step(chosen[:, None], (lengths[rows] + count)[:, None], cache, seen[:, None, None, :])
    return written


def _choose_tokens(logits: Tensor, temperature: float, chance: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits.float() / temperature).softmax(-1), 1, generator=chance).squeeze(-1)
