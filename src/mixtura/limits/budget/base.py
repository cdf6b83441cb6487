"""A daily budget: days, amounts and refusals, which are the same wherever `limits/budget/stores.py` keeps it.

Days are UTC calendar days of the clock that is passed in. A run counts for the day on which it reserved its cost,
whenever it is settled. A reservation that is never settled, because its process was killed, stays counted at its worst
case for that day. Setting the clock back gains nothing: the earlier day's sums are still there.

Amounts are kept as whole billionths of a dollar, rounded up, which makes sums exact in any order.
"""

import asyncio
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from datetime import date, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

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
    """A daily budget but for where it is stored: days, amounts, refusals, and callers that are cancelled.

    A caller that is cancelled does not wait for a place that is locked or silent. What it asked for goes on without it:
    a reservation is given back as soon as it is there, and a settlement is written.
    """

    def __init__(self, allowed: float, clock: Callable[[], float]) -> None:
        if not 0 <= allowed <= _MOST:
            raise ConfigError(
                f"daily budget: expected dollars, 0 or more, got {allowed} (the most is {_MOST:.0f}): "
                "set MIXTURA_DAILY_BUDGET to an amount such as 2.50"
            )
        self.allowed = allowed
        self._limit = _billionths(allowed)
        self._clock = clock
        self._open: set[asyncio.Task[Any]] = set()

    async def reserve(self, run: str, dollars: float) -> None:
        """Reserve the run's worst case of today's budget. See `DailyBudget.reserve`."""
        now = self._clock()
        day = _day_of(now)
        given_up = threading.Event()
        reserving = self._begin(self._reserve_for(run, day, _billionths(dollars), given_up))
        try:
            await asyncio.wait([reserving])
        except asyncio.CancelledError:
            given_up.set()
            # The caller never learns that it holds a reservation, so it would not settle it.
            if reserving.done() and _is_held(reserving):
                self._begin(self._release(run, day))
            raise
        result = reserving.result()
        if not result.fits:
            spent, reserved = result.spent / _BILLION, result.reserved / _BILLION
            raise DailyBudgetError(dollars, self.allowed, spent, reserved, (day + 1) * DAY - now)

    async def settle(self, run: str, dollars: float) -> None:
        """Replace the run's reservation by what it cost. See `DailyBudget.settle`."""
        day = _day_of(self._clock())
        settling = self._begin(self._settle(run, day, _billionths(dollars)))
        await asyncio.wait([settling])
        settling.result()

    async def today(self) -> DailySpending:
        """Return what today has cost so far. See `DailyBudget.today`."""
        now = self._clock()
        day = _day_of(now)
        given_up = threading.Event()
        summing = self._begin(self._sums(day, given_up))
        try:
            await asyncio.wait([summing])
        finally:
            given_up.set()
        spent, reserved = summing.result()
        return DailySpending(
            day=(date(1970, 1, 1) + timedelta(days=day)).isoformat(),
            spent=spent / _BILLION,
            reserved=reserved / _BILLION,
            allowed=self.allowed,
            seconds_left=(day + 1) * DAY - now,
        )

    async def _reserve_for(self, run: str, day: int, amount: int, given_up: threading.Event) -> ReservationResult:
        """Reserve `amount`, and give it back if nobody waits for it any more."""
        result = await self._reserve(run, day, amount, given_up)
        if result.fits and given_up.is_set():
            await self._release(run, day)
        return result

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin `work`, which ends whether or not its caller waits for it."""
        task = asyncio.ensure_future(work)
        self._open.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._open.discard(task)
        if not task.cancelled():
            task.exception()  # read, because asyncio reports errors that are never read

    @abstractmethod
    async def _reserve(self, run: str, day: int, amount: int, given_up: threading.Event) -> ReservationResult:
        """Reserve `amount`; not if `given_up` is set before. An error must leave nothing reserved."""

    @abstractmethod
    async def _release(self, run: str, day: int) -> None:
        """Give the run's reservation back, and let none be made for it that is still on its way."""

    @abstractmethod
    async def _settle(self, run: str, day: int, amount: int) -> None: ...

    @abstractmethod
    async def _sums(self, day: int, given_up: threading.Event) -> tuple[int, int]: ...


def _is_held(reserving: asyncio.Task[ReservationResult]) -> bool:
    return not reserving.cancelled() and reserving.exception() is None and reserving.result().fits


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
