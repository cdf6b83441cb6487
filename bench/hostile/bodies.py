"""Hostile replies as raw bytes: head and body in pieces, whole or streamed, some without an end."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

Pieces = Iterator[bytes]

_PIECE = 64 * 1024
_WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
# What stands round a body that is the text of a message.
_OPEN, _CLOSE = b'{"choices":[{"message":{"content":"', b'"},"finish_reason":"stop"}]}'
_USUAL = b'{"choices":[{"message":{"content":"ok"%b},"finish_reason":"stop"}]%b}'


class HostileReply(NamedTuple):
    """One kind of hostile reply.

    Attributes:
        streamed: whether it answers a call that asked for a stream.
        make: takes the bytes that the body is to have, and returns the whole reply in pieces.
        endless: whether the server goes on until its client leaves.
    """

    streamed: bool
    make: Callable[[int], Pieces]
    endless: bool = False


def _filled(before: bytes, unit: bytes, after: bytes, size: int) -> bytes:
    return before + unit * max(1, (size - len(before) - len(after)) // len(unit)) + after


def _cut(body: bytes) -> Pieces:
    for at in range(0, len(body), _PIECE):
        yield body[at : at + _PIECE]


def _whole(before: bytes, unit: bytes, after: bytes) -> HostileReply:
    def make(size: int) -> Pieces:
        body = _filled(before, unit, after, size)
        yield _WHOLE + b"Content-Length: %d\r\n\r\n" % len(body)
        yield from _cut(body)

    return HostileReply(streamed=False, make=make)


def _field(name: bytes, unit: bytes, last: bytes, *, outside: bytes = b"") -> HostileReply:
    """A message that holds a list of many tiny values, or a reply that does (`outside`)."""
    before, after = _USUAL.split(b"%b", 1)
    inner = b',"%b":[' % (name or outside)
    if outside:
        before, after = (before + after).split(b"%b", 1)
    return _whole(before + inner, unit + b",", last + b"]" + after.replace(b"%b", b""))


def _packed(encoding: str, pack: Callable[[bytes], bytes]) -> HostileReply:
    def make(size: int) -> Pieces:
        body = pack(_filled(_OPEN, b"a", _CLOSE, size))
        yield _WHOLE + f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        yield from _cut(body)

    return HostileReply(streamed=False, make=make)


def _endless(head: bytes, piece: bytes, *, streamed: bool = False) -> HostileReply:
    def make(size: int) -> Pieces:
        yield head
        many = piece * max(1, _PIECE // len(piece))
        while True:
            yield many

    return HostileReply(streamed=streamed, make=make, endless=True)


def _events(make_event: Callable[[int], bytes], *, per_piece: int = 64) -> HostileReply:
    """A stream of many events of one kind, that ends as it should."""

    def make(size: int) -> Pieces:
        yield _STREAM + b"\r\n"
        number = sent = 0
        while sent < size:
            piece = b"".join(make_event(number + place) for place in range(per_piece))
            number, sent = number + per_piece, sent + len(piece)
            yield piece
        yield b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    return HostileReply(streamed=True, make=make)


def _delta(text: str) -> Callable[[int], bytes]:
    event = f'data: {{"choices":[{{"delta":{{{text}}}}}]}}\n\n'
    return lambda number: event.replace("NUMBER", str(number)).encode()


def _one_event(before: bytes, unit: bytes, after: bytes) -> HostileReply:
    def make(size: int) -> Pieces:
        yield _STREAM + b"\r\n"
        yield from _cut(_filled(before, unit, after, size))

    return HostileReply(streamed=True, make=make)


_DELTA = b'data: {"choices":[{"delta":{"content":"ok"%b}}]}\n\n'.split(b"%b")
_LAST = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

REPLIES: dict[str, HostileReply] = {
    # Whole: values that are small in JSON and large in Python.
    "unknown field": _whole(b'{"choices":5,"x":[', b"[],", b"1]}"),
    "choices": _whole(b'{"choices":[', b"{},", b"{}]}"),
    "content parts": _whole(b'{"choices":[{"message":{"content":[', b'"",', b'""]}}]}'),
    "tool calls": _field(b"tool_calls", b"{}", b"{}"),
    "executed tools": _field(b"executed_tools", b"[]", b"[]"),
    "annotations": _field(b"annotations", b'{"":0}', b"{}"),
    "usage breakdown": _field(b"", b"[]", b"[]", outside=b"usage_breakdown"),
    "error": _whole(b'{"error":[', b"[],", b"1]}"),
    "many names": _whole(b'{"choices":null', b',"a":1', b"}"),
    # Whole: what is hard to read.
    "deep": _whole(b'{"x":', b"[", b""),
    "long integer": _whole(b'{"choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":', b"9", b"}}"),
    "integers": _field(b"tool_calls", b"9" * 4000, b"9"),
    "text": _whole(_OPEN, b"a", _CLOSE),
    "wide text": _whole(_OPEN + "😀".encode(), b"a", _CLOSE),
    "surrogates": _whole(_OPEN, rb"\ud800", _CLOSE),
    "not UTF-8": _whole(_OPEN, b"\xff", _CLOSE),
    "not a number": _field(b"", b"NaN", b"NaN", outside=b"x"),
    "not JSON": _whole(b"", b"x", b""),
    "blank": _endless(_WHOLE + b"\r\n", b" "),
    # Compressed.
    "gzip": _packed("gzip", gzip.compress),
    "deflate": _packed("deflate", zlib.compress),
    # Heads and errors.
    "endless head": _endless(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 100 + b"\r\n"),
    "endless announcements": _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "endless error": _endless(b"HTTP/1.1 500 X\r\n\r\n", b'{"error":['),
    # Streams.
    "endless line": _endless(_STREAM + b"\r\n", b"x", streamed=True),
    "endless comments": _endless(_STREAM + b"\r\n", b": hold the line\n\n", streamed=True),
    "endless text": _endless(_STREAM + b"\r\n", b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', streamed=True),
    "data lines": _endless(_STREAM + b"\r\n", b"data:ab\n", streamed=True),
    "event of lists": _one_event(b'data: {"x":[', b"[],", b"1]}\n\n" + _LAST),
    "event of calls": _one_event(_DELTA[0] + b',"tool_calls":[', b"{},", b"{}]" + _DELTA[1] + _LAST),
    "text events": _events(_delta('"content":"a"')),
    "reasoning events": _events(_delta('"reasoning":"a"')),
    "refusal events": _events(_delta('"refusal":"a"')),
    "annotation events": _events(_delta('"annotations":[{"a":1}]')),
    "tool events": _events(_delta('"executed_tools":[[],[],[]]')),
    "argument events": _events(_delta('"tool_calls":[{"index":0,"function":{"arguments":"a"}}]')),
    "call events": _events(_delta('"tool_calls":[{"index":NUMBER,"id":"NUMBER"}]')),
    "tiny pieces": _events(_delta('"content":"a"'), per_piece=1),
}


def usual(streamed: bool) -> Pieces:
    """Return a reply of the kind that real servers send."""
    if streamed:
        yield _STREAM + b"\r\n" + _delta('"content":"blue, by scattering"')(0) + _LAST
        return
    message = {"role": "assistant", "content": "blue, by scattering"}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    yield _WHOLE + b"Content-Length: %d\r\n\r\n" % len(body) + body
