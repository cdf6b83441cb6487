"""A table as it is measured: every row is printed when it is known, and kept for docs/benchmarks.md."""

from typing import NamedTuple


class Figure(NamedTuple):
    """One row: what was measured, what came out, what it may be at most, and whether that holds."""

    what: str
    shown: str
    bound: str
    verdict: str


class Table:
    """The rows found so far."""

    def __init__(self) -> None:
        self.rows: list[Figure] = []

    def add(self, what: str, value: float, shown: str, bound: float | None = None, unit: str = "") -> None:
        """Add and print a row; `value` is held against `bound` where there is one."""
        verdict = "" if bound is None else ("holds" if value <= bound else "MISSED")
        row = Figure(what, shown, "" if bound is None else f"<= {bound:g}{unit}", verdict)
        self.rows.append(row)
        print(f"{row.what:<64} {row.shown:<34} {row.bound:<10} {row.verdict}", flush=True)

    def skip(self, what: str, why: str) -> None:
        """Print that something is left out; the page does not get it."""
        print(f"left out: {what} ({why})", flush=True)

    @property
    def missed(self) -> bool:
        """Whether any figure is over its bound."""
        return any(row.verdict == "MISSED" for row in self.rows)
