"""`make chaos`: runs 10,000 seeded scenarios and prints the matrix, and a command to repeat each broken scenario."""

import argparse
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator

from bench.chaos.checks import find_broken
from bench.chaos.judge import judge_number
from bench.chaos.matrix import ResultMatrix
from bench.chaos.recipes import recipes
from bench.chaos.scenarios import ChaosScenario, scenario
from bench.chaos.world import play
from mixtura.events import AnswerDelta, CallDelta

_MAX_SHOWN = 40  # how many broken scenarios are printed


def choose_scenarios(seed: int, count: int, only: str) -> Iterator[tuple[int, int]]:
    """Yield (seed, number) of the first `count` scenarios, only those of the recipe `only` if it is not empty."""
    number = 0
    while count:
        if not only or scenario(seed, number).recipe == only:
            count -= 1
            yield seed, number
        number += 1


def many(seed: int, count: int, only: str, processes: int) -> int:
    """Play many scenarios in several processes and print the results. Returns 1 if an invariant is broken."""
    begun = time.perf_counter()
    matrix = ResultMatrix()
    work = list(choose_scenarios(seed, count, only))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for done, verdict in enumerate(pool.imap_unordered(judge_number, work, chunksize=10), start=1):
            matrix.add(verdict)
            if sys.stderr.isatty() and done % 100 == 0:
                print(f"\r{done:,} of {count:,}, {len(matrix.broken)} broken", end="", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - begun
    print("\n".join(matrix.lines()))
    print(f"\n{count:,} scenarios in {seconds:.0f} s on {processes} processes: {count / seconds:.0f} a second")
    for verdict in sorted(matrix.broken, key=lambda one: one.broken)[:_MAX_SHOWN]:
        print(f"\n{verdict.words}")
        print("".join(f"    {problem}\n" for problem in verdict.broken), end="")
        print(f"    python -m bench.chaos --one {verdict.id}")
    if len(matrix.broken) > _MAX_SHOWN:
        print(f"\n... and {len(matrix.broken) - _MAX_SHOWN} more.")
    print("\nEvery invariant holds." if not matrix.broken else f"\nBROKEN in {len(matrix.broken)} scenarios.")
    return bool(matrix.broken)


def one(given: ChaosScenario) -> int:
    """Play one scenario and print its details. Returns 1 if an invariant is broken."""
    played = play(given)
    print(given.words)
    for ran in played.runs:
        print()
        for event in ran.events:
            if not isinstance(event, AnswerDelta | CallDelta):
                print(f"{event.at:9.3f}  {str(event)[:300]}")
        print(f"{ran.seconds:9.3f}  {ran.error!r}")
    print("\nbilled:", *played.bill.rows, sep="\n    ")
    problems = find_broken(played)
    print("\nbroken:" if problems else "\nEvery invariant holds.", *problems, sep="\n    ")
    return bool(problems)


def main() -> int:
    """Parse the options and run the scenarios."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--scenarios", type=int, default=10_000, metavar="N", help="number of scenarios")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="seed of the scenarios")
    parser.add_argument(
        "--only", default="", choices=("", *sorted(recipes())), metavar="RECIPE", help="only scenarios of this recipe"
    )
    parser.add_argument("--one", default="", metavar="SEED-NUMBER", help="one scenario in full detail")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="number of worker processes"
    )
    given = parser.parse_args()
    if not given.one:
        return many(given.seed, given.scenarios, given.only, given.processes)
    found = re.fullmatch(r"(\d+)-(\d+)", given.one)
    if found is None:
        parser.error(f"--one: expected SEED-NUMBER as in 1-4711, not {given.one!r}")
    return one(scenario(int(found[1]), int(found[2])))


if __name__ == "__main__":
    sys.exit(main())
