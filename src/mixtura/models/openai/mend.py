"""Broken JSON of servers made whole: invalid UTF-8, lone surrogates, and numbers that are none.

Only what the decoder has refused comes here. Everything is done slice by slice or in place, so that a large body takes
no more than one copy of itself.
"""

import codecs
import re

# Broken UTF-8 grows by two bytes a place. More than this is no text of a model.
_GROWTH = 1.25
_LEEWAY = 4096
_SLICE = 64 * 1024
# What stands between is passed over in possessive runs of bounded length: no match takes long or is tried again.
_SURROGATE = re.compile(
    rb"(?:[^\\]++|\\(?!u[dD][89a-fA-F][0-9a-fA-F]{2})[\s\S]){0,4096}+"
    rb"(?:(\\u[dD][89a-fA-F][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2})?)?"
)
_NO_NUMBER = re.compile(
    rb'(?:[^"NI\-]++|"(?:[^"\\]++|\\[\s\S])*+"?|N(?!aN)|I(?!nfinity)|-(?!Infinity)){0,4096}+(NaN|-?Infinity)?'
)
_REPLACEMENT = rb"\ufffd"


def mended(data: bytes | bytearray) -> bytearray:
    """Return `data` with U+FFFD in place of what is no text, and 0 in place of what is no number.

    Raises:
        ValueError: too much of it is no UTF-8.
    """
    found = _valid_utf8(data)
    for match in _SURROGATE.finditer(found):
        first, second = match[1], match[2]
        if first and not (second and first[3:4] in b"89abAB"):
            found[match.start(1) : match.end(1)] = _REPLACEMENT
            if second:
                found[match.start(2) : match.end(2)] = _REPLACEMENT
    for match in _NO_NUMBER.finditer(found):
        begin, end = match.span(1)
        if begin >= 0:
            found[begin:end] = b"0".ljust(end - begin)
    return found


def _valid_utf8(data: bytes | bytearray) -> bytearray:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    most = int(len(data) * _GROWTH) + _LEEWAY
    found = bytearray()
    view = memoryview(data)
    for at in range(0, len(view), _SLICE):
        found += decoder.decode(view[at : at + _SLICE], final=at + _SLICE >= len(view)).encode()
        if len(found) > most:
            raise ValueError("too much of it is no UTF-8")
    return found
