"""The windows of all processes and machines that share a key, kept in Redis or Valkey.

One script, `limits.lua`, carries out every operation: one round trip, and nothing can come between its parts. Every
answer also says how full the windows are, which this process copies (`snapshot.py`), so that a run can be planned
without asking Redis. When Redis cannot be used (`exchange.py`), the windows are kept in this process, beginning with
the latest copy, until it is back.
"""

import asyncio
import itertools
import math
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from mixtura.chat import RateLimitHeaders
from mixtura.errors import ConfigError, Exceeded
from mixtura.limits.account import Account, Quote, SentCall
from mixtura.limits.memory import MemoryStore
from mixtura.limits.queue import Need, Priority
from mixtura.limits.redis.snapshot import AccountReplica, ScriptAnswer, call_fields, header_limits, ticket_fields
from mixtura.limits.store import NoRoomError, Reservation
from mixtura.limits.window import DIMENSIONS, Limits
from mixtura.secret import Secret


class RedisStore:
    """A `WindowStore` shared by every process that uses the Redis or Valkey server at `url`.

    No operation raises because of Redis: while it cannot be used, the windows are kept in this process (`degraded`),
    which one warning says.

    Raises:
        ConfigError: the address cannot be one, or the package for Redis is missing.
    """

    # No message tells this process when another one gives room back, or learns the limits of a key.
    longest_sleep = 1.0
    knows_limits = True

    def __init__(self, url: str | Secret) -> None:
        url = Secret.of_address(url)
        try:
            from mixtura.limits.redis.exchange import ScriptExchange
        except ImportError:
            raise ConfigError("MIXTURA_REDIS_URL needs a package: pip install 'mixtura[redis]'") from None
        self._memory = MemoryStore()
        self.accounts = self._memory.accounts
        self.lock = self._memory.lock
        self.exchange = ScriptExchange(url, self.accounts, self.lock)
        self._reservations = self.exchange.reservations
        self._begin()

    def _begin(self) -> None:
        self._queued: dict[str, list[AccountReplica]] = {}
        self._name = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)

    def forget(self) -> None:
        """See `WindowStore.forget`: this process also needs a name of its own, which ids begin with."""
        self._begin()
        self._memory.forget()
        self.exchange.forget()

    @property
    def degraded(self) -> bool:
        """See `WindowStore.degraded`."""
        return self.exchange.degraded

    def new_id(self) -> str:
        """See `WindowStore.new_id`. The id holds the time of arrival, by which processes agree on who came first."""
        return f"{self._name}.{next(self._numbers)}@{asyncio.get_running_loop().time():.6f}"

    def watch(self, changed: Callable[[str], None]) -> None:
        """See `WindowStore.watch`: room grows when Redis is lost, and with it the holds of other processes."""
        self.exchange.changed = changed

    def account(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> Account:
        """See `WindowStore.account`."""
        with self.lock:
            if key not in self.accounts:
                self.accounts[key] = AccountReplica(key, limits, known=known, plans=plans)
            account = self.replica(key)
            if known and not account.known:
                account.override_guess(limits, plans, asyncio.get_running_loop().time())
            return account

    def drop(self, keys: Sequence[str]) -> None:
        """See `WindowStore.drop`: Redis keeps what it knows of them."""
        self._memory.drop(keys)

    def replica(self, key: str) -> AccountReplica:
        """Return the account of `key`, which is a copy of the one in Redis."""
        account = self.accounts[key]
        assert isinstance(account, AccountReplica)
        return account

    async def sync(self, accounts: Sequence[Account]) -> None:
        """See `WindowStore.sync`."""
        await self.exchange.ask("", [self.replica(account.key) for account in accounts], {})

    async def book(self, reservation: Reservation, needs: Sequence[Need], ticket: str, priority: Priority) -> Quote:
        """See `WindowStore.book`."""
        now = asyncio.get_running_loop().time()
        wanted: dict[str, tuple[int, int]] = {}
        for need in needs:
            tokens, requests = wanted.get(need.account, (0, 0))
            wanted[need.account] = (tokens + need.tokens, requests + need.requests)
        accounts = [self.replica(key) for key in wanted]
        request = {"hold": reservation.id, "lifetime": reservation.lifetime, "needs": list(wanted.values())}
        try:
            answer = await self.exchange.ask("book", accounts, request | ticket_fields(ticket, priority, now))
        except asyncio.CancelledError:
            # Redis may have reserved it by now.
            await self.exchange.ask("release", accounts, {"hold": reservation.id})
            raise
        if answer is None:
            quote = await self._memory.book(reservation, needs, ticket, priority)
        else:
            quote = self._read_quote(answer, accounts, ticket)
        with self.lock:
            if quote.wait <= 0:
                self._reservations.add(reservation, now + reservation.lifetime)
                if answer is not None:
                    for key, (tokens, requests) in wanted.items():
                        reservation.add(key, tokens, requests)
                    self.exchange.recount()
        return quote

    async def take(
        self, account: Account, tokens: int, reservation: Reservation | None, ticket: str, priority: Priority
    ) -> SentCall:
        """See `WindowStore.take`."""
        now = asyncio.get_running_loop().time()
        replica = self.replica(account.key)
        hold = reservation.id if reservation is not None else ""
        request = {"hold": hold, "tokens": tokens, "probe": account.in_flight == 0}
        # Counted while Redis is asked, so that only one call at a time tests a guess.
        account.in_flight += 1
        try:
            answer = await self.exchange.ask("take", [replica], request | ticket_fields(ticket, priority, now))
        finally:
            account.in_flight -= 1
        if answer is None:
            return await self._memory.take(account, tokens, reservation, ticket, priority)
        quote = self._read_quote(answer, [replica], ticket)
        if quote.wait > 0:
            raise NoRoomError(quote)
        with self.lock:
            if reservation is not None and account.key in reservation.needs:
                held, requests = reservation.needs[account.key]
                reservation.add(account.key, -min(held, tokens), -min(requests, 1))
            if self.degraded:
                # Another operation had no answer since: from here on the call is counted in this process.
                self.exchange.recount()
                return account.take(tokens, now)
            account.in_flight += 1
            return answer.sent_call(account, now, tokens)

    async def learn(self, call: SentCall, headers: RateLimitHeaders | None) -> None:
        """See `WindowStore.learn`."""
        account = self.replica(call.account.key)
        stated = header_limits(headers)
        request = {
            "headers": [limit._asdict() for limit in stated],
            "limits": account.limits_after(stated),
            "before": call.unused,
        }
        if await self.exchange.ask("learn", [account], request | call_fields(call)) is None:
            await self._memory.learn(call, headers)
            return
        call.told, call.unused = True, 0.0

    async def settle(
        self, call: SentCall, *, headers: RateLimitHeaders | None, actual: int | None, cached: int, excess: int
    ) -> None:
        """See `WindowStore.settle`."""
        account = self.replica(call.account.key)
        stated = [] if call.told else header_limits(headers)
        if call.settled:
            return
        # An account without windows costs no round trip.
        if stated or not account.unlimited:
            request = {
                "headers": [limit._asdict() for limit in stated],
                "limits": account.limits_after(stated),
                "before": call.unused,
                "unused": max(0, call.tokens - actual) if call.snapshots and actual is not None else None,
                "cached": cached,
                "excess": excess,
                "minute_told": headers is not None and headers.tokens_left is not None,
            }
            if await self._close(call, "settle", request):
                return
        await self._memory.settle(call, headers=headers, actual=actual, cached=cached, excess=excess)

    async def refused(self, call: SentCall, *, exceeded: Exceeded | None, wait: float) -> None:
        """See `WindowStore.refused`."""
        lesson: dict[str, Any] | None = None
        if exceeded is not None and exceeded.dimension in DIMENSIONS and exceeded.limit >= 1:
            lesson = {"name": exceeded.dimension, "limit": exceeded.limit, "used": exceeded.used}
        elif wait > 0:
            lesson = {"wait": wait}
        request = {"headers": [], "tokens": call.tokens, "exceeded": lesson}
        if call.settled or not (call.snapshots or lesson) or not await self._close(call, "refused", request):
            await self._memory.refused(call, exceeded=exceeded, wait=wait)

    async def release(self, reservation: Reservation) -> None:
        """See `WindowStore.release`."""
        accounts = [self.replica(key) for key in reservation.needs]
        try:
            if await self.exchange.ask("release", accounts, {"hold": reservation.id}) is None:
                await self._memory.release(reservation)
            else:
                reservation.needs = {}
        finally:
            with self.lock:
                self._reservations.remove(reservation)
                self.exchange.recount()

    async def leave(self, ticket: str) -> None:
        """See `WindowStore.leave`."""
        accounts = self._queued.pop(ticket, None)
        if accounts:
            await self.exchange.ask("leave", accounts, {"ticket": ticket})

    def _read_quote(self, answer: ScriptAnswer, accounts: Sequence[AccountReplica], ticket: str) -> Quote:
        """Return the answer's quote, and note whether the ticket waits in the queue of Redis now."""
        wait, number, dimension, limit, requested = answer.quote
        if 0 < wait < math.inf:
            self._queued[ticket] = list(accounts)
        else:
            self._queued.pop(ticket, None)
        return Quote(wait, accounts[number - 1].key, dimension, limit, requested)

    async def _close(self, call: SentCall, operation: str, request: dict[str, Any]) -> bool:
        """Count the outcome of a call in Redis; False when it has to be counted here."""
        # Closed before Redis is asked: a caller that is cancelled meanwhile must not leave the call open.
        call.settled = True
        call.account.in_flight -= 1
        account = self.replica(call.account.key)
        if await self.exchange.ask(operation, [account], request | call_fields(call)) is not None:
            return True
        call.settled = False
        call.account.in_flight += 1
        return False
