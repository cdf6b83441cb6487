"""Does a mixture help on questions that nothing was chosen by?

    python -m bench.held_out [--markdown | --from-recordings]

Recorded answers of real models are split into halves, every second question each. What is a matter of choice (which
models vote, how much a large model weighs against three small ones) is chosen on one half by its share of right
answers, and judged on the other; then the halves change places, so that every question is judged once.
`--from-recordings` makes the matrices of right and wrong answers anew, from recordings that may lie beside the clone.
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from bench.held_out.matrix import NONE, RIGHT, SOURCES, Matrix, from_recordings, read, write
from bench.tutorial.recorded import LARGE, SMALL
from mixtura.lab.statistics import mcnemar, p_in_words

WEIGHTS = (1.5, 2.5)
"""What the 70B's vote may count in a cascade: two small models that agree outvote it, or never do."""


class Answerer(NamedTuple):
    """A model, or a mixture of some: its name, whom it asks, and the answer it makes of theirs."""

    name: str
    models: tuple[str, ...]
    answer: Callable[[str], str]

    def right(self, matrix: Matrix) -> list[bool]:
        """Say for each question whether it answers it rightly."""
        return [self.answer(answers) == RIGHT for answers in matrix.answers(self.models)]


class Judged(NamedTuple):
    """The best model and the best mixture of one half, on the questions of the other; both halves together."""

    questions: str
    one: str
    mixture: str
    one_right: list[bool]
    mixture_right: list[bool]


def vote(answers: str, first: float = 1.0) -> str:
    """Return the answer with the most votes; of several the one that was given first.

    Args:
        answers: an answer a model, in the order of the models.
        first: what the vote of the first model counts; the others' count 1.
    """
    votes: dict[str, float] = {}
    for place, answer in enumerate(answers):
        if answer != NONE:
            votes[answer] = votes.get(answer, 0.0) + (1.0 if place else first)
    return max(votes, key=lambda answer: votes[answer], default=NONE)


def cascade(weight: float) -> Callable[[str], str]:
    """Return how a large model and three small ones answer: the large one votes where the small ones do not agree."""

    def answer(answers: str) -> str:
        small = answers[1:]
        agreed = small[0] != NONE and len(set(small)) == 1
        return small[0] if agreed else vote(answers, weight)

    return answer


def alone(model: str) -> Answerer:
    """Return the model as an answerer."""
    return Answerer(model, (model,), lambda answers: answers)


def small_mixtures() -> list[Answerer]:
    """Return what three small models and the 70B can be together."""
    cascades = [Answerer(f"cascade, the 70B counts {weight:g}", (LARGE, *SMALL), cascade(weight)) for weight in WEIGHTS]
    return [Answerer("vote of three small models", SMALL, vote), *cascades]


def votes_of_three(models: Iterable[str]) -> list[Answerer]:
    """Return the vote of every three of `models`."""
    return [Answerer(f"vote of {' + '.join(three)}", three, vote) for three in itertools.combinations(models, 3)]


def judge(questions: str, matrix: Matrix, ones: Sequence[Answerer], mixtures: Sequence[Answerer]) -> Judged:
    """Choose on each half the model and the mixture with the most right answers, and judge them on the other."""
    names: dict[str, list[str]] = {"one": [], "mixture": []}
    right: dict[str, list[bool]] = {"one": [], "mixture": []}
    for second in (False, True):
        chosen_on, judged_on = matrix.half(second), matrix.half(not second)
        for role, candidates in (("one", ones), ("mixture", mixtures)):
            best = max(candidates, key=lambda candidate: sum(candidate.right(chosen_on)))
            names[role].append(best.name)
            right[role] += best.right(judged_on)
    one, mixture = (", then ".join(dict.fromkeys(names[role])) for role in ("one", "mixture"))
    return Judged(questions, one, mixture, right["one"], right["mixture"])


def judged() -> list[Judged]:
    """Return the comparisons, each over all of its questions."""
    mmlu = read("mmlu")
    return [
        judge("grade-school word problems (GSM8K)", read("gsm8k"), [alone(LARGE)], small_mixtures()),
        judge("what a program returns (CRUXEval-O)", read("crux"), [alone(LARGE)], small_mixtures()),
        judge(
            "multiple choice (MMLU-Redux)",
            mmlu,
            [alone(model) for model in mmlu.models],
            votes_of_three(sorted(mmlu.models)),
        ),
    ]


def row(one: Judged) -> tuple[str, ...]:
    """Return the cells of one comparison."""
    count = len(one.one_right)
    paired = mcnemar(one.mixture_right, one.one_right)
    return (
        f"{one.questions}, {count:,}",
        f"{one.one}: {sum(one.one_right) / count:.3f}",
        f"{one.mixture}: {sum(one.mixture_right) / count:.3f}",
        f"{paired.only_first} : {paired.only_second}, {p_in_words(paired.p)}",
    )


HEADING = ("questions", "one model, share right", "mixture, share right", "only the mixture : only the model right")


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """Return the rows as a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADING, ["---"] * len(HEADING), *rows))


def main(args: Sequence[str] | None = None) -> None:
    """Print the comparisons, or make the matrices anew."""
    given = sys.argv[1:] if args is None else args
    if "--from-recordings" in given:
        for name in SOURCES:
            write(name, from_recordings(name))
        return
    rows = [row(one) for one in judged()]
    if "--markdown" in given:
        print(markdown(rows))
    else:
        for cells in rows:
            print(
                "\n  ".join(
                    f"{title}: {cell}" if title != HEADING[0] else cell
                    for title, cell in zip(HEADING, cells, strict=True)
                )
            )


if __name__ == "__main__":
    main()
