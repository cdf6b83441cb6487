"""The toy models at work: some held-out problems as they go, then everybody on all of them, with controls."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from statistics import median

from mixtura.cli.common import table, write_lines
from mixtura.cli.session import Window, follow
from mixtura.columns import one_line
from mixtura.engine.agree import best
from mixtura.events import Answer
from mixtura.folding import Fold
from mixtura.lab import toys
from mixtura.lab.statistics import p_in_words, wilson
from mixtura.mixture import AskOptions, Mixture
from mixtura.models.toy.provider import SINGLE
from mixtura.safe_output import write_commands

HELD_OUT = 500

_INTRODUCTION = """\
Four toy models in this process, half a million weights at work in each: three draft, one reads the drafts.
They solve arithmetic word problems and nothing else. None of them has seen these problems.

"""


def show_toys(count: int | None, show: int) -> None:
    """Show the first `show` problems as they go, ask everybody `count` of them (None: all), print what came of it."""
    problems = toys.problems()[:count]
    write_lines(_INTRODUCTION)
    asyncio.run(_show(problems[:show]))
    begun = time.monotonic()
    try:
        found = asyncio.run(toys.study(problems, os.environ, note=_progress if sys.stderr.isatty() else None))
    finally:
        if sys.stderr.isatty():
            write_commands(sys.stderr, "\r\x1b[K")
    write_lines(report(found))
    seconds = time.monotonic() - begun
    write_lines(f"{found.tokens:,} tokens written in {seconds:.0f} s. How the models were made: docs/lab-models.md.\n")


async def _show(problems: Sequence[toys.ToyProblem]) -> None:
    mixture, answers = Mixture("toy"), []
    for number, problem in enumerate(problems, start=1):
        write_lines(f"Problem {number}: {one_line(problem.question)}\n")
        answer = await follow(mixture, problem.question, Window(one_stream=True), Fold(), AskOptions(seed=number))
        verdict = "right" if toys.is_right(answer.text, problem) else "WRONG"
        said = f"=> {verdict}: the right answer is {problem.answer}"
        if answer.drafts:
            answers.append(answer)
            counted = answer.drafts[best(answer.drafts)[0]]
            said += f" (a vote of the drafts is {'right' if toys.is_right(counted.text, problem) else 'wrong'})"
        write_lines(f"{said}\n\n")
    if answers:
        write_lines(_speed(answers))


def _speed(answers: Sequence[Answer]) -> str:
    firsts = [min(draft.timing.first_token or draft.timing.total for draft in answer.drafts) for answer in answers]
    whole = median(answer.seconds for answer in answers)
    return f"First token of a draft after {1000 * median(firsts):.0f} ms, a whole mixture in {1000 * whole:.0f} ms.\n\n"


def _progress(done: int, every: int) -> None:
    write_commands(sys.stderr, f"\rasking everybody: {done / every:.0%}")
    sys.stderr.flush()


def report(found: toys.ToyStudy) -> str:
    """Return a study as its verdict and a table."""
    heading = ["", "right", "95 %", "new", "MFLOP", "won:lost", "McNemar"]
    rows = [heading, *(_figures(row, found) for row in found.rows)]
    new = sum(problem.new_wordings for problem in found.problems)
    return (
        f"{found.verdict}\n\n"
        + table(rows, right=range(1, len(heading)))
        + f"""
{len(found.problems)} held-out problems; {new} of them, the column "new", in sentences that were never trained on.
Greedy takes the likeliest token each time; the aggregator does. "No drafts" and "another problem's drafts" are
controls: a mixture that reads its drafts does worse with either. MFLOP: multiply-adds times two, in millions an answer.
won:lost are problems that the mixture had right and the other not, and the reverse; McNemar's exact test asks
whether that is chance.
"""
        + _training()
    )


def _figures(row: toys.StudyRow, found: toys.ToyStudy) -> list[str]:
    right, total = sum(row.right), len(row.right)
    low, high = wilson(right, total)
    new = [mark for mark, problem in zip(row.right, found.problems, strict=True) if problem.new_wordings]
    test = row.against
    return [
        row.name,
        f"{right / total:.1%}",
        f"{100 * low:.0f}-{100 * high:.0f}",
        f"{sum(new) / len(new):.1%}" if new else "",
        f"{row.operations / 1e6:,.0f}",
        f"{test.only_first}:{test.only_second}" if test else "",
        p_in_words(test.p) if test else "",
    ]


def _training() -> str:
    cards = toys.cards()
    single = cards[SINGLE].operations
    family = sum(card.operations for name, card in cards.items() if name != SINGLE)
    return (
        f"Training took {family / 1e12:,.0f} TFLOP for the four models of the mixture together, "
        f"{single / 1e12:,.0f} for {SINGLE}.\n"
    )
