"""`python -m bench.endurance`: what a process keeps of 10,000 questions, loses of 1,000 at once, and what books say.

    growth   10,000 asks of a mixture in one process, 20 at a time: memory and descriptors after the first fifth and at
             the end
    files    1,000 asks at once in a process that may have 256 descriptors: none may be lost
    books    4 processes ask 500 questions each under one daily budget: none may fail, and what the file says was spent
             is the sum of what the answers say they cost

The server is a process of its own, and so is each client.
"""

import argparse
import asyncio
import gc
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench.server import Pace, running
from mixtura import Aggregator, Answer, Layer, Mixture, Proposer, Recipe

AT_ONCE = 20
MOST_GROWTH = 0.02
_MODEL = "openai/gpt-oss-20b"
_ONE = Recipe(layers=(Layer(proposers=(Proposer(model=_MODEL),)),))
_MIXTURE = Recipe(
    layers=(Layer(proposers=(Proposer(model=_MODEL, samples=2), Proposer(model="qwen/qwen3.8-27b"))),),
    aggregator=Aggregator(model="openai/gpt-oss-120b"),
)
_BUDGET = 1000.0
_BILLIONTHS = 1_000_000_000
_CENT = 0.01
_ROOT = Path(__file__).parents[1]


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) - 1 if Path("/proc/self/fd").exists() else 0


def _megabytes() -> float:
    gc.collect()
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


async def _ask(mixture: Mixture, asks: int, at_once: int) -> tuple[list[Answer], Counter[str]]:
    """Ask `asks` questions, so many at a time."""
    answers: list[Answer] = []
    failed: Counter[str] = Counter()
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with gate:
            try:
                answers.append(await mixture.ask(f"Why is the sky blue? ({number})"))
            except Exception as problem:  # noqa: BLE001  # whatever comes out is counted
                failed[f"{type(problem).__name__}: {problem}"] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(asks):
            group.create_task(one(number))
    return answers, failed


async def growth(asks: int) -> dict[str, object]:
    """Ask in one process; return memory and descriptors after the first fifth and at the end."""
    mixture = Mixture(_MIXTURE)
    # Caches fill, and as many connections are made as there are calls at once.
    lost = sum((await _ask(mixture, 5 * AT_ONCE, AT_ONCE))[1].values())
    seen: list[tuple[float, int]] = []
    step = max(1, asks // 5)
    for _ in range(5):
        # One batch after the other: 10,000 tasks at once are memory of the caller's.
        for begun in range(0, step, 500):
            lost += sum((await _ask(mixture, min(500, step - begun), AT_ONCE))[1].values())
        seen.append((_megabytes(), _descriptors()))
    return {"lost": lost, "memory": [first for first, _ in seen], "descriptors": [second for _, second in seen]}


async def files(asks: int, descriptors: int) -> dict[str, object]:
    """Ask everything at once where the process may have few descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    begun = time.perf_counter()
    answers, failed = await _ask(Mixture(_ONE), asks, asks)
    return {"answered": len(answers), "failed": failed, "seconds": time.perf_counter() - begun}


async def books(asks: int) -> dict[str, object]:
    """Ask under a daily budget; return what the answers say they cost, in billionths of a dollar."""
    answers, failed = await _ask(Mixture(_ONE, daily_budget=_BUDGET), asks, AT_ONCE)
    return {"cost": sum(round((answer.cost or 0.0) * _BILLIONTHS) for answer in answers), "failed": failed}


_PARTS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, object]]]] = {
    "growth": growth,
    "files": files,
    "books": books,
}


def _client(url: str, home: str, part: str, *numbers: int) -> "subprocess.Popen[str]":
    """Start a client in a process of its own; it prints what its part returns."""
    env = {**os.environ, "GROQ_BASE_URL": f"{url}/openai/v1", "GROQ_API_KEY": "gsk_endurance", "MIXTURA_HOME": home}
    told = [sys.executable, "-m", "bench.endurance", "--client", part, *map(str, numbers)]
    return subprocess.Popen(told, stdout=subprocess.PIPE, text=True, cwd=_ROOT, env=env)


def _said(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, _ = process.communicate()
    found: dict[str, Any] = json.loads(out) if process.returncode == 0 else {"failed": {"the client crashed": 1}}
    return found


def _show(name: str, said: str, holds: bool) -> bool:
    print(f"{name:<8} {said}: {'holds' if holds else 'MISSED'}", flush=True)
    return holds


def measure_growth(asks: int) -> bool:
    """Print how memory and descriptors grow, and say whether they stay."""
    with running() as url, tempfile.TemporaryDirectory() as home:
        told = _said(_client(url, home, "growth", asks))
    if "memory" not in told:
        return _show("growth", str(told["failed"]), False)
    memory, descriptors = told["memory"], told["descriptors"]
    grown, more = memory[-1] / memory[0] - 1, descriptors[-1] - descriptors[0]
    said = (
        f"{asks:,} asks of {len(memory)} fifths: memory {', '.join(f'{found:.1f}' for found in memory)} MB "
        f"({grown:+.2%} since the first), descriptors {', '.join(map(str, descriptors))}; {told['lost']} lost"
    )
    return _show("growth", said, grown <= MOST_GROWTH and more <= MOST_GROWTH * descriptors[0] and not told["lost"])


def measure_files(asks: int, descriptors: int) -> bool:
    """Print what is lost of many questions at once, and say whether it is none."""
    with running(Pace(delay=0.3)) as url, tempfile.TemporaryDirectory() as home:
        told = _said(_client(url, home, "files", asks, descriptors))
    said = f"{asks:,} asks at once, {descriptors} descriptors: {told.get('answered', 0):,} answered"
    said += f" in {told.get('seconds', 0.0):.1f} s" + (f"; {told['failed']}" if told["failed"] else "")
    return _show("files", said, told.get("answered") == asks)


def measure_books(processes: int, asks: int) -> bool:
    """Print what the books of several processes say, and whether that is what was spent."""
    with running() as url, tempfile.TemporaryDirectory() as home:
        begun = time.perf_counter()
        clients = [_client(url, home, "books", asks) for _ in range(processes)]
        told = [_said(client) for client in clients]
        seconds = time.perf_counter() - begun
        file = sqlite3.connect(Path(home) / "budget.db")
        spent, reserved = file.execute("SELECT sum(spent), sum(reserved) FROM days").fetchone()
        file.close()
    failed = sum((Counter(found["failed"]) for found in told), Counter[str]())
    cost = sum(found.get("cost", 0) for found in told)
    said = (
        f"{processes} processes x {asks} asks in {seconds:.0f} s: ${spent / _BILLIONTHS:.6f} in the books, "
        f"${cost / _BILLIONTHS:.6f} in the answers, ${reserved / _BILLIONTHS:.6f} still reserved; "
        f"{sum(failed.values())} failed{f' {dict(failed)}' if failed else ''}"
    )
    return _show("books", said, not failed and not reserved and abs(spent - cost) < _CENT / 2 * _BILLIONTHS)


def main() -> int:
    """Measure what the command line names; 1 when anything is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.endurance", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--asks", type=int, default=10_000, help="of one process (default 10,000)")
    parser.add_argument("--at-once", type=int, default=1000, help="questions at once (default 1,000)")
    parser.add_argument("--descriptors", type=int, default=256, help="that their process may have (default 256)")
    parser.add_argument("--processes", type=int, default=4, help="that share a daily budget (default 4)")
    parser.add_argument("--each", type=int, default=500, help="questions of each of them (default 500)")
    parser.add_argument("--only", nargs="+", choices=list(_PARTS), default=list(_PARTS), metavar="PART")
    parser.add_argument("--client", nargs="+", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.client:
        part, *numbers = told.client
        print(json.dumps(asyncio.run(_PARTS[part](*map(int, numbers)))))
        return 0
    parts = {
        "growth": lambda: measure_growth(told.asks),
        "files": lambda: measure_files(told.at_once, told.descriptors),
        "books": lambda: measure_books(told.processes, told.each),
    }
    held = [parts[name]() for name in told.only]
    return not all(held)


if __name__ == "__main__":
    sys.exit(main())
