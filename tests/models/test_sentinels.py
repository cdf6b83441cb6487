"""Events that are no chunks: what keeps a connection open, what ends a stream, what is wrapped or lost."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import ChatRequest, Completion, Delta, JsonObject, Message, Timing
from mixtura.models.openai.reply import WireError
from mixtura.models.openai.sentinels import ends, says_nothing, unwrapped
from mixtura.models.openai.sse import ServerEvent
from mixtura.models.openai.stream import StreamedReply

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))


def chunk(text: str = "", finish: str | None = None, **fields: object) -> ServerEvent:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return ServerEvent("", json.dumps({"id": "c", "choices": [choice], **fields}).encode())


def read(*events: ServerEvent) -> tuple[list[Delta], Completion]:
    stream = StreamedReply(REQUEST)
    deltas = [delta for event in events if (delta := stream.take(event)) is not None]
    return deltas, stream.completion(Timing())


@pytest.mark.parametrize(
    "event",
    [
        *(ServerEvent("", data) for data in (b"", b" ", b"{}", b"null", b"true", b"0", b"1732700000.5", b'""', b"...")),
        *(
            ServerEvent("", data)
            for data in (b"ping", b"PING", b"pong", b'"ping"', b": ping", b"heartbeat", b"keep-alive")
        ),
        *(
            ServerEvent("", data)
            for data in (b"[HEARTBEAT]", b"[PING]", b" [keep-alive] ", b"OPENROUTER PROCESSING", b"[]")
        ),
        *(ServerEvent("", data) for data in (b'{"type":"ping"}', b'{"status":"processing"}', b'{"choices":[]}')),
        *(ServerEvent(name, b"2026-11-27 12:00") for name in ("ping", "heartbeat", "keepalive", "keep-alive", "PING")),
        *(ServerEvent(name, b"") for name in ("message", "completion", "chunk", "update")),
        *(ServerEvent(name, b"{}") for name in ("message", "completion", "chunk", "update")),
    ],
)
def test_what_says_nothing_is_passed_over_without_a_warning(event: ServerEvent) -> None:
    deltas, completion = read(event, chunk("Par"), event, chunk("is"), event, chunk(finish="stop"), event)
    assert [delta.text for delta in deltas] == ["Par", "is"]
    assert (completion.text, completion.finish_reason) == ("Paris", "stop")
    assert (completion.warnings, completion.odd_fields) == ((), ())


@pytest.mark.parametrize(
    "event",
    [
        *(
            ServerEvent("", data)
            for data in (b"[DONE]", b"[done]", b" [DONE] ", b'"[DONE]"', b"DONE", b"done", b"'[DONE]'")
        ),
        *(ServerEvent("", data) for data in (b"[Done]", b"[END]", b"[EOF]", b"<EOS>", b'{"done":true}', b'["[DONE]"]')),
        *(ServerEvent(name, b"") for name in ("done", "end", "DONE", "[DONE]", "complete")),
        *(ServerEvent(name, b"{}") for name in ("done", "end", "finished")),
    ],
)
def test_an_end_is_one_however_it_is_written(event: ServerEvent) -> None:
    assert read(chunk("Paris"), event)[1].text == "Paris"


def test_what_an_event_called_done_says_counts() -> None:
    last = chunk(" it is", "length")._replace(event="done")
    _, completion = read(chunk("Paris"), last)
    assert (completion.text, completion.finish_reason) == ("Paris it is", "length")


@pytest.mark.parametrize("behind", [chunk("more"), ServerEvent("error", b'"late"')])
def test_nothing_counts_behind_the_end(behind: ServerEvent) -> None:
    assert read(chunk("Paris"), ServerEvent("", b"[DONE]"), behind)[1].text == "Paris"


@pytest.mark.parametrize(
    "event",
    [
        ServerEvent("", b'{"choices":[{"delta":{"conte'),
        ServerEvent("", b"WARNING: the backend is slow today"),
        ServerEvent("message", b"Paris is nice"),
        ServerEvent("", b"[1, 2, "),
        ServerEvent("", b'"\\u12"'),
        ServerEvent("", b"[" * 5000),
        ServerEvent("error", b'{"code":0,"message":"success"}'),
    ],
)
def test_an_event_that_cannot_be_read_is_left_out_and_said(event: ServerEvent) -> None:
    _, completion = read(chunk("Par"), event, chunk("is"), chunk(finish="stop"))
    assert completion.text == "Paris"
    assert completion.warnings == ("an event of its stream could not be read and was left out: text may be missing",)
    _, completion = read(chunk("Par"), event, event, chunk("is", "stop"), event)
    assert completion.warnings[0].startswith("2 events")


def test_a_stream_that_breaks_off_behind_a_broken_event_is_no_answer() -> None:
    broken = ServerEvent("", b'{"choices":[{"del')
    with pytest.raises(WireError, match="before the answer was whole"):
        read(chunk("Par"), broken)
    with pytest.raises(WireError, match="not a completion: ") as caught:
        read(broken)
    assert not caught.value.alike
    with pytest.raises(WireError, match="a web page") as caught:
        read(ServerEvent("", b"<html>"), ServerEvent("", b"[DONE]"))
    assert caught.value.alike


@pytest.mark.parametrize(
    "error",
    [ServerEvent("error", b'{"message":"no"}'), ServerEvent("Error", b"no"), ServerEvent("", b'{"error":"no"}')],
)
def test_an_error_counts_until_the_answer_has_ended(error: ServerEvent) -> None:
    with pytest.raises(WireError, match="broke off with an error"):
        read(chunk("Paris"), error, chunk(finish="stop"))
    _, completion = read(chunk("Paris", "stop"), error)
    assert completion.warnings == ("an error that its server sent behind the end of the answer was left out",)
    with pytest.raises(WireError, match="broke off with an error"):
        read(chunk("Paris", "error"), error)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: b"data: " + data,
        lambda data: b"data:data:" + data,
        lambda data: json.dumps(data.decode()).encode(),
        lambda data: b"[" + data + b"]",
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b" \t" + data + b" ",
        lambda data: b'["ping", null, ' + data + b"]",
    ],
)
def test_a_chunk_is_found_in_what_is_round_it(wrap: object) -> None:
    assert callable(wrap)
    events = [ServerEvent("", wrap(one.data)) for one in (chunk("Par"), chunk("is"), chunk(finish="stop"))]
    deltas, completion = read(*events)
    assert [delta.text for delta in deltas] == ["Par", "is"]
    assert completion.text == "Paris"


def test_several_chunks_in_one_event_are_one_piece() -> None:
    call: JsonObject = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    calls = json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode()
    deltas, completion = read(ServerEvent("", b"[%b,%b,%b]" % (chunk("a").data, chunk("b", "stop").data, calls)))
    assert [(delta.text, delta.pieces) for delta in deltas] == [("ab", 3)]
    assert deltas[0].tool_calls is not None
    assert completion.tool_calls is not None


@given(st.text(max_size=12), st.binary(max_size=130))
def test_any_event_is_taken_or_refused_in_a_sentence(name: str, data: bytes) -> None:
    ends(name, data)
    says_nothing(name, data)
    assert unwrapped(data)
    event = ServerEvent(name, data)
    if name.lower() == "error" or b"error" in data:
        with contextlib.suppress(WireError):
            read(chunk("Paris"), event)
    else:
        assert read(chunk("Paris"), event, chunk(finish="stop"))[1].text.startswith("Paris")
