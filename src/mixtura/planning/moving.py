"""A recipe at another provider."""

from typing import TypeVar

import msgspec

from mixtura.kinds import CallRole
from mixtura.planning.schedule import replace_slots
from mixtura.recipe import Recipe, Slot

S = TypeVar("S", bound=Slot)


def moved_to(recipe: Recipe, provider: str) -> Recipe:
    """Return `recipe` with `provider` serving all its models, fall-backs included.

    Its deadline was meant for who served them before, so it is chosen anew (see `planning/deadline.py`).
    """

    def served(slot: S, _role: CallRole | None = None) -> S:
        fallbacks = tuple(msgspec.structs.replace(fallback, provider=provider) for fallback in slot.fallbacks)
        return msgspec.structs.replace(slot, provider=provider, fallbacks=fallbacks)

    moved, acting = replace_slots(recipe, served), recipe.tools.acting
    return msgspec.structs.replace(
        moved,
        tools=recipe.tools if acting is None else msgspec.structs.replace(recipe.tools, acting=served(acting)),
        policy=msgspec.structs.replace(recipe.policy, deadline="auto"),
    )
