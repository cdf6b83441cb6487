"""What a run is expected to take: seconds and tokens of its calls, as measured on the models' latest calls.

Before enough was measured, a model is expected to be as fast as its card predicts, else as its provider publishes, and
a draft to be of the usual length. These are guesses for planning; no run is refused for want of a measurement.
"""

import math

from mixtura.limits.account import Account
from mixtura.limits.latency import ENOUGH
from mixtura.models.served import Models
from mixtura.planning.schedule import PlannedCall, Schedule, output_limit
from mixtura.recipe import Slot

USUAL_DRAFT = 400
"""Tokens of a draft or answer while nothing is known: recorded replies to questions have 100 to 600."""

_USUAL_WAIT = 0.3
_USUAL_SPEED = 100.0
_NINETIETH = 1.2815515655446004  # standard normal quantile: 80 % lie between minus and plus this


def account_of(models: Models, provider: str, model: str) -> Account | None:
    """Return where calls of a model are counted, None when nowhere."""
    accounting = models.find(provider, model).accounting
    return None if accounting is None else accounting.account(accounting.limiter())


def reply_tokens(models: Models, call: PlannedCall) -> int:
    """Return how many tokens the reply to `call` is expected to have."""
    slot = call.slot
    account = account_of(models, slot.provider, slot.model)
    measured = account.latency.tokens if account is not None else None
    known = measured.at(0.75) if measured is not None and len(measured) >= ENOUGH else None
    limit = output_limit(slot, models.card(slot.provider, slot.model), call.role, call.options)
    expected = int(known) if known is not None else USUAL_DRAFT
    return expected if limit is None else min(expected, limit)


def call_seconds(models: Models, call: PlannedCall) -> float:
    """Return how many seconds `call` is expected to take, waiting for room not counted."""
    slot = call.slot
    known = _measured(models, slot)
    if known is not None:
        return known
    card = models.card(slot.provider, slot.model)
    if card.predicted is not None:
        return card.predicted.seconds(reply_tokens(models, call))
    return _USUAL_WAIT + reply_tokens(models, call) / (card.speed or _USUAL_SPEED)


def has_predictions(models: Models, planned: Schedule) -> bool:
    """Say whether the card of any model of the run predicts its times."""
    return any(models.card(call.slot.provider, call.slot.model).predicted is not None for call in planned.calls)


def stage_seconds(models: Models, planned: Schedule) -> list[float]:
    """Return the seconds that each stage of the run is expected to take: those of its slowest call.

    Calls that wait for each other (`Place.queues`) take as long as all of them together.
    """
    found = [0.0] * len(planned.stages)
    queued: dict[tuple[int, str], float] = {}
    for call in planned.calls:
        took, place = call_seconds(models, call), models.find(call.slot.provider, call.slot.model).place
        if place.queues:
            took = queued[call.stage, place.name] = queued.get((call.stage, place.name), 0.0) + took
        found[call.stage] = max(found[call.stage], took)
    return found


def describe_seconds(models: Models, planned: Schedule) -> str:
    """Return how long the run is expected to take, in words: a range where it hangs on predictions."""
    expected = sum(stage_seconds(models, planned))
    used = [
        card.predicted.spread
        for call in planned.calls
        if (card := models.card(call.slot.provider, call.slot.model)).predicted is not None
        and _measured(models, call.slot) is None
    ]
    if not used:
        return f"{expected:.2g} s"
    factor = math.exp(_NINETIETH * max(used))
    return f"{expected:.2g} s (predicted, {expected / factor:.2g} to {expected * factor:.2g})"


def _measured(models: Models, slot: Slot) -> float | None:
    """Return the seconds that calls of a model take by what was measured, None while that is too little."""
    account = account_of(models, slot.provider, slot.model)
    measured = account.latency.total if account is not None else None
    return measured.at(0.5) if measured is not None and len(measured) >= ENOUGH else None
