"""May this call, this whole mixture, be sent? `Limiter` keeps the windows of every key and model of this process.

A run is admitted as a whole: everything it asks of limited models is promised to it (a `Hold`) before its first
call is sent, so that no run spends its drafts and is then unable to aggregate. Calls are then sent out of the hold.
What does not fit waits in line (see `queue.py`).
"""

import asyncio
import itertools
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

from mixtura.chat import RateLimitHeaders
from mixtura.errors import Exceeded
from mixtura.limits.account import FITS, Account, Quote, Sent
from mixtura.limits.breaker import Breaker
from mixtura.limits.queue import Need, Priority, Ticket, TicketQueue
from mixtura.limits.window import Limits

# Whoever is first in line looks again after this many seconds at the soonest.
_SHORTEST_SLEEP = 0.005
_A_DAY = 86_400.0
# A call that would put a guess to the test, while another one does, is asked to come again after so many seconds.
LATER = 1.0


class NoRoomError(Exception):
    """A demand does not fit in time; `quote` says when it would, inf for never."""

    def __init__(self, quote: Quote) -> None:
        self.quote = quote
        super().__init__(f"no room for another {quote.wait:.4g} s")


class Hold:
    """What an admitted run may still send, by account. Close it when the run ends: the rest is free again.

    `owed` is what it will ask for besides, in tokens by account.
    """

    __slots__ = ("_limiter", "id", "lifetime", "needs", "owed")

    def __init__(self, limiter: "Limiter", number: str, lifetime: float) -> None:
        self._limiter = limiter
        self.id = number
        self.lifetime = lifetime
        self.needs: dict[str, tuple[int, int]] = {}
        self.owed: dict[str, int] = {}

    def tokens(self, account: str) -> int:
        """Return the tokens still held for `account`."""
        return self.needs.get(account, (0, 0))[0]

    def pay(self, account: str, tokens: int) -> None:
        """Note that `tokens` of what was owed to `account` are asked for now."""
        if account in self.owed:
            self._limiter.owe(self, account, -tokens)

    async def close(self) -> None:
        """Give back what was not sent."""
        for account, tokens in list(self.owed.items()):
            self.pay(account, tokens)
        self._limiter.holds.pop(self.id, None)
        if self.needs:
            await self._limiter.release(self)


class Limiter:
    """The windows of all keys and models, shared by every run, task and thread of a process.

    Times are event-loop times. Loops with a clock of their own (see `virtual.py`) have a limiter of their own:
    `current_limiter` finds it. `name` makes the numbers of holds and tickets unique among processes. Whoever is first
    in line looks again after `longest_sleep` seconds, though nobody woke it. `keeps` says whether the limits of any
    account may be known; `degraded` whether they should be kept elsewhere, and for now are not.
    """

    longest_sleep = 30.0
    keeps = False
    degraded = False

    def __init__(self, name: str = "") -> None:
        self._name = name
        # Guards everything below. Held for a few microseconds, never across an await.
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}
        self.queue = TicketQueue()
        self.holds: dict[str, Hold] = {}
        self._breakers: dict[str, Breaker] = {}
        self._numbers = itertools.count(1)

    def breaker(self, group: str) -> Breaker:
        """Return the breaker that all models of one provider and key share."""
        breaker = self._breakers.get(group)
        if breaker is None:
            breaker = self._breakers[group] = Breaker()
        return breaker

    def account(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> Account:
        """Return the account of `key`; what else is said counts when it is seen for the first time."""
        with self.lock:
            account = self.accounts.get(key)
            if account is None:
                account = self.accounts[key] = Account(key, limits, known=known, plans=plans)
            elif known and not account.known:
                account.know(limits or Limits(), asyncio.get_running_loop().time())
            self.keeps = self.keeps or known
            return account

    # What follows is overridden where the windows are kept outside of this process.

    async def book(self, hold: Hold, needs: Sequence[Need], ticket: str, priority: Priority) -> Quote:
        """Promise `needs` to `hold` if all of them fit now; nothing is promised unless the quote says so."""
        now = asyncio.get_running_loop().time()
        with self.lock:
            worst = self._worst(needs, now)
            if worst.wait <= 0:
                for need in needs:
                    account = self.accounts[need.account]
                    account.held_tokens += need.tokens
                    account.held_requests += need.requests
                    tokens, requests = hold.needs.get(need.account, (0, 0))
                    hold.needs[need.account] = (tokens + need.tokens, requests + need.requests)
            return worst

    async def take(self, account: Account, tokens: int, hold: Hold | None, ticket: str, priority: Priority) -> Sent:
        """Count one call as sent, out of `hold` as far as that goes.

        Raises:
            NoRoomError: it does not fit now.
        """
        now = asyncio.get_running_loop().time()
        with self.lock:
            held, requests = hold.needs.get(account.key, (0, 0)) if hold is not None else (0, 0)
            used, counted = min(held, tokens), min(requests, 1)
            account.held_tokens -= used
            account.held_requests -= counted
            quote = self._call_quote(account, tokens, now)
            if quote.wait > 0:
                account.held_tokens += used
                account.held_requests += counted
                raise NoRoomError(quote)
            if hold is not None and (used or counted):
                hold.needs[account.key] = (held - used, requests - counted)
            return account.take(tokens, now)

    async def settle(
        self,
        sent: Sent,
        *,
        headers: RateLimitHeaders | None = None,
        actual: int | None = None,
        cached: int = 0,
        excess: int = 0,
    ) -> None:
        """Close the books of an answered call, see `Account.settle`; `cached` prompt tokens do not count."""
        account = sent.account
        now = asyncio.get_running_loop().time()
        with self.lock:
            waiting = not account.unlimited
            account.settle(sent, now, headers=headers, actual=actual, excess=excess)
            self.keeps = self.keeps or account.known
            if cached:
                account.credit(cached, now)
            if waiting:
                self.queue.nudge(account.key)

    async def refused(self, sent: Sent, *, exceeded: Exceeded | None, wait: float) -> None:
        """Close the books of a call that was not counted; a refusal for a limit teaches what it says."""
        account = sent.account
        now = asyncio.get_running_loop().time()
        with self.lock:
            account.refused(sent, now)
            if exceeded is not None or wait > 0:
                account.exceeded(exceeded or Exceeded("", 0.0), wait, now)
                self.keeps = self.keeps or account.known
            self.queue.nudge(account.key)

    def lost(self, sent: Sent) -> None:
        """Close the books of a call that broke off or was abandoned; what it took stays taken."""
        with self.lock:
            sent.account.lost(sent)
            if not sent.account.unlimited:
                self.queue.nudge(sent.account.key)

    async def release(self, hold: Hold) -> None:
        """Give back what `hold` still holds."""
        with self.lock:
            for key, (tokens, requests) in hold.needs.items():
                account = self.accounts[key]
                account.held_tokens -= tokens
                account.held_requests -= requests
                self.queue.nudge(key)
            hold.needs = {}

    # The same wherever the windows are kept.

    def quote(self, needs: Sequence[Need], priority: Priority = Priority.INTERACTIVE) -> Quote:
        """Return when `needs` would fit, behind everything that waits already: an estimate, nothing is promised."""
        now = asyncio.get_running_loop().time()
        with self.lock:
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
        """Add to what the run of `hold` will ask of `account` without holding it; less than nothing takes it back."""
        with self.lock:
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
        """Return a hold on `needs`, when they fit and everybody before has had a turn.

        Accounts whose limits are a guess are left out: a guess must not keep a run from beginning. `lifetime` is how
        many seconds the run may take at most: where processes share windows, the hold of one that died ends then.
        `owed` is what the run will ask for besides, tokens by account; it counts for other runs' plans from now on.

        Raises:
            NoRoomError: they do not fit before `until` (event-loop time).
        """
        hold = Hold(self, self._number(), lifetime)
        self.holds[hold.id] = hold
        for account, tokens in (owed or {}).items():
            self.owe(hold, account, tokens)
        needs = [need for need in needs if self.accounts[need.account].known]
        if not needs:
            return hold

        async def book(ticket: Ticket) -> Quote:
            return await self.book(hold, needs, hold.id, ticket.priority)

        try:
            await self._wait(needs, priority, until, book)
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
    ) -> Sent:
        """Count one call of `tokens` as sent as soon as it fits; what the hold of that id holds needs no waiting.

        Raises:
            NoRoomError: it does not fit before `until` (event-loop time).
        """
        if account.unlimited:
            return account.take(tokens, asyncio.get_running_loop().time())
        number = self._number()
        drawn = self.holds.get(hold)
        held = drawn is not None and drawn.tokens(account.key) >= tokens
        if held or self.queue.free(account.key, priority, asyncio.get_running_loop().time()):
            try:
                return await self.take(account, tokens, drawn, number, priority)
            except NoRoomError as error:
                if error.quote.wait == math.inf:
                    raise
        sent: Sent | None = None

        async def take(ticket: Ticket) -> Quote:
            nonlocal sent
            try:
                sent = await self.take(account, tokens, drawn, number, ticket.priority)
            except NoRoomError as error:
                return error.quote
            return FITS

        await self._wait([Need(account.key, tokens)], priority, until, take)
        assert sent is not None
        return sent

    async def _wait(
        self, needs: Sequence[Need], priority: Priority, until: float, attempt: Callable[[Ticket], Awaitable[Quote]]
    ) -> None:
        """Stand in line for `needs` until `attempt` says that it went through."""
        loop = asyncio.get_running_loop()
        with self.lock:
            ticket = self.queue.join(needs, priority, loop.time())
        try:
            while True:
                with self.lock:
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
                # Whoever is not first is woken when its turn comes; that its rank rises with age wakes nobody.
                pause = quote.wait if first else ticket.ages_in(now) or _A_DAY
                pause = min(max(pause, _SHORTEST_SLEEP), self.longest_sleep if first else _A_DAY)
                await ticket.wait(min(pause, until - now))
        finally:
            with self.lock:
                self.queue.leave(ticket)

    def _number(self) -> str:
        return f"{self._name}{next(self._numbers)}"

    def _worst(self, needs: Sequence[Need], now: float) -> Quote:
        worst = FITS
        for need in needs:
            quote = self.accounts[need.account].quote(need.tokens, now, need.requests)
            if quote.wait > worst.wait:
                worst = quote
        return worst

    @staticmethod
    def _call_quote(account: Account, tokens: int, now: float) -> Quote:
        if not account.guessing:
            return account.quote(tokens, now)
        # A guess is put to the test by one call at a time; what that one hears replaces it.
        if account.in_flight == 0:
            return FITS
        quote = account.quote(tokens, now)
        return Quote(LATER, *quote[1:]) if quote.wait == math.inf else quote


_SHARED = Limiter()
_OWN: WeakKeyDictionary[asyncio.AbstractEventLoop, Limiter] = WeakKeyDictionary()


def current_limiter() -> Limiter:
    """Return the limiter of the running loop: one for the process, but for loops that keep a time of their own."""
    loop = asyncio.get_running_loop()
    if not getattr(loop, "own_clock", False):
        return _SHARED
    limiter = _OWN.get(loop)
    if limiter is None:
        limiter = _OWN[loop] = Limiter()
    return limiter
