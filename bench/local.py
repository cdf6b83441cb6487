"""`python -m bench.local`: measures model files in this process.

It measures the tokens per second of one proposer and of three in parallel, for several splits of threads and slots;
the memory of one more `Mixture` on a file; and the time until a file answers. The files have random weights and are
written first; `--file` measures an existing file instead. Each round measures every split once, so that a drift of the
machine's speed affects all splits alike. The output shows medians, then the lowest and the highest value. A busy core
affects every row: measure on an idle machine.
"""

import argparse
import asyncio
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.gguf_files import Shape, write_gguf
from bench.limits.table import Table
from bench.measure import Spread, cores
from mixtura import Mixture, Recipe
from mixtura.chat import ChatOptions, ChatRequest, Message
from mixtura.models.local.header import read_header
from mixtura.models.local.llama import load_package, shared
from mixtura.models.local.machine import Machine
from mixtura.models.local.model import LocalModel
from mixtura.models.local.provider import local_model
from mixtura.models.local.settings import RequestedSettings, resolve_settings
from mixtura.recipe import Layer, Proposer

# Two file sizes, one on each side of the size at which the default number of threads changes.
SHAPES = {"1.8 MB": Shape(128, 4, 4, 4, 384), "99 MB": Shape(640, 10, 10, 5, 1920)}
TOKENS = {"1.8 MB": 240, "99 MB": 40}
AT_ONCE = 3
LEAST = 1.6  # the required ratio of tokens per second, three proposers in parallel against one alone
MOST_MEMORY = 5.0


class WorkSplit(NamedTuple):
    """How the work is split: threads per server, servers per file (which share its slots), and files."""

    name: str
    threads: int
    copies: int = 1
    files: int = 1


class TokenRates(NamedTuple):
    """Tokens per second in each round, of one proposer alone and of three in parallel."""

    alone: list[float]
    together: list[float]


def splits() -> list[WorkSplit]:
    """Return the splits to compare on this machine."""
    many = cores()
    found = [WorkSplit("one file, 1 thread", 1), WorkSplit("three files, 1 thread each", 1, files=AT_ONCE)]
    if many > 1:
        found.insert(1, WorkSplit(f"one file, {many} threads", many))
        found.insert(2, WorkSplit("one file, a server of 1 thread each", 1, copies=AT_ONCE))
    return found


def _model(path: Path, split: WorkSplit) -> LocalModel:
    header = read_header(path)
    settings = resolve_settings(
        header, RequestedSettings(threads=split.threads, slots=AT_ONCE, context=512), Machine.here()
    )
    settings = msgspec.structs.replace(settings, copies=split.copies)
    return LocalModel(shared(header, settings, partial(load_package, os.environ), trusted=True), str(path))


async def _rate(models: Sequence[LocalModel], tokens: int) -> float:
    options = ChatOptions(extra={"ignore_eos": True, "cache_prompt": False})
    messages = (Message(role="user", content="Which index suits heavy writes? " * 2),)
    request = ChatRequest(model="bench", messages=messages, max_tokens=tokens, temperature=0.7, options=options)
    begun = time.perf_counter()
    done = await asyncio.gather(*(model.chat(request) for model in models))
    return sum(completion.usage.completion_tokens for completion in done) / (time.perf_counter() - begun)


async def rates(files: Sequence[Path], tokens: int, rounds: int) -> dict[WorkSplit, TokenRates]:
    """Measure every split in turn, `rounds` times. `files` are three copies of one file."""
    made: dict[WorkSplit, list[LocalModel]] = {}
    for split in splits():
        models = [_model(path, split) for path in files[: split.files]]
        made[split] = models if split.files > 1 else models * AT_ONCE
        await _rate(made[split], 4)
    found = {split: TokenRates([], []) for split in made}
    for _ in range(rounds):
        for split, models in made.items():
            found[split].alone.append(await _rate(models[:1], tokens))
            found[split].together.append(await _rate(models, tokens))
    return found


async def extra_mixture(path: Path) -> float:
    """Return the memory, in MB, that one more `Mixture` adds to this process when its file is already in use."""
    proposer = Proposer(provider="local", model=str(path), max_tokens=40)
    recipe = Recipe(name="one", layers=(Layer(proposers=(proposer,)),), aggregator=None)
    kept = [Mixture(recipe, env={})]
    await kept[0].ask("hi")
    gc.collect()
    before, many = _resident(), 10
    for _ in range(many):
        kept.append(Mixture(recipe, env={}))
        await kept[-1].ask("hi")
    gc.collect()
    return (_resident() - before) / many


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def first_answers(path: Path, rounds: int) -> tuple[Spread, Spread]:
    """Return the seconds from loading a file to its first token, with and without the trial."""
    request = ChatRequest(model="bench", messages=(Message(role="user", content="hi"),), max_tokens=1)
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for trusted, seconds in zip((False, True), found, strict=True):
            copy = path.with_name(f"load-{number}-{trusted}.gguf")  # a new file, so that no cache knows its state
            shutil.copy(path, copy)
            begun = time.perf_counter()
            await local_model(copy, {}, trusted=trusted).chat(request)
            seconds.append(time.perf_counter() - begun)
            gc.collect()
            copy.unlink()
    return Spread.of(found[0]), Spread.of(found[1])


def measure(found: Table, rounds: int, given: Path | None = None) -> None:
    """Add every figure to `found`."""
    with tempfile.TemporaryDirectory() as folder:
        for size in SHAPES if given is None else ("given",):
            path = write_gguf(Path(folder) / "a.gguf", SHAPES[size]) if given is None else given
            files = [path, *(Path(folder) / f"copy-{number}.gguf" for number in range(AT_ONCE - 1))]
            for copy in files[1:]:
                shutil.copy(path, copy)
            _compare(found, f"file of {path.stat().st_size / 1e6:.3g} MB", files, TOKENS.get(size, 24), rounds)
            tried, trusted = asyncio.run(first_answers(path, 3))
            label = f"file of {path.stat().st_size / 1e6:.3g} MB, load and first token"
            found.add(f"{label}, tried first", 0, f"{tried} s")
            found.add(f"{label}, known to load", 0, f"{trusted} s")
            for copy in files:
                if copy != given:
                    copy.unlink()
        path = write_gguf(Path(folder) / "memory.gguf", SHAPES["1.8 MB"])
        more = asyncio.run(extra_mixture(path))
        found.add("memory of one more Mixture on a file", more, f"{more:.2f} MB", MOST_MEMORY, " MB")


def _compare(found: Table, what: str, files: Sequence[Path], tokens: int, rounds: int) -> None:
    by_split = asyncio.run(rates(files, tokens, rounds))
    for split, measured in by_split.items():
        for name, values in (("one alone", measured.alone), ("three at once", measured.together)):
            spread = Spread.of(values)
            shown = f"{spread.median:.0f} tok/s ({spread.low:.0f} to {spread.high:.0f})"
            found.add(f"{what}, {split.name}, {name}", 0, shown)
    best = max(by_split, key=lambda split: Spread.of(by_split[split].together).median)
    measured = by_split[best]
    ratio = Spread.of([many / one for many, one in zip(measured.together, measured.alone, strict=True)])
    label = f"{what}, the best split: one alone / three at once"
    found.add(label, 1 / ratio.median, f"{1 / ratio.median:.2f}, that is {ratio.median:.2f} times", 1 / LEAST)
    alone = max((rates.alone for rates in by_split.values()), key=lambda values: Spread.of(values).median)
    most = Spread.of([many / one for many, one in zip(measured.together, alone, strict=True)])
    found.add(f"{what}, beside the fastest single one of any split", 0, f"{most.median:.2f} times")


def main() -> int:
    """Measure and print. Returns 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds through all splits")
    parser.add_argument("--file", type=Path, help="an existing model file to measure, instead of random ones")
    options = parser.parse_args()
    found = Table()
    measure(found, options.rounds, options.file)
    return int(found.missed)


if __name__ == "__main__":
    sys.exit(main())
