"""Second tries, silence and stragglers: a call that is slow costs seconds, and what it wrote is not lost."""

import msgspec
import pytest

from asking import Ran, World
from mixtura import Aggregator, Layer, Policy, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.events import AnswerDelta, AnswerRestarted, CallStarted
from mixtura.sim import Reply, SimOptions

LONG = (
    "LSM-trees suit heavy writes, since they turn random writes into sequential ones and pay for it when reading. " * 3
)


def recipe(**policy: object) -> Recipe:
    """Two llamas and a gemma under a policy."""
    return Recipe(
        layers=(Layer(proposers=(Proposer(model=World.LLAMA, samples=2), Proposer(model=World.GEMMA))),),
        aggregator=Aggregator(model=World.SEVENTY),
        policy=msgspec.convert(policy, Policy),
    )


def replies(request: JsonObject, call: int) -> Reply:
    """Long drafts, each its own, and a short answer."""
    if request["model"] == World.SEVENTY:
        return Reply(text="Take an LSM-tree.")
    return Reply(text=f"{LONG}Says call {call}.")


def asked(world: World, told: Recipe, faults: str, *, profile: str = "rate:100", watched: bool = True) -> Ran:
    sim = SimOptions(unlimited=True, reply=replies, faults=faults, profile=profile)
    return world(told, sim=sim, watched=watched)


def prompt_of(ran: Ran) -> str:
    (messages,) = ran.prompts(World.SEVENTY)
    return str(messages[-1]["content"])


@pytest.mark.parametrize("watched", [True, False])
def test_a_silent_call_is_tried_a_second_time_and_the_faster_wins(world: World, watched: bool) -> None:
    told = recipe(hedge=True, hedge_after=2.0, first_token=30.0)
    ran = asked(world, told, "silent@1:gemma2-9b-it", watched=watched)
    assert [draft.model for draft in ran.answer.drafts].count(World.GEMMA) == 1
    assert "hedged" in ran.kinds
    (lost,) = ran.answer.failures
    assert lost.kind == "abandoned"
    assert lost.usage is None
    assert ran.cloud.ledger.in_flight == 0
    assert ran.answer.usage.total_tokens == ran.cloud.ledger.total_tokens


def test_a_second_try_goes_to_the_fall_back_where_there_is_one(world: World) -> None:
    text = """
    [[proposers]]
    model = "gemma2-9b-it"
    fallbacks = [{ model = "llama-3.1-8b-instant" }]
    [aggregator]
    model = "llama-3.3-70b-versatile"
    [policy]
    hedge = true
    hedge_after = 1.0
    """
    ran = asked(world, Recipe.from_toml(text), "silent:gemma2-9b-it")
    (draft,) = ran.answer.drafts
    assert (draft.model, draft.answered_by) == (World.GEMMA, World.LLAMA)


def test_a_model_that_fails_gives_way_to_its_fall_backs_in_turn(world: World) -> None:
    text = """
    [[proposers]]
    model = "gemma2-9b-it"
    fallbacks = [{ model = "qwen-qwq-32b" }, { model = "llama-3.1-8b-instant" }]
    [aggregator]
    model = "llama-3.3-70b-versatile"
    """
    ran = asked(world, Recipe.from_toml(text), "500:gemma2-9b-it")
    (draft,) = ran.answer.drafts
    assert draft.answered_by == World.LLAMA
    assert ran.kinds.count("substituted") == 2
    assert ran.answer.failures == []


def test_an_aggregator_that_hangs_is_tried_a_second_time(world: World) -> None:
    told = recipe(hedge=True, hedge_after=1.5, first_token=20.0)
    ran = asked(world, told, "silent@1:llama-3.3-70b-versatile")
    assert ran.answer.text == "Take an LSM-tree."
    assert ran.answer.status == "ok"
    assert ran.seconds < 5
    said = "".join(event.text for event in ran.events if isinstance(event, AnswerDelta))
    assert said == "Take an LSM-tree."


def test_an_answer_that_falls_silent_half_way_is_begun_anew_once(world: World) -> None:
    told = recipe(first_token=10.0, between_tokens=2.0)
    ran = asked(world, told, "stall=2@1:llama-3.3-70b-versatile")
    assert ran.answer.text == "Take an LSM-tree."
    assert any(isinstance(event, AnswerRestarted) for event in ran.events)
    assert any("begun anew" in warning for warning in ran.answer.warnings)
    again = asked(world, told, "stall=2:llama-3.3-70b-versatile")
    assert again.answer.status == "partial"
    assert "fell_back" in again.kinds
    assert len(again.prompts(World.SEVENTY)) == 2


@pytest.mark.parametrize("watched", [True, False])
def test_what_a_straggler_had_written_is_used_and_marked_as_incomplete(world: World, watched: bool) -> None:
    told = recipe(quorum=2, grace=0.5)
    ran = asked(world, told, "stall=40:gemma2-9b-it", watched=watched)
    partial = next(draft for draft in ran.answer.drafts if draft.incomplete)
    assert partial.model == World.GEMMA
    assert LONG.startswith(partial.text)
    assert partial.choice == ""
    assert partial.usage.estimated
    assert ran.answer.usage.estimated
    assert "cut" in ran.kinds
    assert prompt_of(ran).count("This draft is incomplete") == 1
    assert f"{partial.text.strip()}\n[This draft is incomplete" in prompt_of(ran)
    assert ran.answer.usage.completion_tokens == ran.cloud.ledger.completion_tokens.total()
    assert ran.cloud.ledger.in_flight == 0


def test_the_grace_of_stragglers_begins_when_the_quorum_is_there(world: World) -> None:
    slow = "rate:100,gemma2-9b-it=rate:60"
    without = asked(world, recipe(quorum=2, grace=0.0), "", profile=slow)
    assert any(draft.incomplete for draft in without.answer.drafts)
    within = asked(world, recipe(quorum=2, grace=30.0), "", profile=slow)
    assert not any(draft.incomplete for draft in within.answer.drafts)
    assert len(within.answer.drafts) == 3


def test_too_few_words_are_no_draft(world: World) -> None:
    ran = asked(world, recipe(quorum=2, grace=0.5), "stall=3:gemma2-9b-it")
    assert [draft.model for draft in ran.answer.drafts] == [World.LLAMA, World.LLAMA]
    (lost,) = ran.answer.failures
    assert lost.kind == "abandoned"
    assert lost.usage is not None
    assert lost.usage.completion_tokens == 3


def test_a_server_that_drips_is_silent(world: World) -> None:
    told = recipe(first_token=3.0, between_tokens=3.0)
    ran = asked(world, told, "drip=1:gemma2-9b-it")
    assert ran.seconds < 20
    assert {failure.kind for failure in ran.answer.failures} == {"timed_out"}
    assert all("first token did not come" in failure.reason for failure in ran.answer.failures)


def test_when_every_draft_breaks_off_the_answer_comes_from_what_was_written(world: World) -> None:
    ran = asked(world, recipe(first_token=10.0), "error_event=60:gemma2-9b-it,error_event=60:llama-3.1-8b-instant")
    assert ran.answer.text == "Take an LSM-tree."
    assert len([draft for draft in ran.answer.drafts if draft.incomplete]) == 3


def test_incomplete_drafts_have_no_vote(world: World) -> None:
    def numbers(request: JsonObject, call: int) -> Reply:
        if request["model"] == World.GEMMA:
            return Reply(text="The answer is 7. " * 30)
        return Reply(text="The answer is 42.")

    told = Recipe(layers=recipe().layers, aggregator=Aggregator(kind="vote"), policy=Policy(quorum=2, grace=0.5))
    sim = SimOptions(unlimited=True, reply=numbers, faults="stall=60:gemma2-9b-it", profile="rate:100")
    ran = world(told, sim=sim)
    assert ran.answer.text == "The answer is 42."
    assert any(draft.incomplete and not draft.choice for draft in ran.answer.drafts)


def test_calls_are_streamed_only_where_that_is_wanted(world: World) -> None:
    plain = asked(world, recipe(), "", watched=False)
    assert not any(body.get("stream") for body in plain.cloud.requests)
    for policy in ({"first_token": 5.0}, {"between_tokens": 5.0}):
        ran = asked(world, recipe(**policy), "", watched=False)
        assert all(body.get("stream") for body in ran.cloud.requests)
    # What a straggler had written is wanted of a draft, never of an answer.
    ran = asked(world, recipe(quorum=2), "", watched=False)
    assert [bool(body.get("stream")) for body in ran.cloud.requests] == [True, True, True, False]


def test_usage_of_attempts_that_failed_is_counted(world: World) -> None:
    ran = asked(world, recipe(first_token=10.0), "cut=10@1:gemma2-9b-it")
    assert [draft.model for draft in ran.answer.drafts] == [World.LLAMA, World.LLAMA, World.GEMMA]
    (lost,) = ran.answer.failures
    assert lost.usage is not None
    assert lost.usage.completion_tokens == 10
    assert ran.answer.usage.completion_tokens == ran.cloud.ledger.completion_tokens.total()


def test_a_run_that_is_protected_makes_no_call_twice_without_need(world: World) -> None:
    ran = asked(world, Recipe.named("classic"), "")
    assert sum(isinstance(event, CallStarted) for event in ran.events) == 4
    assert ran.answer.failures == []
    assert not ran.answer.usage.estimated
