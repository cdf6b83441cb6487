"""The domain of the toy models, and the sentence that answers questions outside it.

A toy model answers any input with digits, so questions outside its domain must not reach it. A question is in the
domain if the models know all of its words, it states at least two numbers of up to four digits, and it ends with a
question mark. A question of known words in an unfamiliar order passes this check; the toy's answer to it is most
likely wrong.
"""

import re
from collections.abc import Collection, Sequence

from mixtura.chat import Message

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_NUMBER = re.compile(r"\d+")
_SIGNS = re.compile(r"[^\w\s.,?]")
_GROUPED = re.compile(r"\d[.,]\d")
_MAX_LENGTH = 1500  # characters; no problem of this kind is longer
_MOST_NAMED = 3  # how many unknown words the sentence names

_DRAFTS = re.compile(r"\n\nDrafts, each between lines that begin with <")
"""Separates the question from the drafts in an aggregator's prompt (`prompts.py`)."""

REAL_ANSWERS = (
    "For real answers set GROQ_API_KEY (a key is free: https://console.groq.com/keys), or run a model file of your "
    "own: mixtura models add NAME FILE.gguf."
)


def question_of(messages: Sequence[Message]) -> str:
    """Return the question of a conversation: its last user message, without the drafts that follow in it."""
    last = next((message.text for message in reversed(messages) if message.role == "user"), "")
    return _DRAFTS.split(last, maxsplit=1)[0].strip()


def why_outside(question: str, words: Collection[str]) -> str:
    """Return why `question` is outside the toy models' domain, "" if it is inside.

    Args:
        question: the question.
        words: the words that the models know, in the same upper and lower case.
    """
    if len(question) > _MAX_LENGTH:
        return "it is longer than any problem they know"
    unknown = [word for word in _WORD.findall(question) if word not in words]
    if unknown:
        named = list(dict.fromkeys(unknown))
        listed = ", ".join(repr(word) for word in named[:_MOST_NAMED])
        more = f" and {len(named) - _MOST_NAMED} more words" if len(named) > _MOST_NAMED else ""
        return f"they do not know {listed}{more}"
    if found := _SIGNS.search(question) or _GROUPED.search(question):
        return f"they cannot read {found[0]!r}"
    numbers = _NUMBER.findall(question)
    if any(len(number) > 4 for number in numbers):
        return "its numbers are too large for them"
    if len(numbers) < 2 or not question.endswith("?"):
        return "it is not a word problem with numbers in it and a question at its end"
    return ""


def refusal(why: str) -> str:
    """Return the sentence that answers a question outside the domain. `why` comes from `why_outside`."""
    return (
        "The toy models solve arithmetic word problems and nothing else, and they cannot answer this question: "
        f"{why}. {REAL_ANSWERS}"
    )
