"""Parts of a reply that are kept as Python objects, weighed before they are made.

`[],` is three bytes of JSON and 64 bytes of Python: a reply of 60 MB would become 4.5 GB. What the objects of a value
would take is therefore estimated from its brackets and separators.
"""

import re
from collections.abc import Iterator

import msgspec

from mixtura.models.openai.bounds import DEPTH
from mixtura.models.openai.mend import mended

Json = bytes | bytearray | memoryview | msgspec.Raw

# Bytes of Python for what a sign of JSON stands for: a dictionary, a list, and the value or the key beside a separator.
_DICT, _LIST, _VALUE = 192, 64, 60
_SLICE = 64 * 1024
_ESCAPE = re.compile(rb"\\[\s\S]")
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_LIGHT = 4096
_EMPTY = (b"null", b"[]", b"{}", b'""', b"false", b"0")
# Reading an integer takes time by the square of its digits; no float has more than this.
_LONG_NUMBER = re.compile(rb"\d{400}")


class TooMuchError(ValueError):
    """A value of a reply that would take too much memory as Python objects, or that is nested too deeply."""


def given(raw: msgspec.Raw) -> bool:
    """Say whether a field is there and holds something, without decoding it."""
    return bool(raw) and bytes(memoryview(raw)[:5]) not in _EMPTY


def kept(raw: Json, room: int) -> object:
    """Return a JSON value as Python objects.

    Raises:
        TooMuchError: they would take more than `room` bytes, or than the JSON itself where that is more; or they are
            nested more than `DEPTH` deep.
        ValueError: it is no JSON, or holds a number that no float holds.
    """
    data = memoryview(raw)
    if len(data) > _LIGHT:
        _check_weight(data, max(room, len(data)))
    _check_depth(data)
    try:
        return msgspec.json.decode(data)
    except (msgspec.ValidationError, RecursionError):
        raise
    except ValueError:
        return msgspec.json.decode(mended(bytes(data)))


def _check_weight(data: memoryview, allowed: int) -> None:
    """Check about how many bytes of Python the values take, their texts left out."""
    weight = 0
    for outside in _outside_strings(data):
        if _LONG_NUMBER.search(outside):
            raise TooMuchError("a number of more digits than any has")
        weight += _DICT * outside.count(b"{") + _LIST * outside.count(b"[")
        weight += _VALUE * (outside.count(b",") + outside.count(b":"))
        if weight > allowed:
            raise TooMuchError(f"values that would take more than {allowed >> 20} MB of memory")


def _check_depth(data: memoryview) -> None:
    depth = opened = 0
    light = len(data) <= _LIGHT
    if light and bytes(data).count(b"[") + bytes(data).count(b"{") <= DEPTH:
        return
    for outside in _outside_strings(data):
        for bracket in outside.translate(None, _NOT_BRACKETS):
            if bracket in b"[{":
                depth += 1
                opened = max(opened, depth)
            else:
                depth -= 1
        if opened > DEPTH:
            raise TooMuchError(f"values nested more than {DEPTH} deep")


def _outside_strings(data: memoryview) -> Iterator[bytes]:
    """Yield what stands outside of strings, slice by slice, so that no list of all strings is ever made."""
    inside = False
    at = 0
    while at < len(data):
        end = min(at + _SLICE, len(data))
        piece = bytes(data[at:end])
        # An escape must not be cut in two.
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 and end < len(data):
            end += 1
            piece = bytes(data[at:end])
        at = end
        if b"\\" in piece:
            piece = _ESCAPE.sub(b"", piece)
        if b'"' not in piece:
            if not inside:
                yield piece
            continue
        parts = piece.split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
