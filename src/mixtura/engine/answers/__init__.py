"""Final answers: where they stand in a text, what they are, and when two of them are the same.

Drafts can only be counted if "18", "$18.00" and "18 dollars" are the same answer, "5x" is not 5, and "5 minutes" is not
"5 hours". `find` reads a text and says how sure it is, `parse` a value, `same` compares values and `alike` their
canonical texts. What is read is never executed.
"""

import re

from mixtura.engine.answers import stated
from mixtura.engine.answers.equality import Choice, alike, groups
from mixtura.engine.answers.finding import Expected, Found, find
from mixtura.engine.answers.reading import parse
from mixtura.engine.answers.values import AnswerValue, Formula, Literal, Number, Options, Text, same

__all__ = [
    "AnswerValue",
    "Choice",
    "Expected",
    "Formula",
    "Found",
    "Literal",
    "Number",
    "Options",
    "Text",
    "alike",
    "asks_number",
    "expected_by",
    "extract",
    "find",
    "groups",
    "is_right",
    "normal",
    "parse",
    "same",
    "states",
]

_READ = 20_000
_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|far|old|fast|tall|heavy|deep|wide|often)\b|\b(?:calculate|compute|evaluate|solve)\b"
    r"|\bwhat(?:'s| is| was| are| were| will be) (?:the |her |his |its |their )?(?:\w+ ){0,2}?(?:total|sum|value|number"
    r"|average|mean|difference|product|quotient|remainder|probability|area|perimeter|volume|cost|price|ratio"
    r"|percentage|percent|distance|speed|age|profit|amount)\b",
    re.IGNORECASE,
)
_ASKS_LITERAL = re.compile(
    r"^[ \t]{0,9}assert \w+\(|\bwhat\b[^.?\n]{1,80}\b(?:return|output|print|evaluate|result|value)",
    re.MULTILINE | re.IGNORECASE,
)


def extract(text: str, *, lenient: bool = False) -> Choice:
    """Return the final answer of `text` in its canonical text, "" when it has none.

    Args:
        text: a draft.
        lenient: take the last number of the text when no answer is stated; right where a number is asked for
            (see `asks_number`), misleading elsewhere.
    """
    value = find(text, "number" if lenient else "").value
    return Choice("" if value is None else str(value))


def is_right(text: str, gold: str, expected: Expected = "number") -> bool:
    """Say whether the final answer of `text` is the right one, `gold`."""
    value, right = find(text, expected).value, parse(gold, literal=expected == "literal")
    return value is not None and right is not None and same(value, right)


def normal(value: str) -> Choice:
    """Return a value, which is nothing but an answer, in its canonical text, "" for none."""
    found = parse(value)
    return Choice("" if found is None else str(found))


def asks_number(question: str) -> bool:
    """Say whether a question wants a number, so that a draft's last number can be taken for its answer."""
    return _ASKS_NUMBER.search(question) is not None


def expected_by(question: str) -> Expected:
    """Return what a question asks for: the value of an expression in Python code, a number, or "" where it is open."""
    if "def " in question and _ASKS_LITERAL.search(question):
        return "literal"
    return "number" if asks_number(question) else ""


def states(text: str) -> bool:
    """Say whether `text` states a final answer in so many words."""
    found = stated.find(text[-_READ:])
    return found is not None and bool(found.raw)
