"""Text for a terminal: what is safe to write there, how many columns it takes, what fits a line."""

import re
import unicodedata

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS = re.compile("[\\s\u2028\u2029]+")


def safe(text: str) -> str:
    """Return `text` with nothing in it that a terminal obeys: line feeds and tabs stay, the rest is shown.

    Control characters become their pictures (an escape is `␛`), carriage returns and marks that turn the
    writing direction are left out, lone surrogates become U+FFFD.
    """
    return _UNSAFE.sub(_replacement, text)


def _replacement(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0x0D or 0x202A <= code <= 0x2069:
        return ""
    if code == 0x7F:
        return "␡"
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


def one_line(text: str) -> str:
    """Return `text` as one safe line: every run of white space and line breaks is a single space."""
    return safe(_BREAKS.sub(" ", text)).strip()


def display_width(text: str) -> int:
    """Return how many columns `text` takes at most; where terminals differ the larger figure counts."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    code = ord(character)
    if code < 0x300:
        return 1
    if code == 0xFE0F:  # asks for the wide, coloured form of the character before it
        return 1
    if unicodedata.category(character) in ("Mn", "Me") or 0x1160 <= code <= 0x11FF:
        return 0
    if 0x200B <= code <= 0x200F or 0x2060 <= code <= 0x2064 or code == 0xFEFF:
        return 0
    if 0x1F1E6 <= code <= 0x1F1FF:
        return 2
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return as much of the beginning of `text` as fits `width` columns, with `…` where something is missing."""
    if len(text) * 2 <= width or display_width(text) <= width:
        return text
    room, kept = width - 1, 0
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += 1
    return text[:kept] + "…" * (width > 0)


def cut_front(text: str, width: int) -> str:
    """Return as much of the end of `text` as fits `width` columns, with `…` where something is missing."""
    if len(text) * 2 <= width or display_width(text) <= width:
        return text
    room, start = width - 1, len(text)
    while start and (room := room - _columns(text[start - 1])) >= 0:
        start -= 1
    while start < len(text) and _columns(text[start]) == 0:  # a mark without the letter it belongs to
        start += 1
    return "…" * (width > 0) + text[start:]
