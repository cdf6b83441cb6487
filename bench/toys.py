"""Measures the toy models on their 1,000 held-out problems and the speed of a mixture, and prints their cards.

    python -m bench.toys            # everything, as in docs/lab-models.md
    python -m bench.toys --fast     # the cards and the speed only

The output is Markdown. The study makes about 12,000 calls and takes minutes.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from mixtura import Mixture
from mixtura.lab import toys
from mixtura.lab.statistics import mcnemar, p_in_words, wilson
from mixtura.models.toy.provider import PROPOSERS, SINGLE, folder

_TIMED = 60


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.toys", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the cards and the speed only")
    parser.add_argument("--problems", type=int, default=1000)
    given = parser.parse_args()
    print(cards_table(), end="\n\n")
    print(asyncio.run(_speed()), end="\n\n")
    if not given.fast:
        found = asyncio.run(toys.study(toys.problems()[: given.problems], os.environ, note=_progress))
        print("\r", end="", file=sys.stderr)
        for text in (found.verdict, study_table(found), drafts_table(found), families_table(found)):
            print(text, end="\n\n")


def cards_table() -> str:
    """Return the table of the models' cards."""
    heading = ("model", "layers x width", "experts", "weights", "at work", "file", "seed", "problems", "read", "TFLOP")
    rows = [
        (
            name,
            f"{card.layers} x {card.width}",
            f"{card.used} of {card.experts}" if card.experts else "",
            f"{card.weights / 1e6:.2f} M",
            f"{card.active / 1e6:.2f} M",
            f"{_size(folder() / f'{name}.gguf'):.1f} MB {card.kept.upper()}",
            f"{card.seed / 1e6:.0f} M",
            f"{card.problems:,}",
            f"{card.tokens / 1e6:.1f} M",
            f"{card.operations / 1e12:.0f}",
        )
        for name, card in toys.cards().items()
    ]
    return _markdown([heading, *rows])


def study_table(found: toys.ToyStudy) -> str:
    """Return the table of a study: one row per answerer, with its test against the mixture."""
    heading = ("", "right", "95 % interval", "known wordings", "new wordings", "MFLOP", "won : lost", "McNemar")
    rows = []
    for row in found.rows:
        low, high = wilson(sum(row.right), len(row.right))
        new = [mark for mark, problem in zip(row.right, found.problems, strict=True) if problem.new_wordings]
        old = [mark for mark, problem in zip(row.right, found.problems, strict=True) if not problem.new_wordings]
        test = row.against
        rows.append(
            (
                f"**{row.name}**" if row.name == toys.MIXTURE else row.name,
                _percent(row.right),
                f"{100 * low:.1f} to {100 * high:.1f}",
                _percent(old),
                _percent(new),
                f"{row.operations / 1e6:,.0f}",
                f"{test.only_first} : {test.only_second}" if test else "",
                p_in_words(test.p) if test else "",
            )
        )
    return _markdown([heading, *rows])


def drafts_table(found: toys.ToyStudy) -> str:
    """Return the table of how often the mixture and the vote are right, by the number of right drafts."""
    drafts = [found.row(toys.at_temperature(name)).right for name in PROPOSERS]
    counts = [sum(marks) for marks in zip(*drafts, strict=True)]
    rows: list[Sequence[str]] = [("drafts that are right", "problems", "vote right", "mixture right")]
    for many in range(4):
        places = [place for place, count in enumerate(counts) if count == many]
        marks = [[found.row(name).right[place] for place in places] for name in (toys.MAJORITY, toys.MIXTURE)]
        rows.append((f"{many} of 3", str(len(places)), *map(_percent, marks)))
    return _markdown(rows)


def families_table(found: toys.ToyStudy) -> str:
    """Return the table of the shares of right answers by problem family."""
    families = sorted({problem.family for problem in found.problems})
    shown = [*(toys.at_temperature(name) for name in PROPOSERS), toys.MIXTURE, toys.greedy(SINGLE)]
    rows: list[Sequence[str]] = [("family", "problems", *shown)]
    for family in families:
        places = [place for place, problem in enumerate(found.problems) if problem.family == family]
        shares = [_percent([found.row(name).right[place] for place in places]) for name in shown]
        rows.append((family, str(len(places)), *shares))
    vote, mixture = found.row(toys.MAJORITY), found.row(toys.MIXTURE)
    test = mcnemar(mixture.right, vote.right)
    return _markdown(rows) + f"\n\nMixture against vote: {test.only_first} : {test.only_second}, {p_in_words(test.p)}."


async def _speed() -> str:
    """Ask one mixture after the other and return a table of their times."""
    mixture = Mixture("toy")
    problems = toys.problems()[:_TIMED]
    cold = await mixture.ask(problems[0].question)
    answers = [await mixture.ask(problem.question) for problem in problems[1:]]
    firsts: list[float] = []
    for problem in problems[1:]:
        loop = asyncio.get_running_loop()
        begun, first = loop.time(), 0.0
        async with mixture.stream(problem.question) as events:
            async for event in events:
                if not first and type(event).__name__ == "CallDelta":
                    first = loop.time() - begun
        firsts.append(first)
    seconds = sorted(answer.seconds for answer in answers)
    return _markdown(
        [
            ("one mixture after the other", "ms"),
            ("the first, files loaded on the way", f"{1000 * cold.seconds:.0f}"),
            (f"median of {len(seconds)}", f"{1000 * median(seconds):.0f}"),
            ("slowest", f"{1000 * seconds[-1]:.0f}"),
            ("first token of a draft, median", f"{1000 * median(firsts):.0f}"),
        ]
    )


def _progress(done: int, every: int) -> None:
    print(f"\r{done / every:.0%}", end="", file=sys.stderr, flush=True)


def _percent(marks: Sequence[bool]) -> str:
    return f"{sum(marks) / len(marks):.1%}" if marks else ""


def _size(path: Path) -> float:
    return path.stat().st_size / 1e6


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    heading, *others = rows
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *others]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
