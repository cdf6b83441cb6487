"""The one seam between the engine and whatever can answer: `ChatModel`, and what is known about a model."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from mixtura.chat import ChatRequest, Completion, Delta, Usage
from mixtura.limits.account import Account
from mixtura.limits.admission import Limiter, current_limiter
from mixtura.limits.window import Limits

Emit = Callable[[Delta], None]


class ChatModel(Protocol):
    """Anything that answers a request.

    Behaviour (retries, limits, prices, tracing) is added by wrapping one `ChatModel` in another.
    """

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        """Answer `request` whole.

        Args:
            request: what to ask.
            emit: called with every piece as it arrives; None means nobody watches, so that the reply need
                not be streamed.
            deadline: event-loop time (`loop.time()`) after which the caller has no use for the answer. An
                implementation must not start waits that end later; cancelling at the deadline is the
                caller's part.

        Raises:
            ModelError: the call failed; its class says what may be done.
        """
        ...


class Price(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Dollars per million tokens; `cached` is the price of a cached prompt token, None for no discount."""

    input: float
    output: float
    cached: float | None = None

    def cost(self, usage: Usage) -> float:
        """Dollars for `usage`."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * self.input + usage.cached_tokens * cached + usage.completion_tokens * self.output) / 1e6


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What a call is predicted to take on the machine that serves the model, for as long as too few were measured.

    `first` are seconds to the first token, `token` seconds for each from then on. `spread` is the standard deviation of
    the logarithm of real time over predicted time (0.1: two of three real values lie within about 10 %).

    Raises:
        ValueError: a figure that is no time.
    """

    first: float
    token: float
    spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("first", "token", "spread"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a number of 0 or more, got {value}")

    def seconds(self, tokens: int) -> float:
        """Return the seconds that a reply of `tokens` tokens takes."""
        return self.first + max(0, tokens - 1) * self.token


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known about a model before it is called; everything but the id may be unknown.

    `window` and `max_output` are tokens. `efforts` are the reasoning_effort values it takes (empty: it takes
    none); a model with `reasons` spends completion tokens on thinking. `speed` is tokens a second, as published;
    `predicted` is what the machines that serve it are said to take, and goes before it.
    """

    id: str
    provider: str
    window: int | None = None
    max_output: int | None = None
    price: Price | None = None
    efforts: tuple[str, ...] = ()
    default_effort: str | None = None
    reasons: bool = False
    speed: float | None = None
    predicted: Predicted | None = None


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
        from mixtura.limits.shared import shared_limiter

        return shared_limiter(self.redis)

    def account(self, limiter: Limiter) -> Account:
        """Return the account in `limiter`, opened if need be."""
        account = limiter.accounts.get(self.key)
        if account is None or (self.known and not account.known):
            return limiter.account(self.key, self.limits, known=self.known, plans=self.plans)
        return account


class Served(NamedTuple):
    """A model ready to be called, its card, and where its calls are counted (None: nowhere)."""

    chat: ChatModel
    card: ModelCard
    accounting: Accounting | None = None


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
