r"""Where a text states its final answer: an `answer` field of JSON, a tag, `\boxed{}`, `#### x`, "the answer is x"."""

import json
import re
from typing import Literal as OneOf
from typing import NamedTuple

import msgspec

from mixtura.engine.answers import latex, literals, sentences
from mixtura.engine.answers.reading import parse
from mixtura.engine.answers.values import Text

How = OneOf["json", "boxed", "marked", "stated", "last number", "whole text", ""]


class Stated(NamedTuple):
    """A value as it stands in a text, the place behind it, and how it is stated. `open`: several are, side by side."""

    raw: str
    end: int
    how: How
    open: bool = False


_FENCE = re.compile(r"\s{0,9}```[\w-]{0,20}[ \t]{0,9}\n(.*?)\n?\s{0,9}```\s{0,9}", re.DOTALL)
_FIELD = re.compile(r"""["'](?:final[_ ])?answer["']\s{0,9}:\s{0,9}(?=\S)""", re.IGNORECASE)
_FIELD_VALUE = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\n,}\[{]+""", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_TAGGED = re.compile(
    r"<(final_?answer|answer)>\s{0,9}([^<]{1,2000}?)\s{0,9}</\1>|\[(final_?answer|answer)\]\s{0,9}([^\[]{1,2000}?)\s{0,9}\[/\3\]",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^\s{0,9}####\s{0,9}(\S[^\n]*)$", re.MULTILINE)
# White space is counted out, since a draft of nothing else must not take for ever to read.
_HEADED = re.compile(
    r"^[ \t]{0,9}(?:#{1,6}|\*\*|__)[ \t]{0,9}(?:final[ \t]{1,3})?answer[ \t]{0,3}:?[ \t]{0,3}(?:\*\*|__)?:?[ \t]{0,9}\n"
    r"\s{0,9}(?P<rest>[^\n]+)",
    re.IGNORECASE | re.MULTILINE,
)
_SAID = re.compile(
    r"(?:^|[\n.!?:;,)>—]|\b(?:so|thus|therefore|hence),?\s|(?<!whether )(?<!if )\b(?=(?:the|my|our)\s))"
    r"[^\w\n\"'(\[{<]{0,9}\s{0,9}[*_#]{0,3}"
    r"(?:(?:the|my|our)\s{1,3})?(?:(?:final|correct|right|best|overall)\s{1,3}){0,2}"
    r"(?P<key>answer|(?:(?<=correct\s)|(?<=right\s)|(?<=best\s))(?:option|choice))"
    r"(?:\sto\s(?:the|this)\s\w{1,12})?[*_]{0,3}\s{0,3}"
    r"(?:is\b|was\b|(?:would|should|must|will)\s(?:(?!not\b|never\b)\w{1,12}\s)?be\b|equals\b|comes\s(?:out\s)?to\b|[:=]|→|->)[*_:\s]{0,9}(?P<rest>[^\n]+)",
    re.IGNORECASE,
)
_KEY = re.compile(r"answer|option|choice", re.IGNORECASE)
_KEYWORDS = 40
_LONGEST_PHRASE = 60
_SENTENCE_END = re.compile(r"[.!?]\s|\n")
_CODE = re.compile(r"```[\w-]*\s*\n([^`]{1,10000}?)\n?\s*```")
_JSON = json.JSONDecoder(strict=False)
_KEYS = ("answer", "final answer", "solution")
_SHORT = 48
_OBJECTS = 10
_BOXES = 20
_TAIL = 400


# A question of several parts is answered part by part.
_PART = re.compile(r"[ \t*_#-]{0,9}(?:\(?[a-h1-9ivx]{1,3}[).:]|[Pp]art\b|[Qq]uestion\b)")
_OPENINGS = ("$$", "$", "\\[", "\\(", "[", "{", "(", "```", "**")
_LEAD_IN = re.compile(
    r"(?:as follows|(?:the )?following|given by|therefore|this|these|below|clear|la siguiente)[:.]?", re.IGNORECASE
)
_DISPLAYED = re.compile(r"\$\$\s{0,9}([^$]{1,1000}?)\s{0,9}\$\$|\\\[\s{0,9}(.{1,1000}?)\s{0,9}\\\]", re.DOTALL)
_BULLET = re.compile(r"(?:[-*•–]|\d{1,2}[.)])\s+(?=\S)")
# A list, a table or an equation whose next line is another of its kind.
_GOES_ON_BELOW = re.compile(
    r"\A(?:[-*•]\s[^\n]*\n\s{0,9}[-*•]\s|\d{1,2}[.)]\s[^\n]*\n\s{0,9}\d{1,2}[.)]\s|\|[^\n]*\n\s{0,9}\||\\begin\b"
    r"|\w{1,9}\s?=[^\n]*\n\s{0,9}\w{1,9}\s?=)"
)
# What takes back, before it is said, that something is the answer.
_SUPPOSED = re.compile(
    r"\b(?:don['’]?t|do not|doesn['’]?t|didn['’]?t|doubt|suppose|supposing|assume|assuming|pretend"
    r"|(?:might|may|could|would) (?:think|say|guess|believe)|if|whether|unless)\b[^.!?\n]{0,60}$",
    re.IGNORECASE,
)


def find(text: str) -> Stated | None:
    """Return what `text` states as its final answer, None when it states nothing."""
    # Most texts state nothing: plain searches, a hundred times cheaper than the patterns, say so first.
    lower = text.lower()
    speaks_of_it = "answer" in lower
    if (speaks_of_it or "solution" in lower) and ("{" in text or "':" in text or '":' in text):
        found = _of_json(text)
        if found is not None:
            return Stated(found, len(text), "json")
    if "\\" in text and ("\\boxed" in text or "\\fbox" in text):
        boxed = _boxed(text)
        if boxed is not None:
            return boxed
    if speaks_of_it and ("</" in lower or "[/" in lower):
        tagged = list(_TAGGED.finditer(text))
        if tagged:
            said = [one[2] or one[4] for one in tagged]
            return Stated(said[-1], tagged[-1].end(), "marked", len(set(said)) > 1)
    if "#" in text and "####" in text:
        values = [marked for marked in list(_HASHES.finditer(text))[-_BOXES:] if _is_value(marked[1])]
        if values:
            several = len({marked[1].strip() for marked in values}) > 1
            return Stated(values[-1][1], values[-1].end(), "marked", several)
    # Rarer phrases are looked for where answers stand: a search of everything for each would cost as much as the rest.
    tail = lower[-_TAIL:]
    if speaks_of_it or "correct option" in tail or "correct choice" in tail:
        return _said(text, lower)
    return _said_elsewhere(text, tail)


def _said(text: str, lower: str) -> Stated | None:
    found = _last_said(text)
    if found is None and "answer" in lower:
        headed = list(_HEADED.finditer(text))
        found = headed[-1] if headed else None
    elsewhere = _said_elsewhere(text, lower[-_TAIL:], 0 if found is None else found.end())
    if found is None or elsewhere is not None:
        return elsewhere
    return _value(text, found["rest"], found.start("rest"))


def _last_said(text: str) -> re.Match[str] | None:
    """Return the first statement of the last sentence that makes one."""
    for key in reversed(list(_KEY.finditer(text))[-_KEYWORDS:]):
        found = _said_at(text, key.start())
        if found is not None:
            since = max(0, key.start() - 300)
            for end in _SENTENCE_END.finditer(text, since, key.start()):
                since = end.end() - 1
            first = _SAID.search(text, since, found.end())
            return first if first is not None and first.start("rest") < found.start("rest") else found
    return None


def _said_at(text: str, at: int) -> re.Match[str] | None:
    """Return the statement whose word for an answer stands at a place."""
    line = text.find("\n", at + _LONGEST_PHRASE)
    end = len(text) if line < 0 else line
    start, near = max(0, at - _LONGEST_PHRASE), min(end, at + 2 * _LONGEST_PHRASE)
    while (found := _SAID.search(text, start, near)) and found.start("key") < at:
        start = found.start("key") + 1
    return _SAID.match(text, found.start(), end) if found and found.start("key") == at else None


def _said_elsewhere(text: str, tail: str, since: int = 0) -> Stated | None:
    """Return what is stated in another language, behind a place in the text."""
    speaks = "respuesta" in tail or "resposta" in tail or "antwort" in tail or "jawaban" in tail
    if not speaks and text.isascii():
        return None
    from mixtura.engine.answers import languages

    if not languages.speaks(tail):
        return None
    said = languages.last_said(text)
    return None if said is None or said.start < since else _value(text, said.rest, said.start)


def _value(text: str, rest: str, start: int) -> Stated:
    if rest.startswith("```") and (code := _CODE.match(text, start)):
        return Stated(code[1], code.end(), "stated")
    value = sentences.value_of(rest)
    if not value or value[-1] == ":" or value in _OPENINGS or _LEAD_IN.fullmatch(value):
        return _below(text, start + len(rest) if value not in _OPENINGS else start)
    at = rest.find(value) if value else -1
    end = start + max(0, at) + len(value)
    before = text[max(0, start - 2 * _LONGEST_PHRASE) : start]
    # Brackets that are not closed, and lists and equations, go on below.
    unfinished = any(value.count(one) != value.count(other) for one, other in ("()", "[]", "{}"))
    several = (unfinished and value[0] in "[{(") or _GOES_ON_BELOW.search(
        f"{value}\n{text[start + len(rest) + 1 :][:200]}"
    )
    return Stated(value, end, "stated", bool(several) or _SUPPOSED.search(before) is not None)


def _below(text: str, at: int) -> Stated:
    """Return the value that stands below the words that lead to it; open where it has several lines."""
    behind = text[at : at + 2000]
    lead = len(behind) - len(behind.lstrip(" \t\n:*_"))
    block = behind[lead:]
    for found in (_CODE.match(block), _DISPLAYED.match(block)):
        if found is not None:
            inner = next(part for part in found.groups() if part is not None).strip()
            return Stated(inner, at + lead + found.end(), "stated", "\n" in inner and inner[:1] not in "[{(")
    paragraph = block.split("\n\n")[0]
    line = paragraph.split("\n")[0]
    value = sentences.value_of(_BULLET.sub("", line, count=1))
    if not value or _LEAD_IN.fullmatch(value) or value[-1] == ":":
        return Stated("", at + lead, "stated", True)
    return Stated(value, at + lead + len(line), "stated", line != paragraph.strip())


def _boxed(text: str) -> Stated | None:
    """Return the last whole box; it is open which is meant where another part, or its own line, has another value."""
    opened = list(_BOX.finditer(text))[-_BOXES:]
    whole = [(box.start(), box.end(), end) for box in opened if (end := _closing(text, box.end())) >= 0]
    if not whole:
        return None
    start, inside, end = whole[-1]
    raw = text[inside:end]
    line = text.rfind("\n", 0, start) + 1
    parts = _PART.match(text, line) is not None
    others = {
        text[first:last].strip()
        for at, first, last in whole[:-1]
        if last < start and (at >= line or (parts and _PART.match(text, text.rfind("\n", 0, at) + 1)))
    }
    return Stated(raw, end + 1, "boxed", bool(others - {raw.strip()}))


def _closing(text: str, at: int) -> int:
    depth = 1
    for place in range(at, min(len(text), at + 2000)):
        char = text[place]
        if char == "{" and text[place - 1] != "\\":
            depth += 1
        elif char == "}" and text[place - 1] != "\\":
            depth -= 1
            if not depth:
                return place
    return -1


def _is_value(marked: str) -> bool:
    """Tell a value behind `####` from a Markdown heading, which the same sign makes."""
    bare = marked.strip().strip("*_`$ ")
    if len(bare) > _SHORT:
        return False
    value = parse(marked)
    return bare.lower() in ("yes", "no", "true", "false") or not (value is None or isinstance(value, Text))


def _of_json(text: str) -> str | None:
    """Return the answer in a JSON object as text; a structure (a filled-in grid, say) as JSON with sorted keys."""
    inner = _FENCE.fullmatch(text)
    found = _of_object((inner[1] if inner else text).strip())
    if found is not None:
        return found
    fields = list(_FIELD.finditer(text))
    return _of_broken(text, fields[-1].end()) if fields else None


def _of_broken(text: str, at: int) -> str | None:
    """Return the value that begins at a place of JSON that cannot be read."""
    if text[at] in "[{" and (whole := literals.prefix(text[at:])):
        return whole
    found = _FIELD_VALUE.match(text, at)
    if found is None:
        return None
    field = found[0].strip()
    if field[0] in "\"'" and len(field) > 1:
        return field[1:-1].replace(f"\\{field[0]}", field[0]).replace("\\\\", "\\")
    return field


def _of_object(text: str) -> str | None:
    """Return the answer in the last object that has one; of objects in each other in the outermost of them."""
    at, inner, answer = len(text), len(text), None
    for _ in range(_OBJECTS):
        at = text.rfind("{", 0, at)
        if at < 0:
            break
        try:
            found, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            continue
        if answer is not None and end < inner:
            break
        by_key = {str(key).lower().replace("_", " "): value for key, value in found.items()}
        value = next((by_key[key] for key in _KEYS if by_key.get(key) is not None), None)
        if value is not None:
            inner = end
            answer = (
                latex.mended(value) if isinstance(value, str) else msgspec.json.encode(value, order="sorted").decode()
            )
    return answer


def whole(text: str) -> str:
    """Return a text that is so short that it is itself the answer, or all of one block of code; "" for another."""
    bare = text.strip()
    if bare.startswith("```") and (inner := _FENCE.fullmatch(text)):
        bare = inner[1].strip()
    return bare if len(bare) <= _SHORT and "\n" not in bare else ""
