"""The final answer of a text: what it is, how it was found, and whether that is sure."""

import re
from typing import Literal as OneOf
from typing import NamedTuple

from mixtura.engine.answers import numbers, sentences, stated
from mixtura.engine.answers.reading import parse
from mixtura.engine.answers.stated import How
from mixtura.engine.answers.values import AnswerValue, Number, Options, same

# What a question asks for, where that can be told: a number, or the value of an expression in code.
Expected = OneOf["", "number", "literal"]

# Final answers stand at the end; a draft can be of any length.
_READ = 20_000


class Found(NamedTuple):
    """A final answer, None for none; `how` it was found; `sure`: whether it is what the text comes to."""

    value: AnswerValue | None
    how: How
    sure: bool


NOTHING = Found(None, "", False)

_CORRECTION = re.compile(
    r"(?:^|(?<=[.!?;,\n—–)]))[\s*_-]{0,5}(?:(?:but|no|oh|hmm|hold on|sorry)[,.;]?\s)?"
    r"(?:(?:wait|hold on)\b(?!\s\d)|actually|correction|oops|scratch that|on second thoughts?"
    r"|let me (?:re-?(?:check|consider|calculate|compute|do)|correct)|i (?:made|have made) an? (?:mistake|error)"
    r"|(?:that's|that is|this is) (?:not right|wrong|incorrect)|no,? it(?:'s| is)|(?:sorry,? )?i meant|my mistake)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(r"\(([A-Z])\)|\b(?:is|be|to|option|choice|answer)\s([A-Z])\b(?!['’])")


def find(text: str, expected: Expected = "") -> Found:
    r"""Return the final answer of `text`.

    Looked for, in this order: an `answer` field of a JSON object, `\boxed{}`, a tag, `#### x`, "the answer is x",
    the last number (where one is expected), and a text so short that it is itself the answer.

    Args:
        text: a draft.
        expected: what the question asks for (see `expected_by`).
    """
    text = text[-_READ:]
    literal = expected == "literal"
    place = stated.find(text)
    if place is not None:
        value = _parsed(place.raw, literal, place.how)
        return _corrected(Found(value, place.how, value is not None and not place.open), text[place.end :])
    if not literal and len(text) < 2 * _LONGEST_CORRECTION and (wait := _CORRECTION.search(text)):
        value = _parsed(stated.whole(text[: wait.start()].rstrip(" .,;-—…")), False, "whole text")
        if (
            value is not None
            and (corrected := _corrected(Found(value, "whole text", True), text[wait.start() :])).value
        ):
            return corrected
    bare = stated.whole(text)
    if expected == "number":
        last = numbers.last(text)
        if last is not None:
            return Found(last.number, "last number", last.free and _is_conclusion(last))
    value = _parsed(bare, literal, "whole text") if bare else None
    return NOTHING if value is None else Found(value, "whole text", True)


_LONGEST_CORRECTION = 200


_SENTENCE = re.compile(r"(?<!\d)[.!?](?=\s)|(?<=\d)[.!?]\s|\n")
_MARKED = re.compile(r"(?:=|≈|:|\*\*|__|\\\(|\bis|\bare|\bwas|\bof|\bto|\btotal)\s*$", re.IGNORECASE)


def _is_conclusion(last: numbers.Standing) -> bool:
    """Say whether a number is what the last sentence comes to: it stands alone in it, or behind "=" or in bold."""
    if len(last.behind) > 200 or "\n" in last.behind.strip():
        return False
    before = last.before[-400:]
    before = _SENTENCE.split(before)[-1]
    return not re.search(r"\d", before) or re.search(r"(?:=|\*\*|__)\s*$", before) is not None


def _parsed(raw: str, literal: bool, how: How) -> AnswerValue | None:
    value = parse(raw, literal=literal)
    if how != "stated" or literal or isinstance(value, Number | Options):
        return value
    for shorter in sentences.prefixes(raw):
        cut = parse(shorter)
        if isinstance(cut, Number | Options):
            return cut
    return value


def _corrected(found: Found, behind: str) -> Found:
    """Return the value that a text corrects itself to behind the one that it states; not sure where it is not clear."""
    wait = _CORRECTION.search(behind)
    if wait is None or found.value is None:
        return found
    tail = behind[wait.start() :]
    if isinstance(found.value, Options):
        labels = [one or other for one, other in _LABEL.findall(tail)]
        return found._replace(value=Options(letters=labels[-1]), sure=len(set(labels)) == 1) if labels else found
    if isinstance(found.value, Number) and numbers.count(tail) == 1 and (last := numbers.last(tail)):
        return found if same(last.number, found.value) else found._replace(value=last.number, sure=last.free)
    return found._replace(sure=False)
