"""Replies of the table of dialects, changed at random and read in every way."""

import random

from bench.fuzz.check import problems_of
from bench.fuzz.mutate import mutated
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 1 << 40))
def test_a_changed_reply_is_read_alike_in_every_way_and_never_breaks_its_reader(case: int) -> None:
    assert problems_of(case) == [], mutated(random.Random(case))
