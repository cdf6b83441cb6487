"""Holds the `lpu` profile against recorded times that it was not fitted to.

    python -m bench.timing_folds [../shared/data/timings/groq_usage_dev.csv] [--folds 6] [--rounds 5] [--draws 1000]

The records are dealt into folds; the times of each fold are held against the profile fitted to the other folds: what
share lies within the 10-90 % and the 5-95 % range of the drawn times, how many below the least and above the most of
the draws, and the median of recorded over median drawn time. Then the same with each model left out as a whole, which
is how well the profile times models without records.

Ends with 1 if the 10-90 % range holds less than 70 % or more than 90 % of any time of the records left out.
"""

import argparse
import bisect
import random
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.fit_timings import SOURCE, Record, fit, records_of
from mixtura.models.catalog import Catalog, CatalogModel
from mixtura.sim.timing import FittedProfile

MEASURES = ("queue", "prompt", "completion", "first token (queue + prompt)", "total (prompt + completion)", "all three")
HELD = (0.7, 0.9)


class Placed(NamedTuple):
    """A recorded time among the drawn ones: the share of draws below it, and its ratio to their median."""

    share: float
    ratio: float


class Coverage(NamedTuple):
    """How the drawn times of one measure hold the recorded ones; shares are 0 to 1."""

    middle_80: float
    middle_90: float
    below: int
    above: int
    ratio: float


def times_of(queue: float, prompt: float, completion: float) -> tuple[float, ...]:
    """Return the times in the order of MEASURES."""
    return queue, prompt, completion, queue + prompt, prompt + completion, queue + prompt + completion


def published_speeds() -> dict[str, float]:
    """Return the published decode speed of each catalogued Groq model, in tokens a second."""
    return {model.id: model.speed for model in Catalog.load().models("groq") if model.speed}


def folded(records: Sequence[Record], folds: int, seed: int) -> list[list[Record]]:
    """Deal the records into folds."""
    shuffled = random.Random(seed).sample(list(records), len(records))
    return [shuffled[place::folds] for place in range(folds)]


def by_model(records: Sequence[Record]) -> list[list[Record]]:
    """Return a fold for each model."""
    return [[row for row in records if row.model == model] for model in sorted({row.model for row in records})]


def placed(folds: Iterable[Sequence[Record]], draws: int, seed: int) -> dict[str, list[Placed]]:
    """Fit to all folds but one, draw the times of the one's replies, and place the recorded among them."""
    folds, speeds = list(folds), published_speeds()
    rng = random.Random(seed)
    found: dict[str, list[Placed]] = {measure: [] for measure in MEASURES}
    for place, left_out in enumerate(folds):
        others = [row for other, fold in enumerate(folds) if other != place for row in fold]
        profile = FittedProfile(timings=fit(others))
        for row in left_out:
            recorded = times_of(row.queue, row.prompt, row.completion)
            for measure, time, drawn in zip(MEASURES, recorded, _drawn(profile, row, draws, rng, speeds), strict=True):
                found[measure].append(Placed(bisect.bisect(drawn, time) / draws, time / statistics.median(drawn)))
    return found


def _drawn(
    profile: FittedProfile, row: Record, draws: int, rng: random.Random, speeds: dict[str, float]
) -> list[list[float]]:
    model = CatalogModel(id=row.model, speed=speeds.get(row.model))
    calls = (profile.draw(model, row.prompt_tokens, row.completion_tokens, rng) for _ in range(draws))
    times = (times_of(call.queue / 1e9, call.prompt / 1e9, call.completion / 1e9) for call in calls)
    return [sorted(measure) for measure in zip(*times, strict=True)]


def coverage(found: Sequence[Placed]) -> Coverage:
    """Summarize the places of one measure."""
    shares = [one.share for one in found]
    return Coverage(
        statistics.fmean(0.1 <= share <= 0.9 for share in shares),
        statistics.fmean(0.05 <= share <= 0.95 for share in shares),
        shares.count(0.0),
        shares.count(1.0),
        statistics.median(one.ratio for one in found),
    )


def by_folds(records: Sequence[Record], folds: int, rounds: int, draws: int) -> dict[str, Coverage]:
    """Return the coverage of records left out, dealt anew in each round."""
    found: dict[str, list[Placed]] = {measure: [] for measure in MEASURES}
    for seed in range(rounds):
        for measure, places in placed(folded(records, folds, seed), draws, seed).items():
            found[measure] += places
    return {measure: coverage(places) for measure, places in found.items()}


def by_models(records: Sequence[Record], draws: int) -> dict[str, Coverage]:
    """Return the coverage of models left out as a whole."""
    return {measure: coverage(places) for measure, places in placed(by_model(records), draws, 0).items()}


def show(title: str, found: dict[str, Coverage]) -> None:
    """Print a table as it stands in docs/simulator.md."""
    print(f"\n{title}\n")
    print("| time | within 10-90 % | within 5-95 % | below all draws | above all draws | recorded / drawn median |")
    print("|---|---|---|---|---|---|")
    for measure, one in found.items():
        print(
            f"| {measure} | {one.middle_80:.0%} | {one.middle_90:.0%} | {one.below} | {one.above} | {one.ratio:.2f} |"
        )


def main() -> int:
    """Print both tables; 1 if the range holds too few or too many of the records left out."""
    parser = argparse.ArgumentParser(prog="python -m bench.timing_folds", description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="?", type=Path, default=SOURCE, help="usage figures of recorded replies")
    parser.add_argument("--folds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5, help="how often the folds are dealt anew")
    parser.add_argument("--draws", type=int, default=1000, help="times drawn for each record")
    told = parser.parse_args()
    records = records_of(parser, told.records)
    try:
        found, left_out = by_folds(records, told.folds, told.rounds, told.draws), by_models(records, told.draws)
    except ValueError as error:
        parser.exit(3, f"{parser.prog}: {told.records}: {error}\n")
    show(f"{len(records)} records left out by {told.folds} folds, dealt {told.rounds} times", found)
    show("each model left out as a whole", left_out)
    return not all(HELD[0] <= one.middle_80 <= HELD[1] for one in found.values())


if __name__ == "__main__":
    sys.exit(main())
