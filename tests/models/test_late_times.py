"""When what arrived of a stream that is read late: its first text, each piece, and many pieces that nobody read."""

import json
from typing import Any

import pytest

from mixtura.chat import ChatRequest, Delta
from mixtura.models.openai.late import LateReader
from mixtura.models.openai.reply import WireError
from mixtura.models.openai.stream import StreamedReply, joined

REQUEST = ChatRequest(model="m", messages=(), max_tokens=100_000)


def event(text: str = "", finish: str | None = None, **delta: Any) -> bytes:
    said = {"content": text, **delta} if text else delta
    choice = {"index": 0, "delta": said, "finish_reason": finish}
    return f"data: {json.dumps({'id': 'c', 'choices': [choice]}, separators=(',', ':'))}\n\n".encode()


NAMES = event(role="assistant")
END = event(finish="stop") + b"data: [DONE]\n\n"


def fed(*pieces: bytes) -> LateReader:
    """A reader that got the first piece at 1.0, the next at 2.0 and so on."""
    late = LateReader(StreamedReply(REQUEST))
    for place, piece in enumerate(pieces, start=1):
        late.feed(piece, float(place))
    return late


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize(
    ("pieces", "first"),
    [
        ((NAMES, event("a"), event("b"), event("c"), END), 2.0),
        ((NAMES + event("a"), event("b"), event("c"), END), 1.0),
        ((NAMES, event("a") * 12 + END), 2.0),
        ((NAMES + event("a") + event("b") + event("c") + END,), 1.0),
    ],
)
def test_the_first_text_came_when_its_bytes_did(pieces: tuple[bytes, ...], first: float, asked: bool) -> None:
    late = LateReader(StreamedReply(REQUEST))
    for place, piece in enumerate(pieces, start=1):
        over = late.feed(piece, float(place))
        assert over == (place == len(pieces))
        if asked:
            late.read()
    assert late.first == first


def test_each_piece_has_the_time_at_which_it_came_and_is_told_once() -> None:
    late = fed(NAMES, event("a"), event("b")[:20])
    assert late.read() == [(2.0, Delta("a"))]
    assert late.read() == []
    late.feed(event("b")[20:] + event("c"), 4.0)
    assert late.read() == [(4.0, Delta("b")), (4.0, Delta("c"))]
    assert late.first == 2.0


def test_parsing_without_reading_keeps_what_came_for_whoever_reads() -> None:
    late = fed(NAMES, event("a"))
    late.parse()
    late.feed(event("b"), 3.0)
    late.parse()
    assert late.read() == [(2.0, Delta("a")), (3.0, Delta("b"))]


def test_pieces_that_nobody_reads_are_joined_when_there_are_many() -> None:
    late = fed(NAMES)
    for place in range(1024):
        late.feed(event("a"), float(place))
    late.parse()
    assert len(late._unread) == 1024
    late.feed(event("b"), 2000.0)
    late.parse()
    ((at, whole),) = late._unread
    assert (at, whole.text, whole.pieces) == (2000.0, "a" * 1024 + "b", 1025)
    # What was joined is left as it is; the next thousand become one of their own.
    for place in range(1025):
        late.feed(event("c"), 3000.0 + place)
    late.parse()
    assert [(at, delta.text[:2], delta.pieces) for at, delta in late.read()] == [
        (2000.0, "aa", 1025),
        (4024.0, "cc", 1025),
    ]
    for place in range(5):
        late.feed(event("d"), 5000.0 + place)
    assert [at for at, _ in late.read()] == [5000.0, 5001.0, 5002.0, 5003.0, 5004.0]


def test_a_long_stream_is_taken_in_parts_and_its_memory_is_that_of_what_waits() -> None:
    late = LateReader(StreamedReply(REQUEST))
    late.feed(NAMES, 0.0)
    text = "p" * 1000
    most = 0
    for place in range(1, 1000):
        late.feed(event(text), float(place))
        most = max(most, late._size)
        assert late._size == sum(len(piece) for _, piece in late._waiting)
    assert 250_000 < most < 270_000
    found = late.read()
    assert sum(delta.pieces for _, delta in found) == 999
    assert "".join(delta.text for _, delta in found) == text * 999
    assert [at for at, _ in found] == sorted(at for at, _ in found)
    assert late.first == 1.0


def test_a_stream_of_many_tiny_pieces_is_taken_in_parts_too() -> None:
    late = LateReader(StreamedReply(REQUEST))
    body = NAMES + b"".join(event("a") for _ in range(200))
    for place, byte in enumerate(body):
        late.feed(bytes([byte]), float(place))
        assert len(late._waiting) <= 4097
    assert sum(delta.pieces for _, delta in late.read()) == 200


@pytest.mark.parametrize(
    "mark", ['data: {"error":{"message":"it broke"}}\n\n', 'event: error\ndata: {"message":"it broke"}\n\n']
)
@pytest.mark.parametrize("cut", [0, 3, 9, 12, 20])
def test_a_stream_that_breaks_off_raises_at_once_and_keeps_what_came(mark: str, cut: int) -> None:
    late = fed(NAMES, event("a"))
    error = mark.encode()
    if cut:
        late.feed(error[:cut], 3.0)
    with pytest.raises(WireError, match="error"):
        late.feed(error[cut:], 4.0)
    assert late.read() == [(2.0, Delta("a"))]
    with pytest.raises(WireError):
        late.finish()


def test_the_word_error_in_a_text_breaks_nothing_off() -> None:
    late = fed(NAMES, event('an "error" in a text'), event("b"))
    assert "".join(delta.text for _, delta in late.read()) == 'an "error" in a textb'


def test_a_last_event_without_its_end_is_taken_when_the_stream_is_over() -> None:
    late = fed(NAMES, event("a"), event("b").rstrip())
    assert late.read() == [(2.0, Delta("a"))]
    late.finish()
    assert [delta.text for _, delta in late.read()] == ["b"]


CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f"}}


def test_pieces_in_a_row_become_one_and_calls_of_tools_stay_in_their_place() -> None:
    one, two = {"index": 0, "function": {"arguments": '{"a"'}}, {"index": 0, "function": {"arguments": ":1}"}}
    found = joined(
        [
            Delta("a", "x"),
            Delta("b", "y", pieces=3),
            Delta(tool_calls=[CALL]),
            Delta(tool_calls=[one]),
            Delta(tool_calls=[two, {"index": 1, "function": {"name": "g"}}]),
            Delta("c"),
        ]
    )
    assert found == [
        Delta("ab", "xy", None, 4),
        Delta(
            "",
            "",
            [
                {**CALL, "function": {"name": "f", "arguments": '{"a":1}'}},
                {"index": 1, "function": {"name": "g"}},
            ],
            3,
        ),
        Delta("c", "", None, 1),
    ]
    mixed = [Delta("a", tool_calls=[CALL]), Delta("", "b", tool_calls=[one])]
    assert joined(mixed) == mixed, "text beside a call keeps its place"
    assert joined([]) == []
