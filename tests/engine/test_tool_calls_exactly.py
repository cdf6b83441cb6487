"""Calls of tools as they are handed on, and in whole sentences why others are not."""

import pytest

from asking import World
from mixtura import Aggregator, ChatOptions, Completion, Layer, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.decisions import ActedDetail
from mixtura.engine import tools
from mixtura.engine.drafts import DraftSet
from mixtura.events import Draft
from mixtura.recipe import Tools
from mixtura.sim import Reply, ToolCall

WEATHER: JsonObject = {"type": "function", "function": {"name": "weather"}}
CLOCK: JsonObject = {"type": "function", "function": {"name": "clock"}}
BOTH = ChatOptions(tools=[WEATHER, CLOCK])


def made(*calls: JsonObject, finish: str = "tool_calls") -> Completion:
    return Completion(model="m", text="", tool_calls=list(calls), finish_reason=finish)  # type: ignore[arg-type]


def call(name: str | None = "weather", arguments: object = "{}", **more: object) -> JsonObject:
    return {**more, "function": {"name": name, "arguments": arguments}}


def test_a_sound_call_keeps_all_that_it_has() -> None:
    given = {"id": "a", "type": "custom", "index": 3, "function": {"name": "clock", "arguments": '{ "x" : 1 }', "y": 2}}
    assert tools.sound_calls(made(given), BOTH, "run") == ([given], ())
    assert tools.sound_calls(Completion(model="m", text="x"), BOTH, "run") == ([], ())


def test_a_call_without_an_id_or_a_type_gets_them() -> None:
    found = tools.sound_calls(made(call("nobody"), call(), call("clock", id="", type=None)), BOTH, "0123456789abcdef")
    assert [(one["id"], one["type"]) for one in found.calls] == [
        ("call_0123456789ab1", "function"),
        ("call_0123456789ab2", "function"),
    ]


@pytest.mark.parametrize(
    ("given", "text"),
    [(None, "{}"), ("", "{}"), (" \n", "{}"), ({"city": "Rome"}, '{"city":"Rome"}'), ('{ "a": 1}', '{ "a": 1}')],
)
def test_arguments_are_the_text_of_a_json_object(given: object, text: str) -> None:
    (one,) = tools.sound_calls(made(call(arguments=given)), BOTH, "").calls
    assert one["function"]["arguments"] == text


@pytest.mark.parametrize(
    ("calls", "finish", "options", "problems"),
    [
        ([call("fly")], "tool_calls", BOTH, ["it called 'fly', which is no tool that was offered"]),
        ([call(None)], "tool_calls", BOTH, ["it called None, which is no tool that was offered"]),
        ([call()], "tool_calls", ChatOptions(), ["it called 'weather', which is no tool that was offered"]),
        ([call(arguments='{"a')], "length", BOTH, ["its call of weather was cut off at its output limit"]),
        ([call(arguments='{"a')], "stop", BOTH, ["its call of weather has no JSON object"]),
        ([call(arguments=7)], "stop", BOTH, ["its call of weather has no JSON object"]),
        ([call(arguments="[]")], "stop", BOTH, ["its call of weather has no JSON object"]),
        (
            [call("clock")],
            "stop",
            ChatOptions(tools=[WEATHER, CLOCK], tool_choice=WEATHER),
            ["it called clock, though weather was asked for"],
        ),
        (
            [call("fly"), call(), call("clock"), call()],
            "stop",
            ChatOptions(tools=[WEATHER, CLOCK], parallel_tool_calls=False),
            [
                "it called 'fly', which is no tool that was offered",
                "it made several calls, though one at a time was asked for",
                "it made several calls, though one at a time was asked for",
            ],
        ),
    ],
)
def test_why_a_call_cannot_be_made_is_said(
    calls: list[JsonObject], finish: str, options: ChatOptions, problems: list[str]
) -> None:
    assert list(tools.sound_calls(made(*calls, finish=finish), options, "").problems) == problems


@pytest.mark.parametrize("parallel", [None, True])
def test_several_calls_are_made_where_nobody_refuses_them(parallel: bool | None) -> None:
    options = ChatOptions(tools=[WEATHER, CLOCK], parallel_tool_calls=parallel)
    assert len(tools.sound_calls(made(call(), call("clock")), options, "").calls) == 2


@pytest.mark.parametrize(
    ("options", "required"),
    [
        (ChatOptions(), False),
        (ChatOptions(tools=[WEATHER]), False),
        (ChatOptions(tools=[WEATHER], tool_choice="auto"), False),
        (ChatOptions(tools=[WEATHER], tool_choice="required"), True),
        (ChatOptions(tools=[WEATHER], tool_choice=WEATHER), True),
    ],
)
def test_a_caller_requires_a_call_by_naming_a_tool_or_any(options: ChatOptions, required: bool) -> None:
    assert tools.requires_call(options) is required


def draft(place: int, *calls: JsonObject) -> Draft:
    return Draft(call=place, role="proposer", model="m", provider="p", tool_calls=list(calls) or None)


def test_the_calls_that_most_drafts_propose_are_agreed_on() -> None:
    rome, oslo = call(arguments='{"city":"Rome"}', id="1"), call(arguments='{"city":"Oslo"}', id="2")
    drafts = DraftSet([draft(0, oslo), draft(1, rome), draft(2), draft(3, {**rome, "id": "9"})])
    assert tools.agreed(drafts, 2) == (drafts[1], 2)
    assert tools.agreed(drafts, 1) == (drafts[1], 2)
    assert tools.agreed(drafts, 3) is None
    assert tools.agreed(DraftSet([draft(0), draft(1)]), 0) is None
    several = DraftSet([draft(0, rome, oslo), draft(1, rome), draft(2, oslo, rome)])
    assert tools.agreed(several, 2) == (several[0], 2)


def test_calls_of_another_kind_are_equal_but_for_their_id_and_place() -> None:
    odd = {"type": "custom", "custom": {"name": "x", "input": "y"}}
    drafts = DraftSet([draft(0, {**odd, "id": "1", "index": 0}), draft(1, {**odd, "id": "2", "index": 5})])
    assert tools.agreed(drafts, 2) == (drafts[0], 2)
    other = {"type": "custom", "custom": {"name": "x", "input": "z"}}
    assert tools.agreed(DraftSet([draft(0, odd), draft(1, other)]), 2) is None


SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"


@pytest.mark.parametrize(
    ("writes", "said", "detail"),
    [
        (None, "2 of 3 drafts propose the same calls: weather", {"by": "agreement", "votes": 2, "drafts": 3}),
        (2, "2 of 3 drafts propose the same calls: weather", {"by": "agreement", "votes": 2, "drafts": 3}),
        (3, f"{LARGE} called clock, clock", {"by": "model", "model": LARGE}),
    ],
)
def test_who_decided_on_the_tools_is_told(world: World, writes: int | None, said: str, detail: JsonObject) -> None:
    proposals = iter([(ToolCall(name="weather"),), (ToolCall(name="weather"),), ()])

    def reply(request: JsonObject, _call: int) -> Reply:
        if request["model"] == LARGE:
            return Reply(text=None, tool_calls=(ToolCall(name="clock"), ToolCall(name="clock", arguments='{"a":1}')))
        proposed = next(proposals)
        return Reply(text=None if proposed else "None is needed.", tool_calls=proposed)

    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model=SMALL, samples=3),)),),
        aggregator=Aggregator(model=LARGE),
        tools=Tools(policy="agree", agree=writes),
    )
    ran = world(recipe, "Weather?", reply=reply, options=BOTH)
    acted = [decision for decision in ran.answer.decisions if decision.kind == "acted"]
    names = ["weather"] if detail["by"] == "agreement" else ["clock", "clock"]
    assert [(one.detail, one.reason, one.warning) for one in acted] == [
        (ActedDetail(tools=names, **detail), said, False)
    ]
    assert tools.names_of(ran.answer.tool_calls) == names


def test_a_model_that_needs_no_tool_is_told(world: World) -> None:
    recipe = Recipe(layers=(Layer(proposers=(Proposer(model=SMALL),)),), aggregator=Aggregator(model=LARGE))
    ran = world(recipe, "Weather?", reply=lambda _r, call: f"Sunny {call}.", options=BOTH)
    acted = [decision for decision in ran.answer.decisions if decision.kind == "acted"]
    assert [(one.detail, one.reason) for one in acted] == [(ActedDetail(model=LARGE), f"{LARGE} called no tool")]
