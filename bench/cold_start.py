"""How long the first hundred runs of a process take to their first words, while nothing is known of their key's plan.

    python -m bench.cold_start [--runs 100] [--rounds 3]

Each batch is asked at once in a fresh process, without a plan: first cold, then warm. Beside it stands the groq SDK's
pipeline of the same models, streamed as well. The free plan is asked in virtual time: there the cloud must refuse
nothing. `python -m bench.cold_start URL RECIPE OURS RUNS` is one such process.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import groq
import msgspec
from groq import AsyncGroq

from bench.limits.asking import KEY, TODAY, percentile
from bench.limits.cloud import CloudSettings, CloudTotals, cloud_process
from bench.limits.table import Table
from bench.pipelines import compose_messages
from bench.server import AT_ONCE, Pace, running
from mixtura import MixturaError, Mixture, Recipe
from mixtura.events import AnswerDelta, CallDelta
from mixtura.sim import TUTORIAL_ERA, SimOptions, simulated_cloud
from mixtura.virtual import run_virtual

RUNS, ROUNDS = 100, 3
ERAS = {"balanced": TODAY, "classic": TUTORIAL_ERA}
# Two batches of a hundred runs fit the developer plan with replies of at most so many tokens.
MOST = 256
_BOUND = 1.0
_SPEECH = Pace(between=0.01)
_QUESTION = "Why is the sky blue, and how would you explain it to child number {place}?"


class Batch(msgspec.Struct):
    """Seconds from the start of a batch to each run's first piece of any call, and to its answer's; what was lost."""

    words: list[float] = []
    answers: list[float] = []
    lost: int = 0


# Asks one question; calls the functions when the first piece of any call, and of the answer, has come.
Ask = Callable[[str, Callable[[], object], Callable[[], object]], Awaitable[None]]


def recipe_of(name: str) -> Recipe:
    """Return a built-in recipe with shorter replies."""
    recipe = Recipe.named(name)
    assert recipe.aggregator is not None
    layers = tuple(
        msgspec.structs.replace(
            layer, proposers=tuple(msgspec.structs.replace(slot, max_tokens=MOST) for slot in layer.proposers)
        )
        for layer in recipe.layers
    )
    aggregator = msgspec.structs.replace(recipe.aggregator, max_tokens=MOST)
    return msgspec.structs.replace(recipe, layers=layers, aggregator=aggregator)


@contextlib.asynccontextmanager
async def ours(recipe: Recipe, url: str) -> AsyncIterator[Ask]:
    """Yield Mixtura as it is asked here."""
    mixture = Mixture(recipe, env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": url})

    async def ask(question: str, spoke: Callable[[], object], answered: Callable[[], object]) -> None:
        async for event in mixture.stream(question):
            if isinstance(event, CallDelta):
                spoke()
            elif isinstance(event, AnswerDelta):
                answered()

    yield ask


@contextlib.asynccontextmanager
async def sdk(recipe: Recipe, url: str) -> AsyncIterator[Ask]:
    """Yield the straightforward pipeline: AsyncGroq as it comes (2 retries), asyncio.gather, everything streamed."""
    client = AsyncGroq(api_key=KEY, base_url=url)
    slots = [slot.model for layer in recipe.layers for slot in layer.proposers for _ in range(slot.samples)]
    aggregator = (recipe.aggregator and recipe.aggregator.model) or ""

    async def call(model: str, messages: list[Any], spoke: Callable[[], object]) -> str:
        pieces = []
        stream = await client.chat.completions.create(model=model, messages=messages, max_tokens=MOST, stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                spoke()
                pieces.append(chunk.choices[0].delta.content)
        return "".join(pieces)

    async def ask(question: str, spoke: Callable[[], object], answered: Callable[[], object]) -> None:
        prompt = [{"role": "user", "content": question}]
        drafts = await asyncio.gather(*(call(model, prompt, spoke) for model in slots))
        await call(aggregator, compose_messages(drafts), answered)

    async with client:
        yield ask


PIPELINES: dict[str, Callable[[Recipe, str], AbstractAsyncContextManager[Ask]]] = {"ours": ours, "sdk": sdk}


async def ask_all(ask: Ask, runs: int, clock: Callable[[], float] = time.perf_counter) -> Batch:
    """Ask `runs` questions at once."""
    found = Batch()
    begun = clock()

    async def one(place: int) -> None:
        first: dict[str, float] = {}
        try:
            await ask(
                _QUESTION.format(place=place),
                lambda: first.setdefault("words", clock() - begun),
                lambda: first.setdefault("answer", clock() - begun),
            )
        except (MixturaError, groq.APIError):
            found.lost += 1
        if "words" in first:
            found.words.append(first["words"])
        if "answer" in first:
            found.answers.append(first["answer"])

    await asyncio.gather(*(one(place) for place in range(runs)))
    return found


class Case(NamedTuple):
    """A server in words; the plan of the simulated cloud, or \"\" and the pace of a server that states no limits."""

    name: str
    plan: str = ""
    pace: Pace = AT_ONCE


CASES = (
    Case("no limits stated, whole at once"),
    Case("no limits stated, begins at once and writes for 1 s", pace=_SPEECH),
    Case("developer plan, whole at once", plan="developer"),
)


@contextlib.contextmanager
def serving(case: Case, era: dt.date) -> Iterator[tuple[str, Callable[[], CloudTotals | None]]]:
    """Run the case's server in a process of its own; yield its URL, and how to stop it and learn what it counted."""
    if not case.plan:
        with running(case.pace) as url:
            yield url, lambda: None
        return
    with cloud_process(CloudSettings(limits={}, seconds=0.0, plan="developer", as_of=era)) as cloud:
        yield cloud.url, cloud.stop


def measure(case: Case, recipe: str, pipeline: str, runs: int) -> tuple[list[Batch], int]:
    """Return the cold and the warm batch of one fresh process, and how many of its calls were refused with 429."""
    with serving(case, ERAS[recipe]) as (url, stop):
        command = [sys.executable, "-m", "bench.cold_start", url, recipe, pipeline, str(runs)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout
        totals = stop()
    refused = 0 if totals is None else totals.refused.get("429", 0)
    return msgspec.json.decode(said.splitlines()[-1], type=list[Batch]), refused


class Measured(NamedTuple):
    """The medians of the rounds of one time: cold and warm, each with the 95th percentile."""

    cold: float
    warm: float
    late_cold: float
    late_warm: float

    @classmethod
    def of(cls, rounds: list[tuple[list[float], list[float]]]) -> "Measured":
        def typical(place: int, share: float) -> float:
            return statistics.median(percentile(one[place], share) for one in rounds)

        return cls(typical(0, 0.5), typical(1, 0.5), typical(0, 0.95), typical(1, 0.95))

    def __str__(self) -> str:
        cold, warm = f"{self.cold:.2f} s (p95 {self.late_cold:.2f})", f"{self.warm:.2f} s ({self.late_warm:.2f})"
        return f"{cold}, warm {warm}"


def add_case(table: Table, case: Case, recipe: str, runs: int, rounds: int) -> None:
    """Add the rows of one server: the two pipelines take turns."""
    found: dict[str, list[tuple[list[Batch], int]]] = {name: [] for name in PIPELINES}
    for _ in range(rounds):
        for name in PIPELINES:
            found[name].append(measure(case, recipe, name, runs))
    where = f"cold start, {runs} runs of {recipe}, {case.name}"
    for what, key in (("first words", "words"), ("first token of the answer", "answers")):
        both = {
            name: Measured.of([(getattr(cold, key), getattr(warm, key)) for (cold, warm), _ in turns])
            for name, turns in found.items()
        }
        mine, theirs = both["ours"], both["sdk"]
        # The words of the answer come after those of the drafts, however long a server writes them.
        lost = mine.cold if key == "words" else mine.cold - mine.warm
        table.add(f"{where}: {what}", lost, str(mine), _BOUND, " s" if key == "words" else " s over warm")
        table.add(f"{where}: {what}, groq SDK + gather", theirs.cold, str(theirs))
    refused = sum(count for _, count in found["ours"])
    lost_runs = sum(batch.lost for batches, _ in found["ours"] for batch in batches)
    table.add(f"{where}: lost or refused with 429", refused + lost_runs, f"{lost_runs}, {refused}", 0)


def add_free(table: Table, recipe: str, runs: int) -> None:
    """Add the rows of the free plan, in virtual time: what the cloud refuses."""

    async def main(pipeline: str) -> tuple[Batch, int]:
        options = SimOptions(as_of=ERAS[recipe], plan="free", profile="fixed:0.5", tokens=100)
        loop = asyncio.get_running_loop()
        async with simulated_cloud(options) as cloud:
            async with PIPELINES[pipeline](Recipe.named(recipe), cloud.url) as ask:
                found = await ask_all(ask, runs, loop.time)
            return found, cloud.ledger.refused[429]

    for pipeline, name in (("ours", "Mixtura"), ("sdk", "groq SDK + gather")):
        found, refused = run_virtual(main(pipeline))
        where = f"cold start, {runs} runs of {recipe}, free plan: refused with 429, {name}"
        shown = f"{refused} times; {runs - found.lost} of {runs} answered"
        table.add(where, refused, shown, 0 if pipeline == "ours" else None)


def table(found: Table, runs: int = RUNS, rounds: int = ROUNDS) -> None:
    """Add all rows."""
    for recipe in ERAS:
        for case in CASES:
            add_case(found, case, recipe, runs, rounds)
        add_free(found, recipe, runs)


async def _client(url: str, recipe: str, pipeline: str, runs: int) -> list[Batch]:
    async with PIPELINES[pipeline](recipe_of(recipe), url) as ask:
        return [await ask_all(ask, runs), await ask_all(ask, runs)]


def main() -> int:
    """Measure and print; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("client", nargs="*", help="URL, recipe, pipeline and runs of one client process")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs asked at once (default 100)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="fresh processes of each kind (default 3)")
    told = parser.parse_args()
    if told.client:
        url, recipe, pipeline, runs = told.client
        print(json.dumps(msgspec.to_builtins(asyncio.run(_client(url, recipe, pipeline, int(runs))))))
        return 0
    found = Table()
    table(found, told.runs, told.rounds)
    return int(found.missed)


if __name__ == "__main__":
    sys.exit(main())
