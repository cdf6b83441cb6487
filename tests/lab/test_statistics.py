"""Intervals and the exact test, compared with full enumeration and with published figures."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.lab.statistics import exact_p, mcnemar, p_in_words, wilson


@given(one=st.integers(0, 9), other=st.integers(0, 9))
def test_p_is_the_share_of_coin_rows_at_least_as_uneven(one: int, other: int) -> None:
    total = one + other
    rows = itertools.product((0, 1), repeat=total)
    as_uneven = sum(abs(2 * sum(row) - total) >= abs(one - other) for row in rows)
    assert exact_p(one, other) == pytest.approx(as_uneven / 2**total)


def test_only_questions_where_the_two_differ_count() -> None:
    first = [True, True, True, False, True, False]
    second = [True, False, False, False, False, True]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (3, 1)
    assert found.p == pytest.approx(0.625)
    assert mcnemar(first, first).p == 1.0
    with pytest.raises(ValueError, match="shorter"):
        mcnemar(first, second[:-1])


def test_published_figures() -> None:
    # Cascade against the 70B on GSM8K (docs/from-the-tutorial.md): 16 against 3.
    assert exact_p(16, 3) == pytest.approx(0.0044, abs=5e-5)
    low, high = wilson(81, 263)
    assert (round(low, 3), round(high, 3)) == (0.255, 0.366)  # Newcombe 1998, table I, method 3


@given(right=st.integers(0, 500), wrong=st.integers(0, 500))
def test_an_interval_holds_its_share_and_mirrors(right: int, wrong: int) -> None:
    total = right + wrong
    low, high = wilson(right, total)
    assert 0 <= low <= high <= 1
    if total:
        assert low - 1e-12 <= right / total <= high + 1e-12
        other_low, other_high = wilson(wrong, total)
        assert math.isclose(low, 1 - other_high, abs_tol=1e-9)
        assert math.isclose(high, 1 - other_low, abs_tol=1e-9)


def test_p_in_words() -> None:
    assert [p_in_words(p) for p in (0.00001, 0.0123, 1.0)] == ["p < 0.001", "p = 0.012", "p = 1"]
