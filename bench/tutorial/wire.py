"""Model lifetimes, failures and a free key's limits, measured against the simulated cloud."""

import asyncio
import datetime as dt
import functools
from collections.abc import Sequence

import groq

from bench.tutorial.asking import (
    DRAFT_TOKENS,
    LARGE,
    OTHER,
    QUESTION,
    SMALL,
    TRIO,
    ClaimRow,
    GatherPipeline,
    Measurement,
    mixture_on_cloud,
    textbook_recipe,
)
from mixtura import Answer, Layer, Mixture, NoAnswerError, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.limits.window import Limits
from mixtura.models.catalog import Catalog, Tier
from mixtura.sim import Reply, SimOptions, SimulatedCloud

WRITTEN = dt.date(2026, 3, 15)
CHECKED = Catalog.load().models("groq")[0].checked or WRITTEN
MINUTES = 12
# A field report measured 1,734 to 2,046 reasoning tokens per reply of gpt-oss at its default effort.
THINKING = "Let me think about it once more. " * 200


async def _refusal(model: str, plan: Tier) -> int | None:
    """Return the status of the model's refusal for a key of `plan`, on the day the catalogue was checked."""
    recipe = Recipe(layers=(Layer(proposers=(Proposer(model=model),)),))
    async with mixture_on_cloud(recipe, SimOptions(as_of=CHECKED, plan=plan)) as (mixture, _):
        try:
            await mixture.ask("Are you there?")
        except NoAnswerError as error:
            return error.failures[0].status
    return None


async def _models_alive() -> ClaimRow:
    ends = {row.id: row.shut_down or row.enterprise_since for row in Catalog.load().models("groq")}
    said = []
    for model in (SMALL, OTHER, LARGE):
        statuses = {await _refusal(model, "free"), await _refusal(model, "developer")}
        said.append(f"{model} {' or '.join(map(str, statuses))} (since {ends[model]})")
    return ClaimRow(
        "its three models answer a free key, tested March 2026",
        f"a free or developer key on {CHECKED} gets: {', '.join(said)}",
        "does not hold",
    )


async def _sdk(cloud: SimulatedCloud, proposers: Sequence[str] = TRIO) -> str:
    pipeline = GatherPipeline(cloud.url, proposers)
    try:
        await pipeline.ask()
    except groq.APIError as error:
        return type(error).__name__
    finally:
        await asyncio.sleep(1)  # `gather` leaves the other calls running
        await pipeline.close()
    return "an answer"


def _describe(answer: Answer) -> str:
    return f"an answer from {len(answer.drafts)} draft{'s' * (len(answer.drafts) != 1)}"


async def _as_written() -> ClaimRow:
    options = SimOptions(as_of=WRITTEN, tokens=DRAFT_TOKENS)
    async with mixture_on_cloud("classic", options) as (mixture, cloud):
        theirs = await _sdk(cloud)
        ours = await mixture.ask(QUESTION)
    return ClaimRow(
        f"the pipeline as written, on {WRITTEN}",
        f"groq SDK and gather: {theirs}; Mixtura, same models: {_describe(ours)}, the failure named",
        "does not hold",
    )


async def _one_failure() -> ClaimRow:
    options = SimOptions(faults=f"500@1-:{OTHER}", unlimited=True, tokens=DRAFT_TOKENS)
    async with mixture_on_cloud("classic", options) as (mixture, cloud):
        theirs = await _sdk(cloud)
        paid = cloud.ledger.completion_tokens.total()
        ours = await mixture.ask(QUESTION)
    return ClaimRow(
        "gather fires the proposers (one of them fails)",
        f"groq SDK and gather: {theirs}, {paid} paid tokens of its siblings lost; Mixtura: {_describe(ours)}",
        "one failure loses all",
    )


async def _reasoning_starves() -> ClaimRow:
    model = "openai/gpt-oss-20b"

    def reply(_request: JsonObject, _call: int) -> Reply:
        return Reply(text=QUESTION, reasoning=THINKING)

    found: list[str] = []
    for limit in (1024, None):
        recipe = Recipe(layers=(Layer(proposers=(Proposer(model=model, max_tokens=limit),)),))
        async with mixture_on_cloud(recipe, SimOptions(as_of=CHECKED, unlimited=True, reply=reply)) as (mixture, cloud):
            try:
                words = len((await mixture.ask("Why?")).text.split())
            except NoAnswerError:
                words = 0
            asked = cloud.requests[0]["max_completion_tokens"]
            thought = cloud.ledger.completion_tokens.total()
        found.append(f"asked for {asked:,}: {words} words of answer, {thought:,} tokens paid")
    return ClaimRow("MAX_TOKENS = 1024 (on a model that reasons)", "; ".join(found), "empty drafts")


async def _retry_after(seconds: int, deadline: float) -> str:
    loop = asyncio.get_running_loop()
    options = SimOptions(faults=f"429={seconds}@1-3:{SMALL}", unlimited=True, tokens=DRAFT_TOKENS)
    async with mixture_on_cloud(textbook_recipe([SMALL]), options) as (_, cloud):
        begun = loop.time()
        theirs = await _sdk(cloud, [SMALL])
        spent, calls = loop.time() - begun - 1, cloud.ledger.arrived
    options = SimOptions(faults=f"429={seconds}@1:{SMALL}", unlimited=True, tokens=DRAFT_TOKENS)
    async with mixture_on_cloud(textbook_recipe([SMALL]), options) as (mixture, cloud):
        answer = await mixture.ask(QUESTION, deadline=deadline)
        asked = sum(body["model"] == SMALL for body in cloud.requests)
    ours = f"{_describe(answer)} after {answer.seconds:.0f} s and {asked} call{'s' * (asked != 1)}"
    if not answer.drafts:
        ours = f"{asked} call, no wait (it ends after the deadline of {deadline:.0f} s), the aggregator answers alone"
    return f"Retry-After {seconds} s: groq SDK {calls} calls in {spent:.1f} s, {theirs}; Mixtura: {ours}"


async def _short_wait() -> ClaimRow:
    return ClaimRow("RateLimitError: wait 60 seconds", await _retry_after(61, 180), "the SDK does not")


async def _long_wait() -> ClaimRow:
    return ClaimRow("the same (a limit of the day)", await _retry_after(420, 60), "60 s do not help")


async def _a_day() -> ClaimRow:
    limits = {row.id: row.free for row in Catalog.load().models("groq")}
    small, large = limits[SMALL], limits[LARGE]
    assert small is not None
    assert large is not None
    return ClaimRow(
        "free requests a day: 14,400 on the 8B, 6,000 on the 70B",
        f"the catalogue, from Groq's own page: {small.rpd:,} and {large.rpd:,}; tokens a day {large.tpd:,} on the 70B",
        "the second does not hold",
    )


async def _pace(mixture: Mixture) -> float:
    """Return the mixtures per minute, asked one after the other, once the limits' buckets are full."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    ends: list[float] = []
    while not ends or ends[-1] < MINUTES * 60:
        await mixture.ask(QUESTION, deadline=300, seed=len(ends))
        ends.append(loop.time() - begun)
    steady = [end for end in ends if end > 120]
    return (len(steady) - 1) * 60 / (steady[-1] - steady[0])


async def _in_a_loop(cloud: SimulatedCloud, proposers: Sequence[str]) -> tuple[int, int]:
    """Return how many mixtures of the SDK's pipeline succeeded and how many were lost in `MINUTES` minutes."""
    loop = asyncio.get_running_loop()
    pipeline = GatherPipeline(cloud.url, proposers)
    begun, good, lost = loop.time(), 0, 0
    while loop.time() - begun < MINUTES * 60:
        try:
            await pipeline.ask()
            good += 1
        except groq.RateLimitError:
            lost += 1
            await asyncio.sleep(60)  # as the tutorial advises
    await asyncio.sleep(120)
    await pipeline.close()
    return good, lost


async def _through(proposers: Sequence[str]) -> tuple[float, int, int]:
    options = SimOptions(tokens=DRAFT_TOKENS, profile="lpu")
    async with mixture_on_cloud(textbook_recipe(proposers), options) as (mixture, _):
        pace = await _pace(mixture)
    async with mixture_on_cloud(textbook_recipe(proposers), options) as (_, cloud):
        good, lost = await _in_a_loop(cloud, proposers)
    return pace, good, lost


async def _a_minute() -> ClaimRow:
    pace, good, lost = await _through(TRIO)
    charged = 2 * (200 + 1024)
    return ClaimRow(
        "a free key is enough to experiment",
        f"each mixture reserves {charged:,} of the 8B's 6,000 tokens a minute: {6000 / charged:.2f} a minute by "
        f"arithmetic, {pace:.2f} measured with Mixtura; SDK and gather in {MINUTES} minutes: {good} good, {lost} lost",
        f"{pace:.2f} a minute",
    )


async def _proposers(count: int) -> ClaimRow:
    pace, good, lost = await _through([SMALL] * count)
    charged = count * (200 + 1024)
    fits = "fit at once" if charged <= 6000 else "never fit at once, the last always waits"
    return ClaimRow(
        f"{count} proposers of 8B on a free key" + (" (three is the optimum)" if count == 3 else ""),
        f"{charged:,} of 6,000 tokens a minute {fits}: {pace:.2f} a minute with Mixtura, none lost; "
        f"SDK and gather in {MINUTES} minutes: {good} good, {lost} lost",
        "the limit bites at three" if count == 3 else "holds" if count == 4 else "always refused once",
    )


async def _tokens_a_day() -> ClaimRow:
    """Count the mixtures until the 70B's daily tokens are used up, without the limits per minute."""
    limits = {row.id: row.free for row in Catalog.load().models("groq")}
    large = limits[LARGE]
    assert large is not None
    options = SimOptions(
        tokens=DRAFT_TOKENS,
        limits={SMALL: Limits(), OTHER: Limits(), LARGE: Limits(tpd=large.tpd)},
    )
    done = 0
    async with mixture_on_cloud(textbook_recipe(), options) as (mixture, _):
        while True:
            answer = await mixture.ask(QUESTION, seed=done)
            if any(failure.model == LARGE for failure in answer.failures):
                break
            done += 1
    return ClaimRow(
        "the 70B's daily requests are what limits a day",
        f"its {large.tpd:,} tokens a day are gone after {done} mixtures, then one fits every {1440 / done:.0f} minutes",
        "tokens limit first",
    )


MEASUREMENTS: tuple[Measurement, ...] = (
    _models_alive,
    _as_written,
    _one_failure,
    _reasoning_starves,
    _short_wait,
    _long_wait,
    _a_day,
    _a_minute,
    *[functools.partial(_proposers, count) for count in (3, 4, 5)],
    _tokens_a_day,
)
"""Each measurement returns one row and needs a virtual clock of its own. They are in the tutorial's order."""
