"""Lines broken between words to the width of a terminal."""

from hypothesis import given
from hypothesis import strategies as st

from mixtura.columns import display_width, wrap

_TEXT = st.text(st.sampled_from("ab 中́-!✓\n"), max_size=80)


@given(_TEXT, st.integers(2, 40))
def test_no_line_is_wider_and_no_word_is_lost(text: str, width: int) -> None:
    shown = wrap(text, width)
    assert all(display_width(line) <= width for line in shown.split("\n"))
    assert "".join(shown.split()) == "".join(text.split())


@given(_TEXT)
def test_lines_that_fit_stay_as_they_are(text: str) -> None:
    assert wrap(text, 200) == text


def test_what_follows_a_break_stands_below_the_words_before_it() -> None:
    assert wrap("- one two three", 9) == "- one two\n  three"
    assert wrap("    deep inside it", 12) == "    deep\n    inside\n    it"
    assert wrap("a/very/long/path.gguf x", 10) == "a/very/lon\ng/path.ggu\nf x"
