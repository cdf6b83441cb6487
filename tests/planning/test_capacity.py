"""How many mixtures rate limits allow, held against what the simulated cloud really admits."""

import asyncio

import msgspec
import pytest

from mixtura import Mixture, ModelRegistry, Recipe, recipe_names
from mixtura.limits.window import Limits
from mixtura.mixture import as_conversation
from mixtura.models.catalog import Catalog, Tier
from mixtura.planning import demand
from mixtura.planning.capacity import Capacity, capacity, with_substitutes
from mixtura.planning.estimates import USUAL_DRAFT
from mixtura.planning.schedule import count_calls
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.tokens import estimate_messages
from mixtura.virtual import run_virtual

SMALL, QWEN, LARGE = "openai/gpt-oss-20b", "qwen/qwen3.8-27b", "openai/gpt-oss-120b"
QUESTION = "How does a B-tree differ from an LSM-tree? " * 18


def on(plan: Tier, recipe: str | Recipe, tokens: int = 200, **limits: Limits) -> Capacity:
    """Count without a key; `limits` takes the place of a model's, `all_of_them` of every model's."""
    catalog = Catalog.load()

    def of(provider: str, model: str) -> Limits | None:
        row = catalog.get(provider, model)
        return limits.get("all_of_them") or (None if row is None else row.limits(plan))

    found = Recipe.named(recipe) if isinstance(recipe, str) else recipe
    return capacity(found, tokens, ModelRegistry(env={}), of)


async def admitted(recipe: Recipe, runs: int) -> list[float]:
    """Return when each of so many runs, all asked at once, had answered on a free key."""
    loop = asyncio.get_running_loop()
    async with simulated_cloud(SimOptions(profile="fixed:1", tokens=USUAL_DRAFT)) as cloud:
        env = {"GROQ_API_KEY": "gsk_test", "GROQ_BASE_URL": cloud.url}
        mixture = Mixture(recipe, env=env, plan="free")

        async def ask(number: int) -> float:
            # Each its own: what is asked again is cached, and cached tokens do not count.
            answer = await mixture.ask(f"{number}: {QUESTION}", deadline=7200)
            assert answer.n_calls == count_calls(recipe), answer.decisions
            return loop.time()

        return sorted(await asyncio.gather(*map(ask, range(runs))))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["balanced", "fast"])
def test_the_simulated_cloud_admits_as_many_mixtures_a_minute_as_the_table_says(name: str) -> None:
    recipe = Recipe.named(name)
    ends = run_virtual(admitted(recipe, 14))
    said = on("free", recipe, estimate_messages(as_conversation(QUESTION)))
    assert said.minute is not None
    # The first ones take what the windows hold at once; from then on it is the rate at which they drain.
    rate = (len(ends) - 1 - 3) / (ends[-1] - ends[3]) * 60
    assert rate == pytest.approx(said.minute.mixtures, rel=0.05)


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "toy"])  # which has no limits
def test_every_recipe_is_counted_as_its_runs_are(name: str) -> None:
    recipe = Recipe.named(name)

    async def main() -> dict[str, int]:
        registry = ModelRegistry(env={"GROQ_API_KEY": "gsk_x", "MIXTURA_PLAN": "free"})
        sums: dict[str, int] = {}
        for one in demand.demands(recipe, as_conversation(QUESTION), registry):
            sums[one.call.slot.model] = sums.get(one.call.slot.model, 0) + one.size
        return sums

    said = on("free", recipe, estimate_messages(as_conversation(QUESTION)))
    assert {share.model: share.tokens for share in said.shares} == run_virtual(main())
    assert sum(share.calls for share in said.shares) == count_calls(recipe)


def test_each_window_allows_what_it_holds_and_the_tightest_binds() -> None:
    limits = Limits(rpm=6, rpd=40, tpm=100_000, tpd=10_000_000)
    said = on("free", "balanced", all_of_them=limits)
    small = said.shares[0]
    assert small.allows["rpm"] == 3
    assert small.allows["rpd"] == 20
    assert small.allows["tpm"] == 100_000 / small.tokens
    assert said.minute is not None
    assert said.day is not None
    assert (said.minute.model, said.minute.dimension, said.minute.mixtures, said.at_once) == (SMALL, "rpm", 3, 3)
    assert (said.day.model, said.day.dimension, said.day.mixtures) == (SMALL, "rpd", 20)


def test_a_day_without_windows_is_as_long_as_its_minutes() -> None:
    said = on("developer", "fast")
    assert said.minute is not None
    assert said.day is not None
    assert said.day.dimension == "tpm"
    assert said.day.mixtures == pytest.approx(1440 * said.minute.mixtures)
    assert said.dollars is not None
    assert said.dollars > 0


def test_models_without_known_limits_are_said_and_counted() -> None:
    said = on("developer", "balanced")
    assert said.unknown == [QWEN]
    qwen = next(share for share in said.shares if share.model == QWEN)
    assert (qwen.calls, qwen.limits, qwen.allows) == (1, None, {})
    assert qwen.tokens > 1000
    nothing = on("enterprise", "balanced")
    assert (nothing.minute, nothing.day, nothing.at_once, nothing.dollars) == (None, None, None, None)


def test_a_call_that_can_never_fit_is_told_by_how_much() -> None:
    said = on("free", "single", 6000)
    (share,) = said.shares
    assert share.largest == 6300 + 4096
    assert share.excess == 6300 + 4096 - 8000
    assert said.minute is not None
    assert said.minute.mixtures == 0
    assert said.at_once == 0


def test_a_mixture_larger_than_its_window_is_spread_over_it() -> None:
    said = on("free", "self")
    (share,) = said.shares
    assert said.at_once == 0
    assert said.spread == pytest.approx((share.tokens - 8000) / 8000 * 60)
    assert on("developer", "self").spread == 0


def test_as_many_begin_at_once_as_the_windows_hold() -> None:
    tokens = on("free", "single").shares[0].tokens
    for limit, begin in ((tokens, 1), (2 * tokens - 1, 1), (2 * tokens, 2)):
        assert on("free", "single", all_of_them=Limits(tpm=limit)).at_once == begin
    daily = on("free", "single", all_of_them=Limits(rpd=3))
    assert (daily.at_once, daily.minute, daily.day and daily.day.mixtures) == (3, None, 3)


def test_a_substitute_is_counted_in_place_of_what_is_gone() -> None:
    recipe = with_substitutes(Recipe.named("cascade"), {("groq", SMALL): QWEN, ("groq", LARGE): SMALL})
    assert [share.model for share in on("free", recipe).shares] == [QWEN, SMALL]
    untouched = Recipe.named("balanced")
    assert with_substitutes(untouched, {("ollama", SMALL): QWEN}) == untouched
    assert msgspec.structs.replace(recipe, layers=untouched.layers).aggregator == Recipe.named("cascade").aggregator
