"""Estimates of tokens before anything is sent."""

import re

from hypothesis import given
from hypothesis import strategies as st

from mixtura.tokens import estimate_tokens

ascii_text = st.text(st.characters(max_codepoint=127), max_size=80) | st.text("a_9 .-", max_size=80)


@given(ascii_text | st.text(max_size=80))
def test_every_word_and_every_run_of_signs_counts(text: str) -> None:
    """The quick way for ASCII gives what the pattern gives, which no estimate is below."""
    lines = text.count("\n")
    joined = " ".join(text.split())
    ascii_bytes = sum(character < "\x80" for character in joined)
    by_length = int(ascii_bytes / 3.6 + (len(joined) - ascii_bytes) / 1.4) + 1
    expected = max(by_length, len(re.findall(r"\w+|[^\w\s]+", joined))) + lines // 2
    assert estimate_tokens(text) == (expected if text else 0)
