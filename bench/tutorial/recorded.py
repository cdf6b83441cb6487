"""Compares mixtures with the 70B alone on recorded answers of real models, run through the engine."""

import asyncio
import math
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.tutorial.asking import ClaimRow
from mixtura import Aggregator, Layer, Mixture, ModelCard, Policy, Proposer, Recipe
from mixtura.engine import answers
from mixtura.models.recorded import RecordedModel, RecordedQuestion, RecordingIndex
from mixtura.models.served import Served

FOLDER = Path(__file__).resolve().parents[2] / "../shared/data/recordings"
SMALL = ("llama-3.1-8b-instruct", "gemma-2-9b-it", "qwen2-7b-instruct")
LARGE = "llama-3.1-70b-instruct"
_DRAFTERS = Layer(proposers=tuple(Proposer(model=model, provider="recorded") for model in SMALL))
_LARGE = Layer(proposers=(Proposer(model=LARGE, provider="recorded", weight=1.5),))
VOTE = Recipe(name="vote of three", layers=(_DRAFTERS,), aggregator=Aggregator(kind="vote"))
CASCADE = msgspec.structs.replace(
    VOTE, name="cascade", escalate=_LARGE, policy=Policy(stop_when_agree=True, deadline=600.0)
)
SINGLE = Recipe(name="70B alone", layers=(_LARGE,))


class RecordedModels:
    """Serves every model from the recordings."""

    def __init__(self, recordings: RecordingIndex) -> None:
        self._model = RecordedModel(recordings)

    def find(self, provider: str, model: str) -> Served:
        """Return the recorded model."""
        return Served(self._model, self.card(provider, model))

    def card(self, provider: str, model: str) -> ModelCard:
        """Return a card that holds only the name."""
        return ModelCard(id=model, provider=provider)

    def replacement(self, provider: str, model: str) -> str | None:
        """Return None: a recorded model has no replacement."""
        return None


class RecipeMarks(NamedTuple):
    """A recipe's results per question: right by our extraction, right by the recordings' own grader, and calls."""

    ours: tuple[bool, ...]
    graded: tuple[bool, ...]
    calls: tuple[int, ...]

    @property
    def shares(self) -> str:
        """Both shares of right answers, as text."""
        return f"{sum(self.ours) / len(self.ours):.3f} ({sum(self.graded) / len(self.graded):.3f} by its grader)"


async def mark(recipe: Recipe, recordings: RecordingIndex) -> RecipeMarks:
    """Ask every recorded question and mark the answers."""
    mixture = Mixture(recipe, models=RecordedModels(recordings))
    ours, graded, calls = [], [], []
    for row in recordings.rows:
        answer = await mixture.ask(row.prompt or row.question)
        asks = answers.expected_by(row.question) or "number"
        ours.append(answers.is_right(answer.text, row.answer, asks))
        author = next(draft.model for draft in answer.drafts if draft.call == answer.source)
        graded.append(row.graded[author])
        calls.append(answer.n_calls)
    return RecipeMarks(tuple(ours), tuple(graded), tuple(calls))


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p-value of an exact sign test."""
    total = better + worse
    tail = sum(math.comb(total, count) for count in range(max(better, worse), total + 1))
    return min(1.0, float(2 * tail / (1 << total)))


def _row(name: str, recordings: RecordingIndex) -> ClaimRow:
    marks = {recipe.name: asyncio.run(mark(recipe, recordings)) for recipe in (VOTE, CASCADE, SINGLE)}
    vote, cascade, single = marks.values()
    better = sum(mine and not other for mine, other in zip(cascade.ours, single.ours, strict=True))
    worse = sum(other and not mine for mine, other in zip(cascade.ours, single.ours, strict=True))
    escalated = sum(calls > len(SMALL) for calls in cascade.calls) / len(cascade.calls)
    chance = sign_test(better, worse)
    verdict = ("better" if better > worse else "worse") + (" than the 70B" if chance < 0.05 else ", not significantly")
    return ClaimRow(
        f"MoA consistently outperforms a single 70B ({name}, {len(recordings.rows)} questions)",
        f"70B alone {single.shares}; vote of three small {vote.shares}; cascade {cascade.shares}, which asks the "
        f"70B about {escalated:.0%}; only the cascade right {better}, only the 70B {worse}, p = {chance:.2g}",
        verdict,
    )


def rows() -> tuple[list[ClaimRow], list[str]]:
    """Return the rows of this module and the names of the omitted ones."""
    found: list[ClaimRow] = []
    missing: list[str] = []
    for name, file in (("GSM8K", "gsm8k-dev.jsonl.gz"), ("CRUXEval-O", "crux-dev.jsonl.gz")):
        if (FOLDER / file).is_file():
            found.append(_row(name, _complete(RecordingIndex.load(FOLDER / file))))
        else:
            missing.append(f"mixture against the 70B on {name} (no recordings)")
    return found, missing


def _complete(recordings: RecordingIndex) -> RecordingIndex:
    def whole(row: RecordedQuestion) -> bool:
        return all(model in row.outputs and model in row.graded for model in (*SMALL, LARGE))

    return RecordingIndex(row for row in recordings.rows if whole(row))
