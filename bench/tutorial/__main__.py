"""Measure the tutorial's claims without a key, and print claim, measurement and verdict.

    python -m bench.tutorial [--markdown | --write]

Most rows come from the simulated Groq cloud in virtual time and are the same on every machine. Memory and threads are
measured on this machine. The last rows need the recordings in ../shared/data and are omitted without them.
`--write` updates the rows in docs/from-the-tutorial.md.
"""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from bench.tutorial import recorded, speed, wire
from bench.tutorial.asking import ClaimRow, measure_virtually

PAGE = Path(__file__).resolve().parents[2] / "docs/from-the-tutorial.md"
WIDTHS = (34, 66, 18)
HEADING = ClaimRow("the tutorial says", "measured", "verdict")


def measure() -> tuple[list[ClaimRow], list[str]]:
    """Return the rows that can be measured here, and the names of those that cannot."""
    found = [measure_virtually(one) for one in wire.MEASUREMENTS]
    missing: list[str] = []
    for module in (speed, recorded):
        more, left_out = module.rows()
        found += more
        missing += left_out
    return found, missing


def plain(rows: Sequence[ClaimRow]) -> str:
    """Return the rows in three wrapped columns."""
    lines: list[str] = []
    for row in (HEADING, *rows):
        cells = [textwrap.wrap(cell, width) for cell, width in zip(row, WIDTHS, strict=True)]
        for at in range(max(map(len, cells))):
            parts = [cell[at] if at < len(cell) else "" for cell in cells]
            lines.append("  ".join(part.ljust(width) for part, width in zip(parts, WIDTHS, strict=True)).rstrip())
        lines.append("")
    return "\n".join(lines)


def markdown(rows: Sequence[ClaimRow]) -> str:
    """Return the rows as a table for docs/from-the-tutorial.md."""
    lines = [f"| {' | '.join(row)} |" for row in (HEADING, *rows)]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]])


def update_page(page: str, rows: Sequence[ClaimRow]) -> str:
    """Return `page` with each row of its table replaced by the new row with the same claim."""
    new = dict(zip((row.claim for row in rows), markdown(rows).splitlines()[2:], strict=True))
    lines = [new.pop(line[2:].split(" | ")[0], line) if line.startswith("| ") else line for line in page.splitlines()]
    if new:
        raise SystemExit(f"the page has no row for: {', '.join(new)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print."""
    rows, missing = measure()
    if "--write" in sys.argv[1:]:
        PAGE.write_text(update_page(PAGE.read_text("utf-8"), rows), "utf-8")
    print(markdown(rows) if "--markdown" in sys.argv[1:] else plain(rows))
    for name in missing:
        print(f"left out: {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
