"""Estimates of token counts, without a tokenizer.

A reply's `usage` has the true count. The estimates serve decisions that come before the call, and need no vocabulary.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

from mixtura.chat import JsonObject, Message

# English prose has about 4 characters per token, code and numbers about 3, other scripts 1 to 2.
# A chat template adds a few tokens per message. Some models also add a system text of their own, which is not counted
# here. The reported usage replaces the estimate when the call is done.
_ASCII_PER_TOKEN = 3.6
_OTHER_PER_TOKEN = 1.4
_PER_MESSAGE = 5
# Providers count an image by its size, most often a few hundred tokens; this is a large one.
_PER_IMAGE = 1600
# What stands round the result of a tool where it is text; see `prompts.without_tool_turns`.
_PER_RESULT = 12
# Hardly any vocabulary has tokens of two words, or of a word and a sign.
_WORD_OR_SIGNS = re.compile(r"\w+|[^\w\s]+")
# The same for ASCII, by a table: whether a byte is of a word, a sign or a space.
_KINDS = bytes(
    ord("w" if chr(byte).isalnum() or byte == ord("_") else " " if byte == 32 else "s") for byte in range(256)
)

PROMPT_MARGIN = 1.3
"""The largest ratio of a prompt's tokens to their estimate to allow for. In recorded requests it is 0.83 to 1.20."""
PROMPT_HEAD = 4
"""Tokens of a chat template that come once a prompt, besides those of each message: they show in a short question."""


def estimate_tokens(text: str) -> int:
    """Return an estimate of the tokens in `text`, which is rather too high for English (never below 0)."""
    if not text:
        return 0
    lines = text.count("\n")
    text = " ".join(text.split())  # a run of white space of any length is about one token
    ascii_bytes = len(text) if text.isascii() else sum(character < "\x80" for character in text)
    other = len(text) - ascii_bytes
    by_length = int(ascii_bytes / _ASCII_PER_TOKEN + other / _OTHER_PER_TOKEN) + 1
    # A text of short words and signs has more tokens than its length suggests: at least one per word or run of signs.
    return _words_and_signs(text, by_length) + lines // 2


def _words_and_signs(text: str, least: int) -> int:
    """Return the number of words and runs of signs in `text`, at least `least`. Its spaces are single and inside."""
    if not text.isascii():
        return max(least, len(_WORD_OR_SIGNS.findall(text)))
    # Every call that is counted against limits runs this code, so the exact count is skipped where it cannot matter: a
    # sign adds at most itself and one word, which it splits.
    kinds = text.encode("ascii").translate(_KINDS)
    words = kinds.count(b" ") + 1
    if words + 2 * kinds.count(b"s") <= least:
        return least
    return max(least, words + kinds.count(b"ws") + kinds.count(b"sw"))


def characters(messages: Sequence[Message]) -> int:
    """Return the number of characters in `messages`, an upper bound of their tokens."""
    total = 0
    for message in messages:
        content = message.content
        total += len(content) if isinstance(content, str) else len(message.text) + _images(content)
        if message.tool_calls or message.role == "tool":
            total += len(_calls(message)) + 4 * _PER_RESULT
    return total


def estimate_messages(messages: Iterable[Message]) -> int:
    """Return an estimate of the prompt tokens of a conversation, including the chat template."""
    total = 0
    for message in messages:
        content = message.content
        if isinstance(content, str):
            total += estimate_tokens(content) + _PER_MESSAGE
        else:
            total += estimate_tokens(message.text) + _images(content) + _PER_MESSAGE
        if message.tool_calls or message.role == "tool":
            total += estimate_tokens(_calls(message)) + _PER_RESULT
    return total


def _images(content: list[JsonObject] | None) -> int:
    return _PER_IMAGE * sum("image" in str(part.get("type")) for part in content or ())


def _calls(message: Message) -> str:
    return msgspec.json.encode(message.tool_calls).decode() if message.tool_calls else ""
