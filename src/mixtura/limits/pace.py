"""How fast a model has been answering: running percentiles of the latest calls."""

import bisect
from collections import deque

_KEPT = 128
# Fewer calls than this say little about a tail.
ENOUGH = 8


class Percentiles:
    """The latest values of one measure; percentiles are read from a sorted copy that is kept up to date."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []
        self._kept = kept

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, value: float) -> None:
        """Take one more value; the oldest goes when there are too many."""
        if len(self._latest) >= self._kept:
            oldest = self._latest.popleft()
            del self._sorted[bisect.bisect_left(self._sorted, oldest)]
        self._latest.append(value)
        bisect.insort(self._sorted, value)

    def at(self, share: float) -> float | None:
        """Return the value at `share` (0.5 the median, 0.95), None before the first one."""
        if not self._sorted:
            return None
        place = share * (len(self._sorted) - 1)
        low = int(place)
        high = min(low + 1, len(self._sorted) - 1)
        return self._sorted[low] + (self._sorted[high] - self._sorted[low]) * (place - low)


class Pace:
    """What a model's latest calls took, in seconds as their caller saw them, and how long its drafts are in tokens.

    `first` are the waits for the first token, known for streamed calls only; `total` whole calls; `tokens` completion
    tokens; `rate` tokens a second once it writes.
    """

    __slots__ = ("first", "rate", "tokens", "total")

    def __init__(self) -> None:
        self.first = Percentiles()
        self.total = Percentiles()
        self.tokens = Percentiles()
        self.rate = Percentiles()

    def add(self, total: float, first: float | None, tokens: int) -> None:
        """Take one finished call."""
        self.total.add(total)
        if tokens > 0:
            self.tokens.add(tokens)
        if first is not None:
            self.first.add(first)
            if tokens > 1 and total > first:
                self.rate.add((tokens - 1) / (total - first))

    def late_after(self, *, streamed: bool) -> float | None:
        """Return the seconds after which a call is slower than 19 of 20: of silence when streamed, else in all.

        None while too few calls are known.
        """
        seen = self.first if streamed else self.total
        return seen.at(0.95) if len(seen) >= ENOUGH else None
