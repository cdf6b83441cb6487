"""CPU of mixtures, Mixtura beside its peers: every comparison in a process of its own. `python -m bench --only cpu`.

A process of its own keeps what other measurements left in memory out of the figures, and over TLS it starts with
SSL_CERT_FILE in its environment, which every pipeline here reads.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from bench import certificate
from bench.comparisons import COMPARISONS, Comparison, available
from bench.limits.table import Table
from bench.rounds import Turns, measure, milliseconds, ratio
from bench.server import running

_MISSING = "not installed: pip install -e '.[bench]'"


def measure_cpu(table: Table, rounds: int, names: Sequence[str] = tuple(COMPARISONS)) -> None:
    """Measure the named comparisons and add their rows."""
    for name in names:
        comparison = COMPARISONS[name]
        with _served(comparison) as (url, environment), tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "turns.json"
            command = [sys.executable, "-m", "bench.cpu", name, url, f"--rounds={rounds}", f"--to={result}"]
            subprocess.run(command, env=os.environ | environment, cwd=Path(__file__).parents[1], check=True)
            turns = msgspec.json.decode(result.read_bytes(), type=Turns)
        add_rows(table, comparison, turns)


@contextlib.contextmanager
def _served(comparison: Comparison) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the base URL of a server for `comparison`, and what its clients need in their environment."""
    if not comparison.tls:
        with running(comparison.pace) as url:
            yield url, {}
        return
    with certificate.issued() as issued, running(comparison.pace, issued.chain) as url:
        yield url, {"SSL_CERT_FILE": str(issued.authority)}


def add_rows(table: Table, comparison: Comparison, turns: Turns) -> None:
    """Add what was measured: the CPU of each pipeline, then the ratios beside their bounds.

    A pipeline without turns is left out, in one line that says how to install what it needs.
    """
    about = comparison.about
    for name in comparison.contenders:
        if name not in turns:
            table.skip(f"CPU, {about}: {name}", _MISSING)
            continue
        median, low, high = milliseconds(turns[name])
        table.add(f"CPU, {about}: {name}", median, f"{median:.3f} ms ({low:.3f} to {high:.3f})")
    for mine, theirs, most in comparison.bounds:
        if mine in turns and theirs in turns:
            found = ratio(turns[mine], turns[theirs])
            table.add(f"CPU, {about}: {mine} / {theirs}", found.median, str(found), most)


def main() -> None:
    """Measure one comparison against the server at a URL, and write its turns as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=COMPARISONS)
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--to", type=Path, required=True, help="file for the turns")
    told = parser.parse_args()
    comparison = COMPARISONS[told.name]
    contenders = {name: one for name, one in comparison.contenders.items() if available(name)}
    turns = measure(contenders, told.url, told.rounds, comparison.load)
    told.to.write_bytes(msgspec.json.encode(turns))
    # A thread of the embedded gateway may still let go of the GIL while Python shuts down, and that aborts the process.
    os._exit(0)


if __name__ == "__main__":
    main()
