"""An answer is a fold over events: stored and read again they give the same answer, byte for byte."""

import msgspec

from asking import World
from mixtura import Recipe
from mixtura.events import (
    AnswerDelta,
    AnswerRestarted,
    CallFailed,
    CallStarted,
    Event,
    Failure,
    RunFinished,
    RunStarted,
)
from mixtura.folding import fold


def test_a_stored_run_replayed_gives_the_same_answer_byte_for_byte(world: World) -> None:
    ran = world(
        "classic", reply=world.by_model(llama="Draft {n}.", gemma="x", seventy="y"), faults="500@1:gemma2-9b-it"
    )
    stored = [msgspec.json.encode(event) for event in ran.events]
    replayed = [msgspec.json.decode(line, type=Event) for line in stored]
    assert fold(replayed) == ran.answer
    assert fold(replayed).to_json() == ran.answer.to_json()


def test_pieces_are_the_answer_until_it_is_finished_and_a_restart_forgets_them() -> None:
    begun: list[Event] = [RunStarted(run="r", recipe=Recipe.named("single"), calls=1), AnswerDelta(text="Half an ")]
    assert fold(begun).text == "Half an "
    assert fold(begun).status == "failed"
    assert fold([*begun, AnswerRestarted(), AnswerDelta(text="Other")]).text == "Other"


def test_the_json_of_an_answer_has_every_key_whatever_happened() -> None:
    empty = msgspec.json.decode(fold([RunFinished(status="failed", error="no")]).to_json())
    assert {"text", "drafts", "calls", "failures", "decisions", "warnings", "usage", "cost", "n_calls", "error"} <= set(
        empty
    )
    assert set(empty["usage"]) >= {"prompt_tokens", "completion_tokens", "estimated"}


def test_models_without_a_price_are_named_and_not_counted_as_free(world: World) -> None:
    from mixtura import Layer, Proposer

    recipe = Recipe(layers=(Layer(proposers=(Proposer(model="deepseek-r1-distill-llama-70b"),)),))
    ran = world(recipe)
    assert ran.answer.cost is None
    assert ran.answer.unpriced == ["deepseek-r1-distill-llama-70b"]


def test_a_call_whose_end_is_not_said_is_a_warning() -> None:
    started = RunStarted(run="r", recipe=Recipe.named("fast"), calls=1, conversation=(), at=0.0)
    begun = [CallStarted(at=0.0, call=call, role="proposer", model="m", provider="p") for call in range(3)]
    failure = Failure(call=0, role="proposer", model="m", provider="p", kind="abandoned", reason="it was late")
    ended = [CallFailed(at=1.0, failure=failure), CallFailed(at=1.0, failure=failure)]
    still = fold([started, *begun, *ended])
    assert still.warnings == ["call 0 ended without having been under way"]
    over = fold([started, *begun, *ended, RunFinished(at=2.0, status="ok")])
    assert over.warnings[:2] == [f"call {call} of m was started and its end was never said" for call in (1, 2)]
