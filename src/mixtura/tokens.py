"""How many tokens a text will be, before any tokenizer has seen it.

The truth is a reply's `usage`; this is for what must be decided before. No vocabulary is downloaded.
"""

from collections.abc import Iterable

from mixtura.chat import Message

# English prose runs at about 4 characters a token, code and numbers at about 3; other scripts at 1 to 2.
# A chat template adds a few tokens a message, and some models a system text of their own, which is not counted here:
# an estimate, replaced by the reported usage once a call is done.
_ASCII_PER_TOKEN = 3.6
_OTHER_PER_TOKEN = 1.4
_PER_MESSAGE = 5


def estimate_tokens(text: str) -> int:
    """Return an estimate of the tokens in `text`, on the high side for English (never below 0)."""
    if not text:
        return 0
    words = text.split()
    lines = text.count("\n")
    text = " ".join(words)  # a run of white space is about one token, however long
    ascii_bytes = len(text) if text.isascii() else sum(character < "\x80" for character in text)
    other = len(text) - ascii_bytes
    by_length = int(ascii_bytes / _ASCII_PER_TOKEN + other / _OTHER_PER_TOKEN) + 1
    # Hardly any vocabulary puts two words into one token: short words outnumber what their letters suggest.
    return max(by_length, len(words)) + lines // 2


def estimate_messages(messages: Iterable[Message]) -> int:
    """Return an estimate of the prompt tokens of a conversation, its template included."""
    return sum(estimate_tokens(message.text) + _PER_MESSAGE for message in messages)
