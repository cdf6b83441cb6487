"""What a run may still spend on attempts that its plan has not counted: repeated ones, second tries, fall-backs.

A plan counts every call once, at its worst. What a failed attempt is billed comes on top, and so does a second try of
a call that still runs. Both are paid out of what the plan leaves of the run's limit, and out of what finished calls
left of their worst case. An attempt that could bring the run past its limit is not made, and the run says so.
"""

from collections.abc import Callable

from mixtura.chat import Usage

# Less than this is a rounding error (dollars).
_DUST = 1e-12


class Allowance:
    """One run's limit: `most` dollars, of which `planned` are its calls at their worst."""

    def __init__(self, most: float, planned: float) -> None:
        self.most = most
        self._left = most - planned

    @property
    def overdrawn(self) -> bool:
        """Whether the run could pass its limit if every call that it plans were still made."""
        return self._left < -_DUST

    def take(self, dollars: float) -> bool:
        """Set aside what a further attempt costs at most; False, and nothing set aside, where it is too much."""
        if dollars > self._left + _DUST:
            return False
        self._left -= dollars
        return True

    def charge(self, dollars: float) -> None:
        """Note what a failed attempt is billed."""
        self._left -= dollars

    def release(self, dollars: float) -> None:
        """Note that a call needs so much less than its worst case."""
        self._left += dollars


class CallTab:
    """What the attempts of one call are billed, against the allowance of its run.

    Args:
        allowance: the run's.
        cost: returns the dollars of a usage, by the price of the model that is asked at present.
        worst: returns the dollars that one attempt with that model costs at most.
        warn: gets the words for a further attempt that is not made.
    """

    def __init__(
        self,
        allowance: Allowance,
        cost: Callable[[Usage], float],
        worst: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        self._allowance = allowance
        self._cost = cost
        self._worst = worst
        self._warn = warn
        self._charged = 0.0

    def waste(self, usage: Usage) -> None:
        """Charge what a failed attempt is billed."""
        dollars = self._cost(usage)
        if usage.estimated and not usage.completion_tokens:
            # It came in one piece and broke off: all of it may have been written, and is billed then.
            dollars = max(dollars, self._worst())
        self._charged += dollars
        self._allowance.charge(dollars)

    def charge(self, dollars: float) -> None:
        """Charge what is not charged yet of the `dollars` that all failed attempts of the call took."""
        if dollars > self._charged:
            self._allowance.charge(dollars - self._charged)
            self._charged = dollars

    def refusal(self) -> str:
        """Return why no further attempt is made, "" if one may be; a refusal is said, too."""
        if not self._allowance.overdrawn:
            return ""
        why = f"that could bring the run past the ${self._allowance.most:.6f} that it may cost"
        self._warn(why)
        return f"not asked again, since {why}"

    def close(self, last: Usage | None) -> None:
        """Release what the call needs less than its worst case; `last` is its whole reply's, None if it failed."""
        self._allowance.release(self._worst() - (0.0 if last is None else self._cost(last)))
