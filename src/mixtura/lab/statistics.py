"""Statistics of right and wrong answers: an interval for a share, and a paired test of two answerers."""

import math
from collections.abc import Sequence
from typing import NamedTuple

_Z95 = 1.959963984540054


def wilson(right: int, total: int, z: float = _Z95) -> tuple[float, float]:
    """Return Wilson's interval for the share `right / total` (95 % by default), (0, 1) if `total` is 0.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if total == 0:
        return 0.0, 1.0
    share, scale = right / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


class PairedTest(NamedTuple):
    """McNemar's test of two answerers: on how many questions only the first or only the second was right, and p."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> PairedTest:
    """Compare two answerers question by question with the exact two-sided McNemar test.

    Under the null hypothesis either answerer is equally likely to be the right one where they differ. p is the
    binomial probability of a split at least as uneven as the observed one.

    Args:
        first: for each question, whether the first answerer was right.
        second: the same for the second answerer, in the same order.

    Raises:
        ValueError: the two sequences differ in length.
    """
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    return PairedTest(only_first, only_second, exact_p(only_first, only_second))


def exact_p(one: int, other: int) -> float:
    """Return the two-sided probability, for a fair coin, of a split at least as uneven as `one` to `other`."""
    total = one + other
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, count) for count in range(min(one, other) + 1))
    return float(min(1.0, 2 * tail / 2**total))


def p_in_words(p: float) -> str:
    """Return a p-value as "p = 0.03" or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
