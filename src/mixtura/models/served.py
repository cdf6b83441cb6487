"""How the engine finds a model: `Models`, the model ready to be called (`Served`), and where its calls are counted."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

import msgspec

from mixtura.limits.account import Account
from mixtura.limits.current import current_limiter
from mixtura.limits.failsafe import FailSafe
from mixtura.limits.limiter import Limiter
from mixtura.limits.window import Limits
from mixtura.models.base import ChatModel
from mixtura.models.card import ModelCard
from mixtura.models.place import ANYWHERE, Place
from mixtura.secret import NO_SECRET, Secret


class Accounting(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """Where the calls of one key and model are counted.

    Attributes:
        key: names the account. Neither it nor `group` shows the API key.
        group: what all models of the same server and API key share.
        limits: the windows, as far as they are known.
        known: the user or the provider stated the limits; otherwise they are the catalogue's guess.
        plans: the limits of every plan in the catalogue.
        keeper: the limiter that was handed in; None for the one that `redis` or the event loop determines.
        redis: URL of the Redis server that keeps the windows for several processes; an empty one for none.
    """

    key: str
    group: str
    limits: Limits | None = None
    known: bool = False
    plans: tuple[Limits, ...] = ()
    keeper: Limiter | None = None
    redis: Secret = NO_SECRET

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "redis", Secret.of_address(self.redis))
        _LIVING[id(self)] = self

    def limiter(self) -> Limiter:
        """Return the limiter that counts the calls; without a `keeper` a running event loop is needed.

        Raises:
            ConfigError: `redis` is not the URL of a Redis server, or the package for Redis is missing.
        """
        return current_limiter(self.redis) if self.keeper is None else self.keeper

    def account(self, limiter: Limiter) -> Account:
        """Return the account in `limiter`, opened if need be; one without limits where the limiter fails."""
        account = limiter.accounts.get(self.key)
        if account is None or (self.known and not account.known):
            with FailSafe(limiter):
                return self.open(limiter)
            return Account(self.key)
        return account

    def open(self, limiter: Limiter) -> Account:
        """Open the account in `limiter` and return it; raises what the limiter raises."""
        limiter.drop_idle(_in_use)
        return limiter.account(self.key, self.limits, known=self.known, plans=self.plans)


# By identity: of two that are equal each counts as long as it lives.
_LIVING: WeakValueDictionary[int, Accounting] = WeakValueDictionary()


def _in_use() -> set[str]:
    return {name for living in list(_LIVING.values()) for name in (living.key, living.group)}


class Served(NamedTuple):
    """A model ready to be called.

    Attributes:
        chat: the model.
        card: what is known about it.
        accounting: where its calls are counted; None: nowhere.
        partial: it streams a reply that is not watched where `CallContext.partial` asks for it, and attaches a reader.
        place: where its calls are served.
        begins: it says itself when a call begins (`CallContext.begin`): until then the call waits its turn.
        answers: asks its server for a sign of life beside its calls; None where that cannot be asked.
        notes: what a reader of the answer may want to know of how it is reached, in sentences.
    """

    chat: ChatModel
    card: ModelCard
    accounting: Accounting | None = None
    partial: bool = False
    place: Place = ANYWHERE
    begins: bool = False
    answers: Callable[[], Awaitable[bool]] | None = None
    notes: tuple[str, ...] = ()


class Models(Protocol):
    """Finds the model that answers for (provider, model); the engine's only way to a model."""

    def find(self, provider: str, model: str) -> Served:
        """Return the model. An unknown id is still served: only the provider can know.

        Raises:
            ConfigError: the provider is unknown, or its key is missing.
        """
        ...

    def card(self, provider: str, model: str) -> ModelCard:
        """Return what is known about the model; needs no key and no provider, and never fails."""
        ...

    def replacement(self, provider: str, model: str) -> str | None:
        """Return the id that the catalogue names in place of `model`, None when it names none."""
        ...
