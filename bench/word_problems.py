"""Word problems of our own with answers of nine models, for tests and tables that need no recorded texts.

Questions and their solutions are generated (`training/problems.py`) and templates write the drafts. Only figures come
from real models: which of them are right about how many questions, and which agree on a wrong answer
(`answer_patterns.csv`).
"""

import csv
import functools
import json
import random
import re
from pathlib import Path

from training.problems import WordProblem, make

from mixtura.models.recorded import RecordedQuestion

MODELS = (
    *("llama-3.1-8b-instruct", "gemma-2-9b-it", "qwen2-7b-instruct", "mistral-nemo-instruct-2407"),
    *("mixtral-8x7b-instruct-v0.1", "phi-3.5-mini-instruct", "llama-3.1-70b-instruct", "llama-3.1-405b-instruct"),
    "gpt-4o-mini-2024-07-18",
)
"""The recorded models, in the order of a pattern's letters."""

_PATTERNS = Path(__file__).with_name("answer_patterns.csv")
_STEP = re.compile(r"(\d+)([-+*/])(\d+)=(\d+)")
_SLIPS = tuple(sign * digit * place for sign in (-1, 1) for digit in (1, 2, 3) for place in (1, 10, 100))
_FENCED = ("gemma-2-9b-it", "mistral-nemo-instruct-2407", "phi-3.5-mini-instruct", "gpt-4o-mini-2024-07-18")
_LINKS = ("First", "Then", "After that", "Next", "So", "Now", "From this", "In the next step")


@functools.cache
def patterns() -> tuple[str, ...]:
    """Return the pattern of each question: a letter a model, A where it is right, small where nothing is stated."""
    lines = [line for line in _PATTERNS.read_text("utf-8").splitlines() if not line.startswith("#")]
    found = [row["pattern"] for row in csv.DictReader(lines) for _ in range(int(row["questions"]))]
    random.Random("patterns").shuffle(found)
    return tuple(found)


@functools.cache
def answered() -> tuple[RecordedQuestion, ...]:
    """Return a question for each pattern, with what every model writes to it; the same on each call."""
    return tuple(_answered(place, pattern) for place, pattern in enumerate(patterns()))


def _answered(place: int, pattern: str) -> RecordedQuestion:
    problem, rng = make(place), random.Random(f"drafts {place}")
    worked = {"A": solution(problem, rng, slip=False)}
    for letter in sorted(set(pattern.upper()) - {"A", "-"}):
        worked[letter] = solution(problem, rng, slip=True)
        while worked[letter][1] in [answer for other, (_, answer) in worked.items() if other != letter]:
            worked[letter] = solution(problem, rng, slip=True)
    return RecordedQuestion(
        id=f"own-{place:03}",
        question=problem.question,
        answer=str(problem.answer),
        outputs={
            model: _draft(model, letter, *worked.get(letter.upper(), ((), 0)), rng)
            for model, letter in zip(MODELS, pattern, strict=True)
        },
        graded={model: letter in "Aa" for model, letter in zip(MODELS, pattern, strict=True)},
    )


def solution(problem: WordProblem, rng: random.Random, *, slip: bool) -> tuple[tuple[str, ...], int]:
    """Return the steps of a solution and what they come to; with a slip one is miscalculated and the rest follow it."""
    at = rng.randrange(len(problem.steps)) if slip else None
    carried: dict[int, int] = {}
    steps: list[str] = []
    result = 0
    for place, step in enumerate(problem.steps):
        found = _STEP.fullmatch(step)
        assert found is not None, step
        left, right = (carried.get(int(found[side]), int(found[side])) for side in (1, 3))
        result = {"+": left + right, "-": left - right, "*": left * right, "/": left // max(right, 1)}[found[2]]
        if place == at:
            result += rng.choice(_SLIPS)
        carried[int(found[4])] = result
        steps.append(f"{left} {found[2]} {right} = {result}")
    return tuple(steps), result


def _draft(model: str, letter: str, steps: tuple[str, ...], answer: int, rng: random.Random) -> str:
    """Write the steps in the form that the model mostly used."""
    if letter == "-":
        return "The question leaves something open, and I would rather not guess."
    links = [_LINKS[0], *rng.choices(_LINKS[1:], k=len(steps) - 1)]
    reasoning = ". ".join(f"{link}, {step}" for link, step in zip(links, steps, strict=True)) + "."
    if letter.islower():
        return reasoning
    if model == "llama-3.1-405b-instruct":
        headed = "\n\n".join(f"## Step {number}\n{step}" for number, step in enumerate(steps, start=1))
        return f"{headed}\n\nThe final answer is: $\\boxed{{{answer}}}$"
    if model == "mixtral-8x7b-instruct-v0.1" and rng.random() < 0.3:
        return f"{reasoning}\n\nThe answer is {answer:,}."
    text = json.dumps({"reasoning": reasoning, "answer": str(answer)}, indent=4)
    if model in _FENCED:
        text = f"```json\n{text}\n```"
    return text
