"""A stream read late gives the same reply as one read piece by piece, however it is cut and whoever asks meanwhile."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import ChatRequest, Completion, Timing
from mixtura.models.openai.late import LateReader
from mixtura.models.openai.reply import WireError
from mixtura.models.openai.sse import LINE_LIMIT, EventParser, LineTooLongError
from mixtura.models.openai.stream import StreamedReply

REQUEST = ChatRequest(model="m", messages=())


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "model": "m", "choices": [choice], **more}


texts = st.text('ab\n"\\ é日', max_size=8)
deltas = st.one_of(
    st.builds(lambda text: chunk({"content": text}), texts),
    st.builds(lambda text: chunk({"content": text}), texts),
    st.builds(lambda text: chunk({"reasoning": text}), texts),
    st.builds(lambda one, two: chunk({"content": one, "reasoning_content": two}), texts, texts),
    st.sampled_from(
        [
            chunk({"content": None}),
            chunk({}),
            {"choices": []},
            {"choices": [{"delta": {"content": "P"}}, {"delta": {"content": "Q"}}]},
            {"choices": [{"delta": {"content": [{"type": "text", "text": "parts"}]}}]},
            chunk({"content": 'he said "error" and "usage":{'}),
            chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": "{}"}}]}),
            chunk({}, x_groq={"id": "r"}),
            chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": 4}),
            *("", " ", "null", "{}", "ping", "[HEARTBEAT]", "some words of a log", '{"choices":[{"del', '["a", 1]'),
            [chunk({"content": "two"}), chunk({"content": " of them"})],
            json.dumps(json.dumps(chunk({"content": "quoted"}))),
            {"choices": {"index": 0, "delta": {"content": "no list"}}},
            {"choices": [{"delta": {"content": 42}}], "error": {"code": 0, "message": ""}},
            {"choices": [{"delta": None, "message": {"content": "by message"}}]},
            {"choices": [{"text": "by text"}], "id": 7},
            {"message": {"content": "of Ollama"}, "done": False},
        ]
    ),
)
endings = st.sampled_from(
    [
        [chunk({}, "stop", x_groq={"usage": {"prompt_tokens": 5, "completion_tokens": 6}}), "[DONE]"],
        [chunk({}, "length"), {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}}, "[DONE]"],
        [chunk({"content": "end"}, "stop")],
        [{"error": {"message": "it broke"}}],
        [chunk({}, "stop"), {"error": {"message": "it broke"}}],
        ["[done]"],
        [' "[DONE]" ', chunk({"content": "behind the end"})],
        [{"message": {"content": ""}, "done": True}],
        [],
    ]
)


def body_of(events: list[Any], separator: str) -> bytes:
    return "".join(
        f"data:{separator}{event if isinstance(event, str) else json.dumps(event, separators=(',', ':'))}\n\n"
        for event in events
    ).encode()


def outcome(make: Any) -> Completion | str:
    try:
        found: Completion = make()
    except WireError as problem:
        return str(problem)
    return found


def plainly(body: bytes) -> tuple[Completion | str, int]:
    gathered = StreamedReply(REQUEST)

    def read() -> Completion:
        parser = EventParser()
        for event in (*parser.feed(body), *parser.finish()):
            gathered.take(event)
        return gathered.completion(Timing())

    return outcome(read), gathered.pieces


@given(st.lists(deltas, max_size=25), endings, st.sampled_from([" ", ""]), st.data())
def test_a_stream_read_late_is_the_same_reply(
    middle: list[Any], ending: list[Any], separator: str, data: st.DataObject
) -> None:
    body = body_of([chunk({"role": "assistant"}, x_groq={"id": "req"}), *middle, *ending], separator)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    asks = data.draw(st.sets(st.integers(0, len(cuts))))
    gathered, seen = StreamedReply(REQUEST), 0
    late = LateReader(gathered)

    def read() -> Completion:
        nonlocal seen
        for place, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(body)], strict=True)):
            if end > begin and late.feed(body[begin:end], float(place)):
                break
            if place in asks:
                seen += sum(delta.pieces for _, delta in late.read())
                assert seen == gathered.pieces
        late.finish()
        return gathered.completion(Timing())

    assert (outcome(read), gathered.pieces) == plainly(body)


def test_a_line_without_an_end_is_given_up_and_what_came_before_is_counted() -> None:
    gathered = StreamedReply(REQUEST)
    late = LateReader(gathered)
    late.feed(body_of([chunk({"role": "assistant"}), chunk({"content": "one"}), chunk({"content": "two"})], " "), 1.0)
    for _ in range(LINE_LIMIT // 100_000):
        assert not late.feed(b"x" * 100_000, 2.0)
    with pytest.raises(LineTooLongError):
        late.feed(b"x" * 100_000, 2.0)
    assert gathered.pieces == 2


@given(
    st.lists(deltas, max_size=12),
    st.sampled_from(
        [
            b'event: error\ndata: {"message":"it broke"}\n\n',
            b'event:error\r\ndata: "it broke"\r\n\r\n',
            b'data: {"error":{"message":"it broke","code":"busy"}}\n\n',
        ]
    ),
    st.data(),
)
def test_an_error_is_raised_as_soon_as_its_event_has_come_however_it_is_cut(
    middle: list[Any], error: bytes, data: st.DataObject
) -> None:
    body = body_of(middle, " ") + error
    # A CR alone may end a line, so that an event can have ended before its last bytes.
    end_at = len(body) - len(b"\r\n\r\n")
    last = data.draw(st.lists(st.integers(len(body) - len(error), end_at), max_size=3))
    cuts = sorted({*data.draw(st.lists(st.integers(0, end_at), max_size=3)), *last} - {0})
    late = LateReader(StreamedReply(REQUEST))
    *pieces, end = [body[begin:stop] for begin, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    for piece in pieces:
        assert not late.feed(piece, 0.0)
    # The server may keep the connection open: nothing comes behind the error, and the end of the stream never does.
    with pytest.raises(WireError, match="error"):
        late.feed(end, 1.0)
