"""The calls of a recipe, their tokens, and the work without some of the models."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixtura import prompts
from mixtura.chat import Message
from mixtura.errors import ConfigError
from mixtura.models.registry import ModelRegistry
from mixtura.planning.forecast import forecast
from mixtura.planning.schedule import count_calls
from mixtura.recipe import Recipe, recipe_names
from mixtura.room.plan.work import AssumedSizes, cascade_of, sample_mixtures, single_of, work_of
from mixtura.tokens import estimate_tokens

REGISTRY = ModelRegistry()


@pytest.mark.parametrize("name", recipe_names())
def test_the_calls_are_those_of_a_forecast(name: str) -> None:
    recipe = Recipe.named(name)
    work = work_of(recipe, REGISTRY)
    rows = forecast(recipe, [Message(role="user", content="w " * 195)], REGISTRY).rows
    assert len(work.calls) == count_calls(recipe) == sum(row.count for row in rows)
    expected = [(row.role, row.model) for row in rows for _ in range(row.count)]
    assert [(call.role, call.model[1]) for call in work.calls] == expected


def test_an_aggregator_reads_its_question_its_instruction_and_all_drafts() -> None:
    work = work_of(Recipe.named("fast"), REGISTRY, AssumedSizes(question=100, output=50))
    prompt, output = work.tokens(work.calls[-1])
    assert (
        prompt == 100 + estimate_tokens(prompts.SYNTHESIZE) + 3 * (50 + prompts.FENCE_TOKENS) + prompts.READING_TOKENS
    )
    assert output == 50


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_the_same_seed_gives_the_same_replies_at_any_rate(seed: int, rate: float) -> None:
    work = work_of(Recipe.named("balanced"), REGISTRY)
    one, other = sample_mixtures(work, rate, 50, seed), sample_mixtures(work, 2 * rate, 50, seed)
    assert all(np.array_equal(a, b) for a, b in zip(one.outputs, other.outputs, strict=True))
    assert np.allclose(one.times, 2 * other.times)
    for call, tokens in zip(work.calls, one.outputs, strict=True):
        assert tokens.min() >= 1
        assert tokens.max() <= (call.most or np.inf)


def test_sampled_means_are_those_of_the_work() -> None:
    work = work_of(Recipe.named("cascade"), REGISTRY, AssumedSizes(differ=0.3))
    many = sample_mixtures(work, 1.0, 20_000)
    for at, call in enumerate(work.calls):
        prompt, output = work.tokens(call)
        assert many.made[at].mean() == pytest.approx(1 - work.skip_share(call), abs=0.02)
        assert many.outputs[at].mean() == pytest.approx(output, rel=0.03)
        assert many.prompts[at].mean() == pytest.approx(prompt, rel=0.03)


def test_leaving_out_a_model_leaves_out_its_drafts() -> None:
    work = work_of(Recipe.named("balanced"), REGISTRY)
    gone = ("groq", "qwen/qwen3.8-27b")
    less = work.without([gone])
    assert gone not in less.models
    assert len(less.calls) == 3
    assert less.tokens(less.calls[-1])[0] < work.tokens(work.calls[-1])[0]
    with pytest.raises(ConfigError, match="cannot plan balanced without openai/gpt-oss-120b"):
        work.without([("groq", "openai/gpt-oss-120b")])
    cascade = work_of(Recipe.named("cascade"), REGISTRY).without([("groq", "openai/gpt-oss-120b")])
    assert cascade.stages == ("drafts",)


def test_a_cascade_votes_and_asks_the_aggregators_model_only_where_drafts_differ() -> None:
    made = cascade_of(Recipe.named("balanced"))
    assert made is not None
    work = work_of(made, REGISTRY)
    assert work.stages == ("drafts", "escalation")
    assert work.calls[-1].disputed
    assert work.calls[-1].model[1] == "openai/gpt-oss-120b"
    assert cascade_of(Recipe.named("cascade")) is None
    assert cascade_of(Recipe.named("single")) is None


def test_the_single_model_is_the_one_that_writes_the_answer() -> None:
    alone = {name: single_of(Recipe.named(name)) for name in ("balanced", "cascade", "vote", "single")}
    assert [made and made.layers[0].proposers[0].model for made in alone.values()] == [
        "openai/gpt-oss-120b",
        "openai/gpt-oss-120b",
        "openai/gpt-oss-20b",
        None,
    ]


@pytest.mark.parametrize("wrong", [{"question": 0}, {"output": -1}, {"differ": 1.1}, {"variation": 0}])
def test_a_size_out_of_range_raises_an_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        AssumedSizes(**wrong)  # type: ignore[arg-type]


def test_a_rate_out_of_range_raises_an_error() -> None:
    work = work_of(Recipe.named("single"), REGISTRY)
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="expected more than 0"):
            sample_mixtures(work, rate, 10)
    with pytest.raises(ConfigError, match="expected 1 or more"):
        sample_mixtures(work, 1.0, 0)
