"""Changes of a reply's bytes, drawn by a seed: what is cut, doubled, flipped, put in, moved and nested."""

import json
import random
from collections.abc import Callable
from typing import Any

from bench.dialects.row import Reply, Row
from bench.dialects.table import ROWS

_SIGNS = (
    *(
        b"data: ",
        b"data:",
        b"event: error\n",
        b"event: done\n",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"[DONE]",
        b": c\n",
        b"{",
        b"}",
    ),
    *(b"[", b"]", b'"', b"\\", b",", b"null", b"0", b"1e999", b"\\ud83d", b"\xff", b"\xef\xbb\xbf", b"\x00", b"NaN"),
    *(b'"error":', b'"error":{"message":"x"},', b'"finish_reason":"stop"', b"[" * 70, b'{"a":' * 70, b"9" * 500),
)
_KEYS = ("choices", "message", "delta", "content", "text", "tool_calls", "error", "finish_reason", "reasoning", "usage")
_MOST_BYTES = 64 * 1024


def replies_of(row: Row) -> list[Reply]:
    """Return what a row sends, whole and streamed."""
    found: list[Reply] = []
    for sent in (row.whole, row.stream):
        if sent is None:
            continue
        if callable(sent):
            sent = sent({"model": "m", "messages": []})
        found += sent if isinstance(sent, list) else [sent]
    return found


_REPLIES = [reply for row in ROWS for reply in replies_of(row) if reply.status == 200 and len(reply.body) < _MOST_BYTES]


def mutated(draw: random.Random) -> Reply:
    """Return a reply of the table, changed in a few places."""
    reply = draw.choice(_REPLIES)
    body = reply.body
    for _ in range(draw.choice((0, 1, 1, 2, 3, 5))):
        body = draw.choice(_CHANGES)(body, draw)[:_MOST_BYTES]
    headers = reply.headers if draw.random() < 0.8 else draw.choice(_REPLIES).headers
    return reply._replace(body=body, headers=headers)


def _span(body: bytes, draw: random.Random) -> tuple[int, int]:
    begin = draw.randint(0, len(body))
    return begin, min(len(body), begin + draw.choice((1, 1, 2, 5, 20, 200)))


def _cut(body: bytes, draw: random.Random) -> bytes:
    begin, end = _span(body, draw)
    return body[:begin] if draw.random() < 0.3 else body[:begin] + body[end:]


def _double(body: bytes, draw: random.Random) -> bytes:
    begin, end = _span(body, draw)
    return body[:end] + body[begin:end] * draw.choice((1, 2, 50)) + body[end:]


def _flip(body: bytes, draw: random.Random) -> bytes:
    changed = bytearray(body)
    for _ in range(draw.choice((1, 1, 3)) if changed else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _insert(body: bytes, draw: random.Random) -> bytes:
    at = draw.randint(0, len(body))
    return body[:at] + draw.choice(_SIGNS) + body[at:]


def _events(body: bytes, draw: random.Random) -> bytes:
    """Move, double or drop a whole event."""
    parts = body.split(b"\n\n")
    at = draw.randrange(len(parts))
    match draw.randrange(4):
        case 0:
            draw.shuffle(parts)
        case 1:
            parts.insert(draw.randint(0, len(parts)), parts[at])
        case 2:
            del parts[at]
        case _:
            parts.insert(at, draw.choice(draw.choice(_REPLIES).body.split(b"\n\n")))
    return draw.choice((b"\n\n", b"\n\n", b"\n\n", b"\n", b"\r\n\r\n")).join(parts)


def _values(body: bytes, draw: random.Random) -> bytes:
    """Change one value of the JSON in one line."""
    lines = body.split(b"\n")
    places = [at for at, line in enumerate(lines) if b"{" in line]
    if not places:
        return body
    at = draw.choice(places)
    before, brace, rest = lines[at].partition(b"{")
    try:
        value = json.loads(brace + rest)
    except (ValueError, RecursionError):
        return body
    lines[at] = before + json.dumps(_changed(value, draw)).encode()
    return b"\n".join(lines)


def _changed(value: Any, draw: random.Random) -> Any:
    if isinstance(value, dict) and value and draw.random() < 0.8:
        name = draw.choice(list(value))
        if draw.random() < 0.1:
            return {**value, draw.choice(_KEYS): _odd(value[name], draw)}
        return {**value, name: _changed(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        at = draw.randrange(len(value))
        return [*value[:at], _changed(value[at], draw), *value[at + 1 :]]
    return _odd(value, draw)


def _odd(value: Any, draw: random.Random) -> Any:
    return draw.choice(
        (
            *(None, False, True, 0, -1, 7, 1.5, 10**30, "", "word", "[DONE]", "\ud83d", "\n\ndata: x\n\n", [], {}),
            *([value], [value, value], {"0": value}, {"text": value}, {"type": "text", "text": value}),
            *({draw.choice(_KEYS): value}, json.dumps(value), [[[[value]]]], str(value)),
        )
    )


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_cut, _double, _flip, _insert, _events),
    *(_values, _values, _values),
)
