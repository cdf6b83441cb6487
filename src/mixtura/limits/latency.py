"""How fast a model has been answering: running percentiles of its latest calls."""

import bisect
from collections import deque

_KEPT = 128
# Fewer calls than this say little about a tail.
ENOUGH = 8


class RunningPercentiles:
    """Percentiles of the latest values of one measure, which are kept sorted."""

    __slots__ = ("_kept", "_latest", "_sorted")

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, value: float) -> None:
        """Add one value; the oldest is dropped when there are too many."""
        self._latest.append(value)
        bisect.insort(self._sorted, value)
        if len(self._latest) > self._kept:
            oldest = self._latest.popleft()
            del self._sorted[bisect.bisect_left(self._sorted, oldest)]

    def at(self, share: float) -> float | None:
        """Return the value at `share` (0.5: the median, 0.95), None before the first one."""
        values = self._sorted
        if not values:
            return None
        place = share * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (place - low)


class LatencyHistory:
    """What a model's latest calls took, in seconds as their caller saw them, and how long its drafts are in tokens.

    A finished call is only appended; the percentiles are brought up to date when one of them is read.
    """

    __slots__ = ("_first", "_new", "_rate", "_tokens", "_total")

    def __init__(self) -> None:
        self._first = RunningPercentiles()
        self._total = RunningPercentiles()
        self._tokens = RunningPercentiles()
        self._rate = RunningPercentiles()
        self._new: deque[tuple[float, float | None, int]] = deque(maxlen=_KEPT)

    def add(self, total: float, first: float | None, tokens: int) -> None:
        """Add one finished call: its seconds in all, until the first token (None: not streamed), and its tokens."""
        self._new.append((total, first, tokens))

    @property
    def first(self) -> RunningPercentiles:
        """Seconds until the first token, of streamed calls."""
        self._sort_in()
        return self._first

    @property
    def total(self) -> RunningPercentiles:
        """Seconds of whole calls."""
        self._sort_in()
        return self._total

    @property
    def tokens(self) -> RunningPercentiles:
        """Completion tokens."""
        self._sort_in()
        return self._tokens

    @property
    def rate(self) -> RunningPercentiles:
        """Tokens a second, from the first token on."""
        self._sort_in()
        return self._rate

    def late_after(self, *, streamed: bool) -> float | None:
        """Return the seconds after which a call is slower than 19 of 20, None while too few calls are known.

        Args:
            streamed: count the seconds until the first token instead of those of the whole call.
        """
        seen = self.first if streamed else self.total
        return seen.at(0.95) if len(seen) >= ENOUGH else None

    def _sort_in(self) -> None:
        while self._new:
            try:
                total, first, tokens = self._new.popleft()
            except IndexError:
                # Empty, or another thread took the last one.
                return
            self._total.add(total)
            if tokens > 0:
                self._tokens.add(tokens)
            if first is not None:
                self._first.add(first)
                if tokens > 1 and total > first:
                    self._rate.add((tokens - 1) / (total - first))
