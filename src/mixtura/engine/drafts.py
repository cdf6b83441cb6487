"""A set of drafts, with what is found out about it once: the count of its final answers, its best draft."""

import functools
from collections.abc import Iterable, Iterator

from mixtura.engine import agree
from mixtura.engine.agree import Tally
from mixtura.events import Draft


class DraftSet:
    """Drafts that become one answer, in the order of their calls."""

    def __init__(self, drafts: Iterable[Draft]) -> None:
        self.all = tuple(drafts)

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Draft]:
        return iter(self.all)

    def __getitem__(self, place: int) -> Draft:
        return self.all[place]

    @functools.cached_property
    def tally(self) -> Tally:
        """The count of their final answers."""
        return agree.tally(self.all)

    @functools.cached_property
    def identical(self) -> bool:
        """At least two drafts are there, all whole, and all say the same word for word."""
        return agree.identical(self.all)

    @functools.cached_property
    def best(self) -> tuple[Draft, str]:
        """The draft that the others support best, and the reason in words."""
        place, reason = agree.best(self.all, self.tally)
        return self.all[place], reason
