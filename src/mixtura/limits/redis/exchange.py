"""Running the script of Redis for accounts, and going on without Redis while it cannot be used."""

import asyncio
import logging
import math
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from mixtura.forks import never_finalize
from mixtura.limits.account import Account
from mixtura.limits.redis import connection
from mixtura.limits.redis.connection import RedisConnection
from mixtura.limits.redis.snapshot import AccountReplica, HeldNeed, ScriptAnswer
from mixtura.limits.redis.url import failure_text, without_password
from mixtura.limits.store import Reservation
from mixtura.secret import Secret

# Seconds until Redis is tried again after it could not be used.
_RETRY = 5.0

_LOG = logging.getLogger("mixtura")


class OpenReservations:
    """The reservations of this process's runs, from which Redis is given back what it has lost."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Reservation, float]] = {}

    def add(self, reservation: Reservation, until: float) -> None:
        """Add one, or change the event-loop time `until` which it stays."""
        self._open[reservation.id] = (reservation, until)

    def remove(self, reservation: Reservation) -> None:
        """Remove one that has ended, if it is here."""
        self._open.pop(reservation.id, None)

    def clear(self) -> None:
        """Remove all of them: they belong to another process."""
        self._open.clear()

    def ids(self) -> frozenset[str]:
        """Return the ids of all that are open."""
        return frozenset(self._open)

    def on(self, account: str, now: float) -> list[HeldNeed]:
        """Return what they hold on one account."""
        held = ((one, until, one.needs.get(account)) for one, until in self._open.values())
        return [HeldNeed(one.id, *need, max(0.0, until - now)) for one, until, need in held if need is not None]

    def count_into(self, account: Account) -> None:
        """Set what `account` counts as held to the holds of this process: those of others end unnoticed."""
        needs = [one.needs.get(account.key, (0, 0)) for one, _ in self._open.values()]
        account.held_tokens = sum(tokens for tokens, _ in needs)
        account.held_requests = sum(requests for _, requests in needs)


class ScriptExchange:
    """Runs the script on the server at `url`, and keeps the accounts of this process in step with its answers.

    While Redis cannot be used the exchange is `degraded`: nothing is asked of Redis but by one operation every few
    seconds, which tries whether it is back.

    Args:
        url: the server's address.
        accounts: the accounts of this process, all of them `AccountReplica`s.
        lock: guards them against other threads.
    """

    def __init__(self, url: Secret, accounts: Mapping[str, Account], lock: "threading.RLock") -> None:
        # A wrong address is better reported now than at the first call.
        connection.check(url)
        self._url = url
        self._accounts = accounts
        self._lock = lock
        self._try_at = -math.inf
        self.degraded = False
        self.reservations = OpenReservations()
        self.changed: Callable[[str], None] = lambda key: None
        self.connections: WeakKeyDictionary[asyncio.AbstractEventLoop, RedisConnection] = WeakKeyDictionary()

    async def ask(
        self, operation: str, accounts: Sequence[AccountReplica], request: dict[str, Any]
    ) -> ScriptAnswer | None:
        """Run `operation` ("": only see that both sides know the same) and apply its answer.

        Returns:
            None while Redis cannot be used: the operation has to be done in this process.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            trial = self.degraded
            if trial:
                if loop.time() < self._try_at:
                    return None
                # One operation at a time tries; the others need not wait for it.
                self._try_at = loop.time() + _RETRY
            server = self._connection(loop)
        answer: ScriptAnswer | None = None
        try:
            await self._introduce(server, accounts, trial)
            if operation:
                answer = await self._run(server, accounts, {**request, "op": operation}, trial)
            if answer is not None and answer.unknown:
                # Redis has lost these accounts, and did nothing.
                for number in answer.unknown:
                    accounts[number - 1].synced = False
                await self._introduce(server, accounts, trial)
                answer = await self._run(server, accounts, {**request, "op": operation}, trial)
                if answer.unknown:
                    raise ValueError("it loses the accounts that it was just sent")
        except connection.FAILURES as error:
            self._degrade(error, loop.time())
            return None
        if trial:
            self._recover()
        return answer

    def forget(self) -> None:
        """Drop, in a forked process, the parent's connections and holds."""
        for server in self.connections.values():
            never_finalize(server)
        self.connections.clear()
        self.reservations.clear()
        self.recount()

    def recount(self) -> None:
        """While the windows are kept here, count the holds of this process only."""
        if self.degraded:
            for account in self._accounts.values():
                self.reservations.count_into(account)

    async def _introduce(self, server: RedisConnection, accounts: Sequence[AccountReplica], trial: bool) -> None:
        """Send Redis what this process knows of accounts that are out of step with it."""
        if all(account.synced for account in accounts):
            return
        async with server.introducing:
            unknown = [account for account in accounts if not account.synced]
            if not unknown:
                return
            now = asyncio.get_running_loop().time()
            with self._lock:
                introductions = [
                    account.introduction(uuid.uuid4().hex, self.reservations.on(account.key, now), now)
                    for account in unknown
                ]
            await self._run(server, unknown, {"op": "introduce", "accounts": introductions}, trial)
            if not self.degraded or trial:
                for account in unknown:
                    account.synced, account.ended_holds = True, frozenset()

    async def _run(
        self, server: RedisConnection, accounts: Sequence[AccountReplica], request: dict[str, Any], trial: bool
    ) -> ScriptAnswer:
        async with server.commands:
            if self.degraded and not trial:
                raise ConnectionError("it did not answer another command")
            request["lives"] = [account.life for account in accounts]
            answer = await server.run([account.key for account in accounts], request)
        now = asyncio.get_running_loop().time()
        with self._lock:
            # An answer that comes when the windows are kept here already is out of date.
            if not self.degraded or trial:
                for account, state in zip(accounts, answer.states, strict=False):
                    account.apply(state, answer.moment, now)
        return answer

    def _connection(self, loop: asyncio.AbstractEventLoop) -> RedisConnection:
        server = self.connections.get(loop)
        if server is None:
            # Loops that were closed without shutting down left their connections behind.
            for old in [old for old in self.connections if old.is_closed()]:
                del self.connections[old]
            server = self.connections[loop] = RedisConnection(self._url, self.connections)
        return server

    def _degrade(self, error: BaseException, now: float) -> None:
        with self._lock:
            self._try_at = now + _RETRY
            ended = frozenset() if self.degraded else self.reservations.ids()
            for account in self._accounts.values():
                assert isinstance(account, AccountReplica)
                account.synced = False
                account.ended_holds = account.ended_holds if self.degraded else ended
            if self.degraded:
                return
            self.degraded = True
            self.recount()
            for key in self._accounts:
                self.changed(key)
        _LOG.warning(
            "Redis at %s cannot be used (%s): rate-limit windows are kept in this process until it is back",
            without_password(self._url),
            failure_text(error, self._url),
        )

    def _recover(self) -> None:
        with self._lock:
            was, self.degraded = self.degraded, False
        if was:
            _LOG.info("Redis at %s is back: rate-limit windows are kept there again", without_password(self._url))
