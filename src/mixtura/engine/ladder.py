"""Smaller runs to fall back to when a recipe does not fit its limits or its budget: each a recipe of its own."""

from collections.abc import Iterator

import msgspec

from mixtura.engine import calls
from mixtura.events import Role
from mixtura.models.base import Models
from mixtura.recipe import Aggregator, Fallback, Layer, Proposer, Recipe

# Output limits are halved, and halved again; less than this makes answers that end in the middle.
_SHARES = (0.5, 0.25)
_LEAST_OUTPUT, _LEAST_REASONING = 256, 768


def shrunk(recipe: Recipe, models: Models) -> Iterator[tuple[Recipe, str]]:
    """Yield `recipe` with smaller output limits, and what was done in words."""
    for share in _SHARES:

        def less(seat: calls.Seat, role: Role, share: float = share) -> int | None:
            card = models.card(seat.provider, seat.model)
            limit = calls.max_tokens(seat, card, role)
            if limit is None:
                return None
            return min(limit, max(int(limit * share), _LEAST_REASONING if card.reasons else _LEAST_OUTPUT))

        def smaller(layer: Layer, role: Role) -> Layer:
            return Layer(
                proposers=tuple(msgspec.structs.replace(seat, max_tokens=less(seat, role)) for seat in layer.proposers)
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
    seats = [seat for layer in recipe.layers for seat in layer.proposers]
    others = [
        *(fallback for seat in seats if seat.model == crowded for fallback in seat.fallbacks),
        *(Fallback(model=seat.model, provider=seat.provider) for seat in seats if seat.model != crowded),
    ]
    for other in dict.fromkeys((other.provider, other.model) for other in others):
        provider, model = other
        efforts = models.card(provider, model).efforts

        def moved(seat: Proposer, other: tuple[str, str] = other, efforts: tuple[str, ...] = efforts) -> Proposer:
            if seat.model != crowded:
                return seat
            effort = seat.reasoning_effort if seat.reasoning_effort in efforts else None
            return msgspec.structs.replace(seat, provider=other[0], model=other[1], reasoning_effort=effort)

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
    seats = list(layer.seats)
    while len(seats) > count:
        last = max(range(len(seats)), key=lambda place: (seats[place].model == crowded, place))
        del seats[last]
    return tuple(seats)


def single(recipe: Recipe) -> Iterator[tuple[Recipe, str]]:
    """Yield recipes of one model that answers alone: the aggregator's, then each proposer's, the weightiest first."""
    seats = [seat for layer in reversed(recipe.layers) for seat in layer.proposers]
    if recipe.escalate is not None:
        seats = [*recipe.escalate.proposers, *seats]
    seats.sort(key=lambda seat: -seat.weight)
    alone = [_alone(seat) for seat in seats]
    if recipe.aggregator is not None and recipe.aggregator.model:
        alone.insert(0, _alone(recipe.aggregator))
    policy = msgspec.structs.replace(recipe.policy, quorum=None, min_drafts=1)
    told: set[tuple[str, str]] = set()
    for seat in alone:
        if (seat.provider, seat.model) not in told:
            told.add((seat.provider, seat.model))
            yield (
                Recipe(
                    name=recipe.name,
                    description=recipe.description,
                    layers=(Layer(proposers=(seat,)),),
                    policy=policy,
                ),
                f"{seat.model} answers alone",
            )


def _alone(seat: Proposer | Aggregator) -> Proposer:
    if isinstance(seat, Proposer):
        return msgspec.structs.replace(seat, samples=1)
    # Its system prompt is about drafts, and there are none.
    return Proposer(
        model=seat.model,
        provider=seat.provider,
        temperature=seat.temperature,
        top_p=seat.top_p,
        max_tokens=seat.max_tokens,
        seed=seat.seed,
        reasoning_effort=seat.reasoning_effort,
        fallbacks=seat.fallbacks,
    )
