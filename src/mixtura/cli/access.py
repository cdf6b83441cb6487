"""How the command reaches models: environment, settings, stored keys, and what servers listed for a key."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mixtura.cli.common import notice, today
from mixtura.cli.settings import Settings, command_environment
from mixtura.errors import ConfigError
from mixtura.events import Listener
from mixtura.mixture import Mixture
from mixtura.models.account import AccountModels, kept_list, with_accounts
from mixtura.models.catalog import Catalog
from mixtura.models.registry import ModelRegistry
from mixtura.planning.schedule import models_of
from mixtura.recipe import Recipe


def filled(
    given: dict[str, Any], names: Sequence[str], *, simulated: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Return the options of a verb, those of `names` that were not typed taken from the settings.

    That no settings can be read is said on stderr: they are not what an answer needs.
    A recipe is no default beside `--model`, which says what is asked, and a provider none beside `--sim`.

    Raises:
        ConfigError: a setting that is needed cannot be.
    """
    settings = Settings(os.environ)
    if settings.unread and not quiet:
        notice(f"mixtura: {settings.unread}")
    found = dict(given)
    for name in names:
        beside = (name == "recipe" and given.get("models")) or (name == "provider" and simulated)
        if given[name] is None and not beside:
            found[name] = settings.find(name).value
    if found.get("provider") is not None:
        found["provider"] = settings.served_by(found["provider"])
    return found


def providers_of(recipe: Recipe) -> list[str]:
    """Return every provider that a run of `recipe` may ask, each once."""
    return list(dict.fromkeys(provider for provider, _ in models_of(recipe, acting=True)))


def environment_for(*recipes: Recipe) -> dict[str, str]:
    """Return what runs of `recipes` read keys and addresses from."""
    return command_environment([provider for recipe in recipes for provider in providers_of(recipe)])


def account_lists(registry: ModelRegistry, providers: Iterable[str], env: Mapping[str, str]) -> list[AccountModels]:
    """Return the lists that are kept for the keys of `providers` and still fresh; nobody is asked."""
    found = []
    for provider in providers:
        if registry.is_in_process(provider):
            continue
        try:
            endpoint = registry.endpoint(provider)
        except ConfigError:
            continue  # whoever needs it says so
        listed = kept_list(endpoint, registry.catalog, env, today())
        if listed is not None:
            found.append(listed)
    return found


def registry_for(recipe: Recipe, env: Mapping[str, str], plan: str | None = None) -> ModelRegistry:
    """Return the registry of a run: the catalogue, with the figures of each key's own list where one is kept."""
    registry = ModelRegistry(env=env, plan=plan)
    lists = account_lists(registry, providers_of(recipe), env)
    return ModelRegistry(with_accounts(Catalog.load(), lists), env=env, plan=plan) if lists else registry


def mixture_of(
    recipe: Recipe,
    env: Mapping[str, str],
    *,
    plan: str | None = None,
    daily_budget: float | None = None,
    listeners: Sequence[Listener] = (),
) -> Mixture:
    """Return the mixture that the command asks."""
    registry = registry_for(recipe, env, plan)
    return Mixture(recipe, models=registry, env=env, daily_budget=daily_budget, listeners=listeners)


def not_listed(recipe: Recipe, models: Iterable[tuple[str, str]]) -> list[str]:
    """Return a note for each (provider, model) that is missing in the list kept for its key."""
    env = environment_for(recipe)
    registry = ModelRegistry(env=env)
    lists = {listed.provider: listed for listed in account_lists(registry, providers_of(recipe), env)}
    return [
        f"{model} is not among the models of your {provider} key, as it listed them on {lists[provider].asked}"
        for provider, model in models
        if provider in lists and lists[provider].get(model) is None
    ]
