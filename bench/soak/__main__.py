"""`python -m bench.soak [--runs 5000] [--seed 1]`: soaks the engine in 25 kinds of faults, over real sockets.

The server is a process of its own (`raw_server.py`). After the runs nothing may be left: no call without an end, no
whole draft unaccounted for, no open file, no task, and no more memory than after the first tenth of the runs.
"""

import argparse
import asyncio
import gc
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import msgspec

from bench.soak.raw_server import FAULTS
from mixtura import Aggregator, Event, Layer, MixturaError, Mixture, Policy, Proposer, Recipe
from mixtura.events import AnswerFinished, CallFailed, CallFinished, CallStarted, RunFinished
from mixtura.models.openai.pool import close_pool

AT_ONCE = 40
# What a run may leave in memory: caches fill, and percentiles are kept of the latest calls.
_MOST_GROWTH_MB = 24.0
# Before so many runs the largest reply so far says more about memory than their number.
_ENOUGH_FOR_MEMORY = 1000
_MODEL = "openai/gpt-oss-20b"
_PROPOSERS = (Proposer(model=_MODEL, samples=2), Proposer(model="qwen/qwen3.8-27b"))
_POLICY = Policy(deadline=6.0, quorum=2, grace=0.2, first_token=0.5, between_tokens=0.5, hedge=True, hedge_after=0.3)
_RECIPES = (
    Recipe(layers=(Layer(proposers=_PROPOSERS),), aggregator=Aggregator(model="openai/gpt-oss-120b"), policy=_POLICY),
    Recipe(layers=(Layer(proposers=_PROPOSERS),), aggregator=Aggregator(kind="vote"), policy=_POLICY),
    Recipe(
        layers=(Layer(proposers=_PROPOSERS),),
        aggregator=Aggregator(kind="select", model="openai/gpt-oss-120b"),
        policy=Policy(deadline=6.0),
    ),
    Recipe(layers=(Layer(proposers=(Proposer(model=_MODEL),)),), policy=Policy(deadline=6.0)),
)


class Soaked(msgspec.Struct):
    """What the runs came to; `broken` are sentences on what must not be."""

    statuses: Counter[str] = msgspec.field(default_factory=Counter)
    drafts: int = 0
    broken: list[str] = []


@contextmanager
def raw_server(seed: int, share: float) -> Iterator[int]:
    """Run the server in a process of its own; gives its port."""
    told = [sys.executable, "-m", "bench.soak.raw_server", str(seed), str(share)]
    with subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def _check(events: list[Event], error: BaseException | None) -> Iterator[str]:
    started = [event.call for event in events if isinstance(event, CallStarted)]
    ended = [event.done.call for event in events if isinstance(event, CallFinished)]
    ended += [event.failure.call for event in events if isinstance(event, CallFailed)]
    if sorted(started) != sorted(ended):
        yield f"calls {sorted(started)} were started and {sorted(ended)} ended"
    ends = [event for event in events if isinstance(event, RunFinished)]
    if len(ends) != 1:
        yield f"{len(ends)} RunFinished"
    if error is not None and not isinstance(error, MixturaError):
        yield f"{type(error).__name__} came out: {error}"
    answers = sum(isinstance(event, AnswerFinished) for event in events)
    if answers != (error is None):
        yield f"{answers} AnswerFinished, and {error!r}"
    texts = [event.done.text for event in events if isinstance(event, CallFinished)]
    if error is not None and any(text.strip() for text in texts):
        yield f"a draft was there and no answer came: {error}"


async def soak(port: int, runs: int, seed: int) -> Soaked:
    """Ask `runs` questions, some at a time, and check what is left of each and of all."""
    found, rng = Soaked(), random.Random(seed)
    env = {"GROQ_BASE_URL": f"http://127.0.0.1:{port}", "GROQ_API_KEY": "gsk_soak", "MIXTURA_HOME": os.devnull}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with gate:
            recipe, watched = rng.choice(_RECIPES), rng.random() < 0.5
            events: list[Event] = []
            error: BaseException | None = None
            mixture = Mixture(recipe, env=env, listeners=[events.append])
            try:
                if watched:
                    async with mixture.stream("Why is the sky blue?") as stream:
                        async for _ in stream:
                            pass
                else:
                    await mixture.ask("Why is the sky blue?")
            except Exception as problem:  # noqa: BLE001  # whatever comes out is looked at
                error = problem
            found.statuses["answered" if error is None else type(error).__name__] += 1
            found.drafts += sum(isinstance(event, CallFinished) for event in events)
            found.broken += [
                f"{recipe.aggregator and recipe.aggregator.kind}: {said}" for said in _check(events, error)
            ]

    async with asyncio.TaskGroup() as group:
        for _ in range(runs):
            group.create_task(one())
    return found


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0


def _megabytes() -> float:
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


async def _counts(port: int) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/counts") as reply:
        counts: dict[str, object] = await reply.json(content_type=None)
        return counts


async def measure(runs: int, seed: int, share: float) -> int:
    """Soak, print what came of it, and return 1 if anything was lost or left."""
    with raw_server(seed, share) as port:
        await soak(port, 20, seed)
        await close_pool()
        files, tasks = _files(), len(asyncio.all_tasks())
        begun = time.perf_counter()
        first = await soak(port, max(1, runs // 10), seed + 1)
        grown = _megabytes()
        rest = await soak(port, runs - runs // 10, seed + 2)
        seconds = time.perf_counter() - begun
        await close_pool()
        await asyncio.sleep(0.3)
        counts = await _counts(port)
        broken = [*first.broken, *rest.broken]
        broken += [f"{_files()} files are open, {files} were"] * (_files() > files)
        broken += [f"{len(asyncio.all_tasks())} tasks are left, {tasks} were"] * (len(asyncio.all_tasks()) > tasks)
        growth = _megabytes() - grown
        broken += [f"memory grew by {growth:.1f} MB"] * (growth > _MOST_GROWTH_MB and runs >= _ENOUGH_FOR_MEMORY)
        if counts["open"] != 1:
            broken.append(f"the server still has {counts['open']} connections, one of them this question")
    statuses = first.statuses + rest.statuses
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(dict(counts["made"]).items()))  # type: ignore[call-overload]
    print(f"{runs:,} runs in {seconds:.0f} s, {AT_ONCE} at once, {len(FAULTS)} kinds of faults: {dict(statuses)}")
    print(f"calls by what the server did: {kinds}")
    print(f"files {files} before and {_files()} after; memory {growth:+.1f} MB over the last nine tenths")
    for said, count in Counter(broken).most_common(20):
        print(f"BROKEN ({count}): {said}")
    print("Nothing was lost, nothing is left." if not broken else f"{len(broken)} things are broken.")
    return bool(broken)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.5, help="of the calls go wrong")
    asked = parser.parse_args()
    return asyncio.run(measure(asked.runs, asked.seed, asked.share))


if __name__ == "__main__":
    sys.exit(main())
