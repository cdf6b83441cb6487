"""What of a message is reasoning by its place in the JSON: which parts of a content, which fields beside it."""

import re
from typing import NamedTuple

# Types of parts: thinking, redacted_thinking, reasoning, reasoning_text, reasoning.summary, reasoningContent, thought.
_REASONING_TYPE = re.compile(r"think|thought|reason|analysis|scratchpad|summary_text", re.IGNORECASE)
# What cannot be read, and what proves that nobody changed the reasoning.
_UNREADABLE = re.compile(r"redacted|encrypted", re.IGNORECASE)
# Where the words of a part stand, the first that holds any.
_TEXT = ("text", "content", "value")
_REASONING = (
    *("reasoning", "reasoning_content", "reasoningContent", "reasoningText", "reasoning_text"),
    *("thinking", "thought", "summary"),
)
_OF_ANSWER = ("text", "content", "parts")
_DEEP = 8


class Said(NamedTuple):
    """The words of a content: the answer's, and those of reasoning."""

    text: str = ""
    reasoning: str = ""


NOTHING = Said()


def said_in(content: object) -> Said:
    """Return what a content says that is a string, a part, a list of parts, or nothing."""
    if isinstance(content, str):
        return Said(content)
    parts = content if isinstance(content, list) else [content]
    said = [_part(part) for part in parts]
    return Said("".join([one.text for one in said]), "".join([one.reasoning for one in said]))


def words_in(content: object, depth: int = 0) -> str:
    """Return all words of a value that is reasoning."""
    if isinstance(content, str):
        return content
    if depth > _DEEP:
        return ""
    if isinstance(content, list):
        return "".join([words_in(part, depth + 1) for part in content])
    if not isinstance(content, dict) or _UNREADABLE.search(_type_of(content)):
        return ""
    return next((words for name in (*_TEXT, *_REASONING) if (words := words_in(content.get(name), depth + 1))), "")


def _part(part: object) -> Said:
    if isinstance(part, str):
        return Said(part)
    if not isinstance(part, dict):
        return NOTHING
    if _is_reasoning(part):
        return Said("", words_in(part))
    for name in _OF_ANSWER:
        text = part.get(name)
        if isinstance(text, str) and text:
            return Said(text, _beside(part))
        if isinstance(text, dict) and isinstance(text.get("value"), str):
            return Said(text["value"], _beside(part))
        if isinstance(text, list):
            inner = [_part(one) for one in text if isinstance(one, str) or not _nested(one)]
            return Said("".join([one.text for one in inner]), "".join([one.reasoning for one in inner]))
    return Said("", _beside(part))


def _nested(part: object) -> bool:
    """Say whether a part of a part holds parts itself, which none that is known does."""
    return isinstance(part, dict) and any(isinstance(part.get(name), list) for name in _OF_ANSWER)


def _beside(part: dict[str, object]) -> str:
    """Return the reasoning that stands in a field of a part of the answer."""
    return next((words for name in _REASONING if (words := words_in(part.get(name)))), "")


def _is_reasoning(part: dict[str, object]) -> bool:
    if part.get("thought") is True or part.get("channel") in ("analysis", "commentary"):
        return True
    return _REASONING_TYPE.search(_type_of(part)) is not None


def _type_of(part: dict[str, object]) -> str:
    kind = part.get("type")
    return kind if isinstance(kind, str) else ""
