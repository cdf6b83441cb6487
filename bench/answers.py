"""Are final answers read as a grader reads them, and are different ones ever counted as one?

python -m bench.answers ../shared/data/recordings
"""

import argparse
import itertools
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mixtura.engine import answers
from mixtura.engine.answers import Expected, Found
from mixtura.engine.drafts import DraftSet
from mixtura.events import Draft
from mixtura.models.recorded import RecordedQuestion, RecordingIndex

# What the questions of a file ask for, where their words do not tell.
_ASKS: dict[str, Expected] = {"gsm8k": "number", "crux": "literal"}
_SMALL = ("llama-3.1-8b-instruct", "gemma-2-9b-it", "qwen2-7b-instruct")
_LARGE = "llama-3.1-70b-instruct"


class Reading(NamedTuple):
    """The drafts of one file against its grader. Pairs are two models' drafts for one question."""

    drafts: int
    agree: int  # drafts whose value equals the right answer where the grader calls them right, and else does not
    pairs: int
    wrong: int  # pairs that are counted as one, though one is right and the other wrong
    surely_wrong: int  # those of them of which both drafts are sure
    apart: int  # pairs that are both right and not counted as one


class Replay(NamedTuple):
    """Three small models voting, alone and with a large one where they do not agree: how often the answer is right."""

    questions: int
    vote: int
    cascade: int
    agreed: int
    agreed_right: int


def main() -> None:
    """Print a table of the recordings of a folder."""
    parser = argparse.ArgumentParser(description="Are final answers read as a grader reads them?")
    parser.add_argument("folder", type=Path, help="a folder of recordings")
    folder = parser.parse_args().folder
    print("file                    drafts   as graded   pairs  wrong as one (sure)  right apart")
    for path in sorted(folder.glob("*.jsonl.gz")):
        name = path.name.partition("-")[0]
        if name not in ("gsm8k", "crux", "mmlu") or "two-models" in path.name:
            continue
        rows = RecordingIndex.load(path).rows
        read = reading(rows, _ASKS.get(name, ""))
        print(
            f"{path.name.removesuffix('.jsonl.gz'):22} {read.drafts:7,} {read.agree / read.drafts:10.2%}"
            f" {read.pairs:8,} {read.wrong:9,} ({read.surely_wrong:,}) {read.apart:12,}"
        )
        if {*_SMALL, _LARGE} <= set(rows[0].outputs):
            found = replay(rows, _ASKS.get(name, ""))
            share = found.agreed_right / max(1, found.agreed)
            print(
                f"  vote of three {found.vote / found.questions:.3f}, with the 70B where they do not agree "
                f"{found.cascade / found.questions:.3f}; they agree on {found.agreed:,} of {found.questions:,} "
                f"and are right on {share:.3f} of those"
            )
    print("\nBy the words of a draft alone, its JSON taken off: is its last number what it comes to?")
    for name in ("gsm8k-dev", "gsm8k-more-dev"):
        if (path := folder / f"{name}.jsonl.gz").is_file():
            print(f"  {name}: {_shares(last_numbers(RecordingIndex.load(path).rows))}")


def reading(rows: tuple[RecordedQuestion, ...], expected: Expected) -> Reading:
    """Read every draft as the engine does, and compare it with the grader and with its siblings."""
    totals: Counter[str] = Counter()
    for row in rows:
        gold = answers.parse(row.answer, literal=expected == "literal")
        found = {model: answers.find(text, expected) for model, text in row.outputs.items() if model in row.graded}
        for model, one in found.items():
            right = one.value is not None and gold is not None and answers.same(one.value, gold)
            totals["drafts"] += 1
            totals["agree"] += right == row.graded[model]
        for (first, one), (second, other) in itertools.combinations(found.items(), 2):
            same = _same(one, other)
            totals["pairs"] += 1
            wrong = same and row.graded[first] != row.graded[second]
            totals["wrong"] += wrong
            totals["surely_wrong"] += wrong and one.sure and other.sure
            totals["apart"] += not same and row.graded[first] and row.graded[second]
    return Reading(**{field: totals[field] for field in Reading._fields})


def replay(rows: tuple[RecordedQuestion, ...], expected: Expected) -> Replay:
    """Let the small models vote on every question, and ask the large one as well where they do not agree."""
    vote = cascade = agreed = agreed_right = 0
    for row in rows:
        drafts = [_draft(row.outputs[model], model, expected, at) for at, model in enumerate((*_SMALL, _LARGE))]
        small, whole = DraftSet(drafts[:-1]), DraftSet(drafts)
        right = row.graded[small.best[0].model]
        vote += right
        agreed += small.agreed
        agreed_right += small.agreed and right
        cascade += right if small.agreed else row.graded[whole.best[0].model]
    return Replay(len(rows), vote, cascade, agreed, agreed_right)


def last_numbers(rows: tuple[RecordedQuestion, ...]) -> Counter[tuple[bool, bool]]:
    """Count drafts by whether their last number is sure, and whether it is the answer that their JSON states."""
    counted: Counter[tuple[bool, bool]] = Counter()
    for row in rows:
        for text in row.outputs.values():
            stated = answers.find(text, "number")
            words, field, _ = text.partition('"answer"')
            last = answers.find(words.rstrip().removesuffix(",").rstrip().removesuffix('"'), "number")
            if field and stated.how == "json" and last.how == "last number":
                counted[last.sure, _same(stated, last)] += 1
    return counted


def _same(one: Found, other: Found) -> bool:
    return one.value is not None and other.value is not None and answers.same(one.value, other.value)


def _draft(text: str, model: str, expected: Expected, call: int) -> Draft:
    found = answers.find(text, expected)
    choice = "" if found.value is None else str(found.value)
    return Draft(
        call=call,
        role="proposer",
        model=model,
        provider="recorded",
        text=text,
        choice=choice,
        sure=found.sure or not choice,
    )


def _shares(counted: Counter[tuple[bool, bool]]) -> str:
    parts = []
    for sure, word in ((True, "sure"), (False, "not sure")):
        total = counted[sure, True] + counted[sure, False]
        if total:
            parts.append(f"{word} {total:,}, of which right {counted[sure, True] / total:.1%}")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
