"""Daily budgets of tests, in a file or in Redis, with a clock that a test sets."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import redis

from mixtura.limits.budget.stores import DailyBudget, RedisBudget, SqliteBudget

DAY = 86_400.0
NOON = 20_000 * DAY + DAY / 2  # 2024-10-04
NAMES = itertools.count()


class Clock:
    """Unix seconds that a test sets."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Place:
    """Where a test's budget is kept: a new file, or an emptied Redis."""

    def __init__(self, address: str | Path) -> None:
        self.address = address
        self.clock = Clock()

    @contextlib.asynccontextmanager
    async def open(self, allowed: float = 1.0) -> AsyncIterator[DailyBudget]:
        """Open the books of this place; any number of budgets may share them."""
        budget: DailyBudget
        if isinstance(self.address, Path):
            budget = SqliteBudget(self.address, allowed, self.clock)
        else:
            budget = RedisBudget(self.address, allowed, self.clock)
        try:
            yield budget
        finally:
            await budget.close()

    def emptied(self) -> "Place":
        """Return a place of the same kind with nothing booked."""
        if isinstance(self.address, Path):
            return Place(self.address.with_name(f"{next(NAMES)}.db"))
        with redis.Redis.from_url(self.address) as client:
            client.flushall()
        return Place(self.address)


async def books(budget: DailyBudget) -> tuple[float, float]:
    """Return what is spent and reserved today."""
    today = await budget.today()
    return today.spent, today.reserved
