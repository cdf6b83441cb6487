import json
import re

import pytest

from mixtura.chat import ChatRequest, Completion, Delta, JsonObject, Message, Timing
from mixtura.models.openai.reply import WireError
from mixtura.models.openai.sse import EventParser, ServerEvent
from mixtura.models.openai.stream import StreamedReply
from resources import recorded_data

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
DONE = ServerEvent("", b"[DONE]")


def chunk(delta: JsonObject | None = None, finish: str | None = None, **fields: object) -> ServerEvent:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return ServerEvent("", json.dumps({"id": "c1", "model": "m", "choices": choices, **fields}).encode())


def gathered(*events: ServerEvent) -> tuple[list[Delta], Completion]:
    stream = StreamedReply(REQUEST)
    deltas = [delta for event in events if (delta := stream.take(event)) is not None]
    return deltas, stream.completion(Timing(total=2.0, first_token=0.5))


def test_a_groq_stream_is_put_together() -> None:
    usage = {"queue_time": 0.2, "prompt_tokens": 20, "completion_tokens": 4}
    deltas, completion = gathered(
        chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_1", "seed": 9}, system_fingerprint="fp"),
        chunk({"reasoning": "We", "channel": "analysis"}),
        chunk({"content": "Ol"}),
        chunk({"content": "á"}),
        chunk({}, "stop", x_groq={"id": "req_1", "usage": usage}, usage=usage),
        chunk(usage=usage, service_tier="on_demand"),
        DONE,
    )
    assert deltas == [Delta("", "We"), Delta("Ol"), Delta("á")]
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("Olá", "We", "stop")
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (20, 4)
    assert completion.timing == Timing(total=2.0, queue=0.2, first_token=0.5)
    assert (completion.id, completion.seed, completion.service_tier) == ("c1", 9, "on_demand")
    assert (completion.system_fingerprint, completion.extra) == ("fp", {"request_id": "req_1"})


def test_usage_of_groq_s_older_streams_is_found_and_a_missing_one_estimated() -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 4}
    _, completion = gathered(chunk({"content": "x"}), chunk({}, "stop", x_groq={"usage": usage}), DONE)
    assert (completion.usage.completion_tokens, completion.usage.estimated) == (4, False)
    _, completion = gathered(chunk({"content": "x"}), chunk({}, "stop"), DONE)
    assert completion.usage.estimated


def call(call_id: str | None, name: str | None, arguments: str, index: int | None) -> JsonObject:
    piece: JsonObject = {"type": "function", "function": {"arguments": arguments}}
    if call_id is not None:
        piece["id"] = call_id
    if name is not None:
        piece["function"]["name"] = name
    if index is not None:
        piece["index"] = index
    return {"tool_calls": [piece]}


def whole(call_id: str, name: str, arguments: str) -> JsonObject:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([call("a", "f", '{"x":1}', 0), call("b", "g", "{}", 1)], id="whole calls, as Groq sends"),
        pytest.param(
            [
                call("a", "f", "", 0),
                call(None, None, '{"x"', 0),
                call("b", "g", "", 1),
                call(None, None, ":1}", 0),
                call(None, None, "{}", 1),
            ],
            id="pieces, as OpenAI sends, interleaved",
        ),
        pytest.param([call("a", "f", '{"x":1}', 0), call("b", "g", "{}", 0)], id="every call with index 0"),
        pytest.param(
            [call("a", "f", '{"x"', None), call(None, None, ":1}", None), call("b", "g", "{}", None)], id="no index"
        ),
    ],
)
def test_tool_calls_are_put_together_from_any_kind_of_pieces(pieces: list[JsonObject]) -> None:
    _, completion = gathered(*(chunk(piece) for piece in pieces), chunk({}, "tool_calls"), DONE)
    assert completion.tool_calls == [whole("a", "f", '{"x":1}'), whole("b", "g", "{}")]
    assert completion.finish_reason == "tool_calls"


def test_executed_tools_of_all_deltas_are_kept() -> None:
    _, completion = gathered(
        chunk({"executed_tools": [{"index": 0}]}), chunk({"executed_tools": [{"index": 1}]}), chunk({}, "stop"), DONE
    )
    assert completion.extra["executed_tools"] == [{"index": 0}, {"index": 1}]


@pytest.mark.parametrize(
    "event",
    [
        ServerEvent("error", b'{"error":{"message":"no","code":"tool_use_failed","status_code":400}}'),
        ServerEvent("", b'{"error":{"message":"no","code":"tool_use_failed","status_code":400}}'),
    ],
)
def test_an_error_inside_the_stream_is_handed_on(event: ServerEvent) -> None:
    with pytest.raises(WireError) as caught:
        gathered(chunk({"content": "x"}), event)
    assert caught.value.reported == {"message": "no", "code": "tool_use_failed", "status_code": 400}


def test_an_error_in_groq_s_part_or_without_json_is_handed_on() -> None:
    with pytest.raises(WireError) as caught:
        gathered(chunk({}, x_groq={"error": "over capacity"}))
    assert caught.value.reported == "over capacity"
    with pytest.raises(WireError) as caught:
        gathered(ServerEvent("error", b"it broke"))
    assert caught.value.reported == "it broke"


def test_a_stream_that_stops_half_way_is_no_answer() -> None:
    with pytest.raises(WireError, match="before the answer was whole"):
        gathered(chunk({"content": "half"}))


def test_a_stream_that_ends_after_its_finish_reason_needs_no_done() -> None:
    _, completion = gathered(chunk({"content": "x"}), chunk({}, "stop"))
    assert (completion.text, completion.finish_reason) == ("x", "stop")


def test_a_done_without_a_finish_reason_is_an_answer_with_an_unknown_one() -> None:
    _, completion = gathered(chunk({"content": "x"}), DONE)
    assert completion.finish_reason == "unknown"


def test_a_chunk_that_is_no_json_breaks_the_reply() -> None:
    with pytest.raises(WireError, match="not a completion"):
        gathered(ServerEvent("", b"{oops"))


def test_the_halves_of_a_surrogate_pair_in_two_chunks_do_not_break_the_reader() -> None:
    half = [b'{"choices":[{"delta":{"content":"\\ud83d"}}]}', b'{"choices":[{"delta":{"content":"\\ude00"}}]}']
    _, completion = gathered(*(ServerEvent("", data) for data in half), DONE)
    assert completion.text == "\ufffd\ufffd"


def test_a_recorded_stream_is_read() -> None:
    text = recorded_data("wire/fantasy_kimi_k2_simple_streaming.yaml").read_text("utf-8")
    lines = re.findall(r"^ +(data: .*)$", text, re.MULTILINE)
    events = EventParser().feed("".join(f"{line}\n\n" for line in lines).encode())
    deltas, completion = gathered(*events)
    assert [delta.text for delta in deltas] == ["Ol", "á", "!"]
    assert (completion.text, completion.usage.completion_tokens, completion.seed) == ("Olá!", 4, 2139001717)


def test_a_recorded_error_inside_a_stream_is_found() -> None:
    text = recorded_data("wire/pydantic_ai_test_tool_use_failed_error_streaming.yaml").read_text("utf-8")
    found = re.search(r"^ +event: error\n\s*data: (\{.*\})$", text, re.MULTILINE)
    assert found is not None
    with pytest.raises(WireError) as caught:
        gathered(ServerEvent("error", found[1].encode()))
    assert isinstance(caught.value.reported, dict)
    assert caught.value.reported["code"] == "tool_use_failed"


def test_groq_s_own_part_tells_which_models_took_the_tokens() -> None:
    models = {"models": [{"model": "x"}]}
    _, completion = gathered(chunk({"content": "x"}, x_groq={"id": "r", "usage_breakdown": models}), chunk({}, "stop"))
    assert completion.extra == {"request_id": "r", "usage_breakdown": models}
