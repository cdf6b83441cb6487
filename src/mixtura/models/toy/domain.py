"""What the toy models were made for, and the sentence that answers everything else.

A toy answers anything with digits, so it must not be asked what it was not made for. A question is in its domain if
all of its words are among those the models know, it states at least two numbers of up to four digits, and it ends
with a question mark. A question of known words in an order that no model was trained on gets through: the toy then
answers, and is most likely wrong.
"""

import re
from collections.abc import Collection, Sequence

from mixtura.chat import Message

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NUMBER = re.compile(r"\d+")
_SIGNS = re.compile(r"[^\w\s.,?]")
_GROUPED = re.compile(r"\d[.,]\d")
_LONGEST = 1500  # characters; no problem of the kind is longer
_NAMED = 3  # unknown words that are named

_DRAFTS = re.compile(r"\n\nDrafts, each between lines that begin with <")
"""Where a question ends and drafts begin, in what an aggregator is sent (`prompts.py`)."""

REAL_ANSWERS = (
    "For real answers set GROQ_API_KEY (a key is free: https://console.groq.com/keys), or run a model file of your "
    "own: mixtura models add NAME FILE.gguf."
)


def question_of(messages: Sequence[Message]) -> str:
    """Return the question in a conversation: its last user message, without drafts below it."""
    last = next((message.text for message in reversed(messages) if message.role == "user"), "")
    return _DRAFTS.split(last, maxsplit=1)[0].strip()


def why_outside(question: str, words: Collection[str]) -> str:
    """Return why `question` is none for the toy models, "" if it is one.

    Args:
        question: what is asked.
        words: those that the models know, as they are written.
    """
    if len(question) > _LONGEST:
        return "it is longer than any problem they know"
    unknown = [word for word in _WORD.findall(question) if word not in words]
    if unknown:
        named = list(dict.fromkeys(unknown))
        said = ", ".join(repr(word) for word in named[:_NAMED])
        return f"they do not know {said}" + (f" and {len(named) - _NAMED} more words" if len(named) > _NAMED else "")
    if found := _SIGNS.search(question) or _GROUPED.search(question):
        return f"they cannot read {found[0]!r}"
    numbers = _NUMBER.findall(question)
    if any(len(number) > 4 for number in numbers):
        return "its numbers are too large for them"
    if len(numbers) < 2 or not question.endswith("?"):
        return "it is no word problem with numbers in it and a question at its end"
    return ""


def refusal(why: str) -> str:
    """Return the sentence that answers a question outside the domain."""
    made_for = "The toy models solve arithmetic word problems and nothing else, and this is none for them"
    return f"{made_for}: {why}. {REAL_ANSWERS}"
