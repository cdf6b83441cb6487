"""Literals of JSON and Python, read and never executed: one spelling for all ways of writing the same value."""

import json
import re
from collections.abc import Iterator
from fractions import Fraction

from mixtura.engine.answers.values import Literal, decimal

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>(?P<prefix>[rRbBuU]{0,2})(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))"""
    r"""|(?P<number>-?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?(?![\w.]))|(?P<name>[A-Za-z_][\w.]*)|(?P<sign>[\[\]{}(),:]))\s*""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(\n)|(.))", re.DOTALL)
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0", "/": "/"}
_NAMES = {"true": "true", "false": "false", "none": "null", "null": "null"}
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_MOST = 10_000
_DEEPEST = 30


def read(text: str) -> Literal | None:
    """Return the string, list, tuple, set or mapping that `text` is; None for what is none, or is too long."""
    text = text.strip()
    if len(text) > _MOST or text[:1] not in "[{('\"rRbBuU" or not text:
        return None
    if text[0] in "rRbBuU" and not re.match(r"[rRbBuU]{1,2}['\"]", text):
        return None
    tokens = list(_tokens(text))
    if not tokens or tokens[-1][0] == "end":
        return None
    try:
        spelled, end = _value(tokens, 0, 0)
    except (IndexError, ValueError):
        return None
    if end != len(tokens):
        return None
    kind, said = tokens[0]
    return Literal(text=spelled, content=said if kind == "string" and end == 1 else None)


def string(content: str) -> Literal:
    """Return the literal of a string."""
    return Literal(text=_quoted(content), content=content)


def _quoted(content: str) -> str:
    return json.dumps(content, ensure_ascii=False)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            yield "end", ""
            return
        at = found.end()
        if found["string"] is not None:
            yield _string(found["string"], found["prefix"].lower())
        elif found["number"] is not None:
            yield "number", found["number"]
        elif found["name"] is not None:
            yield "name", found["name"]
        else:
            yield "sign", found["sign"]


def _string(written: str, prefix: str) -> tuple[str, str]:
    content = written[len(prefix) + 1 : -1]
    content = content if "r" in prefix or "\\" not in content else _ESCAPE.sub(_unescaped, content)
    return ("bytes" if "b" in prefix else "string"), content


def _unescaped(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if code:
        number = int(code, 16)
        return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else found[0]
    if found[4]:
        return chr(int(found[4], 8))
    if found[5]:
        return ""
    return _SIMPLE.get(found[6], found[6] if found[6] in "\\'\"" else found[0])


def _value(tokens: list[tuple[str, str]], at: int, depth: int) -> tuple[str, int]:
    """Return the spelling of the value that begins at a token, and the place behind it.

    Raises:
        ValueError: there is no value.
        IndexError: the text ends before the value does.
    """
    kind, said = tokens[at]
    if kind == "string":
        return _quoted(said), at + 1
    if kind == "bytes":
        return "b" + _quoted(said), at + 1
    if kind == "number":
        return _number(said), at + 1
    if kind == "name":
        return _name(tokens, at, depth)
    if said not in _CLOSING or depth >= _DEEPEST:
        raise ValueError(said)
    items, pairs, end, trailing = _items(tokens, at + 1, _CLOSING[said], depth)
    if said == "(":
        # Brackets around one value are brackets; a comma makes them a tuple.
        return (items[0] if len(items) == 1 and not trailing else f"({','.join(items)}{',' * (len(items) == 1)})"), end
    if said == "{":
        # The order of a set or mapping says nothing.
        distinct = items if pairs else list(dict.fromkeys(items))
        return "{" + ",".join(sorted(distinct)) + "}", end
    return f"[{','.join(items)}]", end


def _items(tokens: list[tuple[str, str]], at: int, closing: str, depth: int) -> tuple[list[str], bool, int, bool]:
    """Return the items of a bracket, whether they are pairs, the place behind it, and whether a comma ends them."""
    items: list[str] = []
    pairs = trailing = False
    while tokens[at] != ("sign", closing):
        item, at = _value(tokens, at, depth + 1)
        if closing == "}" and tokens[at] == ("sign", ":"):
            value, at = _value(tokens, at + 1, depth + 1)
            item, pairs = f"{item}:{value}", True
        items.append(item)
        trailing = tokens[at] == ("sign", ",")
        if trailing:
            at += 1
        elif tokens[at] != ("sign", closing):
            raise ValueError(tokens[at][1])
    return items, pairs, at + 1, trailing


def _number(written: str) -> str:
    bare = written.replace("_", "")
    if len(bare.lstrip("-")) > 1 and bare.lstrip("-").startswith("0") and bare.isdecimal():
        return bare
    exponent = re.search(r"[eE]([-+]?\d+)$", bare)
    if len(bare) > 100 or (exponent and abs(int(exponent[1])) > 60):
        return bare
    return decimal(Fraction(bare.rstrip("." if not exponent else "")))


def _name(tokens: list[tuple[str, str]], at: int, depth: int) -> tuple[str, int]:
    """Return a name, with its arguments where it has some: `datetime.date(2024, 5, 1)`, `set()`."""
    said = tokens[at][1]
    if at + 1 < len(tokens) and tokens[at + 1] == ("sign", "("):
        if depth >= _DEEPEST:
            raise ValueError(said)
        items, _, end, _ = _items(tokens, at + 2, ")", depth)
        return f"{said}({','.join(items)})", end
    return _NAMES.get(said.lower(), said), at + 1


_ENDS = re.compile(r"\s*(?:$|[.;!?*_`)](?=\s|$)|\s\(|,?\s(?:because|since|as|so|which|where|when|after|given|hence)\b)")
_PIECE = re.compile(r"""(["'])|([\[({])|([\])}])|[^"'\[\](){}]+""")
_INSIDE = {'"': re.compile(r'(?:[^"\\\n]|\\.)*+"', re.DOTALL), "'": re.compile(r"(?:[^'\\\n]|\\.)*+'", re.DOTALL)}


def prefix(text: str) -> str:
    """Return the literal that `text` begins with, "" where it begins with none or goes on as an expression."""
    opened: list[str] = []
    at, text_end = 0, min(len(text), _MOST)
    while at < text_end and (piece := _PIECE.match(text, at)):
        at = piece.end()
        if piece[1]:
            inside = _INSIDE[piece[1]].match(text, at, text_end)
            if inside is None:
                return ""
            at = inside.end()
        elif piece[2]:
            opened.append(_CLOSING[piece[2]])
        elif (piece[3] and (not opened or opened.pop() != piece[3])) or (not piece[3] and not opened):
            return ""
        if not opened:
            return text[:at] if ends(text[at:]) else ""
    return ""


def ends(behind: str) -> bool:
    """Say whether a value is over before what stands behind it: it ends there, or a reason follows."""
    return _ENDS.match(behind) is not None


_QUOTED = re.compile(r"""("(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$))""", re.DOTALL)
_BETWEEN_WORDS = re.compile(r"(?<=\w)\s+(?=\w)")


def squeezed(text: str) -> str:
    """Return `text` less the white space outside quotes that parts no words: for what is nearly a literal."""
    pieces = _QUOTED.split(text)
    for at in range(0, len(pieces), 2):
        pieces[at] = re.sub(r"\s+", "", _BETWEEN_WORDS.sub("\0", pieces[at])).replace("\0", " ")
    return "".join(pieces)
