"""The aggregator's training texts: questions with drafts that the proposers wrote."""

import random
from collections.abc import Sequence

from training.learn import TrainingText
from training.model import ToyModel
from training.problems import WordProblem
from training.sample import sample
from training.vocabulary import Vocabulary

_PASSES = 3  # how often a problem is used whose drafts give different answers
_SHARE_WITHOUT_DRAFTS = 0.4  # of the questions, so that the aggregator also learns to answer alone


def write_drafts(
    model: ToyModel, vocabulary: Vocabulary, problems: Sequence[WordProblem], *, temperature: float, seed: int
) -> list[str]:
    """Return a draft by `model` for each problem, sampled at `temperature`."""
    prompts = [vocabulary.prompt(problem.question) for problem in problems]
    return [vocabulary.decode(tokens) for tokens in sample(model, prompts, temperature=temperature, seed=seed)]


def make_lessons(
    vocabulary: Vocabulary, problems: Sequence[WordProblem], drafts: Sequence[Sequence[str]], *, seed: int
) -> list[TrainingText]:
    """Return training texts, each with a question, its drafts in random order, and its solution.

    A problem whose drafts all give the same answer teaches little, so it is used only once.

    Args:
        vocabulary: encodes the texts.
        problems: the problems.
        drafts: for each proposer, its draft of each problem.
        seed: seeds the order of the drafts and the choice of questions without drafts.
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
