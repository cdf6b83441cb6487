"""What `mixtura doctor` finds of the user's own settings and keys, and of what a key's list of models says."""

import contextlib
import os
from collections.abc import Sequence

import msgspec

from mixtura.cli.access import filled, providers_of
from mixtura.cli.checks import Check
from mixtura.cli.own_server import at_own_server
from mixtura.cli.session import chosen_recipe
from mixtura.cli.settings import Settings
from mixtura.errors import ConfigError, ModelError
from mixtura.keys import StoredKeys, hidden_by, with_stored_keys
from mixtura.models.account import AccountModels
from mixtura.models.catalog import Catalog
from mixtura.recipe import Recipe


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """The recipe to be checked, what keys and addresses are read from, and what is wrong with either."""

    recipe: Recipe
    env: dict[str, str]
    checks: list[Check]

    def key_origin(self, provider: str) -> str:
        """Say where the key of a provider comes from, and which one it hides."""
        stored = StoredKeys(os.environ)
        try:
            place = stored.place(provider)
        except ConfigError:
            place = None  # said by a check of its own
        kept = "the system's keyring" if place == "keyring" else f"a file in {stored.folder}" if place else ""
        variable = hidden_by(provider, os.environ)
        if not variable:
            return f"from {kept}" if place else "set"
        return f"{variable} is set" + (f"; it goes before the key in {kept}" if place else "")


def desk(recipe: str | None) -> Desk:
    """Return what is to be checked; settings and keys that cannot be used are told, and do not end the check.

    Raises:
        RecipeError: there is no recipe called `recipe`.
    """
    checks: list[Check] = []
    env = dict(os.environ)
    chosen: dict[str, str | None] = {"recipe": recipe, "provider": None}
    try:
        settings = Settings(os.environ)
        problems = settings.problems()
        checks += [Check(name="settings", ok=False, said=problem.message) for problem in problems]
        if not problems:
            chosen, env = filled(chosen, ["recipe", "provider"], quiet=True), settings.environment()
            if settings.unread:
                checks.append(Check(name="settings", ok=None, said=settings.unread))
            elif settings.found:
                checks.append(Check(name="settings", ok=True, said=f"read from {settings.path}"))
    except ConfigError as error:
        checks.append(Check(name="settings", ok=False, said=error.message))
    named = chosen_recipe(chosen["recipe"], (), chosen["provider"])
    with contextlib.suppress(ModelError):  # whether it can be reached is checked by itself
        named = at_own_server(named, chosen["provider"], quiet=True)
    for provider in providers_of(named):
        try:
            env = with_stored_keys(env, [provider])
        except ConfigError as error:
            checks.append(Check(name=f"{provider} stored key", ok=False, said=error.message))
    return Desk(recipe=named, env=env, checks=checks)


def differences(account: AccountModels, catalog: Catalog, models: Sequence[str]) -> list[Check]:
    """Say what the key's own list says of `models` in place of the catalogue."""
    told = []
    for model in dict.fromkeys(models):
        found, row = account.get(model), catalog.get(account.provider, model)
        if found is None or row is None:
            continue
        for name, theirs, ours in (("window", found.window, row.window), ("output", found.max_output, row.max_output)):
            if theirs is not None and theirs != ours:
                known = f"not {ours:,}" if ours is not None else "which the catalogue does not know"
                told.append(f"{model} {name} {theirs:,} tokens, {known}")
    name = f"{account.provider} account"
    said = "; ".join(told) or "the sizes of the recipe's models are those of the catalogue"
    return [Check(name=name, ok=None, said=f"{said} (kept for the runs of the next days)" if told else said)]
