"""What the simulated models say: drafts of word problems, rights and wrongs mixed as told."""

import functools
import random
import re
from typing import NamedTuple

from bench.chaos.scenarios import CHOICE, FENCED, RANKING
from bench.word_problems import answered
from mixtura.chat import JsonObject
from mixtura.engine.answers import extract, normal
from mixtura.models.recorded import RecordedQuestion
from mixtura.sim import Reply
from mixtura.sim.replies import last_user_text

THOUGHT = "Xanthippe"
"""Stands in every thought, and nowhere else: it must never be read as part of an answer, or by another model."""

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
    """Return the questions that several models get right and at least one gets wrong."""
    found = map(_question, answered())
    return tuple(one for one in found if len(one.right) > 1 and one.wrong)


def _question(row: RecordedQuestion) -> Question:
    gold = normal(row.answer)
    answers = {text: extract(text) for text in row.outputs.values()}
    right = tuple(sorted(text for text in answers if answers[text] == gold))
    wrong = tuple(sorted(text for text in answers if answers[text] and answers[text] != gold))
    return Question(row.question, gold, right, wrong)


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
