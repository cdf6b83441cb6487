"""Fits the simulated cloud's `lpu` profile to recorded Groq usage figures and writes sim/data/timings.toml.

    python bench/fit_timings.py [../shared/data/timings/groq_usage_dev.csv]

Per model: `tps`, the median decode rate of replies of at least 40 tokens (all replies where there are fewer
than three such), and `tps_spread`, its coefficient of variation by the median absolute deviation;
`queue`, the median queue time, and `queue_sigma`, the spread of its logarithm; `prefill`, prompt tokens per
second by the Theil-Sen slope of prompt time over prompt tokens where it is positive, and `prefill_base`, the
median of what is left. Models with fewer than four records take the pooled figures for what they lack.
"""

import csv
import itertools
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import tomli_w

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "../shared/data/timings/groq_usage_dev.csv"
TARGET = ROOT / "src/mixtura/sim/data/timings.toml"
ENOUGH = 4

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


def sigma(values: list[float]) -> float:
    """Return the spread of the values' logarithms: half the distance between the 16th and 84th percentiles."""
    logs = sorted(math.log(value) for value in values)
    if len(logs) < ENOUGH:
        return 0.0
    cuts = statistics.quantiles(logs, n=100, method="inclusive")
    return (cuts[83] - cuts[15]) / 2


def fit(rows: list[Row]) -> dict[str, float]:
    """Return the figures that one group of records supports."""
    long = [row for row in rows if row["completion_tokens"] >= 40]
    rated = long if len(long) >= 3 else rows
    rates = [row["completion_tokens"] / row["completion_time"] for row in rated]
    tps = statistics.median(rates)
    queues = [row["queue_time"] for row in rows]
    figures = {
        "tps": tps,
        "tps_spread": 1.4826 * statistics.median(abs(rate / tps - 1) for rate in rates),
        "queue": statistics.median(queues),
        "queue_sigma": sigma(queues),
    }
    pairs = [(row["prompt_tokens"], row["prompt_time"]) for row in rows]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.combinations(pairs, 2) if abs(b[0] - a[0]) >= 100]
    slope = statistics.median(slopes) if len(slopes) >= 3 else 0.0
    if slope > 0:
        figures["prefill"] = 1 / slope
        figures["prefill_base"] = max(0.0, statistics.median(time - slope * tokens for tokens, time in pairs))
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def main() -> None:
    """Read, fit, write."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    groups = read(source)
    pooled = fit([row for rows in groups.values() for row in rows])
    models = {model: fit(rows) for model, rows in sorted(groups.items()) if len(rows) >= ENOUGH}
    models |= {model: {"tps": fit(rows)["tps"]} for model, rows in sorted(groups.items()) if len(rows) < ENOUGH}
    head = (
        "# Written by bench/fit_timings.py from recorded Groq usage figures; do not edit by hand.\n"
        "# tps: decode tokens per second; queue: median seconds; prefill: prompt tokens per second on top of\n"
        "# prefill_base seconds; *_spread and *_sigma: coefficient of variation, spread of the logarithm.\n"
    )
    counts = {"records": {model: len(rows) for model, rows in sorted(groups.items())}}
    TARGET.write_text(head + tomli_w.dumps({"default": pooled, "models": models} | counts))


if __name__ == "__main__":
    main()
