"""What a run is expected to take: seconds and tokens of its calls, as measured on the models' latest calls.

Before enough was measured, a model is expected to be as fast as its card predicts, else as its provider publishes, and
a draft to be of the usual length. These are guesses for planning; nothing is refused for want of a measurement.
"""

import math

from mixtura.engine import calls
from mixtura.events import Role
from mixtura.limits.account import Account
from mixtura.limits.latency import ENOUGH
from mixtura.models.served import Models
from mixtura.recipe import Proposer, Recipe

USUAL_DRAFT = 400
"""Tokens of a draft or answer while nothing is known: recorded replies to questions have 100 to 600."""

_USUAL_WAIT = 0.3
_USUAL_SPEED = 100.0
_NINETIETH = 1.2815515655446004  # standard normal quantile: 80 % lie between minus and plus this


def account_of(models: Models, provider: str, model: str) -> Account | None:
    """Return where calls of a model are counted, None when nowhere."""
    accounting = models.find(provider, model).accounting
    return None if accounting is None else accounting.account(accounting.limiter())


def tokens(models: Models, slot: calls.Slot, role: Role) -> int:
    """Return how many tokens a reply of `slot` is expected to have."""
    account = account_of(models, slot.provider, slot.model)
    measured = account.latency.tokens if account is not None else None
    known = measured.at(0.75) if measured is not None and len(measured) >= ENOUGH else None
    limit = calls.max_tokens(slot, models.card(slot.provider, slot.model), role)
    expected = int(known) if known is not None else USUAL_DRAFT
    return expected if limit is None else min(expected, limit)


def seconds(models: Models, slot: calls.Slot, role: Role) -> float:
    """Return how many seconds a call of `slot` is expected to take, waiting for room not counted."""
    known = _measured(models, slot)
    if known is not None:
        return known
    card = models.card(slot.provider, slot.model)
    if card.predicted is not None:
        return card.predicted.seconds(tokens(models, slot, role))
    return _USUAL_WAIT + tokens(models, slot, role) / (card.speed or _USUAL_SPEED)


def predicts(models: Models, recipe: Recipe) -> bool:
    """Say whether the times of any model of `recipe` are predicted."""
    return any(models.card(slot.provider, slot.model).predicted is not None for slot in calls.slots(recipe))


def stages(models: Models, recipe: Recipe) -> list[float]:
    """Return the seconds each stage of `recipe` is expected to take: layers, escalation, reviews, aggregator."""
    found = [_slowest(models, layer.proposers, "proposer") for layer in recipe.layers]
    if recipe.escalate is not None:
        found.append(_slowest(models, recipe.escalate.proposers, "escalation"))
    aggregator = recipe.aggregator
    if aggregator is not None:
        if aggregator.kind == "rank":
            found.append(_slowest(models, recipe.layers[-1].proposers, "reviewer"))
        if aggregator.model:
            found.append(seconds(models, aggregator, "selector" if aggregator.kind == "select" else "aggregator"))
    return found


def in_words(models: Models, recipe: Recipe) -> str:
    """Return how long `recipe` is expected to take, in words: a range where it hangs on predictions."""
    expected = sum(stages(models, recipe))
    used = [
        card.predicted.spread
        for slot in calls.slots(recipe)
        if (card := models.card(slot.provider, slot.model)).predicted is not None and _measured(models, slot) is None
    ]
    if not used:
        return f"{expected:.2g} s"
    factor = math.exp(_NINETIETH * max(used))
    return f"{expected:.2g} s (predicted, {expected / factor:.2g} to {expected * factor:.2g})"


def _measured(models: Models, slot: calls.Slot) -> float | None:
    """Return the seconds that calls of a model take by what was measured, None while that is too little."""
    account = account_of(models, slot.provider, slot.model)
    measured = account.latency.total if account is not None else None
    return measured.at(0.5) if measured is not None and len(measured) >= ENOUGH else None


def _slowest(models: Models, slots: tuple[Proposer, ...], role: Role) -> float:
    return max(seconds(models, slot, role) for slot in slots)
