"""How fast a model has been answering: running percentiles of the latest calls."""

from collections import deque

_KEPT = 128
# Fewer calls than this say little about a tail.
ENOUGH = 8


class Percentiles:
    """The latest values of one measure. Adding one costs next to nothing; they are sorted when somebody asks."""

    __slots__ = ("_latest", "_sorted")

    def __init__(self, kept: int = _KEPT) -> None:
        self._latest: deque[float] = deque(maxlen=kept)
        self._sorted: list[float] | None = []

    def __len__(self) -> int:
        return len(self._latest)

    def add(self, value: float) -> None:
        """Take one more value; the oldest goes when there are too many."""
        self._latest.append(value)
        self._sorted = None

    def at(self, share: float) -> float | None:
        """Return the value at `share` (0.5 the median, 0.95), None before the first one."""
        values = self._sorted
        if values is None:
            values = self._sorted = sorted(self._latest)
        if not values:
            return None
        place = share * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (place - low)


class Latency:
    """What a model's latest calls took, in seconds as their caller saw them, and how long its drafts are in tokens.

    `first` are the waits for the first token, known for streamed calls only; `total` whole calls; `tokens` completion
    tokens; `rate` tokens a second once it writes. Calls are only noted when they end, and sorted in when somebody asks.
    """

    __slots__ = ("_first", "_new", "_rate", "_tokens", "_total")

    def __init__(self) -> None:
        self._first = Percentiles()
        self._total = Percentiles()
        self._tokens = Percentiles()
        self._rate = Percentiles()
        self._new: deque[tuple[float, float | None, int]] = deque(maxlen=_KEPT)

    def add(self, total: float, first: float | None, tokens: int) -> None:
        """Take one finished call."""
        self._new.append((total, first, tokens))

    @property
    def first(self) -> Percentiles:
        """Seconds until the first token."""
        self._sort_in()
        return self._first

    @property
    def total(self) -> Percentiles:
        """Seconds of whole calls."""
        self._sort_in()
        return self._total

    @property
    def tokens(self) -> Percentiles:
        """Completion tokens."""
        self._sort_in()
        return self._tokens

    @property
    def rate(self) -> Percentiles:
        """Tokens a second, from the first one on."""
        self._sort_in()
        return self._rate

    def late_after(self, *, streamed: bool) -> float | None:
        """Return the seconds after which a call is slower than 19 of 20: of silence when streamed, else in all.

        None while too few calls are known.
        """
        seen = self.first if streamed else self.total
        return seen.at(0.95) if len(seen) >= ENOUGH else None

    def _sort_in(self) -> None:
        while True:
            try:
                total, first, tokens = self._new.popleft()
            except IndexError:
                # Empty, or another thread was faster.
                return
            self._total.add(total)
            if tokens > 0:
                self._tokens.add(tokens)
            if first is not None:
                self._first.add(first)
                if tokens > 1 and total > first:
                    self._rate.add((tokens - 1) / (total - first))
