"""Statistics of right and wrong: an interval for a share, and whether two answerers of the same questions differ."""

import math
from collections.abc import Sequence
from typing import NamedTuple

_Z95 = 1.959963984540054


def wilson(right: int, total: int, z: float = _Z95) -> tuple[float, float]:
    """Return Wilson's interval for a share (95 % by default); (0, 1) when nothing was asked.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if total == 0:
        return 0.0, 1.0
    share, scale = right / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


class PairedTest(NamedTuple):
    """Two answerers of the same questions: how often only the first, only the second was right, and McNemar's p."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> PairedTest:
    """Compare two answerers question by question: the exact two-sided McNemar test.

    Where they differ, either should be right equally often if they were equally good; p is the binomial chance of a
    split at least as uneven.

    Args:
        first: for each question, whether the first answered it rightly.
        second: the same of the second, in the same order.

    Raises:
        ValueError: they did not answer equally many questions.
    """
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    return PairedTest(only_first, only_second, exact_p(only_first, only_second))


def exact_p(one: int, other: int) -> float:
    """Return the two-sided chance of a split as uneven as `one` to `other` under a fair coin."""
    total = one + other
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, count) for count in range(min(one, other) + 1))
    return float(min(1.0, 2 * tail / 2**total))


def p_in_words(p: float) -> str:
    """Return a p-value as "p = 0.03" or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
