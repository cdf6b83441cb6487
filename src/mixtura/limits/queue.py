"""The waiting queue: first come, first served within a priority, on all accounts of a ticket at once."""

import asyncio
import enum
import math
from collections.abc import Iterable
from typing import NamedTuple

# A batch ticket that has waited this long (seconds) counts as interactive and goes before those, so that none starves.
PATIENCE = 60.0


class Priority(enum.IntEnum):
    """The order of service: calls of runs under way, then runs that a user waits for, then batches."""

    BEGUN = 0
    INTERACTIVE = 1
    BATCH = 2


class Need(NamedTuple):
    """A demand on one account: `requests` calls of `tokens` in all (prompt and most output)."""

    account: str
    tokens: int
    requests: int = 1


class Ticket:
    """One place in the queue, for all its needs at once; `nudge` wakes the task that waits on it."""

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
        """Return the rank: lower goes first. It is the same on every account, so no two tickets wait for each other."""
        return (Priority.INTERACTIVE if self.ages_in(now) == 0 else self.priority, self.number)

    def ages_in(self, now: float) -> float:
        """Return the seconds until a batch ticket counts as interactive, inf for other tickets."""
        return max(0.0, PATIENCE - (now - self.since)) if self.priority is Priority.BATCH else math.inf

    async def wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as the ticket is nudged."""
        # The future is made before the flag is read, and `nudge` works in the opposite order: no nudge is lost.
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
        """Wake the waiting task; safe to call from any thread."""
        self._nudged = True
        if self._waiter is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _AccountQueue:
    """The tickets of one account by priority, each in order of arrival, and the sums of their demands."""

    def __init__(self) -> None:
        self.tickets: tuple[dict[int, Ticket], ...] = tuple({} for _ in Priority)
        self.tokens = [0] * len(Priority)
        self.requests = [0] * len(Priority)

    def head(self, now: float) -> Ticket | None:
        """Return the ticket that is served next."""
        first = [next(iter(tickets.values())) for tickets in self.tickets if tickets]
        return min(first, key=lambda ticket: ticket.order(now), default=None)


class TicketQueue:
    """All waiting tickets. Not safe to use from two threads at once: `Limiter` holds its store's lock."""

    def __init__(self) -> None:
        self._queues: dict[str, _AccountQueue] = {}
        self._count = 0

    def join(self, needs: Iterable[Need], priority: Priority, now: float) -> Ticket:
        """Return a new ticket at the end of its priority."""
        self._count += 1
        ticket = Ticket(self._count, tuple(needs), priority, now)
        for need in ticket.needs:
            queue = self._queues.setdefault(need.account, _AccountQueue())
            queue.tickets[priority][ticket.number] = ticket
            queue.tokens[priority] += need.tokens
            queue.requests[priority] += need.requests
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Remove a ticket, served or not, and wake the tickets that are first now."""
        for need in ticket.needs:
            queue = self._queues[need.account]
            if queue.tickets[ticket.priority].pop(ticket.number, None) is not None:
                queue.tokens[ticket.priority] -= need.tokens
                queue.requests[ticket.priority] -= need.requests
        for need in ticket.needs:
            self.nudge(need.account)

    def has_waiters(self, account: str) -> bool:
        """Say whether any ticket waits for `account`; safe to call without the lock."""
        return account in self._queues

    def nudge(self, account: str) -> None:
        """Wake the first ticket of every priority of `account`: it may fit sooner than its last quote said."""
        queue = self._queues.get(account)
        if queue is None:
            return
        for tickets in queue.tickets:
            if tickets:
                next(iter(tickets.values())).nudge()
        if not any(queue.tickets):
            del self._queues[account]

    def ahead(self, account: str, priority: Priority) -> tuple[int, int]:
        """Return the tokens and requests that a new ticket of `priority` would wait behind."""
        queue = self._queues.get(account)
        if queue is None:
            return 0, 0
        return sum(queue.tokens[: priority + 1]), sum(queue.requests[: priority + 1])

    def free(self, account: str, priority: Priority, now: float) -> bool:
        """Say whether a new ticket of `priority` would be first."""
        queue = self._queues.get(account)
        head = None if queue is None else queue.head(now)
        return head is None or head.order(now)[0] > priority

    def first(self, ticket: Ticket, now: float) -> bool:
        """Say whether `ticket` is first on every account it needs."""
        return all(self._queues[need.account].head(now) is ticket for need in ticket.needs)
