"""How the engine finds a model: `Models`, the model ready to be called (`Served`), and where its calls are counted."""

from typing import NamedTuple, Protocol

import msgspec

from mixtura.limits.account import Account
from mixtura.limits.limiter import Limiter, current_limiter
from mixtura.limits.window import Limits
from mixtura.models.base import ChatModel
from mixtura.models.card import ModelCard


class Accounting(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls of one key and model are counted.

    `key` names the account, `group` what all models of that provider and key share; neither shows the key itself.
    `limits` are its windows as far as they are known, `known` whether somebody told them (else they are the
    catalogue's guess), `plans` the limits of every plan. `redis` is the URL of the server where the windows are kept
    for several processes; without one they are kept in this process.
    """

    key: str
    group: str
    limits: Limits | None = None
    known: bool = False
    plans: tuple[Limits, ...] = ()
    redis: str = ""

    def limiter(self) -> Limiter:
        """Return who keeps the windows; call it in a running event loop."""
        if not self.redis:
            return current_limiter()
        from mixtura.limits.redis.limiter import shared_limiter

        return shared_limiter(self.redis)

    def account(self, limiter: Limiter) -> Account:
        """Return the account in `limiter`, opened if need be."""
        account = limiter.accounts.get(self.key)
        if account is None or (self.known and not account.known):
            return limiter.account(self.key, self.limits, known=self.known, plans=self.plans)
        return account


class Served(NamedTuple):
    """A model ready to be called.

    Attributes:
        chat: the model.
        card: what is known about it.
        accounting: where its calls are counted; None: nowhere.
        partial: it streams a reply that is not watched where `CallContext.partial` asks for it, and attaches a reader.
    """

    chat: ChatModel
    card: ModelCard
    accounting: Accounting | None = None
    partial: bool = False


class Models(Protocol):
    """Finds who answers for (provider, model); the engine's only way to a model."""

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
