"""How many tokens a text will be, before any tokenizer has seen it.

The truth is a reply's `usage`; this is for what must be decided before. No vocabulary is downloaded.
"""

import re
from collections.abc import Iterable, Sequence

from mixtura.chat import Message

# English prose runs at about 4 characters a token, code and numbers at about 3; other scripts at 1 to 2.
# A chat template adds a few tokens a message, and some models a system text of their own, which is not counted here:
# an estimate, replaced by the reported usage once a call is done.
_ASCII_PER_TOKEN = 3.6
_OTHER_PER_TOKEN = 1.4
_PER_MESSAGE = 5
# Hardly any vocabulary puts two words, or a word and a sign, into one token.
_WORD_OR_SIGNS = re.compile(r"\w+|[^\w\s]+")
# The same for ASCII, by a table: whether a byte is of a word, a sign or a space.
_KINDS = bytes(
    ord("w" if chr(byte).isalnum() or byte == ord("_") else " " if byte == 32 else "s") for byte in range(256)
)

PROMPT_MARGIN = 1.3
"""What a prompt takes at most over its estimate: recorded requests took 0.83 to 1.20 of it."""


def estimate_tokens(text: str) -> int:
    """Return an estimate of the tokens in `text`, on the high side for English (never below 0)."""
    if not text:
        return 0
    lines = text.count("\n")
    text = " ".join(text.split())  # a run of white space is about one token, however long
    ascii_bytes = len(text) if text.isascii() else sum(character < "\x80" for character in text)
    other = len(text) - ascii_bytes
    by_length = int(ascii_bytes / _ASCII_PER_TOKEN + other / _OTHER_PER_TOKEN) + 1
    # Short words and punctuation are more tokens than their letters suggest.
    return _words_and_signs(text, by_length) + lines // 2


def _words_and_signs(text: str, least: int) -> int:
    """Return how many words and runs of signs `text` holds, but at least `least`; its spaces are single and inside."""
    if not text.isascii():
        return max(least, len(_WORD_OR_SIGNS.findall(text)))
    # Every call that is counted against limits comes by here, so the pattern is left out where it cannot matter: a sign
    # adds itself, and at most one word, which it splits.
    kinds = text.encode("ascii").translate(_KINDS)
    words = kinds.count(b" ") + 1
    if words + 2 * kinds.count(b"s") <= least:
        return least
    return max(least, words + kinds.count(b"ws") + kinds.count(b"sw"))


def characters(messages: Sequence[Message]) -> int:
    """Return how many characters of text `messages` hold: no text has more tokens than that."""
    total = 0
    for message in messages:
        content = message.content
        total += len(content if isinstance(content, str) else message.text)
    return total


def estimate_messages(messages: Iterable[Message]) -> int:
    """Return an estimate of the prompt tokens of a conversation, its template included."""
    return sum(estimate_tokens(message.text) + _PER_MESSAGE for message in messages)
