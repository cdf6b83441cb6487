"""What is emitted to complete an answer, event by event, and how an answer ends."""

import pytest

from mixtura.chat import JsonObject, Usage
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.engine.shown import ShownAnswer
from mixtura.events import AnswerDelta, AnswerFinished, AnswerRestarted, Draft, Event

CALL: JsonObject = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
OTHER: JsonObject = {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}}


def completed(given: list[Event], outcome: Outcome) -> list[Event]:
    """What follows the given events when the answer turns out to be `outcome`."""
    events: list[Event] = []
    listener = ShownAnswer(events.append)
    for event in given:
        listener(event)
    assert events == given
    listener.complete(outcome, 7.0)
    return events[len(given) :]


def test_what_was_not_shown_comes_in_one_piece() -> None:
    assert completed([], Outcome("It rains.", 0, "Clouds.")) == [
        AnswerDelta(at=7.0, text="It rains.", reasoning="Clouds.")
    ]
    snows: list[Event] = [AnswerDelta(text="It snows.")]
    clouds = AnswerDelta(at=7.0, reasoning="Clouds.")
    assert completed(snows, Outcome("", 0, "Clouds.")) == [AnswerRestarted(at=7.0), clouds]
    assert completed([], Outcome("", 0)) == []
    calls = [{"index": 0, **CALL}, {"index": 1, **OTHER}]
    assert completed([], Outcome("", 0, tool_calls=[CALL, OTHER])) == [AnswerDelta(at=7.0, tool_calls=calls)]


@pytest.mark.parametrize(
    "shown",
    [AnswerDelta(text="It snows."), AnswerDelta(reasoning="Hm."), AnswerDelta(tool_calls=[{"index": 0, **CALL}])],
)
def test_what_was_shown_of_another_answer_is_withdrawn_first(shown: AnswerDelta) -> None:
    rains = AnswerDelta(at=7.0, text="It rains.", reasoning="Clouds.")
    assert completed([shown], Outcome("It rains.", 0, "Clouds.")) == [AnswerRestarted(at=7.0), rains]
    assert completed([shown], Outcome("", 0)) == [AnswerRestarted(at=7.0)]


def test_what_was_withdrawn_already_is_not_withdrawn_again() -> None:
    shown: list[Event] = [
        AnswerDelta(text="It snows.", reasoning="Hm.", tool_calls=[{"index": 0, **CALL}]),
        AnswerRestarted(),
    ]
    assert completed(shown, Outcome("It rains.", 0)) == [AnswerDelta(at=7.0, text="It rains.")]


@pytest.mark.parametrize(
    ("reasoning", "whole"),
    [("", True), ("Clouds.", True), (" Clouds.\n", True), ("Sun.", False)],
)
def test_an_answer_whose_reasoning_was_shown_or_left_out_is_whole(reasoning: str, whole: bool) -> None:
    shown: list[Event] = [AnswerDelta(text="It rains.", reasoning=reasoning)]
    assert (completed(shown, Outcome("It rains.", 0, "Clouds.")) == []) is whole


def test_pieces_of_calls_add_up_whatever_stands_in_each() -> None:
    pieces: list[Event] = [
        AnswerDelta(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "weather"}}]),
        AnswerDelta(tool_calls=[{"index": 0, "id": None, "function": {"name": None, "arguments": '{"city":'}}]),
        AnswerDelta(tool_calls=[{"index": 1, **OTHER}, {"index": 0, "function": {"arguments": '"Rome"}'}}]),
        AnswerDelta(tool_calls=[{"index": 0, "id": "later", "function": None}]),
    ]
    assert completed(pieces, Outcome("", 0, tool_calls=[CALL, OTHER])) == []
    assert completed(pieces[:2], Outcome("", 0, tool_calls=[CALL, OTHER]))[0] == AnswerRestarted(at=7.0)


def test_calls_without_a_place_stand_in_the_order_in_which_they_come() -> None:
    shown: list[Event] = [AnswerDelta(tool_calls=[CALL]), AnswerDelta(tool_calls=[OTHER])]
    assert completed(shown, Outcome("", 0, tool_calls=[CALL, OTHER])) == []
    assert len(completed(shown, Outcome("", 0, tool_calls=[OTHER, CALL]))) == 2


def test_calls_of_the_places_one_and_nought_stand_in_their_order() -> None:
    shown: list[Event] = [
        AnswerDelta(tool_calls=[{"index": 1, **OTHER}]),
        AnswerDelta(tool_calls=[{"index": 0, **CALL}]),
    ]
    assert completed(shown, Outcome("", 0, tool_calls=[CALL, OTHER])) == []


def test_a_call_without_a_function_is_one_all_the_same() -> None:
    odd: JsonObject = {"id": "c", "type": "custom", "custom": {"input": "x"}}
    assert completed([AnswerDelta(tool_calls=[{"index": 0, **odd}])], Outcome("", 0, tool_calls=[odd])) == []


def test_an_answer_ends_with_its_text_unless_its_source_says_it_word_for_word() -> None:
    outcome = Outcome("It rains.", 3, "Clouds.", "length", [CALL])
    assert outcome.event(7.0) == AnswerFinished(
        at=7.0, text="It rains.", reasoning="Clouds.", finish_reason="length", tool_calls=[CALL], source=3
    )
    assert outcome._replace(verbatim=True).event(7.0) == AnswerFinished(at=7.0, finish_reason="length", source=3)


def test_a_draft_as_the_answer_is_all_that_its_model_said() -> None:
    draft = Draft(
        call=4,
        role="proposer",
        model="asked",
        answered_by="answering",
        provider="p",
        text="It rains.",
        reasoning="Clouds.",
        finish_reason="length",
        tool_calls=[CALL],
        usage=Usage(completion_tokens=9),
    )
    assert outcome_of(draft) == Outcome(
        "It rains.", 4, "Clouds.", "length", [CALL], verbatim=True, model="answering", tokens=9
    )
    alone = Draft(call=0, role="proposer", model="asked", provider="p", text="x")
    assert outcome_of(alone).model == "asked"
