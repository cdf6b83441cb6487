"""Text for a terminal: makes it safe to print, measures its columns, and cuts it to a width."""

import re
import unicodedata
from collections.abc import Iterator

# What a terminal obeys or does not show: C0 and C1 controls but line feed and tab, DEL, marks that change the writing
# direction, invisible characters and tags, lone surrogates. Joiners (U+200C, U+200D) and variation selectors stay:
# Persian, Indic scripts and emoji are written with them.
_UNSAFE_RANGES = (
    *("\x00-\x08", "\x0b-\x1f", "\x7f-\x9f", "\xad", "\u034f", "\u061c", "\u115f\u1160", "\u17b4\u17b5", "\u180e"),
    *("\u200b", "\u200e\u200f", "\u2028-\u202e", "\u2060-\u206f", "\u3164", "\ufeff", "\uffa0", "\ufff0-\ufffb"),
    *("\ud800-\udfff", "\U0001bca0-\U0001bca3", "\U0001d173-\U0001d17a", "\U000e0000-\U000e0fff"),
)
_UNSAFE = re.compile(f"[{''.join(_UNSAFE_RANGES)}]")
_BEGIN = re.compile(" *(?:[-!✓✗◐○+x~] +)?")
_BREAKS = re.compile("[\\s\u2028\u2029]+")
_LINE_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")
_FIRST_PICTURE = 0x2400


def safe(text: str) -> str:
    """Return `text` without characters that control a terminal, or that nobody sees. Line feeds and tabs stay.

    C0 controls and DEL become their pictures (an escape becomes `␛`), C1 controls and lone surrogates U+FFFD, other
    line separators line feeds. Carriage returns, marks that change the writing direction and invisible characters are
    removed.
    """
    return _UNSAFE.sub(_replacement, text)


def _replacement(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code == 0x0D:
        return ""
    if code < 0x20:
        return chr(_FIRST_PICTURE + code)
    if code == 0x7F:
        return "␡"
    if code <= 0x9F or 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    return "\n" if code in (0x2028, 0x2029) else ""


def escape_json(document: str) -> str:
    """Return a JSON document that says the same, everything that `safe` changes written as an escape."""
    return _UNSAFE.sub(_escaped, document)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def one_line(text: str) -> str:
    """Return `text` as one safe line. Each run of white space and line breaks becomes a single space."""
    return safe(_BREAKS.sub(" ", text)).strip()


def cell_text(text: str) -> str:
    """Return `text` as it can stand in a cell of a table: safe, on one line, its blanks kept."""
    return safe(text if text.isprintable() else _LINE_BREAKS.sub(" ", text))


def display_width(text: str) -> int:
    """Return the columns that `text` takes. Where terminals differ, the larger number counts."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    code = ord(character)
    if code < 0x300:
        return 1
    if code == 0xFE0F:  # requests the wide, coloured form of the preceding character
        return 1
    if unicodedata.category(character) in ("Mn", "Me") or 0x1160 <= code <= 0x11FF:
        return 0
    if 0x200B <= code <= 0x200F or 0x2060 <= code <= 0x2064 or code == 0xFEFF:
        return 0
    if 0x1F1E6 <= code <= 0x1F1FF:
        return 2
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return the beginning of `text`, cut to `width` columns, with `…` in place of what was cut."""
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
    """Return the end of `text`, cut to `width` columns, with `…` in place of what was cut."""
    if len(text) * 2 <= width or display_width(text) <= width:
        return text
    room, start = width - 1, len(text)
    while start and (room := room - _columns(text[start - 1])) >= 0:
        start -= 1
    while start < len(text) and _columns(text[start]) == 0:  # a combining mark whose letter was cut off
        start += 1
    return "…" * (width > 0) + text[start:]


def wrap(text: str, width: int) -> str:
    """Return `text` with its lines broken between words, so that none takes more than `width` columns.

    What follows a break is indented as its line is, and below the words of a line that begins with a mark. A word that
    is longer than a line is broken where the line ends.
    """
    return "\n".join(part for line in text.split("\n") for part in _wrapped(line, width))


def _wrapped(line: str, width: int) -> list[str]:
    if display_width(line) <= width:
        return [line]
    begin = _BEGIN.match(line)
    assert begin is not None, "it matches nothing, too"
    head, indent = begin[0], " " * display_width(begin[0])
    if 2 * len(indent) >= width:
        head = indent = ""
    found, current, filled = list[str](), head, False
    for word in line[len(head) :].split():
        if filled and display_width(f"{current} {word}") <= width:
            current = f"{current} {word}"
            continue
        if filled:
            found.append(current)
            current = indent
        pieces = list(_pieces(word, max(1, width - display_width(current))))
        found += [current + pieces[0], *(indent + piece for piece in pieces[1:])]
        current, filled = found.pop(), True
    return [*found, current]


def _pieces(word: str, width: int) -> Iterator[str]:
    """Cut `word` into pieces of at most `width` columns, each of one character at least."""
    start = used = 0
    for place, character in enumerate(word):
        used += _columns(character)
        if used > width and place > start:
            yield word[start:place]
            start, used = place, _columns(character)
    yield word[start:]
