"""A heavy tail: calls that queue and sometimes stall for 10 s; the same questions and seed for both pipelines."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple

import groq

from bench.limits.asking import KEY, GatherPipeline, answered_questions, answering_options, are_recorded, percentile
from bench.limits.table import Table
from bench.tutorial.recorded import sign_test
from mixtura import MixturaError, Mixture
from mixtura.engine.answers import extract, normal
from mixtura.models.recorded import RecordedQuestion
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual

QUESTIONS = 600
SEEDS = (1, 2, 3)
# Four at a time: from the second dozen of questions on, the limiter knows what each model's latest calls took.
_AT_ONCE = 4


class PipelineResult(NamedTuple):
    """For each question in order: the seconds it took and whether its answer was right; and the tokens billed."""

    seconds: tuple[float, ...]
    right: tuple[bool, ...]
    tokens: int

    @property
    def share(self) -> float:
        """The share of right answers."""
        return sum(self.right) / len(self.right)


class Comparison(NamedTuple):
    """Both pipelines over the same questions."""

    ours: PipelineResult
    theirs: PipelineResult

    def ratio(self, share: float) -> float:
        """Return our percentile over theirs."""
        return percentile(self.ours.seconds, share) / percentile(self.theirs.seconds, share)

    @property
    def only_ours(self) -> int:
        """Questions that only we answered right."""
        return sum(one and not other for one, other in zip(self.ours.right, self.theirs.right, strict=True))

    @property
    def only_theirs(self) -> int:
        """Questions that only they answered right."""
        return sum(other and not one for one, other in zip(self.ours.right, self.theirs.right, strict=True))

    @property
    def half_width(self) -> float:
        """Half of the 95 % confidence interval of their share of right answers."""
        share = self.theirs.share
        return 1.96 * math.sqrt(max(share * (1 - share), 1e-9) / len(self.theirs.right))


def compare(rows: Sequence[RecordedQuestion], seed: int) -> Comparison:
    """Ask both pipelines every question, in virtual time: a busy machine changes no figure."""
    options = answering_options(SimOptions(profile="heavy", unlimited=True, seed=seed))
    random.seed(seed)  # the SDK jitters its retries with the global generator
    theirs = run_virtual(_theirs(rows, options))
    return Comparison(run_virtual(_ours(rows, options)), theirs)


async def _ours(rows: Sequence[RecordedQuestion], options: SimOptions) -> PipelineResult:
    async with simulated_cloud(options) as cloud:
        mixture = Mixture("classic", env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url})

        async def ask(question: str, place: int) -> str:
            try:
                return (await mixture.ask(question, seed=place)).text
            except MixturaError:
                return ""

        seconds, right = await _all(rows, ask)
        return PipelineResult(seconds, right, cloud.ledger.total_tokens)


async def _theirs(rows: Sequence[RecordedQuestion], options: SimOptions) -> PipelineResult:
    async with simulated_cloud(options) as cloud:
        pipeline = GatherPipeline(cloud.url)

        async def ask(question: str, _place: int) -> str:
            try:
                return await pipeline.ask(question)
            except groq.APIError:
                return ""

        seconds, right = await _all(rows, ask)
        await pipeline.close()
        return PipelineResult(seconds, right, cloud.ledger.total_tokens)


async def _all(
    rows: Sequence[RecordedQuestion], ask: Callable[[str, int], Awaitable[str]]
) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    loop = asyncio.get_running_loop()
    seconds, right = [0.0] * len(rows), [False] * len(rows)
    left: Iterator[tuple[int, RecordedQuestion]] = iter(enumerate(rows))

    async def worker() -> None:
        for place, row in left:
            begun = loop.time()
            text = await ask(row.prompt or row.question, place)
            seconds[place] = loop.time() - begun
            right[place] = extract(text, lenient=True) == normal(row.answer)

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    return tuple(seconds), tuple(right)


def table(found: Table, count: int = QUESTIONS, seeds: Sequence[int] = SEEDS) -> None:
    """Add the rows: one for each seed."""
    rows = answered_questions(count)
    if not are_recorded():
        print("  no recordings in ../shared/data: word problems of our own, right as often as the models", flush=True)
    for seed in seeds:
        both = compare(rows, seed)
        where = f"heavy tail, {len(rows)} questions, seed {seed}"
        for name, share, bound in (("p50", 0.5, 1.0), ("p99", 0.99, 0.3)):
            ours, theirs = percentile(both.ours.seconds, share), percentile(both.theirs.seconds, share)
            shown = f"{both.ratio(share):.3f} ({ours:.2f} s, {theirs:.2f} s)"
            found.add(f"{where}: {name}, Mixtura / groq SDK + gather", both.ratio(share), shown, bound)
        apart = abs(both.ours.share - both.theirs.share)
        chance = sign_test(both.only_ours, both.only_theirs)
        shown = f"{both.ours.share:.3f}, {both.theirs.share:.3f} +- {both.half_width:.3f}"
        found.add(f"{where}: right answers, both (difference)", apart, shown, round(both.half_width, 3))
        shown = f"{both.only_ours}, {both.only_theirs} (McNemar p = {chance:.2g})"
        found.add(f"{where}: only ours right, only theirs", 0, shown)
        extra = both.ours.tokens / both.theirs.tokens
        found.add(f"{where}: tokens billed, Mixtura / SDK", extra, f"{extra:.3f}")
