"""A recipe at another provider."""

from collections.abc import Callable
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
    moved = with_providers(recipe, lambda _: provider)
    return msgspec.structs.replace(moved, policy=msgspec.structs.replace(recipe.policy, deadline="auto"))


def with_providers(recipe: Recipe, change: Callable[[str], str]) -> Recipe:
    """Return `recipe` with every provider replaced by what `change` makes of it, those of fall-backs included."""

    def served(slot: S, _role: CallRole | None = None) -> S:
        fallbacks = tuple(msgspec.structs.replace(each, provider=change(each.provider)) for each in slot.fallbacks)
        return msgspec.structs.replace(slot, provider=change(slot.provider), fallbacks=fallbacks)

    moved, acting = replace_slots(recipe, served), recipe.tools.acting
    tools = recipe.tools if acting is None else msgspec.structs.replace(recipe.tools, acting=served(acting))
    return msgspec.structs.replace(moved, tools=tools)
