"""A daily budget: days, amounts and refusals, which are the same wherever `limits/budget/stores.py` keeps it.

Days are UTC calendar days of the clock that is passed in. A run counts for the day on which it reserved its cost,
whenever it is settled. A reservation that is never settled, because its process was killed, stays counted at its worst
case for that day. Setting the clock back gains nothing: the earlier day's sums are still there.

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
"""Sums older than this many days are deleted."""

_BILLION = 1_000_000_000
# A Lua number counts billionths exactly up to 9 million dollars; more than this a day is a slip anyway.
_MOST = 1_000_000.0
# Less than this much of a billionth is a rounding error: 0.3 dollars are 300,000,000 of them, not one more.
_DUST = 1e-3


class DailySpending(msgspec.Struct, frozen=True, kw_only=True):
    """What one day has cost so far.

    Attributes:
        day: as in 2026-11-22.
        spent: dollars of the runs that are settled.
        reserved: dollars that runs under way may cost at most.
        allowed: the most that both may come to together.
        seconds_left: seconds until the day ends.
    """

    day: str
    spent: float
    reserved: float
    allowed: float
    seconds_left: float


class DailyBudget(Protocol):
    """At most `allowed` dollars a day, for all processes that share the budget."""

    allowed: float

    async def reserve(self, run: str, dollars: float) -> None:
        """Reserve `dollars`, the most the run can cost, of today's budget; a second reservation replaces the first.

        Raises:
            DailyBudgetError: that much is not left today; nothing was reserved.
            ConfigError: the budget cannot be kept.
            ValueError: `dollars` is negative or not a number.
        """

    async def settle(self, run: str, dollars: float) -> None:
        """Replace the run's reservation by the `dollars` it cost; settling it again changes nothing.

        The cost of a run without a reservation is added to today's.

        Raises:
            ConfigError: the budget cannot be kept.
            ValueError: `dollars` is negative or not a number.
        """

    async def today(self) -> DailySpending:
        """Return what today has cost so far.

        Raises:
            ConfigError: the budget cannot be kept.
        """

    async def close(self) -> None:
        """Close the file or the connections; another operation opens them again."""


class ReservationResult(NamedTuple):
    """Whether a reservation fits the day, and the day's other amounts in billionths."""

    fits: bool
    spent: int
    reserved: int


class StoredBudget(ABC):
    """A daily budget but for where it is stored: days, amounts, refusals, and callers that are cancelled."""

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
        """Reserve the run's worst case of today's budget. See `DailyBudget.reserve`."""
        now = self._clock()
        day = _day_of(now)
        reserving = asyncio.ensure_future(self._reserve(run, day, _billionths(dollars)))
        try:
            result = await _finish(reserving)
        except asyncio.CancelledError:
            # The caller never learns that it holds a reservation, so it would not settle it.
            if not reserving.cancelled() and reserving.exception() is None and reserving.result().fits:
                await self._settle(run, day, 0)
            raise
        if not result.fits:
            spent, reserved = result.spent / _BILLION, result.reserved / _BILLION
            raise DailyBudgetError(dollars, self.allowed, spent, reserved, (day + 1) * DAY - now)

    async def settle(self, run: str, dollars: float) -> None:
        """Replace the run's reservation by what it cost. See `DailyBudget.settle`."""
        day = _day_of(self._clock())
        await _finish(asyncio.ensure_future(self._settle(run, day, _billionths(dollars))))

    async def today(self) -> DailySpending:
        """Return what today has cost so far. See `DailyBudget.today`."""
        now = self._clock()
        day = _day_of(now)
        spent, reserved = await _finish(asyncio.ensure_future(self._sums(day)))
        return DailySpending(
            day=(date(1970, 1, 1) + timedelta(days=day)).isoformat(),
            spent=spent / _BILLION,
            reserved=reserved / _BILLION,
            allowed=self.allowed,
            seconds_left=(day + 1) * DAY - now,
        )

    @abstractmethod
    async def _reserve(self, run: str, day: int, amount: int) -> ReservationResult: ...

    @abstractmethod
    async def _settle(self, run: str, day: int, amount: int) -> None: ...

    @abstractmethod
    async def _sums(self, day: int) -> tuple[int, int]: ...


def _billionths(dollars: float) -> int:
    """Return dollars as whole billionths, rounded up; an amount above any budget stays above it.

    Raises:
        ValueError: `dollars` is negative or not a number.
    """
    if not dollars >= 0:
        raise ValueError(f"expected dollars, 0 or more, got {dollars}")
    return math.ceil(min(dollars, 2 * _MOST) * _BILLION - _DUST)


def _day_of(now: float) -> int:
    """Return the number of the UTC day at `now` (Unix seconds); day 0 is 1970-01-01."""
    return math.floor(now / DAY)


async def _finish(work: asyncio.Future[T]) -> T:
    """Wait for `work`, which is finished even if the caller is cancelled meanwhile."""
    try:
        await asyncio.wait([work])
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # read, because asyncio reports errors that are never read
        raise
    return work.result()
