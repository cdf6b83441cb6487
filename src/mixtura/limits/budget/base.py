"""A daily budget, wherever it is kept: days, amounts and refusals. `limits/budget/stores.py` keeps it.

Days are UTC calendar days of the clock that is passed in. A run counts for the day it was reserved on, whenever it
is settled. A reservation that is never settled (its process was killed) stays counted at its worst for that day:
the safe side. A clock that is set back finds the earlier day's books as they were left, so nothing is gained by it.

Amounts are kept as whole billionths of a dollar, rounded up, which makes sums exact in any order.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import date, timedelta
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from mixtura.errors import ConfigError, DailyBudgetError

T = TypeVar("T")

DAY = 86_400
"""Seconds of a day."""
KEPT_DAYS = 40
"""Books older than this many days are deleted."""

_BILLION = 1_000_000_000
# A Lua number counts billionths exactly up to 9 million dollars; more than this a day is a slip anyway.
_MOST = 1_000_000.0
# Less than this much of a billionth is float dust: 0.3 dollars are 300,000,000 of them, not one more.
_DUST = 1e-3


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """One day's books, in dollars: `spent` by settled runs, `reserved` by the others, at most `allowed` together.

    `day` is written as 2026-11-22; it ends in `seconds_left` seconds.
    """

    day: str
    spent: float
    reserved: float
    allowed: float
    seconds_left: float


class DailyBudget(Protocol):
    """At most `allowed` dollars a day, for all processes that keep the same books."""

    allowed: float

    async def reserve(self, run: str, dollars: float) -> None:
        """Book `dollars`, the most the run can cost, on today's books; a second time replaces the first.

        Raises:
            DailyBudgetError: that much is not left today; nothing was booked.
            ConfigError: the books cannot be kept.
            ValueError: `dollars` is negative or no number.
        """

    async def settle(self, run: str, dollars: float) -> None:
        """Replace the run's reservation by the `dollars` it cost; settling it again changes nothing.

        A run that was never reserved is added to what today has spent.

        Raises:
            ConfigError: the books cannot be kept.
            ValueError: `dollars` is negative or no number.
        """

    async def today(self) -> Spent:
        """Return today's books.

        Raises:
            ConfigError: the books cannot be kept.
        """

    async def close(self) -> None:
        """Let go of the file or the connections; another operation opens them again."""


class Booked(NamedTuple):
    """What came of a reservation, and the day's other amounts, in billionths."""

    fits: bool
    spent: int
    reserved: int


class Books(ABC):
    """What is the same wherever the books are kept: days, amounts, refusals, and callers that are cancelled."""

    def __init__(self, allowed: float, clock: Callable[[], float]) -> None:
        if not 0 <= allowed <= _MOST:
            raise ConfigError(
                f"daily budget: expected dollars, 0 or more, got {allowed} (the most is {_MOST:.0f}): "
                "set MIXTURA_DAILY_BUDGET to an amount such as 2.50"
            )
        self.allowed = allowed
        self._limit = _billionths(allowed)
        self._clock = clock

    async def reserve(self, run: str, dollars: float) -> None:
        """Book the run's worst case on today's books. See `DailyBudget.reserve`."""
        now = self._clock()
        day = _day_of(now)
        booking = asyncio.ensure_future(self._reserve(run, day, _billionths(dollars)))
        try:
            booked = await _uncut(booking)
        except asyncio.CancelledError:
            # The caller never learns that it holds a reservation, so nobody else would settle it.
            if not booking.cancelled() and booking.exception() is None and booking.result().fits:
                await self._settle(run, day, 0)
            raise
        if not booked.fits:
            spent, reserved = booked.spent / _BILLION, booked.reserved / _BILLION
            raise DailyBudgetError(dollars, self.allowed, spent, reserved, (day + 1) * DAY - now)

    async def settle(self, run: str, dollars: float) -> None:
        """Replace the run's reservation by what it cost. See `DailyBudget.settle`."""
        day = _day_of(self._clock())
        await _uncut(asyncio.ensure_future(self._settle(run, day, _billionths(dollars))))

    async def today(self) -> Spent:
        """Return today's books."""
        now = self._clock()
        day = _day_of(now)
        spent, reserved = await _uncut(asyncio.ensure_future(self._sums(day)))
        return Spent(
            day=(date(1970, 1, 1) + timedelta(days=day)).isoformat(),
            spent=spent / _BILLION,
            reserved=reserved / _BILLION,
            allowed=self.allowed,
            seconds_left=(day + 1) * DAY - now,
        )

    @abstractmethod
    async def _reserve(self, run: str, day: int, amount: int) -> Booked: ...

    @abstractmethod
    async def _settle(self, run: str, day: int, amount: int) -> None: ...

    @abstractmethod
    async def _sums(self, day: int) -> tuple[int, int]: ...


def _billionths(dollars: float) -> int:
    """Return dollars as whole billionths, rounded up; what is beyond any budget stays beyond it.

    Raises:
        ValueError: it is no amount.
    """
    if not dollars >= 0:
        raise ValueError(f"expected dollars, 0 or more, got {dollars}")
    return math.ceil(min(dollars, 2 * _MOST) * _BILLION - _DUST)


def _day_of(now: float) -> int:
    """Return the number of the UTC day at `now` (Unix seconds); day 0 is 1970-01-01."""
    return math.floor(now / DAY)


async def _uncut(work: asyncio.Future[T]) -> T:
    """Wait for `work`, which is brought to its end even if the caller is cancelled meanwhile."""
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # looked at, or asyncio reports it as lost
        raise
    return work.result()
