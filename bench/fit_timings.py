"""Fits the simulated cloud's `lpu` profile to recorded Groq usage figures and writes sim/data/timings.toml.

    python bench/fit_timings.py [../shared/data/timings/groq_usage_dev.csv]

Per model: `tps`, the decode rate of replies of at least 40 tokens (of all where there is none): the median of four or
more, else tokens over seconds of all together; `tps_spread`, half the distance between its 16th and 84th percentile
over `tps`; `queue`, the queue times at every tenth percentile, because they are not of one kind (5 ms when idle, a
hundred times that when not); `prefill`, prompt tokens per second by the Theil-Sen slope of prompt time over prompt
tokens where it is positive, and `prefill_base`, the median of what is left. Models with fewer than four records take
the pooled figures for what they lack, but for the spread: across models it would be that of their speeds.
"""

import csv
import itertools
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import tomli_w

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "../shared/data/timings/groq_usage_dev.csv"
TARGET = ROOT / "src/mixtura/sim/data/timings.toml"
ENOUGH = 4
LONG = 40

Row = dict[str, float]


def read(path: Path) -> dict[str, list[Row]]:
    """Return the usage rows of each model."""
    rows: dict[str, list[Row]] = defaultdict(list)
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            if line["model"].startswith("groq/"):
                continue  # a system of several models: its times are sums
            names = ("queue_time", "prompt_tokens", "prompt_time", "completion_tokens", "completion_time")
            rows[line["model"]].append({name: float(line[name]) for name in names})
    return dict(rows)


def fit(rows: list[Row]) -> dict[str, Any]:
    """Return the figures that one group of records supports."""
    rated = [row for row in rows if row["completion_tokens"] >= LONG] or rows
    rates = [row["completion_tokens"] / row["completion_time"] for row in rated]
    tokens, seconds = (sum(row[name] for row in rated) for name in ("completion_tokens", "completion_time"))
    tps = statistics.median(rates) if len(rates) >= ENOUGH else tokens / seconds
    figures: dict[str, Any] = {"tps": tps}
    if len(rates) >= ENOUGH:
        percentiles = statistics.quantiles(rates, n=100, method="inclusive")
        figures["tps_spread"] = (percentiles[83] - percentiles[15]) / 2 / tps
    if len(rows) >= ENOUGH:
        queues = sorted(row["queue_time"] for row in rows)
        tenths = statistics.quantiles(queues, n=10, method="inclusive")
        figures["queue"] = [rounded(value) for value in (queues[0], *tenths, queues[-1])]
    pairs = [(row["prompt_tokens"], row["prompt_time"]) for row in rows]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(pairs, 2) if abs(b[0] - a[0]) >= 100]
    slope = statistics.median(slopes) if len(slopes) >= 3 else 0.0
    if slope > 0:
        figures["prefill"] = 1 / slope
        figures["prefill_base"] = max(0.0, statistics.median(time - slope * tokens for tokens, time in pairs))
    return {name: rounded(value) if isinstance(value, float) else value for name, value in figures.items()}


def rounded(value: float) -> float:
    """Return `value` to four digits: the records do not support more."""
    return float(f"{value:.4g}")


def main() -> None:
    """Read, fit, write."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    groups = read(source)
    pooled = fit([row for rows in groups.values() for row in rows])
    del pooled["tps_spread"]
    models = {model: fit(rows) for model, rows in sorted(groups.items())}
    for model, rows in groups.items():
        if len(rows) < ENOUGH:
            models[model] = {"tps": models[model]["tps"]}
    head = (
        "# Written by bench/fit_timings.py from recorded Groq usage figures; do not edit by hand.\n"
        "# tps: decode tokens per second, tps_spread its coefficient of variation; queue: seconds at every tenth\n"
        "# percentile from least to most; prefill: prompt tokens per second on top of prefill_base seconds.\n"
    )
    counts = {"records": {model: len(rows) for model, rows in sorted(groups.items())}}
    TARGET.write_text(head + tomli_w.dumps({"default": pooled, "models": models} | counts))


if __name__ == "__main__":
    main()
