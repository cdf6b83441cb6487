"""Smaller runs to fall back to when a recipe does not fit its limits or its budget: each a recipe of its own."""

from collections.abc import Iterator

import msgspec

from mixtura.engine import calls
from mixtura.events import Role
from mixtura.models.served import Models
from mixtura.recipe import Aggregator, Fallback, Layer, Proposer, Recipe

# Output limits are halved, and halved again; less than this makes answers that end in the middle.
_SHARES = (0.5, 0.25)
_LEAST_OUTPUT, _LEAST_REASONING = 256, 768


def shrunk(recipe: Recipe, models: Models) -> Iterator[tuple[Recipe, str]]:
    """Yield `recipe` with smaller output limits, and what was done in words."""
    for share in _SHARES:

        def less(slot: calls.Slot, role: Role, share: float = share) -> int | None:
            card = models.card(slot.provider, slot.model)
            limit = calls.max_tokens(slot, card, role)
            if limit is None:
                return None
            return min(limit, max(int(limit * share), _LEAST_REASONING if card.reasons else _LEAST_OUTPUT))

        def smaller(layer: Layer, role: Role) -> Layer:
            return Layer(
                proposers=tuple(msgspec.structs.replace(slot, max_tokens=less(slot, role)) for slot in layer.proposers)
            )

        aggregator = recipe.aggregator
        if aggregator is not None and aggregator.model:
            role: Role = "selector" if aggregator.kind == "select" else "aggregator"
            aggregator = msgspec.structs.replace(aggregator, max_tokens=less(aggregator, role))
        variant = msgspec.structs.replace(
            recipe,
            layers=tuple(smaller(layer, "proposer") for layer in recipe.layers),
            escalate=None if recipe.escalate is None else smaller(recipe.escalate, "escalation"),
            aggregator=aggregator,
        )
        if variant != recipe:
            yield variant, f"output limits cut to {share:.0%}"


def swapped(recipe: Recipe, models: Models, crowded: str) -> Iterator[tuple[Recipe, str]]:
    """Yield `recipe` with the proposers of the model `crowded` moved to its fall-backs, or to the other proposers'."""
    slots = [slot for layer in recipe.layers for slot in layer.proposers]
    others = [
        *(fallback for slot in slots if slot.model == crowded for fallback in slot.fallbacks),
        *(Fallback(model=slot.model, provider=slot.provider) for slot in slots if slot.model != crowded),
    ]
    for other in dict.fromkeys((other.provider, other.model) for other in others):
        provider, model = other
        efforts = models.card(provider, model).efforts

        def moved(slot: Proposer, other: tuple[str, str] = other, efforts: tuple[str, ...] = efforts) -> Proposer:
            if slot.model != crowded:
                return slot
            effort = slot.reasoning_effort if slot.reasoning_effort in efforts else None
            return msgspec.structs.replace(slot, provider=other[0], model=other[1], reasoning_effort=effort)

        layers = tuple(Layer(proposers=tuple(map(moved, layer.proposers))) for layer in recipe.layers)
        if layers != recipe.layers:
            yield msgspec.structs.replace(recipe, layers=layers), f"{crowded} swapped for {model}"


def fewer(recipe: Recipe, crowded: str) -> Iterator[tuple[Recipe, str]]:
    """Yield `recipe` with fewer proposers, one less each time, those of the model `crowded` first."""
    policy = recipe.policy
    for count in range(max(layer.size for layer in recipe.layers) - 1, policy.min_drafts - 1, -1):
        layers = tuple(Layer(proposers=_keep(layer, count, crowded)) for layer in recipe.layers)
        quorum = None if policy.quorum is None else min(policy.quorum, *(layer.size for layer in layers))
        yield (
            msgspec.structs.replace(recipe, layers=layers, policy=msgspec.structs.replace(policy, quorum=quorum)),
            f"{count} proposer{'s' * (count > 1)} in place of {max(layer.size for layer in recipe.layers)}",
        )


def _keep(layer: Layer, count: int, crowded: str) -> tuple[Proposer, ...]:
    slots = list(layer.slots)
    while len(slots) > count:
        last = max(range(len(slots)), key=lambda place: (slots[place].model == crowded, place))
        del slots[last]
    return tuple(slots)


def single(recipe: Recipe) -> Iterator[tuple[Recipe, str]]:
    """Yield recipes of one model that answers alone: the aggregator's, then each proposer's, the weightiest first."""
    slots = [slot for layer in reversed(recipe.layers) for slot in layer.proposers]
    if recipe.escalate is not None:
        slots = [*recipe.escalate.proposers, *slots]
    slots.sort(key=lambda slot: -slot.weight)
    alone = [_alone(slot) for slot in slots]
    if recipe.aggregator is not None and recipe.aggregator.model:
        alone.insert(0, _alone(recipe.aggregator))
    policy = msgspec.structs.replace(recipe.policy, quorum=None, min_drafts=1)
    told: set[tuple[str, str]] = set()
    for slot in alone:
        if (slot.provider, slot.model) not in told:
            told.add((slot.provider, slot.model))
            yield (
                Recipe(
                    name=recipe.name,
                    description=recipe.description,
                    layers=(Layer(proposers=(slot,)),),
                    policy=policy,
                ),
                f"{slot.model} answers alone",
            )


def _alone(slot: Proposer | Aggregator) -> Proposer:
    if isinstance(slot, Proposer):
        return msgspec.structs.replace(slot, samples=1)
    # Its system prompt is about drafts, and there are none.
    return Proposer(
        model=slot.model,
        provider=slot.provider,
        temperature=slot.temperature,
        top_p=slot.top_p,
        max_tokens=slot.max_tokens,
        seed=slot.seed,
        reasoning_effort=slot.reasoning_effort,
        fallbacks=slot.fallbacks,
    )
