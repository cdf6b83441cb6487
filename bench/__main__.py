"""`make bench`: every figure of docs/benchmarks.md, measured now, Mixtura beside its peers in the same run.

Ratios are taken round by round between pipelines that ran one after the other, so that a machine whose speed drifts
does not decide them; the median of the rounds is quoted, with the lowest and highest beside it.
`--only cpu` measures CPU alone; `--only whole` and the like one comparison of it (bench/comparisons.py).
"""

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import mixtura
from bench import cold_start, footprint, local, measure
from bench.comparisons import COMPARISONS
from bench.cpu import measure_cpu
from bench.limits.__main__ import measure as measure_limits
from bench.limits.table import Figure, Table
from bench.server import Pace, running

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
START, END = "<!-- table: make bench -->", "<!-- end of table -->"


def measure_walls(table: Table) -> None:
    """Add wall time over the critical path."""
    with running(Pace(delay=0.5)) as url:
        walls = measure.walls(url, 7)
    for name, spread in walls.items():
        bound = 1.02 if name == "Mixtura" else None
        table.add(f"wall / critical path at 500 ms calls, {name}", spread.median, str(spread), bound)


def measure_start_ups(table: Table) -> None:
    """Add the time of processes that only start."""
    for name, seconds in measure.start_ups(11).items():
        bound = {"import mixtura": 0.150, "mixtura --help": 0.250}.get(name)
        shown = f"{seconds.median * 1e3:.0f} ms ({seconds.low * 1e3:.0f} to {seconds.high * 1e3:.0f})"
        limit = None if bound is None else bound * 1e3
        table.add(f"{name}, whole process", seconds.median * 1e3, shown, limit, " ms")


def measure_memory(table: Table) -> None:
    """Add the peak memory of one question."""
    with running(Pace(delay=0.05)) as url:
        peaks = measure.peaks(url, 3)
    for name, megabytes in peaks.items():
        bound = 60 if name == "mixtura ask" else None
        table.add(f"peak memory, {name}", megabytes, f"{megabytes:.1f} MB", bound, " MB")


def measure_installs(table: Table) -> None:
    """Add packages and megabytes of fresh installs."""
    for name, (packages, size) in footprint.installs().items():
        ours = name == "mixtura"
        table.add(f"packages installed by `pip install {name}`", packages, str(packages), 16 if ours else None)
        table.add(f"megabytes installed by `pip install {name}`", size, f"{size:.1f}", 20 if ours else None)


def parts(rounds: int) -> dict[str, Callable[[Table], None]]:
    """Return the parts of the table in their order; `rounds` is for the comparisons of CPU."""
    return {
        "cpu": lambda table: measure_cpu(table, rounds),
        "wall": measure_walls,
        "start": measure_start_ups,
        "memory": measure_memory,
        "install": measure_installs,
        "limits": measure_limits,
        "cold": cold_start.table,
        "local": lambda table: local.measure(table, 5),
    }


def rows(rounds: int, only: Sequence[str] = ()) -> list[Figure]:
    """Return every figure, or those of the parts and comparisons named in `only`."""
    table = Table()
    known = parts(rounds)
    single = {name: partial(measure_cpu, rounds=rounds, names=(name,)) for name in COMPARISONS}
    for name in only or known:
        (known | single)[name](table)
    return table.rows


def page(found: list[Figure]) -> str:
    """Return the table as it stands in docs/benchmarks.md."""
    lines = [f"| {what} | {shown} | {bound} | {verdict} |" for what, shown, bound, verdict in found]
    about = f"Mixtura {mixtura.__version__}, Python {platform.python_version()}, {measure.cores()} cores."
    return "\n".join([START, about, "", "| what | measured | bound | |", "|---|---|---|---|", *lines, END])


def main() -> int:
    """Measure, print, and with --write put the table into the page; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each comparison of CPU (default 9)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        choices=[*parts(1), *COMPARISONS],
        metavar="PART",
        help=f"measure these parts alone: {', '.join(parts(1))}; or of the CPU {', '.join(COMPARISONS)}",
    )
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    told = parser.parse_args()
    if told.only and told.write:
        parser.error("--write needs the whole table: leave --only out")
    found = rows(told.rounds, told.only)
    if told.write:
        text = PAGE.read_text("utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        PAGE.write_text(before + page(found) + after, "utf-8")
    return any(verdict == "MISSED" for *_, verdict in found)


if __name__ == "__main__":
    sys.exit(main())
