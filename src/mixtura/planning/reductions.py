"""Smaller runs to fall back to when a recipe does not fit its limits or its budget: each a recipe of its own."""

from collections.abc import Iterator

import msgspec

from mixtura.chat import ChatOptions
from mixtura.kinds import CallRole
from mixtura.models.served import Models
from mixtura.planning.schedule import PlannedCall, output_limit, replace_slots, schedule
from mixtura.recipe import Fallback, Layer, Proposer, Recipe, Slot

# Output limits are halved, and halved again; less than this makes answers that end in the middle.
_SHARES = (0.5, 0.25)
_LEAST_OUTPUT, _LEAST_REASONING = 256, 768


def shrunk(recipe: Recipe, models: Models) -> Iterator[tuple[Recipe, str]]:
    """Yield `recipe` with smaller output limits, and what was done in words."""
    for share in _SHARES:

        def with_less(slot: Slot, role: CallRole, share: float = share) -> Slot:
            card = models.card(slot.provider, slot.model)
            limit = output_limit(slot, card, role)
            if limit is None:
                return slot
            least = max(int(limit * share), _LEAST_REASONING if card.reasons else _LEAST_OUTPUT)
            return msgspec.structs.replace(slot, max_tokens=min(limit, least))

        variant = replace_slots(recipe, with_less)
        if variant != recipe:
            yield variant, f"output limits cut to {share:.0%}"


def shrunk_options(recipe: Recipe, models: Models, options: ChatOptions) -> ChatOptions:
    """Return a caller's options with an output limit no larger than `recipe` itself would ask of the calls it reaches.

    A caller's limit goes before those of the recipe, so smaller slots alone would make no difference.
    """
    if options.max_tokens is None:
        return options

    def own(call: PlannedCall) -> int | None:
        return output_limit(call.slot, models.card(call.slot.provider, call.slot.model), call.role)

    limits = [own(call) for call in schedule(recipe, options).calls if call.options.max_tokens is not None]
    known = [limit for limit in limits if limit is not None]
    if not known or len(known) < len(limits) or max(known) >= options.max_tokens:
        return options
    return msgspec.structs.replace(options, max_tokens=max(known))


def swapped(recipe: Recipe, models: Models, crowded: str) -> Iterator[tuple[Recipe, str]]:
    """Yield `recipe` with the proposers of the model `crowded` moved to its fall-backs, or to the other proposers'."""
    slots = [call.slot for call in schedule(recipe).calls if call.role == "proposer"]
    others = [
        *(fallback for slot in slots if slot.model == crowded for fallback in slot.fallbacks),
        *(Fallback(model=slot.model, provider=slot.provider) for slot in slots if slot.model != crowded),
    ]
    for provider, model in dict.fromkeys((other.provider, other.model) for other in others):
        efforts = models.card(provider, model).efforts
        target = (provider, model)

        def moved(
            slot: Slot, role: CallRole, target: tuple[str, str] = target, efforts: tuple[str, ...] = efforts
        ) -> Slot:
            if role != "proposer" or slot.model != crowded:
                return slot
            effort = slot.reasoning_effort if slot.reasoning_effort in efforts else None
            return msgspec.structs.replace(slot, provider=target[0], model=target[1], reasoning_effort=effort)

        variant = replace_slots(recipe, moved)
        if variant != recipe:
            yield variant, f"{crowded} swapped for {model}"


def fewer(recipe: Recipe, crowded: str) -> Iterator[tuple[Recipe, str]]:
    """Yield `recipe` with fewer proposers, one less each time, those of the model `crowded` first."""
    policy, most = recipe.policy, max(layer.size for layer in recipe.layers)
    for count in range(most - 1, policy.min_drafts - 1, -1):
        layers = tuple(Layer(proposers=_keep(layer, count, crowded)) for layer in recipe.layers)
        quorum = None if policy.quorum is None else min(policy.quorum, *(layer.size for layer in layers))
        yield (
            msgspec.structs.replace(
                recipe,
                layers=layers,
                policy=msgspec.structs.replace(policy, quorum=quorum),
                tools=recipe.tools.of(layers[-1].size),
            ),
            f"{count} proposer{'s' * (count > 1)} in place of {most}",
        )


def _keep(layer: Layer, count: int, crowded: str) -> tuple[Proposer, ...]:
    slots = list(layer.slots)
    while len(slots) > count:
        last = max(range(len(slots)), key=lambda place: (slots[place].model == crowded, place))
        del slots[last]
    return tuple(slots)


def single(recipe: Recipe) -> Iterator[tuple[Recipe, str]]:
    """Yield recipes of one model that answers alone: the aggregator's, then each proposer's, the weightiest first."""
    calls = schedule(recipe).calls
    drafting = [call for call in calls if isinstance(call.slot, Proposer) and call.role in ("proposer", "escalation")]
    # Of equal weight the later stage goes first: its models are the stronger ones.
    drafting.sort(key=lambda call: (-_weight(call.slot), -call.stage))
    last = [call for call in calls if call.role in ("aggregator", "selector")]
    policy = msgspec.structs.replace(recipe.policy, quorum=None, min_drafts=1)
    alone: dict[tuple[str, str], Slot] = {}
    for call in (*last, *drafting):
        alone.setdefault((call.slot.provider, call.slot.model), call.slot)
    for slot in alone.values():
        yield (
            Recipe(
                name=recipe.name,
                description=recipe.description,
                layers=(Layer(proposers=(_alone(slot),)),),
                policy=policy,
            ),
            f"{slot.model} answers alone",
        )


def _weight(slot: Slot) -> float:
    return slot.weight if isinstance(slot, Proposer) else 1.0


def _alone(slot: Slot) -> Proposer:
    if isinstance(slot, Proposer):
        return slot
    # Its system prompt is about drafts, and there are none.
    shared = {name: getattr(slot, name) for name in Slot.__struct_fields__ if name != "system"}
    return Proposer(**shared)
