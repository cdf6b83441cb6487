"""May this call, or this whole mixture, be sent? `Limiter` answers for every key and model.

A run is admitted as a whole: room for everything it asks of limited models is promised to it (a `Hold`) before its
first call is sent, so that no run spends its drafts and is then unable to aggregate. Its calls are then sent out of
the hold. A demand that does not fit waits in a queue (`queue.py`). The windows themselves are kept by a store
(`store.py`), in this process or in Redis.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mixtura.chat import RateLimitHeaders
from mixtura.errors import Exceeded
from mixtura.forks import forget_in_child
from mixtura.limits.account import FITS, Account, Quote, SentCall
from mixtura.limits.breaker import CircuitBreaker
from mixtura.limits.concurrency import ServerQueue
from mixtura.limits.failsafe import FailSafe
from mixtura.limits.memory import MemoryStore
from mixtura.limits.queue import Need, Priority, Ticket, TicketQueue
from mixtura.limits.store import NoRoomError, Reservation, WindowStore
from mixtura.limits.window import Limits
from mixtura.portable import OfOneProcess
from mixtura.secret import scrub

__all__ = ["Hold", "Limiter", "NoRoomError"]

# The first in the queue asks again after this many seconds at the soonest.
_SHORTEST_SLEEP = 0.005
_A_DAY = 86_400.0
# So many accounts are kept whether or not anybody uses them: what replies taught is worth more than their memory.
_MANY = 256
# How long a store may take to free what a run did not send: by then the answer is there.
_RELEASE_SECONDS = 5.0

_LOG = logging.getLogger("mixtura")


class Hold(Reservation):
    """What an admitted run may still send, by account. Close it when the run ends: the rest becomes free again.

    `owed` is what the run will ask for besides, in tokens by account.
    """

    __slots__ = ("_limiter", "owed")

    def __init__(self, limiter: "Limiter", number: str, lifetime: float) -> None:
        super().__init__(number, lifetime)
        self._limiter = limiter
        self.owed: dict[str, int] = {}

    def pay(self, account: str, tokens: int) -> None:
        """Note that the run now asks for `tokens` of what it owed to `account`."""
        if account in self.owed:
            self._limiter.owe(self, account, -tokens)

    async def close(self) -> None:
        """Give back what was not sent."""
        # A run closes its hold when its answer is there already: no failure here may cost that answer.
        with FailSafe(self._limiter, passes=()):
            for account, tokens in list(self.owed.items()):
                self.pay(account, tokens)
            self._limiter.holds.pop(self.id, None)
            if self.needs:
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await self._limiter.release(self)


class Limiter(OfOneProcess):
    """Admits runs and calls to the windows of a store; shared by every run, task and thread that counts on them.

    Times are event-loop times. A loop whose clock is not the process's needs a limiter of its own (`current.py`).

    Args:
        store: where the windows are kept; by default in the memory of this process.

    Attributes:
        holds: the holds of runs under way, by id.
        queue: the demands that wait.
        accounts: the store's accounts, by key.
    """

    _failure = ""
    _many = _MANY

    def __init__(self, store: WindowStore | None = None) -> None:
        self.store: WindowStore = MemoryStore() if store is None else store
        self.accounts = self.store.accounts
        self.queue = TicketQueue()
        self.holds: dict[str, Hold] = {}
        # Guards the queue as well as the accounts. Held for a few microseconds, never across an await.
        self._lock = self.store.lock
        self._breakers: dict[str, CircuitBreaker] = {}
        self._server_queues: dict[str, ServerQueue] = {}
        self.store.watch(self._nudge)
        forget_in_child(self, self._lock)

    def forget(self) -> None:
        """Drop, in a forked process, the holds, waiting demands and probes of the parent; what was learned stays."""
        for hold in self.holds.values():
            hold.needs, hold.owed = {}, {}
        self.holds.clear()
        self.queue = TicketQueue()
        for breaker in self._breakers.values():
            breaker.release_probe()
        self.store.forget()

    @property
    def keeps(self) -> bool:
        """Whether the limits of any account may be known for certain."""
        return self.store.knows_limits

    @property
    def degraded(self) -> bool:
        """Whether limits are not kept as they should be; `problem` says why."""
        return bool(self._failure) or self.store.degraded

    @property
    def problem(self) -> str:
        """Why limits are not kept as they should be, as a sentence for the answer; "" when they are."""
        if self._failure:
            return f"{self._failure}; calls that it failed for were sent and not counted"
        if self.store.degraded:
            return "the rate-limit windows that processes share cannot be reached; this process keeps its own for now"
        return ""

    def report_failure(self, error: Exception) -> None:
        """Note that an operation of this limiter raised an unexpected error, and log the first such error."""
        if self._failure:
            return
        self._failure = f"the limiter raised {type(error).__name__}: {scrub(str(error)) or 'no message'}"
        _LOG.warning("%s: calls that it fails for are sent and not counted", self._failure)
        _LOG.debug("the limiter's error", exc_info=error)

    def breaker(self, group: str) -> CircuitBreaker:
        """Return the circuit breaker that all models of one server and key share."""
        breaker = self._breakers.get(group)
        if breaker is None:
            breaker = self._breakers[group] = CircuitBreaker()
        return breaker

    def server_queue(self, name: str, width: int | None = None) -> ServerQueue:
        """Return the queue of our calls at one server; `width` counts when it is opened."""
        queue = self._server_queues.get(name)
        if queue is None:
            queue = self._server_queues.setdefault(name, ServerQueue(width))
        return queue

    def account(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> Account:
        """Return the account of `key`; the other arguments count when it is opened, or when they make limits known."""
        return self.store.account(key, limits, known=known, plans=plans)

    def drop_idle(self, in_use: Callable[[], set[str]]) -> None:
        """Forget, where there are many, accounts that are at rest and in nobody's use.

        A service that is handed keys by its customers would otherwise collect accounts for as long as it runs.

        Args:
            in_use: returns the keys and groups of accounts that somebody may still ask for.
        """
        if len(self.accounts) < self._many:
            return
        used, now = in_use(), asyncio.get_running_loop().time()
        with self._lock:
            idle = [key for key, account in self.accounts.items() if key not in used and account.is_resting(now)]
            self.store.drop([key for key in idle if not self.queue.has_waiters(key)])
            for group in [group for group, breaker in self._breakers.items() if breaker.healthy and group not in used]:
                del self._breakers[group]
            self._many = max(_MANY, 2 * len(self.accounts))

    def quote(self, needs: Sequence[Need], priority: Priority = Priority.INTERACTIVE) -> Quote:
        """Return when `needs` would fit, behind everything that waits already: an estimate that reserves nothing."""
        now = asyncio.get_running_loop().time()
        with self._lock:
            worst = FITS
            for need in needs:
                account = self.accounts[need.account]
                if not account.known:
                    continue
                tokens, requests = self.queue.ahead(need.account, priority)
                quote = account.quote(need.tokens, now, need.requests, tokens, requests)
                if quote.wait > worst.wait:
                    worst = quote
            return worst

    def owe(self, hold: Hold, account: str, tokens: int) -> None:
        """Add to what the run of `hold` will ask of `account` without holding it; negative amounts take away."""
        with self._lock:
            before = hold.owed.get(account, 0)
            hold.owed[account] = max(0, before + tokens)
            self.accounts[account].owed_tokens += hold.owed[account] - before

    async def admit(
        self,
        needs: Sequence[Need],
        *,
        priority: Priority = Priority.INTERACTIVE,
        until: float = math.inf,
        lifetime: float = 600.0,
        owed: Mapping[str, int] | None = None,
    ) -> Hold:
        """Return a hold on `needs` as soon as they fit and every demand before them has had its turn.

        Accounts whose limits are a guess are left out: a guess must not keep a run from beginning.

        Args:
            needs: what the run must be able to send.
            priority: its place in the queue.
            until: event-loop time by which it has to be admitted.
            lifetime: seconds the run may take at most. Where processes share windows, the hold of a process that died
                ends then.
            owed: what the run will ask for besides, tokens by account; plans of other runs count it from now on.

        Raises:
            NoRoomError: the needs do not fit before `until`.
        """
        await self._sync([self.accounts[need.account] for need in needs])
        hold = Hold(self, self.store.new_id(), lifetime)
        self.holds[hold.id] = hold
        for key, tokens in (owed or {}).items():
            self.owe(hold, key, tokens)
        needs = [need for need in needs if self.accounts[need.account].known]
        if not needs:
            return hold

        async def book(ticket: Ticket) -> Quote:
            return await self.store.book(hold, needs, hold.id, ticket.priority)

        try:
            await self._wait(needs, priority, until, hold.id, book)
        except BaseException:
            await hold.close()
            raise
        return hold

    async def send(
        self,
        account: Account,
        tokens: int,
        *,
        hold: str = "",
        priority: Priority = Priority.BEGUN,
        until: float = math.inf,
    ) -> SentCall:
        """Count one call of `tokens` as sent as soon as it fits; what the hold of that id holds need not wait.

        Raises:
            NoRoomError: it does not fit before `until` (event-loop time).
        """
        if not account.synced:
            await self._sync((account,))
        now = asyncio.get_running_loop().time()
        if account.unlimited and not account.is_blocked(now):
            return account.take(tokens, now)
        ticket_id = self.store.new_id()
        drawn = self.holds.get(hold)
        held = drawn is not None and drawn.tokens(account.key) >= tokens
        if held or self.queue.free(account.key, priority, asyncio.get_running_loop().time()):
            try:
                return await self.store.take(account, tokens, drawn, ticket_id, priority)
            except NoRoomError as error:
                if error.quote.wait == math.inf:
                    raise
        call: SentCall | None = None

        async def take(ticket: Ticket) -> Quote:
            nonlocal call
            try:
                call = await self.store.take(account, tokens, drawn, ticket_id, ticket.priority)
            except NoRoomError as error:
                return error.quote
            return FITS

        await self._wait([Need(account.key, tokens)], priority, until, ticket_id, take)
        assert call is not None
        return call

    async def learn(self, call: SentCall, headers: RateLimitHeaders | None) -> None:
        """Take over what the head of a reply states of limits, None for nothing, and look again at what waits.

        The reply need not be whole: as long as limits are a guess, calls wait for nothing but this.
        """
        await self.store.learn(call, headers)
        self._nudge(call.account.key)

    async def settle(
        self,
        call: SentCall,
        *,
        headers: RateLimitHeaders | None = None,
        actual: int | None = None,
        cached: int = 0,
        excess: int = 0,
    ) -> None:
        """Count the outcome of an answered call, see `Account.settle`; `cached` prompt tokens are given back."""
        await self.store.settle(call, headers=headers, actual=actual, cached=cached, excess=excess)
        self._nudge(call.account.key)

    async def refused(self, call: SentCall, *, exceeded: Exceeded | None, wait: float) -> None:
        """Take back what a refused call took; a refusal that names a limit or a wait is learned from."""
        await self.store.refused(call, exceeded=exceeded, wait=wait)
        self._nudge(call.account.key)

    def lost(self, call: SentCall) -> None:
        """End a call that broke off or was abandoned; what it took stays taken."""
        with self._lock:
            call.account.abandon(call)
        self._nudge(call.account.key)

    async def release(self, hold: Reservation) -> None:
        """Give back what `hold` still holds."""
        keys = list(hold.needs)
        await self.store.release(hold)
        for key in keys:
            self._nudge(key)

    async def _sync(self, accounts: Sequence[Account]) -> None:
        if not all(account.synced for account in accounts):
            await self.store.sync(accounts)

    def _nudge(self, key: str) -> None:
        # A demand that joins the queue after this look sees the windows as they are now.
        if self.queue.has_waiters(key):
            with self._lock:
                self.queue.nudge(key)

    async def _wait(
        self,
        needs: Sequence[Need],
        priority: Priority,
        until: float,
        ticket_id: str,
        attempt: Callable[[Ticket], Awaitable[Quote]],
    ) -> None:
        """Wait in the queue for `needs` until `attempt` returns a quote without a wait."""
        loop = asyncio.get_running_loop()
        with self._lock:
            ticket = self.queue.join(needs, priority, loop.time())
        try:
            while True:
                with self._lock:
                    first = self.queue.first(ticket, loop.time())
                if first:
                    quote = await attempt(ticket)
                    if quote.wait <= 0:
                        return
                else:
                    quote = self.quote(needs, priority)
                now = loop.time()
                if now >= until or (first and now + quote.wait > until):
                    raise NoRoomError(quote)
                # A ticket that is not first is woken when its turn comes, but not when its rank rises with its age.
                pause = quote.wait if first else ticket.ages_in(now) or _A_DAY
                pause = min(max(pause, _SHORTEST_SLEEP), self.store.longest_sleep if first else _A_DAY)
                await ticket.wait(min(pause, until - now))
        finally:
            with self._lock:
                self.queue.leave(ticket)
            await self.store.leave(ticket_id)
