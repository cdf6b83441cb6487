"""The machine room's figures: how long `mixtura plan` takes, cold, and a sweep of 10,000 configurations.

    python -m bench.room

Printed as Markdown; the exit code is 1 when a bound is missed.
"""

import subprocess
import sys
import time

import numpy as np

from mixtura.recipe import recipe_names
from mixtura.room.plan.sweep import SweepGrid, sweep

PLAN = 2.0  # seconds
SWEEP = 10.0
GRID = SweepGrid(
    models=("llama-3.1-8b", "llama-3.3-70b", "gpt-oss-20b", "gpt-oss-120b", "qwen3-32b", "qwen3-30b-a3b",
            "qwen3-235b-a22b", "mixtral-8x7b", "deepseek-v3", "kimi-k2"),
    on=("a100", "h100", "h200", "b200", "gb200", "mi355x", "lpu", "wse3"),
)  # fmt: skip


def main() -> int:
    """Measure and print."""
    missed = False
    print("| what | seconds | bound | |\n|---|---|---|---|")
    begun = time.perf_counter()
    found = sweep(GRID)
    rows = [(f"a sweep of {GRID.size:,} configurations, {np.mean(found.fits):.0%} of which fit",
             time.perf_counter() - begun, SWEEP)]  # fmt: skip
    asked = [[recipe] for recipe in recipe_names() if recipe != "toy"]  # its models run in this process
    asked += [["fast", "--rate", "600", "--within", "5"], ["deep", "--rate", "60", "--within", "8"]]
    for words in asked:
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mixtura", "plan", *words], check=True, capture_output=True)
        rows.append((f"`mixtura plan {' '.join(words)}`, a process of its own", time.perf_counter() - begun, PLAN))
    for what, seconds, bound in rows:
        missed |= seconds > bound
        print(f"| {what} | {seconds:.2f} | {bound:g} | {'MISSED' if seconds > bound else 'holds'} |")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
