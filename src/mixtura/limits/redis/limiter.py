"""The windows of all processes and machines that share a key, kept in Redis or Valkey.

`SharedLimiter` is a `Limiter` whose books are kept by one script, `limits.lua`: each operation is one round trip, and
nothing can come between its parts. What every answer says of the windows is mirrored in the accounts of this process
(`snapshot.py`), so that a run can be planned without asking, and can go on when Redis is gone: then the windows are
kept in this process, from the latest picture, until it is back.
"""

import asyncio
import logging
import math
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from mixtura.chat import RateLimitHeaders
from mixtura.errors import ConfigError, Exceeded
from mixtura.limits.account import Account, Quote, Sent
from mixtura.limits.limiter import Hold, Limiter, NoRoomError
from mixtura.limits.queue import Need, Priority, Ticket
from mixtura.limits.redis.snapshot import Kept, MirroredAccount, Reply, believed, place
from mixtura.limits.redis.url import reason, shown
from mixtura.limits.window import DIMENSIONS, Limits

if TYPE_CHECKING:
    from mixtura.limits.redis.connection import Link

# Seconds until Redis is tried again after it could not be used.
_RETRY = 5.0

_LOG = logging.getLogger("mixtura")


class SharedLimiter(Limiter):
    """The windows of all keys and models, shared by every process that uses the Redis or Valkey server at `url`.

    Nothing here raises because of Redis: while it cannot be used, the windows are kept in this process (`degraded`),
    which one warning says. `name` tells this process from others, a random one by default.

    Raises:
        ConfigError: the address cannot be one, or the package for Redis is missing.
    """

    # Nobody tells this process when another one gives room back, or learns the limits of a key.
    longest_sleep = 1.0
    keeps = True

    def __init__(self, url: str, name: str = "") -> None:
        try:
            from mixtura.limits.redis import connection
        except ImportError:
            raise ConfigError("MIXTURA_REDIS_URL needs a package: pip install 'mixtura[redis]'") from None
        super().__init__(name or f"{uuid.uuid4().hex[:12]}.")
        # A wrong address is better said now than at the first call.
        connection.check(url)
        self._url = url
        self._redis = connection
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = WeakKeyDictionary()
        self._try_at = -math.inf
        self._holds: dict[str, tuple[Hold, float]] = {}
        self._places: dict[asyncio.Task[Any] | None, tuple[str, list[MirroredAccount]]] = {}

    def account(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> Account:
        """Return the account of `key`; what else is said counts when it is seen for the first time."""
        with self.lock:
            account = self.accounts.get(key)
            if account is None:
                account = self.accounts[key] = MirroredAccount(key, limits, known=known, plans=plans)
            elif known and account.guessing:
                self._mine(key).tell(limits, plans, -math.inf)
            return account

    async def admit(
        self,
        needs: Sequence[Need],
        *,
        priority: Priority = Priority.INTERACTIVE,
        until: float = math.inf,
        lifetime: float = 600.0,
        owed: Mapping[str, int] | None = None,
    ) -> Hold:
        """Return a hold on `needs`, see `Limiter.admit`."""
        await self._meet([self._mine(need.account) for need in needs])
        return await super().admit(needs, priority=priority, until=until, lifetime=lifetime, owed=owed)

    async def send(
        self,
        account: Account,
        tokens: int,
        *,
        hold: str = "",
        priority: Priority = Priority.BEGUN,
        until: float = math.inf,
    ) -> Sent:
        """Count one call of `tokens` as sent as soon as it fits, see `Limiter.send`."""
        await self._meet([self._mine(account.key)])
        return await super().send(account, tokens, hold=hold, priority=priority, until=until)

    async def book(self, hold: Hold, needs: Sequence[Need], ticket: str, priority: Priority) -> Quote:
        """Promise `needs` to `hold` if all of them fit now; else stand in line for them, among all processes."""
        now = asyncio.get_running_loop().time()
        wanted: dict[str, tuple[int, int]] = {}
        for need in needs:
            tokens, requests = wanted.get(need.account, (0, 0))
            wanted[need.account] = (tokens + need.tokens, requests + need.requests)
        accounts = [self._mine(key) for key in wanted]
        asked = {"hold": hold.id, "lifetime": hold.lifetime, "needs": list(wanted.values())}
        try:
            reply = await self._ask("book", accounts, asked | place(ticket, priority, now))
        except asyncio.CancelledError:
            # It may have been promised by now.
            await self._ask("release", accounts, {"hold": hold.id})
            raise
        if reply is None:
            quote = await super().book(hold, needs, ticket, priority)
        else:
            quote = self._quoted(reply, accounts, ticket)
        with self.lock:
            if quote.wait <= 0:
                self._holds[hold.id] = (hold, now + hold.lifetime)
                if reply is not None:
                    for key, (tokens, requests) in wanted.items():
                        held, promised = hold.needs.get(key, (0, 0))
                        hold.needs[key] = (held + tokens, promised + requests)
                    self._count_holds()
        return quote

    async def take(self, account: Account, tokens: int, hold: Hold | None, ticket: str, priority: Priority) -> Sent:
        """Count one call as sent, out of `hold` as far as that goes.

        Raises:
            NoRoomError: it does not fit now; it stands in line, among all processes.
        """
        now = asyncio.get_running_loop().time()
        mine = self._mine(account.key)
        asked = {"hold": hold.id if hold is not None else "", "tokens": tokens, "probe": account.in_flight == 0}
        # Counted while it is asked for, so that only one call at a time puts a guess to the test.
        account.in_flight += 1
        try:
            reply = await self._ask("take", [mine], asked | place(ticket, priority, now))
        finally:
            account.in_flight -= 1
        if reply is None:
            return await super().take(account, tokens, hold, ticket, priority)
        quote = self._quoted(reply, [mine], ticket)
        if quote.wait > 0:
            raise NoRoomError(quote)
        with self.lock:
            if hold is not None and account.key in hold.needs:
                held, requests = hold.needs[account.key]
                hold.needs[account.key] = (held - min(held, tokens), requests - min(requests, 1))
            if self.degraded:
                # The answer came after somebody else had none: from here on it is counted in this process.
                self._count_holds()
                return account.take(tokens, now)
            account.in_flight += 1
            return reply.sent(account, now, tokens)

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
        account = self._mine(sent.account.key)
        heard = account.heard(headers)
        if sent.settled:
            return
        if account.unlimited and not heard:
            # An account without windows costs no round trip.
            await super().settle(sent, headers=headers, actual=actual, cached=cached, excess=excess)
            return
        asked = {
            "heard": [said._asdict() for said in heard],
            "limits": account.chosen(heard),
            "before": sent.unused,
            "unused": max(0, sent.tokens - actual) if sent.marks and actual is not None else None,
            "cached": cached,
            "excess": excess,
            "told": headers is not None and headers.tokens_left is not None,
        }
        if await self._close(sent, "settle", asked):
            self._nudge(account.key)
        else:
            await super().settle(sent, headers=headers, actual=actual, cached=cached, excess=excess)

    async def refused(self, sent: Sent, *, exceeded: Exceeded | None, wait: float) -> None:
        """Close the books of a call that was not counted; a refusal for a limit teaches what it says."""
        lesson: dict[str, Any] | None = None
        if exceeded is not None and exceeded.dimension in DIMENSIONS and exceeded.limit >= 1:
            lesson = {"name": exceeded.dimension, "limit": exceeded.limit, "used": exceeded.used}
        elif wait > 0:
            lesson = {"wait": wait}
        asked = {"heard": [], "tokens": sent.tokens, "exceeded": lesson}
        if not sent.settled and (sent.marks or lesson) and await self._close(sent, "refused", asked):
            self._nudge(sent.account.key)
        else:
            await super().refused(sent, exceeded=exceeded, wait=wait)

    async def release(self, hold: Hold) -> None:
        """Give back what `hold` still holds."""
        accounts = [self._mine(key) for key in hold.needs]
        try:
            if await self._ask("release", accounts, {"hold": hold.id}) is None:
                await super().release(hold)
                return
            hold.needs = {}
        finally:
            with self.lock:
                self._holds.pop(hold.id, None)
                self._count_holds()
        for account in accounts:
            self._nudge(account.key)

    async def _wait(
        self, needs: Sequence[Need], priority: Priority, until: float, attempt: Callable[[Ticket], Awaitable[Quote]]
    ) -> None:
        try:
            await super()._wait(needs, priority, until, attempt)
        finally:
            ticket, accounts = self._places.pop(asyncio.current_task(), ("", []))
            if ticket:
                await self._ask("leave", accounts, {"ticket": ticket})

    def _number(self) -> str:
        # It holds the time of arrival, by which processes agree on who came first.
        return f"{super()._number()}@{asyncio.get_running_loop().time():.6f}"

    def _mine(self, key: str) -> MirroredAccount:
        account = self.accounts[key]
        assert isinstance(account, MirroredAccount)
        return account

    def _quoted(self, reply: Reply, accounts: Sequence[MirroredAccount], ticket: str) -> Quote:
        """Return what was answered, and note whether the ticket stands in line now."""
        wait, number, dimension, limit, requested = reply.quote
        quote = Quote(wait, accounts[number - 1].key, dimension, limit, requested)
        task = asyncio.current_task()
        if 0 < wait < math.inf:
            self._places[task] = (ticket, list(accounts))
        else:
            self._places.pop(task, None)
        return quote

    def _nudge(self, key: str) -> None:
        with self.lock:
            self.queue.nudge(key)

    async def _close(self, sent: Sent, operation: str, asked: dict[str, Any]) -> bool:
        """Close the books of a call in Redis; False when they have to be closed here."""
        account = self._mine(sent.account.key)
        # Closed before it is asked: whoever is cancelled meanwhile must not leave it open.
        sent.settled = True
        sent.account.in_flight -= 1
        if await self._ask(operation, [account], asked | believed(sent)) is not None:
            return True
        sent.settled = False
        sent.account.in_flight += 1
        return False

    # Asking, and what happens when there is no answer.

    async def _meet(self, accounts: Sequence[MirroredAccount]) -> None:
        """See that this process knows what Redis knows of `accounts`, and the other way round."""
        if any(not account.met for account in accounts):
            await self._ask("", accounts, {})

    async def _ask(self, operation: str, accounts: Sequence[MirroredAccount], asked: dict[str, Any]) -> Reply | None:
        """Let the script do `operation` and mirror what it says; None when Redis cannot be used."""
        loop = asyncio.get_running_loop()
        with self.lock:
            trial = self.degraded
            # A loop with a clock of its own would outrun a server that lives in real time.
            if getattr(loop, "own_clock", False) or (trial and loop.time() < self._try_at):
                return None
            if trial:
                # One call at a time tries; the others need not wait for it.
                self._try_at = loop.time() + _RETRY
            link = self._link(loop)
        reply: Reply | None = None
        try:
            await self._introduce(link, accounts, trial)
            if operation:
                reply = await self._run(link, accounts, {**asked, "op": operation}, trial)
            if reply is not None and reply.strangers:
                # Redis has forgotten them, and did nothing.
                for number in reply.strangers:
                    accounts[number - 1].met = False
                await self._introduce(link, accounts, trial)
                reply = await self._run(link, accounts, {**asked, "op": operation}, trial)
                if reply.strangers:
                    raise ValueError("it forgets what it was just told")
        except self._redis.FAILURES as error:
            self._go_alone(error, loop.time())
            return None
        if trial:
            self._come_back()
        return reply

    async def _introduce(self, link: "Link", accounts: Sequence[MirroredAccount], trial: bool) -> None:
        """Tell Redis what this process believes of accounts that it has not heard of."""
        if all(account.met for account in accounts):
            return
        async with link.meeting:
            strangers = [account for account in accounts if not account.met]
            if not strangers:
                return
            now = asyncio.get_running_loop().time()
            with self.lock:
                told = [account.introduction(uuid.uuid4().hex, self._kept(account, now), now) for account in strangers]
            await self._run(link, strangers, {"op": "introduce", "accounts": told}, trial)
            if not self.degraded or trial:
                for account in strangers:
                    account.met, account.stale = True, frozenset()

    async def _run(
        self, link: "Link", accounts: Sequence[MirroredAccount], asked: dict[str, Any], trial: bool
    ) -> Reply:
        async with link.gate:
            if self.degraded and not trial:
                raise ConnectionError("there was no answer to others")
            asked["lives"] = [account.life for account in accounts]
            reply = await link.run([account.key for account in accounts], asked)
        now = asyncio.get_running_loop().time()
        with self.lock:
            # What comes late, when the windows are kept here already, is no picture of them any more.
            if not self.degraded or trial:
                for account, state in zip(accounts, reply.states, strict=False):
                    account.mirror(state, reply.moment, now)
        return reply

    def _link(self, loop: asyncio.AbstractEventLoop) -> "Link":
        link = self._links.get(loop)
        if link is None:
            # Loops that were closed without shutting down left their links behind.
            for old in [old for old in self._links if old.is_closed()]:
                del self._links[old]
            link = self._links[loop] = self._redis.Link(self._url, self._links)
        return link

    def _kept(self, account: MirroredAccount, now: float) -> list[Kept]:
        """Return what the runs of this process hold on an account."""
        held = ((hold, until, hold.needs.get(account.key)) for hold, until in self._holds.values())
        return [Kept(hold.id, *need, max(0.0, until - now)) for hold, until, need in held if need is not None]

    def _count_holds(self) -> None:
        """While the windows are kept here, count the holds of this process only: nobody says when others end."""
        if not self.degraded:
            return
        for account in self.accounts.values():
            needs = [hold.needs.get(account.key, (0, 0)) for hold, _ in self._holds.values()]
            account.held_tokens = sum(tokens for tokens, _ in needs)
            account.held_requests = sum(requests for _, requests in needs)

    def _go_alone(self, error: BaseException, now: float) -> None:
        with self.lock:
            self._try_at = now + _RETRY
            for account in map(self._mine, self.accounts):
                account.met = False
                if not self.degraded:
                    account.stale = frozenset(self._holds)
            if self.degraded:
                return
            self.degraded = True
            self._count_holds()
            for key in self.accounts:
                self.queue.nudge(key)
        _LOG.warning(
            "Redis at %s cannot be used (%s): rate-limit windows are kept in this process until it is back",
            shown(self._url),
            reason(error, self._url),
        )

    def _come_back(self) -> None:
        with self.lock:
            was, self.degraded = self.degraded, False
        if was:
            _LOG.info("Redis at %s is back: rate-limit windows are kept there again", shown(self._url))


_SHARED: dict[str, SharedLimiter] = {}
_OWN: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedLimiter]] = WeakKeyDictionary()
_OPENING = threading.Lock()


def shared_limiter(url: str) -> SharedLimiter:
    """Return the limiter of the server at `url`: one for the process, but for loops that keep a time of their own.

    Raises:
        ConfigError: the address cannot be one, or the package for Redis is missing.
    """
    loop = asyncio.get_running_loop()
    with _OPENING:
        limiters = _OWN.setdefault(loop, {}) if getattr(loop, "own_clock", False) else _SHARED
        limiter = limiters.get(url)
        if limiter is None:
            limiter = limiters[url] = SharedLimiter(url)
        return limiter
