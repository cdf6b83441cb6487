"""Waiting in line: first come, first served within a priority, on every account a ticket needs."""

import asyncio
import enum
import math
from collections.abc import Iterable
from typing import NamedTuple

# A batch that has waited this long (seconds) counts as interactive, and as the first of them: nothing may starve.
PATIENCE = 60.0


class Priority(enum.IntEnum):
    """Who goes first: calls of runs that have begun, then runs somebody waits for, then the rest."""

    BEGUN = 0
    INTERACTIVE = 1
    BATCH = 2


class Need(NamedTuple):
    """What is asked of one account: `requests` calls of `tokens` in all (prompt and most output)."""

    account: str
    tokens: int
    requests: int = 1


class Ticket:
    """One place in the line, for all its needs at once; `nudge` wakes whoever waits for it."""

    __slots__ = ("_loop", "_nudged", "_waiter", "needs", "number", "priority", "since")

    def __init__(self, number: int, needs: tuple[Need, ...], priority: Priority, since: float) -> None:
        self.number = number
        self.needs = needs
        self.priority = priority
        self.since = since
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._nudged = False

    def order(self, now: float) -> tuple[int, int]:
        """Return the rank: lower goes first. The same on every account, so that no two wait for each other."""
        return (Priority.INTERACTIVE if self.ages_in(now) == 0 else self.priority, self.number)

    def ages_in(self, now: float) -> float:
        """Return the seconds until a batch counts as interactive, inf for what is no batch."""
        return max(0.0, PATIENCE - (now - self.since)) if self.priority is Priority.BATCH else math.inf

    async def wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as something has changed."""
        # The future is there before the flag is read, and `nudge` does it the other way round: no nudge is lost.
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._wake)
        try:
            if not self._nudged:
                await self._waiter
        finally:
            timer.cancel()
            self._waiter = None
            self._nudged = False

    def nudge(self) -> None:
        """Wake the waiter, from whichever thread."""
        self._nudged = True
        if self._waiter is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Queue:
    """The tickets of one account by priority, each in order of arrival, and what they ask for together."""

    def __init__(self) -> None:
        self.tickets: tuple[dict[int, Ticket], ...] = tuple({} for _ in Priority)
        self.tokens = [0] * len(Priority)
        self.requests = [0] * len(Priority)

    def head(self, now: float) -> Ticket | None:
        """Return who is first."""
        first = [next(iter(tickets.values())) for tickets in self.tickets if tickets]
        return min(first, key=lambda ticket: ticket.order(now), default=None)


class TicketQueue:
    """All waiting tickets. Not safe to use from two threads at once: `Limiter` sees to that."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}
        self._count = 0

    def join(self, needs: Iterable[Need], priority: Priority, now: float) -> Ticket:
        """Return a new place at the end of its priority."""
        self._count += 1
        ticket = Ticket(self._count, tuple(needs), priority, now)
        for need in ticket.needs:
            queue = self._queues.setdefault(need.account, _Queue())
            queue.tickets[priority][ticket.number] = ticket
            queue.tokens[priority] += need.tokens
            queue.requests[priority] += need.requests
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a place up, admitted or not, and wake those who are first now."""
        for need in ticket.needs:
            queue = self._queues[need.account]
            if queue.tickets[ticket.priority].pop(ticket.number, None) is not None:
                queue.tokens[ticket.priority] -= need.tokens
                queue.requests[ticket.priority] -= need.requests
        for need in ticket.needs:
            self.nudge(need.account)

    def nudge(self, account: str) -> None:
        """Wake the first of every priority of `account`: there may be more room than it thought."""
        queue = self._queues.get(account)
        if queue is None:
            return
        for tickets in queue.tickets:
            if tickets:
                next(iter(tickets.values())).nudge()
        if not any(queue.tickets):
            del self._queues[account]

    def ahead(self, account: str, priority: Priority) -> tuple[int, int]:
        """Return the tokens and requests that a newcomer of `priority` would wait behind."""
        queue = self._queues.get(account)
        if queue is None:
            return 0, 0
        return sum(queue.tokens[: priority + 1]), sum(queue.requests[: priority + 1])

    def free(self, account: str, priority: Priority, now: float) -> bool:
        """Say whether a newcomer of `priority` would be first."""
        queue = self._queues.get(account)
        head = None if queue is None else queue.head(now)
        return head is None or head.order(now)[0] > priority

    def first(self, ticket: Ticket, now: float) -> bool:
        """Say whether `ticket` is first on every account it needs."""
        return all(self._queues[need.account].head(now) is ticket for need in ticket.needs)
