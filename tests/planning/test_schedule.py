"""One list of calls: what a run may ask for is worked out once, so forecast, booking and bill agree."""

import asyncio

import pytest
from bench.chaos.worst_case import problems

from mixtura import Aggregator, BudgetError, ChatOptions, Layer, Message, Mixture, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.kinds import KINDS
from mixtura.models.registry import ModelRegistry
from mixtura.planning.demand import demands
from mixtura.planning.reductions import single
from mixtura.planning.schedule import acting_recipe, count_calls, output_limit, replace_slots, schedule
from mixtura.recipe import Policy, Slot
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual

KEYS = {"GROQ_API_KEY": "gsk_test"}
SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
TWO = Layer(proposers=(Proposer(model=SMALL, samples=2, seed=4), Proposer(model=LARGE)))
# 300 random recipes here, 10,000 by `python -m bench.chaos.worst_case`.
BLOCKS, EACH = 10, 30


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
def test_a_forecast_holds_and_limits_are_asked_for_what_can_be_called(block: int) -> None:
    found = {number: problems(number) for number in range(block * EACH, (block + 1) * EACH)}
    assert {number: said for number, said in found.items() if said} == {}


def ranked(escalated: bool = True) -> Recipe:
    return Recipe(
        layers=(TWO,),
        escalate=Layer(proposers=(Proposer(model=LARGE),)) if escalated else None,
        aggregator=Aggregator(kind="rank"),
    )


def test_every_draft_of_an_escalated_ranking_is_reviewed_booked_and_forecast() -> None:
    recipe = ranked()
    assert count_calls(recipe) == 3 + 1 + 4
    assert Mixture(recipe, env=KEYS).forecast("Why?").calls == 8

    async def booked() -> int:
        models = ModelRegistry(env=KEYS, plan="free")
        return len(demands(recipe, [Message(role="user", content="Why?")], models))

    assert run_virtual(booked()) == 8


def long_instructions() -> Recipe:
    return Recipe(
        layers=(Layer(proposers=(Proposer(model=SMALL, max_tokens=100), Proposer(model=SMALL, max_tokens=100))),),
        aggregator=Aggregator(model=LARGE, max_tokens=200, system="Weigh every draft with care. " * 4000),
    )


def test_a_long_system_prompt_of_the_aggregator_counts_against_the_budget() -> None:
    recipe = long_instructions()
    said = Mixture(recipe, env=KEYS).forecast("Why?")
    assert said.rows[-1].prompt_tokens > 24_000

    async def asked(most: float | None) -> float:
        async with simulated_cloud(SimOptions(unlimited=True, plan="developer", tokens=90)) as cloud:
            mixture = Mixture(recipe, env={**KEYS, "GROQ_BASE_URL": cloud.url})
            return (await mixture.ask("Why?", max_cost=most)).cost or 0.0

    whole = run_virtual(asked(None))
    assert said.cost is not None
    assert whole <= said.cost < 2 * whole
    # Half of that leaves no room for the instructions: a smaller run answers, and costs no more than it may.
    assert 0 < run_virtual(asked(whole / 2)) <= whole / 2


def test_a_forecast_heeds_what_the_run_may_cost() -> None:
    mixture = Mixture("balanced", env=KEYS)
    whole = mixture.forecast("Why?")
    assert whole.cost is not None
    less = mixture.forecast("Why?", max_cost=whole.cost / 2)
    assert less.cost is not None
    assert less.cost <= whole.cost / 2
    assert "could cost more than" in less.notes[0]
    with pytest.raises(BudgetError):
        mixture.forecast("Why?", max_cost=0)


def test_tools_go_to_the_model_that_answers_and_count_there() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "description": "The weather. " * 200}}]
    plain, armed = (
        Mixture("classic", env=KEYS).forecast("Why?", options=options)
        for options in (ChatOptions(), ChatOptions(tools=tools))
    )
    assert [row.prompt_tokens for row in plain.rows[:-1]] == [row.prompt_tokens for row in armed.rows[:-1]]
    assert armed.rows[-1].prompt_tokens > plain.rows[-1].prompt_tokens + 500


def test_the_list_says_who_reads_what_and_what_is_certain() -> None:
    recipe = Recipe(
        layers=(TWO, Layer(proposers=(Proposer(model=LARGE, system="Be short."),))),
        escalate=Layer(proposers=(Proposer(model=LARGE),)),
        aggregator=Aggregator(kind="rank", model=SMALL),
    )
    planned = schedule(recipe)
    assert planned.stages == ("layer 1", "layer 2", "escalation", "reviews", "answer")
    assert [(call.role, call.stage, call.reads, call.certain) for call in planned.calls] == [
        *[("proposer", 0, (), True)] * 3,
        ("proposer", 1, (0, 1, 2), True),
        ("escalation", 2, (), False),
        *[("reviewer", 3, (3, 4), False)] * 2,
        ("aggregator", 4, (3, 4), False),
    ]
    assert [call.slot.seed for call in planned.calls[:2]] == [4, 5]
    assert planned.calls[3].system.startswith("Be short.\n\n")
    assert [call.held for call in planned.calls] == [True] * 3 + [False] * 4 + [True]


def test_the_list_is_made_once_for_a_recipe_and_anew_for_another() -> None:
    recipe = ranked()
    assert schedule(recipe) is schedule(recipe)
    assert schedule(ranked()) is not schedule(recipe)
    assert len(schedule(ranked(escalated=False)).calls) == 6
    # With tools in hand one model acts, even when the drafts agree.
    both = Recipe(layers=(TWO,), aggregator=Aggregator(kind="auto", model=SMALL), policy=Policy(stop_when_agree=True))
    assert not schedule(both).calls[-1].certain
    tools = ChatOptions(tools=[{"type": "function"}])
    assert schedule(acting_recipe(both, tools), tools).calls[-1].certain


def test_every_kind_of_aggregator_has_a_module_that_answers() -> None:
    import importlib

    for kind in KINDS:
        module = importlib.import_module(f"mixtura.engine.kinds.{kind}")
        assert asyncio.iscoroutinefunction(module.answer)


def test_slots_are_replaced_wherever_they_stand() -> None:
    recipe = Recipe(
        layers=(TWO, TWO),
        escalate=Layer(proposers=(Proposer(model=LARGE),)),
        aggregator=Aggregator(kind="select", model=LARGE),
    )
    seen: list[tuple[str, str]] = []

    def note(slot: Slot, role: str) -> Slot:
        seen.append((role, slot.model))
        return slot

    assert replace_slots(recipe, note) == recipe
    assert sorted(role for role, _ in seen) == ["escalation"] + ["proposer"] * 4 + ["selector"]


def test_one_model_alone_is_the_aggregator_then_the_weightiest_of_the_latest_stage() -> None:
    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model="a"), Proposer(model="b", weight=2.0))),),
        escalate=Layer(proposers=(Proposer(model="c"),)),
        aggregator=Aggregator(model="d"),
    )
    assert [words for _, words in single(recipe)] == [f"{name} answers alone" for name in ("d", "b", "c", "a")]


def test_a_limit_of_the_caller_is_the_one_that_is_sent() -> None:
    card = ModelRegistry(env=KEYS).card("groq", LARGE)
    assert output_limit(Proposer(model=LARGE, max_tokens=50), card, "proposer") == 50
    options = ChatOptions(max_tokens=9000)
    assert output_limit(Proposer(model=LARGE, max_tokens=50), card, "proposer", options) == 9000
    one = Mixture(Recipe(layers=(Layer(proposers=(Proposer(model=LARGE, max_tokens=50),)),)), env=KEYS)
    assert one.forecast("Why?", options=ChatOptions(extra={"max_completion_tokens": 150})).completion_tokens == 150


def test_slots_of_one_model_review_within_their_own_limits() -> None:
    slots = (Proposer(model=LARGE, max_tokens=40, samples=2), Proposer(model=LARGE))
    recipe = Recipe(layers=(Layer(proposers=slots),), aggregator=Aggregator(kind="rank", model=LARGE, max_tokens=40))
    assert_a_run_stays_within_its_forecast(recipe, "Which index suits heavy writes?")


def test_a_forecast_holds_for_a_question_of_one_word() -> None:
    assert_a_run_stays_within_its_forecast(Recipe(layers=(Layer(proposers=(Proposer(model=LARGE),)),)), "5")


def longest(request: JsonObject, call: int) -> str:
    return "word " * int(request["max_completion_tokens"])


def assert_a_run_stays_within_its_forecast(recipe: Recipe, question: str) -> None:
    """Ask a cloud twice, whose replies take no time."""

    async def main() -> None:
        async with simulated_cloud(SimOptions(unlimited=True, reply=longest)) as cloud:
            mixture = Mixture(recipe, env={"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url})
            said = mixture.forecast(question)
            for _ in range(2):
                await mixture.ask(question)
            ledger = cloud.ledger
            assert ledger.calls.total() == 2 * said.calls
            assert ledger.prompt_tokens.total() <= 2 * said.prompt_tokens
            assert ledger.completion_tokens.total() <= 2 * said.completion_tokens

    run_virtual(main())
