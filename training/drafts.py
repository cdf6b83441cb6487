"""What an aggregator is trained on: questions with drafts that the proposers really wrote."""

import random
from collections.abc import Sequence

from training.learn import TrainingText
from training.model import ToyModel
from training.problems import WordProblem
from training.sample import sample
from training.vocabulary import Vocabulary

_PASSES = 3  # times that a problem is shown whose drafts come to different answers
_SHARE_WITHOUT_DRAFTS = 0.4  # share of questions without drafts, so that the aggregator can answer alone as well


def write_drafts(
    model: ToyModel, vocabulary: Vocabulary, problems: Sequence[WordProblem], *, temperature: float, seed: int
) -> list[str]:
    """Return what `model` drafts for each problem."""
    prompts = [vocabulary.prompt(problem.question) for problem in problems]
    return [vocabulary.decode(tokens) for tokens in sample(model, prompts, temperature=temperature, seed=seed)]


def make_lessons(
    vocabulary: Vocabulary, problems: Sequence[WordProblem], drafts: Sequence[Sequence[str]], *, seed: int
) -> list[TrainingText]:
    """Return lessons: a question, its drafts in random order, its solution.

    Where all drafts come to the same answer there is little to learn: such a problem is shown once.

    Args:
        vocabulary: turns text into tokens.
        problems: what was asked.
        drafts: for each proposer, its draft of each problem.
        seed: of the order and of which questions get no drafts.
    """
    rng = random.Random(seed)
    found = []
    for number in range(_PASSES):
        for problem, theirs in zip(problems, zip(*drafts, strict=True), strict=True):
            if number and len({text.rpartition("\n")[2] for text in theirs}) == 1:
                continue
            shown = rng.sample(theirs, len(theirs)) if rng.random() >= _SHARE_WITHOUT_DRAFTS else []
            found.append(TrainingText(vocabulary.prompt(problem.question, shown), vocabulary.target(problem)))
    return found
