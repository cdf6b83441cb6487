"""An answer on a terminal breaks between its words, however its pieces come, and nothing else of it changes."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.columns import display_width
from mixtura.terminal.word_wrap import WordWrap

WORDS = st.text("abcdé漢字.,'-", min_size=1, max_size=9)
TEXTS = st.lists(WORDS, min_size=1, max_size=40).map(" ".join)


def wrapped(text: str, columns: int, cuts: list[int] | None = None) -> str:
    words = WordWrap(lambda: columns)
    places = [0, *sorted(cuts or []), len(text)]
    out = "".join(words.add(text[start:end]) for start, end in itertools.pairwise(places))
    return out + words.end()


@given(TEXTS, st.integers(20, 60), st.data())
def test_no_line_is_longer_than_the_terminal_and_no_word_is_broken(
    text: str, columns: int, data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=10))
    shown = wrapped(text, columns, cuts)
    assert shown == wrapped(text, columns)
    assert max(map(display_width, shown.split("\n"))) <= columns
    assert shown.replace("\n", " ") == text


@given(st.lists(TEXTS | st.just(""), max_size=6).map("\n".join), st.integers(1, 30), st.data())
def test_all_that_is_added_are_line_ends_in_place_of_blanks(text: str, columns: int, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=10))
    assert re.sub(r"\s+", " ", wrapped(text, columns, cuts)) == re.sub(r"\s+", " ", text)
    assert wrapped(text, 10_000, cuts) == text


@pytest.mark.parametrize(
    "text",
    [
        "```python\nresult = some_function(argument_one, argument_two)\n```\n",
        "| a long cell of a table | another long cell of it |\n",
        "    indented = code(that, is, longer, than, the, terminal, is)\n",
    ],
)
def test_code_and_tables_stay_as_they_are(text: str) -> None:
    assert wrapped(text, 20) == text
    assert wrapped(text, 20, [3, 15, 30]) == text
