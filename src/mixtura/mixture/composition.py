"""The parts of a `Mixture` that its caller does not hand in: the registry of models and the daily budget."""

import math
import time
from collections.abc import Mapping

from mixtura.errors import ConfigError
from mixtura.limits.budget.base import DailyBudget
from mixtura.limits.limiter import Limiter
from mixtura.models.card import Predicted
from mixtura.models.served import Models
from mixtura.planning.moving import with_providers
from mixtura.planning.schedule import models_of
from mixtura.recipe import Recipe
from mixtura.secret import Secret


def registry_of(
    client: object | None,
    env: Mapping[str, str],
    plan: str | None,
    predicted: Mapping[tuple[str, str], Predicted] | None,
    limiter: Limiter | None = None,
) -> Models:
    """Return the registry that finds models by provider and id; `limiter` counts their calls, None for the default."""
    from mixtura.models.registry import ModelRegistry

    return ModelRegistry(client=client, env=env, plan=plan, predicted=predicted, limiter=limiter)


def shown_recipe(recipe: Recipe, models: Models) -> Recipe:
    """Return `recipe` as its events may show it: without keys in the addresses of its models, which `models` keep."""
    known_as = getattr(models, "known_as", None)
    if known_as is None or not any("?" in provider for provider, _ in models_of(recipe, acting=True)):
        return recipe
    return with_providers(recipe, known_as)


def daily_budget_of(given: float | None, env: Mapping[str, str]) -> DailyBudget | None:
    """Return the daily budget that is set, None when none is."""
    named = env.get("MIXTURA_DAILY_BUDGET", "").strip()
    if given is None and not named:
        return None
    from mixtura.limits.budget.stores import RedisBudget, SqliteBudget, budget_file

    allowed: float = math.nan
    try:
        allowed = float(named) if given is None else given
    except ValueError:
        raise ConfigError(f"MIXTURA_DAILY_BUDGET: expected dollars, 0 or more, got {named!r}") from None
    redis = Secret.of_address(env.get("MIXTURA_REDIS_URL", "").strip())
    return RedisBudget(redis, allowed, time.time) if redis else SqliteBudget(budget_file(env), allowed, time.time)
