"""Where rate-limit windows are kept: `WindowStore` is all that `Limiter` asks of a store.

`MemoryStore` (memory.py) keeps the windows of one process, `RedisStore` (redis/store.py) those of many processes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from mixtura.chat import RateLimitHeaders
from mixtura.errors import Exceeded
from mixtura.limits.account import Account, Quote, SentCall
from mixtura.limits.queue import Need, Priority
from mixtura.limits.window import Limits


class NoRoomError(Exception):
    """A demand does not fit in time; `quote` says when it would, inf for never."""

    def __init__(self, quote: Quote) -> None:
        self.quote = quote
        super().__init__(f"no room for another {quote.wait:.4g} s")


class Reservation:
    """Room that a store has promised to one run: tokens and requests by account, as far as they are not sent yet.

    Attributes:
        id: unique among all processes that share the windows.
        lifetime: seconds after which a store that outlives this process may give the room to others.
        needs: (tokens, requests) by account.
    """

    __slots__ = ("id", "lifetime", "needs")

    def __init__(self, number: str, lifetime: float) -> None:
        self.id = number
        self.lifetime = lifetime
        self.needs: dict[str, tuple[int, int]] = {}

    def tokens(self, account: str) -> int:
        """Return the tokens still reserved on `account`."""
        return self.needs.get(account, (0, 0))[0]

    def add(self, account: str, tokens: int, requests: int) -> None:
        """Add to what is reserved on `account`; negative amounts take away."""
        before = self.needs.get(account, (0, 0))
        self.needs[account] = (before[0] + tokens, before[1] + requests)


class WindowStore(Protocol):
    """Keeps accounts and their windows. Times are event-loop times.

    A store must not raise because it cannot reach what it stands on: it then keeps the windows in this process, and
    says so by `degraded`.
    """

    @property
    def accounts(self) -> Mapping[str, Account]:
        """All accounts by key. They may be read, and are changed by the store alone, but for `owed_tokens`."""
        ...

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Guards the accounts against other threads; re-entrant, and never held across an await."""
        ...

    @property
    def knows_limits(self) -> bool:
        """Whether the limits of any account may be known for certain."""
        ...

    @property
    def degraded(self) -> bool:
        """Whether windows that should be shared are kept in this process for now."""
        ...

    @property
    def longest_sleep(self) -> float:
        """Seconds after which the first in the queue has to ask again, because nothing else tells it of new room."""
        ...

    def new_id(self) -> str:
        """Return an id for a reservation or a ticket, unique among all processes that share the windows."""
        ...

    def watch(self, changed: Callable[[str], None]) -> None:
        """Call `changed` with an account's key when its room may have grown other than by an operation below."""
        ...

    def account(
        self, key: str, limits: Limits | None = None, *, known: bool = False, plans: Sequence[Limits] = ()
    ) -> Account:
        """Return the account of `key`; the other arguments count when it is opened, or when they make limits known."""
        ...

    def drop(self, keys: Sequence[str]) -> None:
        """Forget accounts in this process; they are opened anew when they are needed. Called under the lock."""
        ...

    async def sync(self, accounts: Sequence[Account]) -> None:
        """Exchange what this process and the store know of `accounts`; called where `Account.synced` is false."""
        ...

    async def book(self, reservation: Reservation, needs: Sequence[Need], ticket: str, priority: Priority) -> Quote:
        """Add `needs` to `reservation` if all of them fit now; otherwise reserve nothing and say when they would."""
        ...

    async def take(
        self, account: Account, tokens: int, reservation: Reservation | None, ticket: str, priority: Priority
    ) -> SentCall:
        """Count one call of `tokens` as sent, out of `reservation` as far as that goes.

        Raises:
            NoRoomError: it does not fit now.
        """
        ...

    async def learn(self, call: SentCall, headers: RateLimitHeaders | None) -> None:
        """Take over what the head of a call's reply states, None for nothing: `settle` counts its outcome later."""
        ...

    async def settle(
        self, call: SentCall, *, headers: RateLimitHeaders | None, actual: int | None, cached: int, excess: int
    ) -> None:
        """Count the outcome of an answered call, see `Account.settle`; `cached` prompt tokens are given back."""
        ...

    async def refused(self, call: SentCall, *, exceeded: Exceeded | None, wait: float) -> None:
        """Take back what a refused call took, and learn from the refusal, see `Account.learn_refusal`."""
        ...

    async def release(self, reservation: Reservation) -> None:
        """Give back all that `reservation` still holds."""
        ...

    def forget(self) -> None:
        """Drop, in a forked process, what belongs to calls and runs of the parent. Nothing may be sent."""
        ...

    async def leave(self, ticket: str) -> None:
        """Forget `ticket`, which a `book` or `take` without room may have queued behind those of other processes."""
        ...
