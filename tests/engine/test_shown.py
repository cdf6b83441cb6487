"""The pieces of an answer since its latest beginning add up to it, whatever was shown before."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import Reacts, World
from mixtura import Aggregator, ChatOptions, Layer, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.engine.outcome import Outcome
from mixtura.engine.shown import ShownAnswer
from mixtura.events import Answer, AnswerDelta, AnswerRestarted, Event
from mixtura.recipe import Tools
from mixtura.sim import Reply, ToolCall

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
TOOL: JsonObject = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL: JsonObject = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}


def shown(events: list[Event]) -> tuple[str, list[JsonObject]]:
    """What a reader has who puts the pieces together and forgets them when told to."""
    text = ""
    calls: dict[int, JsonObject] = {}
    for event in events:
        if isinstance(event, AnswerRestarted):
            text, calls = "", {}
        elif isinstance(event, AnswerDelta):
            text += event.text
            for piece in event.tool_calls or ():
                call = calls.setdefault(piece["index"], {"id": None, "name": "", "arguments": ""})
                call["id"] = call["id"] or piece.get("id")
                call["name"] += piece["function"].get("name") or ""
                call["arguments"] += piece["function"].get("arguments") or ""
    return text, [calls[place] for place in sorted(calls)]


def told(answer: Answer | Outcome) -> tuple[str, list[JsonObject]]:
    return answer.text, [
        {"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
        for call in answer.tool_calls or ()
    ]


pieces = st.builds(
    AnswerDelta,
    text=st.text(max_size=3),
    reasoning=st.sampled_from(["", "hm"]),
    tool_calls=st.none() | st.just([{"index": 0, **CALL}]) | st.just([{"index": 0, "function": {"arguments": " "}}]),
)


@given(st.lists(pieces | st.just(AnswerRestarted()), max_size=6), st.text(max_size=4), st.booleans())
def test_whatever_was_shown_the_pieces_become_the_answer(given: list[Event], text: str, acts: bool) -> None:
    events: list[Event] = []
    listener = ShownAnswer(events.append)
    for event in given:
        listener(event)
    outcome = Outcome(text, 0, tool_calls=[CALL] if acts else None)
    listener.complete(outcome, 1.0)
    assert shown(events) == told(outcome)
    assert events[: len(given)] == given


def test_what_was_shown_whole_is_not_shown_again() -> None:
    events: list[Event] = []
    listener = ShownAnswer(events.append)
    listener(AnswerDelta(text="It "))
    listener(AnswerDelta(text="rains.", tool_calls=[{"index": 0, **CALL}]))
    listener.complete(Outcome("It rains.", 0, tool_calls=[CALL]), 1.0)
    assert len(events) == 2


def says(**by_model: Any) -> Reacts:
    def reply(request: JsonObject, call: int) -> Reply | str:
        said = by_model["large" if request["model"] == LARGE else "small"]
        made: Reply | str = said(request, call) if callable(said) else said
        return made

    return reply


def calling(*calls: ToolCall, text: str | None = None, **more: Any) -> Any:
    return lambda request, call: Reply(text=text, tool_calls=calls, **more) if request.get("tools") else f"Hm {call}."


ROME = ToolCall(name="weather", arguments='{"city":"Rome"}')


@pytest.mark.parametrize("watch", ["answer", "calls"])
@pytest.mark.parametrize(
    ("kind", "tools", "reply"),
    [
        ("synthesize", Tools(), says(large=calling(ROME, ROME), small="Hm.")),
        ("synthesize", Tools(policy="agree"), says(large="x", small=calling(ROME))),
        ("synthesize", Tools(), says(large=calling(ToolCall(name="weather", arguments="")), small="Hm.")),
        ("synthesize", Tools(), says(large=calling(ToolCall(name="nobody"), ROME), small=lambda _r, c: f"Hm {c}.")),
        ("synthesize", Tools(), says(large=calling(ToolCall(name="nobody"), text="It rains."), small="Hm.")),
        ("select", Tools(), says(large=calling(ROME), small=lambda _r, c: f"Hm {c}.")),
        ("auto", Tools(), says(large="- Based on the drafts, it rains.", small=lambda _r, c: f"Hm {c}.")),
        ("alone", Tools(), says(large=calling(ROME), small="Hm.")),
    ],
)
def test_a_reader_of_the_pieces_has_the_answer(
    world: World, watch: str, kind: str, tools: Tools, reply: Reacts
) -> None:
    if kind == "alone":
        recipe = Recipe(layers=(Layer(proposers=(Proposer(model=LARGE),)),))
    else:
        aggregator = Aggregator(kind=kind, model=LARGE)  # type: ignore[arg-type]
        layers = (Layer(proposers=(Proposer(model=SMALL, samples=2),)),)
        recipe = Recipe(layers=layers, aggregator=aggregator, tools=tools)
    options = ChatOptions(tools=[TOOL], extra={"disable_tool_validation": True})
    ran = world(recipe, "Weather?", reply=reply, options=options, watch=watch)
    assert ran.error is None, ran.error
    assert shown(ran.events) == told(ran.answer)
    for call in ran.answer.tool_calls or ():
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
