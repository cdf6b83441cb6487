"""A backlog on a free key: every question asked at once, in virtual time, against the least time that limits allow."""

import asyncio
import datetime as dt
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import groq
import msgspec

from bench.limits.asking import KEY, TODAY, GatherPipeline, answering_options, questions
from bench.limits.bound import TimeBound, bound_of, charges
from bench.limits.table import Table
from mixtura import MixturaError, Mixture, Recipe
from mixtura.limits.window import Limits
from mixtura.models.catalog import Catalog, CatalogModel
from mixtura.models.registry import ModelRegistry
from mixtura.sim import TUTORIAL_ERA, SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

QUESTIONS = 200
SEEDS = (1,)
BOUND = 1.05
_DEADLINE = 30 * 86_400.0


class BacklogCase(NamedTuple):
    """A recipe on a day of the calendar, with all four windows or with those of a minute alone."""

    recipe: str
    as_of: dt.date
    days: bool

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.recipe} on a free key{'' if self.days else ', minute windows alone'}"


CASES = tuple(
    BacklogCase(recipe, day, days)
    for recipe, day in (("classic", TUTORIAL_ERA), ("balanced", TODAY))
    for days in (False, True)
)


class MixtureBacklog(NamedTuple):
    """A backlog asked of Mixtura: its time, and what was answered, reduced and refused."""

    seconds: float
    answered: int
    reduced: int
    refused: int
    calls: int
    needed: int
    bound: TimeBound

    @property
    def ratio(self) -> float:
        """The time over the bound."""
        return self.seconds / self.bound.seconds


class SdkBacklog(NamedTuple):
    """The same backlog asked of the SDK."""

    seconds: float
    answered: int
    lost: Counter[str]
    refused: int


def recipe_of(case: BacklogCase) -> Recipe:
    """Return the case's recipe, with a policy that waits for room and reduces nothing."""
    recipe = Recipe.named(case.recipe)
    policy = msgspec.structs.replace(recipe.policy, when_limited=("wait",))
    return msgspec.structs.replace(recipe, policy=policy)


def slots(recipe: Recipe) -> Counter[str]:
    """Return how many calls of each model one run makes."""
    assert recipe.aggregator is not None
    found = Counter(slot.model for layer in recipe.layers for slot in layer.proposers for _ in range(slot.samples))
    found[recipe.aggregator.model or ""] += 1
    return found


def rows_of(case: BacklogCase) -> dict[str, CatalogModel]:
    """Return the catalogue's rows of the recipe's models, without the windows of a day where those are left out."""
    found: dict[str, CatalogModel] = {}
    for model in slots(recipe_of(case)):
        row = Catalog.load().get("groq", model)
        assert row is not None
        limits = row.free or Limits()
        kept = limits if case.days else Limits(rpm=limits.rpm, tpm=limits.tpm)
        found[model] = msgspec.structs.replace(row, free=kept)
    return found


def limits_of(case: BacklogCase) -> dict[str, Limits]:
    """Return the limits that the case's models have."""
    return {model: row.free or Limits() for model, row in rows_of(case).items()}


def options_of(case: BacklogCase, seed: int) -> SimOptions:
    """Return a cloud with the case's limits."""
    limits = limits_of(case)
    return answering_options(SimOptions(as_of=case.as_of, plan="free", limits=limits, profile="lpu", seed=seed))


def ours(case: BacklogCase, asked: Sequence[str], seed: int) -> MixtureBacklog:
    """Ask Mixtura everything at once."""
    alone = run_virtual(_alone(case, asked[-1], seed))
    return run_virtual(_ours(case, asked, seed, alone))


def _mixture(case: BacklogCase, cloud: SimulatedCloud) -> Mixture:
    catalog = Catalog.load().extended(rows_of(case).values())
    env = {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}
    return Mixture(recipe_of(case), models=ModelRegistry(catalog, env=env, plan="free"))


async def charges_of_run(case: BacklogCase, question: str) -> dict[str, tuple[int, int]]:
    """Return what one run is charged, see `charges`."""
    async with simulated_cloud(options_of(case, 0)) as cloud:
        await _mixture(case, cloud).ask(question, seed=0, deadline=_DEADLINE)
        return charges(cloud)


async def _alone(case: BacklogCase, question: str, seed: int) -> float:
    async with simulated_cloud(options_of(case, seed)) as cloud:
        return (await _mixture(case, cloud).ask(question, seed=0, deadline=_DEADLINE)).seconds


async def _ours(case: BacklogCase, asked: Sequence[str], seed: int, alone: float) -> MixtureBacklog:
    loop = asyncio.get_running_loop()
    answered = reduced = 0
    async with simulated_cloud(options_of(case, seed)) as cloud:
        mixture = _mixture(case, cloud)

        async def ask(place: int, question: str) -> None:
            nonlocal answered, reduced
            try:
                answer = await mixture.ask(question, seed=place, deadline=_DEADLINE)
            except MixturaError as error:
                print(f"  lost: {error}", flush=True)
                return
            answered += bool(answer.text.strip())
            reduced += any(note.kind in ("reduced", "routed") for note in answer.decisions)

        begun = loop.time()
        await asyncio.gather(*(ask(place, question) for place, question in enumerate(asked)))
        seconds = loop.time() - begun
        await cloud.ledger.wait_idle()
        needed = {model: calls * len(asked) for model, calls in slots(recipe_of(case)).items()}
        return MixtureBacklog(
            seconds=seconds,
            answered=answered,
            reduced=reduced,
            refused=cloud.ledger.refused[429],
            calls=cloud.ledger.calls.total(),
            needed=sum(needed.values()),
            bound=bound_of(limits_of(case), charges(cloud), needed, alone),
        )


def theirs(case: BacklogCase, asked: Sequence[str], seed: int) -> SdkBacklog:
    """Ask the SDK's pipeline everything at once."""
    random.seed(seed)  # the SDK jitters its retries with the global generator
    return run_virtual(_theirs(case, asked, seed))


async def _theirs(case: BacklogCase, asked: Sequence[str], seed: int) -> SdkBacklog:
    loop = asyncio.get_running_loop()
    lost: Counter[str] = Counter()
    recipe = recipe_of(case)
    assert recipe.aggregator is not None
    proposers = [slot.model for layer in recipe.layers for slot in layer.proposers for _ in range(slot.samples)]
    async with simulated_cloud(options_of(case, seed)) as cloud:
        pipeline = GatherPipeline(cloud.url, proposers, recipe.aggregator.model or "")

        async def ask(question: str) -> None:
            try:
                await pipeline.ask(question)
            except groq.APIError as error:
                lost[type(error).__name__] += 1

        begun = loop.time()
        await asyncio.gather(*(ask(question) for question in asked))
        seconds = loop.time() - begun
        await asyncio.sleep(120)  # the siblings that gather leaves running
        await pipeline.close()
        return SdkBacklog(seconds, len(asked) - lost.total(), lost, cloud.ledger.refused[429])


def table(
    found: Table, count: int = QUESTIONS, seeds: Sequence[int] = SEEDS, cases: Sequence[BacklogCase] = CASES
) -> None:
    """Add the rows: the worst of the seeds is held against the bound."""
    asked = questions(count)
    for case in cases:
        runs = [ours(case, asked, seed) for seed in seeds]
        worst = max(runs, key=lambda run: run.ratio)
        where = f"backlog of {count}, {case.name}"
        shown = f"{worst.ratio:.4f} ({worst.seconds:,.0f} s of {worst.bound.seconds:,.0f} s, {worst.bound.window})"
        found.add(f"{where}: time / what the limits allow", worst.ratio, shown, BOUND)
        short = max(count - run.answered for run in runs)
        found.add(f"{where}: Mixtura loses", short, str(short), 0)
        reduced = max(run.reduced for run in runs)
        found.add(f"{where}: runs reduced for want of room", reduced, str(reduced), 0)
        refused = max(run.refused for run in runs)
        found.add(f"{where}: refused with 429", refused, f"{refused} of {worst.calls} calls ({worst.needed} needed)", 0)
        sdk = theirs(case, asked, seeds[0])
        words = ", ".join(f"{number} {name}" for name, number in sdk.lost.most_common()) or "none"
        shown = f"{words}; {sdk.refused} times 429, {sdk.answered} answered in {sdk.seconds:.0f} s"
        found.add(f"{where}: groq SDK + gather loses", 0, shown)
