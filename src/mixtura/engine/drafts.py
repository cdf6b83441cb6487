"""A set of drafts, with what is found out about it once: the count of its final answers, its best draft."""

from collections.abc import Iterable, Iterator

from mixtura.engine import agree
from mixtura.engine.agree import Tally
from mixtura.events import Draft


class DraftSet:
    """Drafts that become one answer, in the order of their calls."""

    # Kept in plain slots: functools.cached_property takes a lock under Python 3.11.
    __slots__ = ("_best", "_tally", "all")

    def __init__(self, drafts: Iterable[Draft]) -> None:
        self.all = tuple(drafts)
        self._tally: Tally | None = None
        self._best: tuple[Draft, str] | None = None

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Draft]:
        return iter(self.all)

    def __getitem__(self, place: int) -> Draft:
        return self.all[place]

    @property
    def tally(self) -> Tally:
        """The count of their final answers."""
        if self._tally is None:
            self._tally = agree.tally(self.all)
        return self._tally

    @property
    def agreed(self) -> bool:
        """At least two drafts are there, and all that are whole surely end in the same answer."""
        return self.tally.unanimous and all(draft.sure for draft in self.all if not draft.incomplete)

    @property
    def identical(self) -> bool:
        """At least two drafts are there, all whole, and all say the same word for word."""
        return agree.identical(self.all)

    @property
    def best(self) -> tuple[Draft, str]:
        """The draft that the others support best, and the reason in words."""
        if self._best is None:
            place, reason = agree.best(self.all, self.tally)
            self._best = self.all[place], reason
        return self._best
