"""What the simulated models say: what real models wrote to recorded questions, rights and wrongs mixed as told."""

import functools
import random
import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.chaos.scenarios import CHOICE, FENCED, RANKING
from mixtura.chat import JsonObject
from mixtura.engine.answers import extract, normal
from mixtura.models.recorded import RecordedQuestion, RecordingIndex
from mixtura.sim import Reply
from mixtura.sim.replies import last_user_text

SHARED = Path(__file__).resolve().parents[2] / "../shared/data/recordings/gsm8k-dev.jsonl.gz"
THOUGHT = "Xanthippe"
"""Stands in every thought, and nowhere else: it must never be read as part of an answer, or by another model."""

# Characters that are left of a recorded explanation, its last ones: a scenario costs what its pieces cost.
_KEPT = 130
_FEWEST = 12
_TAG = re.compile(r"<(\w+) (?:choice|ranking)>")
_LABEL = re.compile(r"^<\w+ draft (\w+)>$", re.MULTILINE)


class Question(NamedTuple):
    """A question, its right answer in normal form, and what models wrote to it."""

    text: str
    gold: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


@functools.cache
def questions() -> tuple[Question, ...]:
    """Return recorded questions that some models got right and some wrong; without recordings a dozen of our own."""
    if SHARED.is_file():
        found = [_question(row) for row in RecordingIndex.load(SHARED).rows]
        mixed = [one for one in found if one is not None and len(one.right) > 1 and one.wrong]
        if len(mixed) >= _FEWEST:
            return tuple(mixed)
    with as_file(files("mixtura.cli") / "demo_questions.jsonl") as path:
        own = [_question(row) for row in RecordingIndex.load(path).rows]
    return tuple(one for one in own if one is not None and one.right and one.wrong)


def _question(row: RecordedQuestion) -> Question | None:
    if not row.answer:
        return None
    gold = normal(row.answer)
    answers = {text: extract(text) for text in map(_shortened, row.outputs.values()) if text}
    right = tuple(sorted(text for text in answers if answers[text] == gold))
    wrong = tuple(sorted(text for text in answers if answers[text] and answers[text] != gold))
    return Question(row.prompt or row.question, gold, right, wrong)


def _shortened(text: str) -> str:
    """Return a recorded draft with the end of its explanation only; "" for one in another form."""
    if len(text) <= 2 * _KEPT:
        return text
    try:
        said = msgspec.json.decode(text, type=_Recorded)
    except msgspec.DecodeError:
        return ""
    return msgspec.json.encode(_Recorded(reasoning=said.reasoning[-_KEPT:], answer=said.answer)).decode()


class _Recorded(msgspec.Struct):
    """The form that the recorded models were asked to answer in."""

    reasoning: str
    answer: str


class Speaker:
    """The models of one scenario.

    Args:
        question: what they are asked.
        quality: the share of right drafts.
        aloud: whether those that are not asked for their thinking write it into the text.
        rng: throws the dice.
    """

    def __init__(self, question: Question, quality: float, aloud: bool, rng: random.Random) -> None:
        self._question = question
        self._quality = quality
        self._aloud = aloud
        self._rng = rng

    def reply(self, request: JsonObject, _call: int) -> Reply:
        """Return what the model says to `request`; the rest of the fields the cloud makes up."""
        prompt = last_user_text(request)
        reads = FENCED in prompt
        text = self._draft()
        if CHOICE in prompt:
            text = self._choice(prompt)
        elif RANKING in prompt:
            text = self._ranking(prompt)
        elif reads and self._rng.random() < 0.2:
            text = f"Based on the drafts above, {text}"
        thought = f"{THOUGHT} wonders. " * self._rng.randint(1, 3)
        if "reasoning_format" in request or "include_reasoning" in request:
            return Reply(text=text, reasoning=thought)
        return Reply(text=f"<think>\n{thought}\n</think>\n\n{text}" if self._aloud else text)

    def _draft(self) -> str:
        asked = self._question
        return self._rng.choice(asked.right if self._rng.random() < self._quality else asked.wrong)

    def _choice(self, prompt: str) -> str:
        if self._rng.random() < 0.15:
            return "They are all much the same to me."
        tag, letters = _marks(prompt)
        return f"I compared them. <{tag} choice>{self._rng.choice(letters)}</{tag} choice>"

    def _ranking(self, prompt: str) -> str:
        if self._rng.random() < 0.15:
            return "I would rather not rank anybody."
        tag, letters = _marks(prompt)
        return f"One reason each. <{tag} ranking>{' > '.join(self._rng.sample(letters, len(letters)))}</{tag} ranking>"


def _marks(prompt: str) -> tuple[str, list[str]]:
    tag = _TAG.findall(prompt)[-1]
    return tag, _LABEL.findall(prompt)
