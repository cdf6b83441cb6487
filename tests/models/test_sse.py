import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.models.openai.sse import (
    EventParser,
    LineTooLongError,
    ServerEvent,
    begins_stream,
    plain_data,
)


def parsed(*chunks: bytes, limit: int = 10_000) -> list[ServerEvent]:
    parser = EventParser(limit)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.finish()


def test_an_event_is_its_name_and_its_data() -> None:
    assert parsed(b"event: error\ndata: {}\n\ndata: [DONE]\n\n") == [("error", b"{}"), ("", b"[DONE]")]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_of_the_standard_is_understood(end: bytes) -> None:
    assert parsed(end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])) == [("", b"a\nb"), ("", b"c")]


def test_an_event_is_delivered_as_soon_as_its_blank_line_is_there_even_with_cr_alone() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\r\r") == [("", b"a")]
    assert parser.feed(b"\ndata: b\r\n\r") == [("", b"b")]


def test_a_cr_and_its_lf_in_two_chunks_are_one_line_end() -> None:
    assert parsed(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [("", b"a\nb")]


def test_comments_unknown_fields_and_empty_events_say_nothing() -> None:
    stream = b": ping\n\nid: 7\nretry: 10\ndata:x\n\nevent: lost\n\n\n\ndata: y\n\n"
    assert parsed(stream) == [("", b"x"), ("", b"y")]


def test_only_one_space_after_the_colon_is_no_part_of_the_data() -> None:
    assert parsed(b"data:  a\n\ndata\n\ndata:\n\n") == [("", b" a"), ("", b""), ("", b"")]


def test_a_stream_that_stops_without_its_last_blank_line_still_gives_its_last_event() -> None:
    assert parsed(b"data: a\n\ndata: b") == [("", b"a"), ("", b"b")]
    assert parsed(b"data: a\n") == [("", b"a")]


@pytest.mark.parametrize(
    ("stream", "datas"),
    [
        pytest.param(b'data: {"a":1}\ndata: {"b":2}\ndata: [DONE]\n', ['{"a":1}', '{"b":2}', "[DONE]"], id="no blank"),
        pytest.param(b'{"a":1}\n{"b":2}\n', ['{"a":1}', '{"b":2}'], id="JSON lines"),
        pytest.param(b'data: {"a":1}\n{"error":2}\n\n', ['{"a":1}', '{"error":2}'], id="a bare line among them"),
        pytest.param(b'data: {\n  "a": 1\n}\n\n', ['{\n  "a": 1\n}'], id="one field over many lines"),
        pytest.param(
            b'data: {"a":\ndata: {"b":1}}\n\n', ['{"a":\n{"b":1}}'], id="data in lines, as the standard has it"
        ),
        pytest.param(b'  data: {"a":1}\n\n\tDATA :{"b":2}\n\n', ['{"a":1}', '{"b":2}'], id="blanks and capitals"),
        pytest.param(
            b'event: a\ndata: {"a":1}\nevent: b\ndata: {"b":2}\n', ['{"a":1}', '{"b":2}'], id="names, no blank"
        ),
    ],
)
def test_json_is_found_where_a_server_breaks_the_standard(stream: bytes, datas: list[str]) -> None:
    assert [event.data.decode() for event in parsed(stream)] == datas
    assert [event.data.decode() for event in parsed(*(stream[at : at + 1] for at in range(len(stream))))] == datas


@pytest.mark.parametrize(
    ("begin", "said", "found"),
    [
        (b"data: {}", False, True),
        (b"\xef\xbb\xbf\r\n data:{", False, True),
        (b"id: 1", False, True),
        (b"data : {", False, True),
        (b"retry: 3", False, True),
        (b": hi", False, True),
        (b"Event: x", False, True),
        (b'{"choices":[{"delta":{}}]}\n', False, True),
        (b'{"choices":[{"delta":{}}]}\n', True, True),
        (b'{"choices":[{"message":{}}]}\n', True, False),
        (b'{\n  "choices": []', True, False),
        (b"[", True, False),
        (b"<html>", True, False),
        (b"whatever", True, True),
        (b"whatever", False, False),
        (b"database down", False, False),
        (b"da", False, None),
        (b" \n", True, None),
        (b"", False, None),
    ],
)
def test_a_stream_is_known_by_its_first_bytes(begin: bytes, *, said: bool, found: bool | None) -> None:
    assert begins_stream(begin, said=said) is found


def test_a_byte_order_mark_at_the_start_is_skipped() -> None:
    assert parsed(b"\xef\xbb", b"\xbfdata: a\n\n") == [("", b"a")]
    assert parsed(b"\xef\xbb\xbfdata: a") == [("", b"a")]
    assert parsed(b"data: a\n\n", b"\xef\xbb\xbfdata: b\n\n") == [("", b"a")]


def test_a_line_without_end_is_given_up_at_the_limit() -> None:
    with pytest.raises(LineTooLongError, match="1000 bytes"):
        parsed(*[b"data: xxx"] * 200, limit=1000)


def test_an_event_of_endless_lines_is_given_up_at_the_limit() -> None:
    with pytest.raises(LineTooLongError, match="event"):
        parsed(*[b"data: x\n"] * 1000, limit=1000)


PIECES = st.sampled_from(
    [b"data: ", b"data:", b"event: e", b"\n", b"\r", b"\r\n", b"\n\n", b": c", b"x", b" ", b"\xc3", b"\xa9", b""]
)


@given(st.lists(PIECES).map(b"".join), st.lists(st.integers(0, 60)))
def test_any_chunking_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[start:end] for start, end in itertools.pairwise(bounds)]
    assert parsed(*chunks) == parsed(stream)


@given(st.binary(max_size=80), st.sampled_from([b"", b"error", b"message"]), st.sampled_from([b"\n", b"\r", b"\r\n"]))
def test_what_a_server_writes_is_parsed_back(data: bytes, name: bytes, end: bytes) -> None:
    plain = data.replace(b"\r", b"\n")
    lines = [
        b": hello there",
        *([b"event: " + name] if name else []),
        *(b"data: " + line for line in plain.split(b"\n")),
    ]
    stream = end.join([*lines, b"", b""])
    assert parsed(*(stream[at : at + 1] for at in range(len(stream)))) == [(name.decode(), plain)]


def test_events_before_a_line_that_is_too_long_are_not_lost() -> None:
    parser = EventParser(limit=20)
    assert [event.data for event in parser.feed(b"data: one\n\ndata: two\n\ndata: " + b"x" * 30)] == [b"one", b"two"]
    with pytest.raises(LineTooLongError):
        parser.feed(b"x")
    with pytest.raises(LineTooLongError):
        parser.finish()


@given(
    st.lists(st.binary(max_size=12), max_size=6),
    st.sampled_from([b"", b": hi\n\n", b"event: a\ndata: b\n\n", b"data: c"]),
)
def test_what_is_split_as_plain_events_is_what_the_parser_reads(datas: list[bytes], after: bytes) -> None:
    body = b"".join(b"data: " + data.replace(b"\n", b"").replace(b"\r", b"") + b"\n\n" for data in datas) + after
    read = EventParser().feed(body)
    if found := plain_data(body):
        assert [ServerEvent("", data) for data in found] == read
