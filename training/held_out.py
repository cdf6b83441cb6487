"""The held-out problems in the package. None has trained numbers, and every second one has untrained wordings."""

import json
from pathlib import Path

from training.problems import WordProblem, make

SEED = 90_000_000
_TUNING = 80_000_000


def problems(count: int, seed: int = SEED) -> list[tuple[WordProblem, bool]]:
    """Return held-out problems, each with whether its wordings are new."""
    return [(make(seed + place, held_out=True, new_wordings=place % 2 == 1), place % 2 == 1) for place in range(count)]


def for_choices(count: int) -> list[tuple[WordProblem, bool]]:
    """Return other held-out problems. Choices between variants are made on these, results come from `problems`."""
    return problems(count, _TUNING)


def write_problems(path: Path, count: int) -> None:
    """Write the problems as JSON lines."""
    rows = [
        {"question": problem.question, "answer": problem.answer, "family": problem.family, "new_wordings": new}
        for problem, new in problems(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
