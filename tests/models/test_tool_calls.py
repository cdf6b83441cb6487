"""Tool calls in the forms that servers give them, beside those that `bench/dialects` asks over HTTP."""

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from local_servers import served
from mixtura import ChatOptions, Layer, Mixture, Proposer, Recipe, fold
from mixtura.chat import ChatRequest, Completion, Delta, JsonObject, Message, Timing
from mixtura.errors import BadGenerationError
from mixtura.events import AnswerDelta, AnswerRestarted
from mixtura.models.openai.reply import WireError, decode_reply
from mixtura.models.openai.sse import ServerEvent
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import completion_from

TOOLS: list[JsonObject] = [{"type": "function", "function": {"name": name}} for name in ("weather", "now")]
OPTIONS = ChatOptions(tools=TOOLS)
REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),), options=OPTIONS)
SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}


def call(name: str | None = "weather", arguments: object = "{}", **fields: object) -> JsonObject:
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {key: value for key, value in function.items() if value is not None}}


def whole(*calls: object, request: ChatRequest = REQUEST, finish: str = "tool_calls") -> Completion:
    body = {"id": "c1", "choices": [{"message": {"tool_calls": calls}, "finish_reason": finish}]}
    return completion_from(decode_reply(json.dumps(body).encode()), request, Timing())


def streamed(*chunks: Sequence[object], finish: str | None = "tool_calls") -> tuple[Completion, list[Delta]]:
    reply = StreamedReply(REQUEST)
    choices: list[JsonObject] = [{"delta": {"tool_calls": pieces}} for pieces in chunks]
    events = [json.dumps({"id": "c1", "choices": [one]}) for one in [*choices, {"delta": {}, "finish_reason": finish}]]
    deltas = [reply.take(ServerEvent("", event.encode())) for event in [*events, "[DONE]"]]
    found = [delta for delta in deltas if delta is not None]
    assert reply.pieces == len(found)
    return reply.completion(Timing()), found


def told(completion: Completion) -> list[tuple[str, str]]:
    return [(one["function"]["name"], one["function"]["arguments"]) for one in completion.tool_calls or ()]


def shown(deltas: Sequence[Delta]) -> list[tuple[str, str]]:
    calls: dict[int, dict[str, str]] = {}
    for piece in itertools.chain.from_iterable(delta.tool_calls or () for delta in deltas):
        function = calls.setdefault(piece["index"], {"name": "", "arguments": ""})
        for key, value in piece["function"].items():
            function[key] += value
    return [(function["name"], function["arguments"]) for function in calls.values()]


def ids(completion: Completion) -> list[str]:
    return [one["id"] for one in completion.tool_calls or ()]


@pytest.mark.parametrize("given_ids", [(None, None), ("", ""), ("a", "a"), (None, "a"), ("a", None)])
def test_ids_of_our_own_making_are_unlike_the_others(given_ids: tuple[str | None, str | None]) -> None:
    calls = [call("now", id=one) for one in given_ids]
    for completion in (whole(*calls), streamed(calls)[0], streamed(calls[:1], calls[1:])[0]):
        found = ids(completion)
        assert len(set(found)) == 2 or (len(found) == 1 and given_ids == ("a", "a"))
        for one in set(found) - set(given_ids):
            assert re.fullmatch("[a-z0-9]{9}", one)


def test_they_are_unlike_those_of_earlier_turns() -> None:
    first = ids(whole(call()))
    turns = (*REQUEST.messages, Message(role="assistant", content="x"), Message(role="user", content="y"))
    later = ChatRequest(model="m", messages=turns, options=OPTIONS)
    assert first == ids(whole(call())) != ids(whole(call(), request=later))


def test_an_id_that_fits_a_strict_server_is_left_as_it_is() -> None:
    assert ids(whole(call(id="D681PevKs"))) == ["D681PevKs"]


@pytest.mark.parametrize(
    ("chunks", "calls"),
    [
        pytest.param([[call("weather", ""), call("now", "")]], [("weather", "{}"), ("now", "{}")], id="no arguments"),
        pytest.param(
            [[call("now", None)], [call("weather", None)]], [("now", "{}"), ("weather", "{}")], id="two chunks"
        ),
        pytest.param([[call("now")], [call("now")]], [("now", "{}"), ("now", "{}")], id="the same call twice"),
        pytest.param(
            [
                [call("weather", "", index=0)],
                [call(None, '{"c": 1}', index=0)],
                [call("weather", "", index=0)],
                [call(None, '{"c": 2}', index=0)],
            ],
            [("weather", '{"c": 1}'), ("weather", '{"c": 2}')],
            id="one index, no ids, in pieces",
        ),
        pytest.param(
            [[call("weather", "", id="a", index=0)], [call(None, '{"c"', index=1)], [call(None, ":1}", index=2)]],
            [("weather", '{"c":1}')],
            id="an index for each piece",
        ),
        pytest.param(
            [
                [call("weather", '{"c', index=0)],
                [call("weather", '{"c": 1', index=0)],
                [call("weather", '{"c": 1}', index=0)],
            ],
            [("weather", '{"c": 1}')],
            id="all so far, no ids",
        ),
        pytest.param(
            [[call("weather", '{"c": 1}', index=0, id="a")], [call("weather", '{"c": 1}', index=0, id="a")]],
            [("weather", '{"c": 1}')],
            id="the same again",
        ),
        pytest.param([[{"function": "now", "arguments": "{}"}]], [("now", "{}")], id="a name for a function"),
        pytest.param([[call("now", "null", id="a")]], [("now", "{}")], id="null as text"),
    ],
)
def test_pieces_are_put_together(chunks: list[list[object]], calls: list[tuple[str, str]]) -> None:
    completion, _ = streamed(*chunks)
    assert told(completion) == calls
    assert len(set(ids(completion))) == len(calls)


def test_calls_that_are_in_no_list_are_read() -> None:
    for calls in (call(id="a"), {"0": call(id="a")}):
        body = {"choices": [{"message": {"tool_calls": calls}, "finish_reason": "stop"}]}
        completion = completion_from(decode_reply(json.dumps(body).encode()), REQUEST, Timing())
        assert (told(completion), completion.finish_reason) == ([("weather", "{}")], "tool_calls")


@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=3),
            st.text(max_size=6) | st.lists(st.none() | st.dictionaries(st.text(max_size=2), st.integers())),
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["pieces", "so far", "values"]),
    st.sampled_from(["first", "every", "none"]),
    st.sampled_from(["right", "text", "zero", "none"]),
    st.booleans(),
    st.data(),
)
def test_however_a_server_cuts_calls_they_are_the_same_calls(
    contents: list[dict[str, Any]], form: str, with_id: str, with_index: str, named: bool, data: st.DataObject
) -> None:
    wanted = [{**content, "n": place} for place, content in enumerate(contents)]
    chunks: list[list[JsonObject]] = []
    for place, content in enumerate(wanted):
        text = json.dumps(content)
        cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=4)))
        edges = [0, *cuts, len(text)]
        arguments: list[Any] = [text[start:end] for start, end in itertools.pairwise(edges)]
        if form == "so far":
            arguments = [text[:end] for end in edges[1:]]
        elif form == "values":
            arguments = [content]
        for number, part in enumerate(arguments):
            piece = call("weather" if named or number == 0 else None, part)
            if with_id == "every" or (with_id == "first" and number == 0):
                piece["id"] = f"call_{place}"
            if with_index != "none":
                piece["index"] = {"right": place, "text": str(place), "zero": 0}[with_index]
            chunks.append([piece])
    completion, deltas = streamed(*chunks)
    assert [json.loads(arguments) for _, arguments in told(completion)] == wanted
    assert len(set(ids(completion))) == len(wanted)
    if form != "pieces":
        assert shown(deltas) == told(completion)


def test_what_a_server_wants_back_is_kept_at_its_call() -> None:
    signed = call(id="a", type="function", extra_content=SIGNED)
    assert (whole(signed).tool_calls or [{}])[0]["extra_content"] == SIGNED
    for chunks in (
        [[signed]],
        [[call(id="a", index=0)], [{"extra_content": SIGNED}]],
        [[call(id="a")], [{"index": 0, "function": {}, "extra_content": SIGNED}]],
    ):
        completion, deltas = streamed(*chunks)
        assert (completion.tool_calls or [{}])[0]["extra_content"] == SIGNED
        pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
        assert [piece["extra_content"] for piece in pieces if "extra_content" in piece] == [SIGNED]


def test_what_is_kept_beside_calls_is_bounded() -> None:
    pieces = [[call(None, "x", index=0, **{f"field_{place}": "y" * 100_000})] for place in range(200)]
    with pytest.raises(WireError, match="hold too much"):
        streamed([call(index=0)], *pieces)


def test_a_custom_tool_s_call_is_put_together() -> None:
    pieces = [
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "now", "input": "ab"}},
        {"index": 0, "custom": {"input": "c"}},
    ]
    completion, deltas = streamed(*([piece] for piece in pieces))
    assert completion.tool_calls == [{"id": "a", "type": "custom", "custom": {"name": "now", "input": "abc"}}]
    assert (deltas[-1].tool_calls or [{}])[0]["custom"] == {"name": "now", "input": "abc"}


def test_calls_that_were_announced_and_did_not_come_are_no_empty_answer() -> None:
    for calls in ((), (None,)):
        with pytest.raises(WireError, match="no call came") as caught:
            whole(*calls)
        assert caught.value.kind is BadGenerationError


def alone(url: str) -> Mixture:
    return Mixture(Recipe(layers=(Layer(proposers=(Proposer(model="m", provider=f"{url}/v1"),)),)), env={})


async def test_the_next_turn_sends_a_call_back_with_what_came_beside_it() -> None:
    bodies: list[JsonObject] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        if len(bodies) == 1:
            message = {"role": "assistant", "content": None, "tool_calls": [call(id="a", extra_content=SIGNED)]}
            return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})
        return web.json_response({"choices": [{"message": {"content": "Rain."}, "finish_reason": "stop"}]})

    async with served(handler) as url:
        asked: list[Any] = [{"role": "user", "content": "Rain?"}]
        answer = await alone(url).ask(asked, options=OPTIONS)
        assert answer.finish_reason == "tool_calls"
        asked.append({"role": "assistant", "content": answer.text, "tool_calls": answer.tool_calls})
        asked.append({"role": "tool", "tool_call_id": "a", "content": "yes"})
        assert (await alone(url).ask(asked, options=OPTIONS)).text == "Rain."
    kept = bodies[1]["messages"][1]["tool_calls"]
    assert kept == [call(id="a", type="function", extra_content=SIGNED)]


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [call("weather", "{}", index=0), call(None, '{"c": 1}', index=0)], id="begun with an empty object"
        ),
        pytest.param([call("weather", '{"c": 1}'), call("now", None)], id="without ids"),
        pytest.param(
            [call("weather", '{"c":', index=0), call(None, '{"c":2}', index=0), call(None, "}", index=0)], id="nested"
        ),
        pytest.param([call("weather", {"c": 1}, index=0, id="a")], id="an object"),
    ],
)
async def test_the_pieces_that_a_reader_is_shown_add_up_to_the_calls(chunks: list[JsonObject]) -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        choices: list[JsonObject] = [*({"delta": {"tool_calls": [one]}} for one in chunks), {"finish_reason": "stop"}]
        body = "".join(f"data: {json.dumps({'choices': [one]})}\n\n" for one in choices)
        return web.Response(text=body, content_type="text/event-stream")

    async with served(handler) as url, alone(url).stream("Rain?", options=OPTIONS) as run:
        events = [event async for event in run]
    last = max((place for place, event in enumerate(events) if isinstance(event, AnswerRestarted)), default=-1)
    told_last = [event for event in events[last + 1 :] if isinstance(event, AnswerDelta)]
    pieces = [piece for event in told_last for piece in event.tool_calls or ()]
    answer = fold(events)
    assert shown([Delta(tool_calls=pieces)]) == [
        (one["function"]["name"], one["function"]["arguments"]) for one in answer.tool_calls or ()
    ]
    assert {piece["index"]: piece["id"] for piece in pieces if "id" in piece} == {
        place: one["id"] for place, one in enumerate(answer.tool_calls or ())
    }
