"""How many mixtures a minute and a day the rate limits of a plan allow: arithmetic, before anything is sent.

Calls are counted as a run counts them (`demand.py`): each prompt with the most its reply may have, drafts of the usual
length, every call of the recipe made, the escalation too. Windows are empty, and drain all the time.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from mixtura.chat import ChatRequest, Completion, Message
from mixtura.errors import ConfigError
from mixtura.kinds import CallRole
from mixtura.limits.limiter import Limiter
from mixtura.limits.window import DIMENSIONS, Dimension, Limits
from mixtura.models.base import Emit
from mixtura.models.card import ModelCard
from mixtura.models.served import Accounting, Models, Served
from mixtura.planning import demand
from mixtura.planning.forecast import forecast
from mixtura.planning.schedule import replace_slots
from mixtura.recipe import Recipe, Slot

LimitsOf = Callable[[str, str], Limits | None]
"""Gives the limits of (provider, model), None where none are known."""

_MINUTES = 1440
_MINUTE: tuple[Dimension, ...] = ("rpm", "tpm")
_DAY: tuple[Dimension, ...] = ("rpd", "tpd")
# Stands in where nothing is known, so that the calls are counted all the same.
_BOUNDLESS = Limits(tpd=1 << 62)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What a mixture asks of one model, and how many of them each of its windows allows.

    Attributes:
        calls: calls a mixture.
        tokens: their prompts and the most their replies may have.
        largest: tokens of the largest of them.
        limits: the windows; None when none are known.
        allows: mixtures that each window allows in its length; none where a call of them can never fit it.
        excess: tokens that the largest call asks for beyond the smallest window, 0 when it fits.
    """

    provider: str
    model: str
    calls: int
    tokens: int
    largest: int
    limits: Limits | None = None
    allows: dict[Dimension, float] = {}
    excess: int = 0


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """How many mixtures fit into a minute or a day, and the window that says so.

    `limit` is its size; a day without windows of its own is bound by the minute's.
    """

    mixtures: float
    provider: str
    model: str
    dimension: Dimension
    limit: int


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What the rate limits of a plan allow of one recipe.

    Attributes:
        minute, day: mixtures in the long run; None when no such window is known. Where only those of a minute are, its
            minutes make the day.
        at_once: how many can begin at the same moment, from empty windows; None when no limit is known. 0 when not
            even one fits at once: its calls are then sent one after the other as the windows drain.
        spread: seconds that one mixture alone has to wait for the windows of a minute, 0 when it fits them.
        dollars: what a day's mixtures cost at most; None when no price or no limit is known.
        shares: one a model, in the order they are asked.
        unknown: models without known limits, which are left out.
    """

    recipe: str
    minute: Bound | None
    day: Bound | None
    at_once: int | None
    spread: float
    dollars: float | None
    shares: list[Share]
    unknown: list[str]


def capacity(recipe: Recipe, question_tokens: int, models: Models, limits_of: LimitsOf) -> Capacity:
    """Return how many mixtures of `recipe` fit the windows that `limits_of` tells; no key is needed.

    Args:
        recipe: what is run.
        question_tokens: the estimated prompt tokens of each question.
        models: only their cards are read.
        limits_of: the windows of each model.
    """
    counted = _Counted(models, limits_of)
    conversation = [_of_size(question_tokens)]
    found = demand.demands(recipe, conversation, counted)
    slots: dict[tuple[str, str], list[demand.Demand]] = {}
    for one in found:
        slots.setdefault((one.call.slot.provider, one.call.slot.model), []).append(one)
    shares = [_share(*name, demands, limits_of(*name)) for name, demands in slots.items()]
    bounds = [bound for share in shares for bound in _bounds(share)]
    minute = _least([bound for bound in bounds if bound.dimension in _MINUTE])
    day = _least([bound for bound in bounds if bound.dimension in _DAY])
    if minute is not None and (day is None or minute.mixtures * _MINUTES < day.mixtures):
        day = msgspec.structs.replace(minute, mixtures=minute.mixtures * _MINUTES)
    cost = forecast(recipe, conversation, models)
    return Capacity(
        recipe=recipe.name,
        minute=minute,
        day=day,
        at_once=_at_once(found),
        spread=_spread(shares),
        dollars=None if day is None or cost.cost is None or cost.unpriced else cost.cost * day.mixtures,
        shares=shares,
        unknown=[share.model for share in shares if share.limits is None],
    )


def with_substitutes(recipe: Recipe, instead: Mapping[tuple[str, str], str]) -> Recipe:
    """Return `recipe` with other models in the place of those that `instead` names by (provider, model)."""

    def replaced(slot: Slot, _role: CallRole) -> Slot:
        return msgspec.structs.replace(slot, model=instead.get((slot.provider, slot.model), slot.model))

    return replace_slots(recipe, replaced)


def _share(provider: str, model: str, demands: Sequence[demand.Demand], limits: Limits | None) -> Share:
    calls, tokens = len(demands), sum(one.size for one in demands)
    largest = max(one.size for one in demands)
    allows: dict[Dimension, float] = {}
    smallest: float = math.inf
    for name in DIMENSIONS:
        limit = getattr(limits, name) if limits is not None else None
        if limit is None:
            continue
        counts_tokens = name.startswith("t")
        if counts_tokens:
            smallest = min(smallest, limit)
        fits = largest <= limit if counts_tokens else limit >= 1
        allows[name] = limit / (tokens if counts_tokens else calls) if fits else 0.0
    return Share(
        provider=provider,
        model=model,
        calls=calls,
        tokens=tokens,
        largest=largest,
        limits=limits if allows else None,
        allows=allows,
        excess=int(max(0.0, largest - smallest)),
    )


def _bounds(share: Share) -> list[Bound]:
    return [
        Bound(
            mixtures=mixtures,
            provider=share.provider,
            model=share.model,
            dimension=name,
            limit=getattr(share.limits, name),
        )
        for name, mixtures in share.allows.items()
    ]


def _least(bounds: Sequence[Bound]) -> Bound | None:
    return min(bounds, key=lambda bound: bound.mixtures, default=None)


def _at_once(found: Sequence[demand.Demand]) -> int | None:
    """Return how many runs are admitted at one moment with all they hold, None when nothing limits them."""
    limited = [one for one in found if one.account.limits != _BOUNDLESS]
    held = {need.account: need for need in demand.needs(limited)}
    if demand.never(limited) is not None or any(one.call.held and one.account.key not in held for one in limited):
        return 0
    fits = [
        bucket.window.limit
        // (held[one.account.key].tokens if name.startswith("t") else held[one.account.key].requests)
        for one in limited
        if one.call.held
        for name, bucket in one.account.buckets.items()
    ]
    return int(min(fits)) if fits else None


def _spread(shares: Sequence[Share]) -> float:
    """Return the seconds that the windows of a minute need to take in one mixture, beyond what they hold at once."""
    waits = [0.0]
    for share in shares:
        if share.limits is not None and share.limits.tpm:
            waits.append((share.tokens / share.limits.tpm - 1) * 60)
        if share.limits is not None and share.limits.rpm:
            waits.append((share.calls / share.limits.rpm - 1) * 60)
    return max(waits)


class _Counted:
    """Models whose calls can be counted and not made: their windows are those of a plan, and empty."""

    def __init__(self, models: Models, limits_of: LimitsOf) -> None:
        self._models = models
        self._limits_of = limits_of
        self._limiter = Limiter()

    def find(self, provider: str, model: str) -> Served:
        limits = self._limits_of(provider, model)
        if limits is None or limits == Limits():
            limits = _BOUNDLESS
        accounting = Accounting(
            key=f"{provider}/{model}", group=provider, limits=limits, known=True, keeper=self._limiter
        )
        return Served(_Uncallable(), self.card(provider, model), accounting)

    def card(self, provider: str, model: str) -> ModelCard:
        return self._models.card(provider, model)

    def replacement(self, provider: str, model: str) -> str | None:
        return self._models.replacement(provider, model)


class _Uncallable:
    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        raise ConfigError(f"{request.model} is only counted here, not asked")


def _of_size(tokens: int) -> Message:
    """Return a question whose prompt is estimated at `tokens`, as far as a prompt can be so short."""
    template = 5
    return Message(role="user", content="w " * max(1, tokens - template))
