"""Estimates of token counts, without a tokenizer.

A reply's `usage` has the true count. The estimates serve decisions that come before the call, and need no vocabulary.
"""

import re
from collections.abc import Iterable, Sequence

from mixtura.chat import Message

# English prose has about 4 characters per token, code and numbers about 3, other scripts 1 to 2.
# A chat template adds a few tokens per message. Some models also add a system text of their own, which is not counted
# here. The reported usage replaces the estimate when the call is done.
_ASCII_PER_TOKEN = 3.6
_OTHER_PER_TOKEN = 1.4
_PER_MESSAGE = 5
# Hardly any vocabulary has tokens of two words, or of a word and a sign.
_WORD_OR_SIGNS = re.compile(r"\w+|[^\w\s]+")

PROMPT_MARGIN = 1.3
"""The largest ratio of a prompt's tokens to their estimate to allow for. In recorded requests it is 0.83 to 1.20."""


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
    return max(by_length, len(_WORD_OR_SIGNS.findall(text))) + lines // 2


def characters(messages: Sequence[Message]) -> int:
    """Return the number of characters in `messages`, an upper bound of their tokens."""
    total = 0
    for message in messages:
        content = message.content
        total += len(content if isinstance(content, str) else message.text)
    return total


def estimate_messages(messages: Iterable[Message]) -> int:
    """Return an estimate of the prompt tokens of a conversation, including the chat template."""
    return sum(estimate_tokens(message.text) + _PER_MESSAGE for message in messages)
