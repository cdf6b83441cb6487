"""Measuring: wall time of pipelines, start-up times, peak memory; medians of interleaved rounds."""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from typing import NamedTuple

from bench.pipelines import PROPOSERS, bare, ours, sdk

PIPELINES = {"groq SDK + gather": sdk, "bare aiohttp": bare, "Mixtura": ours()}


class Spread(NamedTuple):
    """Median, lowest and highest of several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def walls(url: str, rounds: int) -> dict[str, Spread]:
    """Measure wall time over the critical path (slowest proposer, then aggregator) as the server saw it."""

    async def main() -> dict[str, Spread]:
        ratios: dict[str, list[float]] = {name: [] for name in PIPELINES}
        async with contextlib.AsyncExitStack() as stack:
            made = {name: await stack.enter_async_context(make(url)) for name, make in PIPELINES.items()}
            for pipeline in made.values():
                await pipeline()
            for _ in range(rounds):
                for name, pipeline in made.items():
                    await asyncio.to_thread(_spans, url)
                    begun = time.perf_counter()
                    await pipeline()
                    wall = time.perf_counter() - begun
                    spans = sorted(await asyncio.to_thread(_spans, url))
                    longest = [end - start for start, end in spans]
                    ratios[name].append(wall / (max(longest[: len(PROPOSERS)]) + longest[-1]))
        return {name: Spread.of(values) for name, values in ratios.items()}

    return asyncio.run(main())


def _spans(url: str) -> list[tuple[float, float]]:
    with urllib.request.urlopen(f"{url}/spans") as reply:
        return [(start, end) for start, end in json.load(reply)]


def start_ups(rounds: int) -> dict[str, Spread]:
    """Measure whole processes that only start: the interpreter, imports, `--help`; interleaved."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import mixtura": [sys.executable, "-c", "import mixtura"],
        "import mixtura, Mixture made": [sys.executable, "-c", "from mixtura import Mixture; Mixture()"],
        "import groq": [sys.executable, "-c", "import groq"],
        "mixtura --help": [sys.executable, "-m", "mixtura", "--help"],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            begun = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if turn:
                found[name].append(time.perf_counter() - begun)
    return {name: Spread.of(values) for name, values in found.items()}


_SDK_ASK = """
import asyncio, sys
from bench.pipelines import sdk
async def main():
    async with sdk(sys.argv[1]) as ask:
        await ask()
asyncio.run(main())
"""


def peaks(url: str, rounds: int) -> dict[str, float]:
    """Return the peak resident memory, in MB, of one question asked by the command and by an SDK script."""
    environment = {**os.environ, "GROQ_API_KEY": "gsk_bench", "GROQ_BASE_URL": url}
    commands = {
        "mixtura ask": [sys.executable, "-m", "mixtura", "ask", "--recipe", "classic", "Which index?"],
        "mixtura ask --json": [sys.executable, "-m", "mixtura", "ask", "--json", "--recipe", "classic", "Which?"],
        "groq SDK script": [sys.executable, "-c", _SDK_ASK, url],
    }
    return {name: max(_peak(command, environment) for _ in range(rounds)) for name, command in commands.items()}


# A process's peak counts what its parent held when it was started, so a small one has to start it.
_LAUNCHER = (
    "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ,"
    " file_actions=[(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]);"
    " _, status, used = os.wait4(pid, 0); print(os.waitstatus_to_exitcode(status), used.ru_maxrss)"
)


def _peak(command: list[str], environment: dict[str, str]) -> float:
    launcher = [sys.executable, "-S", "-c", _LAUNCHER, *command]
    told = subprocess.run(launcher, env=environment, check=True, capture_output=True, text=True).stdout.split()
    if told[0] != "0":
        raise SystemExit(f"{' '.join(command)} ended with {told[0]}")
    return int(told[1]) / 1024
