"""A recipe on a server of one's own: asked with the models that the server has, since it rarely has the recipe's."""

import asyncio
import re
from collections.abc import Sequence

import click
import msgspec

from mixtura.cli.access import environment_for
from mixtura.errors import MixturaError
from mixtura.kinds import CallRole
from mixtura.models.registry import ModelRegistry
from mixtura.planning.moving import moved_to
from mixtura.planning.schedule import replace_slots, schedule
from mixtura.recipe import Recipe, Slot

# What a server lists besides models that answer.
_NO_CHAT = re.compile(r"embed|rerank|whisper|tts|bge-|minilm|moderation|guard", re.IGNORECASE)
_BILLIONS = re.compile(r"(\d+(?:\.\d+)?)b\b", re.IGNORECASE)
_WRITERS: frozenset[CallRole] = frozenset(("aggregator", "selector"))


def at_own_server(recipe: Recipe, provider: str | None, chosen: Sequence[str] = (), *, quiet: bool = False) -> Recipe:
    """Return `recipe` with models that the server of `provider` has, and say on stderr which took whose place.

    Where `provider` is none of one's own, or cannot list its models, the recipe is returned as it is.

    Args:
        recipe: the recipe, moved to `provider`.
        provider: what `--provider` says.
        chosen: the models that the user named; they are asked whatever the list says.
        quiet: say nothing.
    """
    if provider is None or not ModelRegistry(env={}).provider(provider).one_machine:
        return recipe
    recipe = moved_to(recipe, provider)
    missing = [call.slot.model for call in schedule(recipe).calls if call.slot.model not in chosen]
    if not missing:
        return recipe
    served = list(chosen) or _chat_models(recipe, provider)
    missing = [model for model in dict.fromkeys(missing) if model not in served]
    if not missing or not served:
        return recipe
    served.sort(key=_billions, reverse=True)
    return _with_models(recipe, missing, served, "" if quiet else provider)


def _with_models(recipe: Recipe, missing: Sequence[str], served: Sequence[str], provider: str) -> Recipe:
    """Return `recipe` with `served` models, the largest first, in place of those that are `missing`."""
    writers = [call.slot.model for call in schedule(recipe).calls if call.role in _WRITERS]
    drafting = [model for model in missing if model not in writers]
    # The largest writes the answer, and drafts when there are too few others.
    others = [*served[1:], served[0]]
    stands_in = {model: others[place % len(others)] for place, model in enumerate(drafting)}
    stands_in |= {model: served[0] for model in missing if model in writers}

    def fitted(slot: Slot, _role: CallRole) -> Slot:
        model = stands_in.get(slot.model, slot.model)
        return slot if model == slot.model else msgspec.structs.replace(slot, model=model, reasoning_effort=None)

    if provider:
        pairs = ", ".join(f"{model} for {absent}" for absent, model in stands_in.items())
        said = f"{served[0]} takes every part" if len(served) == 1 else f"asked are {pairs}"
        click.echo(f"mixtura: {provider} has not the recipe's models; {said} (-m chooses)", err=True)
    return replace_slots(recipe, fitted)


def _chat_models(recipe: Recipe, provider: str) -> list[str]:
    """Return the ids of the models that the server can answer with, as it lists them; none where it lists none."""
    try:
        rows = asyncio.run(ModelRegistry(env=environment_for(recipe)).list_models(provider))
    except MixturaError:
        # What is wrong with the server is said by the call that needs it.
        return []
    ids = [row.get("id") for row in rows]
    return [name for name in ids if isinstance(name, str) and name and not _NO_CHAT.search(name)]


def _billions(model: str) -> float:
    """Return the size of a model in billions of weights, as far as its name tells; 0 where it does not."""
    found = _BILLIONS.findall(model)
    return max(map(float, found), default=0.0)
