"""A recipe on a server of one's own: asked with the models that the server has, since it rarely has the recipe's."""

import asyncio
import re
from collections.abc import Sequence

import msgspec

from mixtura.cli.access import account_lists, environment_for
from mixtura.cli.common import notice, today
from mixtura.errors import MixturaError, UnreachableError
from mixtura.kinds import CallRole
from mixtura.models.account import AccountModels, keep_list, read_list
from mixtura.models.registry import ModelRegistry
from mixtura.planning.moving import moved_to
from mixtura.planning.schedule import replace_slots, schedule
from mixtura.recipe import Recipe, Slot

# What a server lists besides models that answer.
_NO_CHAT = re.compile(r"embed|rerank|whisper|tts|bge-|minilm|moderation|guard", re.IGNORECASE)
_BILLIONS = re.compile(r"(\d+(?:\.\d+)?)b\b", re.IGNORECASE)
# Seconds after which it is said whom the command waits for, and after which it goes on without the list.
_SHORT, _LONG = 1.0, 8.0
_WRITERS: frozenset[CallRole] = frozenset(("aggregator", "selector"))


def at_own_server(
    recipe: Recipe, provider: str | None, chosen: Sequence[str] = (), *, quiet: bool = False, ask: bool = True
) -> Recipe:
    """Return `recipe` with models that the server of `provider` has, and say on stderr which took whose place.

    Where `provider` is none of one's own, or does not list its models, the recipe is asked for what it names.

    Args:
        recipe: the recipe, moved to `provider`.
        provider: what `--provider` says.
        chosen: the models that the user named; they are asked whatever the list says.
        quiet: say nothing.
        ask: ask the server; else the list is read that was kept the last time.

    Raises:
        UnreachableError: nothing answers there.
    """
    if provider is None or not ModelRegistry(env={}).provider(provider).one_machine:
        return recipe
    recipe = moved_to(recipe, provider)
    missing = [call.slot.model for call in schedule(recipe).calls if call.slot.model not in chosen]
    if not missing:
        return recipe
    served = list(chosen) or _chat_models(recipe, provider, quiet=quiet, ask=ask)
    missing = [model for model in dict.fromkeys(missing) if model not in served]
    if not missing or not served:
        return recipe
    return with_models(recipe, missing, served, "" if quiet else provider)


def with_models(recipe: Recipe, missing: Sequence[str], served: Sequence[str], provider: str) -> Recipe:
    """Return `recipe` with `served` models, the largest first, in place of those that are `missing`."""
    served = sorted(served, key=_billions, reverse=True)
    writers = [call.slot.model for call in schedule(recipe).calls if call.role in _WRITERS]
    drafting = [model for model in missing if model not in writers]
    # The largest writes the answer, and drafts when there are too few others.
    others = [*served[1:], served[0]]
    stands_in = {model: others[place % len(others)] for place, model in enumerate(drafting)}
    stands_in |= {model: served[0] for model in missing if model in writers}

    def fitted(slot: Slot, _role: CallRole) -> Slot:
        model = stands_in.get(slot.model, slot.model)
        fallbacks = tuple(fallback for fallback in slot.fallbacks if fallback.model in served)
        if model != slot.model:
            return msgspec.structs.replace(slot, model=model, reasoning_effort=None, fallbacks=fallbacks)
        return slot if fallbacks == slot.fallbacks else msgspec.structs.replace(slot, fallbacks=fallbacks)

    if provider:
        places = [f"{model} takes the place of {absent}" for absent, model in stands_in.items()]
        said = f"{served[0]} takes every part" if len(served) == 1 else ", ".join(places)
        notice(f"mixtura: {provider} does not have the recipe's models: {said} (-m chooses)")
    return replace_slots(recipe, fitted)


def _chat_models(recipe: Recipe, provider: str, *, quiet: bool, ask: bool) -> list[str]:
    """Return the ids of the models that the server can answer with, as it lists them; none where it lists none."""
    env = environment_for(recipe)
    registry = ModelRegistry(env=env)
    if ask:
        found = asyncio.run(_listed(registry, provider, quiet=quiet))
        if found is not None:
            keep_list(found, registry.endpoint(provider), registry.catalog, env)
        lists = [] if found is None else [found]
    else:
        lists = account_lists(registry, [provider], env)
    return chat_models(lists)


def chat_models(lists: Sequence[AccountModels]) -> list[str]:
    """Return the ids of the models that answer questions, in the order of the lists."""
    return [model.id for listed in lists for model in listed.models if model.id and not _NO_CHAT.search(model.id)]


async def _listed(registry: ModelRegistry, provider: str, *, quiet: bool) -> AccountModels | None:
    """Return the server's list, None where it gives none in time or answers otherwise."""
    asking = asyncio.create_task(registry.list_models(provider))
    try:
        done, _ = await asyncio.wait([asking], timeout=_SHORT)
        if not done and not quiet:
            notice(f"mixtura: asking {provider} which models it has")
        async with asyncio.timeout(_LONG):
            return read_list(provider, await asking, today())
    except UnreachableError as error:
        row = registry.provider(provider)
        where = f"set {row.base_url_env} to its address" if row.base_url_env else "check its address"
        step = " Start" if error.reason.endswith((".", "?", "!")) else "; start"
        error.message = f"{error.reason}{step} the server, or {where}"
        raise
    except (MixturaError, TimeoutError):
        # A server whose only thread is at work lists nothing meanwhile, and some list nothing at all.
        if not quiet:
            notice(f"mixtura: {provider} does not say which models it has, so it is asked for the recipe's")
        return None
    finally:
        asking.cancel()


def _billions(model: str) -> float:
    """Return the size of a model in billions of weights, as far as its name tells; 0 where it does not."""
    found = _BILLIONS.findall(model)
    return max(map(float, found), default=0.0)
