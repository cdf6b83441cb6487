"""`make bench`: every figure of docs/benchmarks.md, measured now, Mixtura beside its peers in the same run.

Ratios are taken round by round between pipelines that ran one after the other, so that a machine whose speed drifts
does not decide them; the median of the rounds is quoted, with the lowest and highest beside it.
"""

import argparse
import platform
import sys
from pathlib import Path

import mixtura
from bench import footprint, local, measure
from bench.limits.__main__ import measure as measure_limits
from bench.limits.table import Figure, Table
from bench.server import running

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
START, END = "<!-- table: make bench -->", "<!-- end of table -->"


def rows(rounds: int) -> list[Figure]:
    """Return every figure."""
    found = Table()
    add = found.add
    with running() as url:
        cpu = measure.cpu(url, rounds)
    for name, spread in cpu.per_mixture.items():
        add(f"CPU of a mixture (3 + 1 calls), {name}", spread.median, f"{spread.median:.3f} ms")
    for name, spread in cpu.per_second.items():
        add(f"mixtures a second, one after the other, {name}", 0, f"{spread.median:.0f}")
    sdk, bare = cpu.ratio("Mixtura", "groq SDK + gather"), cpu.ratio("Mixtura", "bare aiohttp")
    add("CPU: Mixtura / groq SDK + gather", sdk.median, str(sdk), 0.125)
    add("CPU: Mixtura / bare aiohttp", bare.median, str(bare), 1.3)
    with running(0.5) as url:
        walls = measure.walls(url, 7)
    for name, spread in walls.items():
        bound = 1.02 if name == "Mixtura" else None
        add(f"wall / critical path at 500 ms calls, {name}", spread.median, str(spread), bound)
    for name, seconds in measure.start_ups(11).items():
        bound = {"import mixtura": 0.150, "mixtura --help": 0.250}.get(name)
        shown = f"{seconds.median * 1e3:.0f} ms ({seconds.low * 1e3:.0f} to {seconds.high * 1e3:.0f})"
        limit = None if bound is None else bound * 1e3
        add(f"{name}, whole process", seconds.median * 1e3, shown, limit, " ms")
    with running(0.05) as url:
        peaks = measure.peaks(url, 3)
    for name, megabytes in peaks.items():
        add(f"peak memory, {name}", megabytes, f"{megabytes:.1f} MB", 60 if name == "mixtura ask" else None, " MB")
    for name, (packages, size) in footprint.installs().items():
        ours = name == "mixtura"
        add(f"packages installed by `pip install {name}`", packages, str(packages), 16 if ours else None)
        add(f"megabytes installed by `pip install {name}`", size, f"{size:.1f}", 20 if ours else None)
    measure_limits(found)
    local.measure(found, 5)
    return found.rows


def page(found: list[Figure]) -> str:
    """Return the table as it stands in docs/benchmarks.md."""
    lines = [f"| {what} | {shown} | {bound} | {verdict} |" for what, shown, bound, verdict in found]
    about = f"Mixtura {mixtura.__version__}, Python {platform.python_version()}, {measure.cores()} cores."
    return "\n".join([START, about, "", "| what | measured | bound | |", "|---|---|---|---|", *lines, END])


def main() -> int:
    """Measure, print, and with --write put the table into the page; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of the CPU comparison")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    told = parser.parse_args()
    found = rows(told.rounds)
    if told.write:
        text = PAGE.read_text("utf-8")
        before, after = text.split(START)[0], text.split(END)[1]
        PAGE.write_text(before + page(found) + after, "utf-8")
    return any(verdict == "MISSED" for *_, verdict in found)


if __name__ == "__main__":
    sys.exit(main())
