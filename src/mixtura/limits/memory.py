"""Rate-limit windows in the memory of one process, shared by its runs, tasks and threads."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence

from mixtura.chat import RateLimitHeaders
from mixtura.errors import Exceeded
from mixtura.limits.account import FITS, Account, Quote, SentCall
from mixtura.limits.queue import Need, Priority
from mixtura.limits.store import NoRoomError, Reservation
from mixtura.limits.window import Limits

_NO_WINDOW = Exceeded("", 0.0)


class MemoryStore:
    """A `WindowStore` in this process. Its coroutines never suspend: each is done in one step, under the lock."""

    longest_sleep = 30.0
    degraded = False

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.accounts: dict[str, Account] = {}
        self.knows_limits = False
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        """See `WindowStore.new_id`."""
        return str(next(self._numbers))

    def watch(self, changed: Callable[[str], None]) -> None:
        """See `WindowStore.watch`: nothing changes here but by the operations below."""

    def account(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> Account:
        """See `WindowStore.account`."""
        with self.lock:
            account = self.accounts.get(key)
            if account is None:
                account = self.accounts[key] = Account(key, limits, known=known, plans=plans)
            elif known and not account.known:
                account.set_limits(limits or Limits(), asyncio.get_running_loop().time())
            self.knows_limits = self.knows_limits or known
            return account

    def drop(self, keys: Sequence[str]) -> None:
        """See `WindowStore.drop`."""
        for key in keys:
            del self.accounts[key]

    async def sync(self, accounts: Sequence[Account]) -> None:
        """See `WindowStore.sync`: what this process knows is all there is."""

    async def book(self, reservation: Reservation, needs: Sequence[Need], ticket: str, priority: Priority) -> Quote:
        """See `WindowStore.book`."""
        now = asyncio.get_running_loop().time()
        with self.lock:
            worst = FITS
            for need in needs:
                quote = self.accounts[need.account].quote(need.tokens, now, need.requests)
                if quote.wait > worst.wait:
                    worst = quote
            if worst.wait <= 0:
                for need in needs:
                    account = self.accounts[need.account]
                    account.held_tokens += need.tokens
                    account.held_requests += need.requests
                    reservation.add(*need)
            return worst

    async def take(
        self, account: Account, tokens: int, reservation: Reservation | None, ticket: str, priority: Priority
    ) -> SentCall:
        """See `WindowStore.take`."""
        now = asyncio.get_running_loop().time()
        with self.lock:
            held, requests = reservation.needs.get(account.key, (0, 0)) if reservation is not None else (0, 0)
            used, counted = min(held, tokens), min(requests, 1)
            account.held_tokens -= used
            account.held_requests -= counted
            quote = account.quote_call(tokens, now)
            if quote.wait > 0:
                account.held_tokens += used
                account.held_requests += counted
                raise NoRoomError(quote)
            if reservation is not None and (used or counted):
                reservation.needs[account.key] = (held - used, requests - counted)
            return account.take(tokens, now)

    async def learn(self, call: SentCall, headers: RateLimitHeaders | None) -> None:
        """See `WindowStore.learn`."""
        now = asyncio.get_running_loop().time()
        with self.lock:
            call.account.learn(call, headers, now)
            self.knows_limits = self.knows_limits or call.account.known

    async def settle(
        self, call: SentCall, *, headers: RateLimitHeaders | None, actual: int | None, cached: int, excess: int
    ) -> None:
        """See `WindowStore.settle`."""
        account = call.account
        now = asyncio.get_running_loop().time()
        with self.lock:
            account.settle(call, now, headers=headers, actual=actual, excess=excess)
            self.knows_limits = self.knows_limits or account.known
            if cached:
                account.credit(cached, now)

    async def refused(self, call: SentCall, *, exceeded: Exceeded | None, wait: float) -> None:
        """See `WindowStore.refused`."""
        account = call.account
        now = asyncio.get_running_loop().time()
        with self.lock:
            account.refund(call, now)
            if exceeded is not None or wait > 0:
                account.learn_refusal(exceeded or _NO_WINDOW, wait, now)
                self.knows_limits = self.knows_limits or account.known

    async def release(self, reservation: Reservation) -> None:
        """See `WindowStore.release`."""
        with self.lock:
            for key, (tokens, requests) in reservation.needs.items():
                account = self.accounts[key]
                account.held_tokens -= tokens
                account.held_requests -= requests
            reservation.needs = {}

    def forget(self) -> None:
        """See `WindowStore.forget`."""
        for account in self.accounts.values():
            account.forget()

    async def leave(self, ticket: str) -> None:
        """See `WindowStore.leave`: the queue of a process is its limiter's."""
