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

    def allows(self, dollars: float) -> bool:
        """Say whether the run may cost `dollars` more than its plan."""
        return dollars <= self._left + _DUST

    def take(self, dollars: float) -> bool:
        """Set aside what a further attempt costs at most; False, and nothing set aside, where it is too much."""
        if not self.allows(dollars):
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
        held: dollars that the run has counted for the call.
        cost: returns the dollars of a usage, by the price of the model that is asked at present.
        worst: returns the dollars that one attempt with that model costs at most.
        warn: gets the words for a further attempt that is not made.
    """

    def __init__(
        self,
        allowance: Allowance,
        held: float,
        cost: Callable[[Usage], float],
        worst: Callable[[], float],
        warn: Callable[[str], None],
    ) -> None:
        self._allowance = allowance
        self._held = held
        self._cost = cost
        self._worst = worst
        self._warn = warn
        self._charged = 0.0
        self._noted = False

    def waste(self, usage: Usage | None) -> None:
        """Charge what a failed attempt is billed; None: nobody knows, so it may be all that it could write."""
        dollars = 0.0 if usage is None else self._cost(usage)
        if usage is None or (usage.estimated and not usage.completion_tokens):
            # One that came in one piece and broke off may have been written whole.
            dollars = max(dollars, self._worst())
        self._noted = True
        self._charged += dollars
        self._allowance.charge(dollars)

    def fail(self, dollars: float, *, untold: bool) -> None:
        """Charge what is not charged yet, when a model failed for good.

        Args:
            dollars: what the failed attempts of the call took so far.
            untold: the last one may be billed, and nobody knows what.
        """
        if untold and not self._noted:
            self.waste(None)
        self._noted = False
        if dollars > self._charged:
            self._allowance.charge(dollars - self._charged)
            self._charged = dollars

    def refusal(self, worst: float | None = None) -> str:
        """Return why no further attempt is made, "" if one may be; a refusal is said, too.

        `worst` is what it costs at most, None for one with the model that is asked at present.
        """
        if self._allowance.allows((self._worst() if worst is None else worst) - self._held):
            return ""
        why = f"that could bring the run past the ${self._allowance.most:.6f} that it may cost"
        self._warn(why)
        return f"not asked again, since {why}"

    def close(self, last: Usage | None, charged: float | None = None) -> None:
        """Release what is not needed of what the run has counted.

        Args:
            last: the usage of a whole reply, None where none came.
            charged: the dollars that its provider says it charged, None where it says nothing.
        """
        dollars = 0.0 if last is None else self._cost(last)
        # A charge of 0 is what is said where no price is known, too.
        self._allowance.release(self._held - (charged or dollars))
