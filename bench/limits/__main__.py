"""Measure what limits cost and what keeping them brings.

    python -m bench.limits [heavy | backlog | crowd | cost | redis | estimate ...] [--seeds 1 2 3] [--count N]

heavy and backlog run in virtual time: apart from the SDK's jitter they are the same on every machine. crowd takes half
a minute of real time. `make bench` measures all of them for docs/benchmarks.md.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.limits import backlog, cost, crowd, estimate, heavy, shared
from bench.limits.table import Table


class Arguments(NamedTuple):
    """Seeds of the cloud, and the number of questions or runs; None: each table's default."""

    seeds: tuple[int, ...] | None = None
    number: int | None = None


def _heavy(found: Table, asked: Arguments) -> None:
    heavy.table(found, asked.number or heavy.QUESTIONS, asked.seeds or heavy.SEEDS)


def _backlog(found: Table, asked: Arguments) -> None:
    backlog.table(found, asked.number or backlog.QUESTIONS, asked.seeds or backlog.SEEDS)


def _crowd(found: Table, asked: Arguments) -> None:
    crowd.table(found, asked.number or crowd.RUNS)


TABLES: dict[str, Callable[[Table, Arguments], None]] = {
    "heavy": _heavy,
    "backlog": _backlog,
    "crowd": _crowd,
    "cost": lambda found, _: cost.table(found),
    "redis": lambda found, _: shared.table(found),
    "estimate": lambda found, _: estimate.table(found),
}


def measure(found: Table, names: Sequence[str] = tuple(TABLES), asked: Arguments | None = None) -> None:
    """Add the rows of the tables `names`, all of them by default."""
    for name in names:
        TABLES[name](found, asked or Arguments())


def main() -> int:
    """Measure and print; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="table", help=f"{', '.join(TABLES)}; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds of the simulated cloud")
    parser.add_argument("--count", type=int, help="questions (heavy, backlog) or runs (crowd)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.tables if name not in TABLES]
    if unknown:
        parser.error(f"no table {unknown[0]!r}: there are {', '.join(TABLES)}")
    found = Table()
    measure(
        found,
        arguments.tables or tuple(TABLES),
        Arguments(tuple(arguments.seeds) if arguments.seeds else None, arguments.count),
    )
    return int(found.missed)


if __name__ == "__main__":
    sys.exit(main())
