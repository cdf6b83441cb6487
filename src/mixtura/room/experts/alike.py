"""How similarly proposers of one MoE model choose experts: the toy model's own drafts, run through its own router.

Runs three drafts of one problem in NumPy and counts the distinct experts of a decode step for tokens of different
problems, of one problem at different positions, and of one problem at the same position.
"""

import tomllib
from collections.abc import Sequence
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixtura.errors import ConfigError
from mixtura.hardware import routing
from mixtura.models.toy.provider import folder
from mixtura.room.experts.toy_routing import MODELS, Choices, ToyRouter, questions

_DRAWN = 4000  # decode steps sampled for each mean


class DraftOverlap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distinct experts that `proposers` drafts activate in one decode step, mean over layers and steps.

    Attributes:
        proposers: drafts written at the same time.
        even: the expectation for independent tokens and an even router.
        apart: drafts of different problems.
        prompt: drafts of one problem at different positions, which share the prompt and little else.
        step: drafts of one problem at the same position, which write the same tokens as far as they agree.
        by_prompt: the correlation (`routing.effective_batch`) that reduces `apart` to `prompt`.
        by_step: the correlation that reduces `apart` to `step`.
    """

    proposers: int
    even: float
    apart: float
    prompt: float
    step: float
    by_prompt: float
    by_step: float


class _DraftFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    drafts: tuple[tuple[str, ...], ...]


def recorded_drafts() -> tuple[str, tuple[tuple[str, ...], ...]]:
    """Return the name of the toy model whose drafts ship with the package, and the drafts of each problem."""
    text = (files("mixtura.room") / "data" / "toy_drafts.toml").read_text("utf-8")
    found = msgspec.convert(tomllib.loads(text), _DraftFile)
    return found.model, found.drafts


def observe(problems: int | None = None, seed: int = 0) -> tuple[DraftOverlap, ...]:
    """Run the recorded drafts and count the experts that two or more of them activate together.

    Args:
        problems: how many of the recorded problems to use; None: all. A problem takes a tenth of a second.
        seed: seed of the sampled steps.

    Raises:
        ConfigError: there are fewer than two problems, so there is nothing to compare.
    """
    model, drafts = recorded_drafts()
    kept = drafts[:problems]
    if len(kept) < 2:
        raise ConfigError(f"{len(kept)} problem cannot be compared with others: give 2 to {len(drafts)}")
    assert model in MODELS, f"the drafts are of {model}, which is not a toy MoE model"
    router = ToyRouter(folder() / f"{model}.gguf")
    chosen = []
    for question, texts in zip(questions(len(kept)), kept, strict=True):
        start = len(router.tokens.prompt(question)) - 1  # from the token that generates the draft's first token
        read = {text: router.run(router.tokens.prompt(question, text))[1][:, start:] for text in dict.fromkeys(texts)}
        chosen.append([read[text] for text in texts])
    return describe(router.sizes.experts, chosen, seed)


def describe(experts: int, chosen: Sequence[Sequence[Choices]], seed: int = 0) -> tuple[DraftOverlap, ...]:
    """Return the overlap of the choices [layers, tokens, used] of drafts, by problem, with equally many drafts each."""
    used = chosen[0][0].shape[2]
    marked = [[_marks(draft, experts) for draft in drafts] for drafts in chosen]
    every = np.concatenate([draft for drafts in marked for draft in drafts], axis=1)
    popular = every.mean(axis=1)
    chance = np.random.default_rng(seed)
    return tuple(_overlap(many, (experts, used), marked, popular, chance) for many in range(2, len(chosen[0]) + 1))


def _marks(choices: Choices, experts: int) -> NDArray[np.bool_]:
    """Return which experts are activated [layers, tokens, experts]."""
    return np.asarray((choices[..., None] == np.arange(experts)).any(axis=2))


def _overlap(
    many: int,
    sizes: tuple[int, int],
    marked: Sequence[Sequence[NDArray[np.bool_]]],
    popular: NDArray[np.float64],
    chance: np.random.Generator,
) -> DraftOverlap:
    counts = {"apart": 0.0, "prompt": 0.0, "step": 0.0}
    for _ in range(_DRAWN):
        drafts = marked[int(chance.integers(len(marked)))]
        order = chance.permutation(len(drafts))[:many]
        place = int(chance.integers(min(drafts[at].shape[1] for at in order)))
        counts["step"] += _distinct([drafts[at][:, place] for at in order])
        counts["prompt"] += _distinct([_any(drafts[at], chance) for at in order])
        others = chance.permutation(len(marked))[:many]
        counts["apart"] += _distinct([_any(marked[at][int(chance.integers(len(marked[at])))], chance) for at in others])
    found = {name: count / _DRAWN for name, count in counts.items()}
    batch = np.linspace(1, many, 512)
    expected = np.mean([routing.distinct_given(batch, layer) for layer in popular], axis=0)

    def correlation(activated: float) -> float:
        # Relative to drafts of different problems, so that what all problems have in common does not count.
        alone, seen = (float(np.interp(each, expected, batch)) for each in (found["apart"], activated))
        return float(np.clip(1 - (seen - 1) / (alone - 1), 0, 1))

    even = float(routing.distinct(many, *sizes))
    return DraftOverlap(many, even, **found, by_prompt=correlation(found["prompt"]), by_step=correlation(found["step"]))


def _any(draft: NDArray[np.bool_], chance: np.random.Generator) -> NDArray[np.bool_]:
    """Return the experts activated at a random position of a draft."""
    return np.asarray(draft[:, int(chance.integers(draft.shape[1]))])


def _distinct(tokens: Sequence[NDArray[np.bool_]]) -> float:
    """Return the distinct experts of several tokens, each [layers, experts], mean over layers."""
    return float(np.any(tokens, axis=0).sum(axis=-1).mean())
