"""Books of the daily budget that fail: at which operation, and how."""

import asyncio
from pathlib import Path
from typing import Literal, get_args

from mixtura.limits.budget.base import DailySpending
from mixtura.limits.budget.stores import SqliteBudget

_DAY = 20_000 * 86_400.0

BooksFault = Literal[
    "kept",  # nothing fails
    "today raises",
    "reserve raises",
    "reserve hangs",
    "reserve folder",
    "reserve garbage",
    "settle raises",
    "settle hangs",
    "settle folder",
    "settle garbage",
    "settle deleted",
]
"""What befalls the books at which operation."""


def faults() -> tuple[str, ...]:
    """Return every fault of the books, and that of none."""
    return get_args(BooksFault)


class FailingBooks:
    """A daily budget in a file of `folder`, to which `fault` happens."""

    allowed = 100.0

    def __init__(self, fault: str, folder: Path) -> None:
        self._operation, _, self._accident = fault.partition(" ")
        self._file = folder / "budget.db"
        self._kept = SqliteBudget(self._file, self.allowed, lambda: _DAY)

    async def today(self) -> DailySpending:
        """See `DailyBudget.today`."""
        await self._befall("today")
        return await self._kept.today()

    async def reserve(self, run: str, dollars: float) -> None:
        """See `DailyBudget.reserve`."""
        await self._befall("reserve")
        await self._kept.reserve(run, dollars)

    async def settle(self, run: str, dollars: float) -> None:
        """See `DailyBudget.settle`."""
        await self._befall("settle")
        await self._kept.settle(run, dollars)

    async def close(self) -> None:
        """Nothing is open."""

    async def sums(self) -> tuple[float, float] | None:
        """Return what is spent and reserved, None where the file is gone."""
        if self._accident in ("folder", "garbage", "deleted"):
            return None
        today = await self._kept.today()
        return today.spent, today.reserved

    async def _befall(self, operation: str) -> None:
        if operation != self._operation:
            return
        if self._accident == "raises":
            raise RuntimeError("the ledger is gone")
        if self._accident == "hangs":
            await asyncio.sleep(1e9)
        elif self._accident == "garbage":
            # In one step: a file that is empty for a moment would be begun anew by another run.
            other = self._file.with_name("garbage")
            other.write_bytes(b"garbage!" * 4000)
            other.replace(self._file)
        elif self._file.is_file():
            self._file.unlink()
            if self._accident == "folder":
                self._file.mkdir()
