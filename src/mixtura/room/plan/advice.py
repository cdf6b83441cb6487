"""Recommends machines for a mixture: compares options, chooses one, and compares it with one model and a cascade."""

import msgspec

from mixtura.errors import ConfigError
from mixtura.recipe import Recipe
from mixtura.room.plan.machines import PlacementSpec, check_known
from mixtura.room.plan.option import DeploymentOption, DeploymentRequest, PlanningContext, work_out_option
from mixtura.room.plan.work import AssumedSizes, Name, cascade_of, single_of

USUAL = ("h100", "h200", "b200", "lpu", "wse3")
"""Machines to compare if the request names none."""


class DeploymentAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """All options, the recommended ones (as indices into `options`), and alternatives to the mixture.

    `best` is the cheapest option that is feasible, within rate limits and in time, `fastest` the fastest such option;
    None if there is none. `against` holds one model alone and a cascade on the machines of the best option, or of the
    first feasible one.
    """

    recipe: str
    rate: float
    within: float | None
    assumed: AssumedSizes
    options: tuple[DeploymentOption, ...]
    best: int | None
    fastest: int | None
    against: tuple[DeploymentOption, ...] = ()


def advise(request: DeploymentRequest, context: PlanningContext) -> DeploymentAdvice:
    """Work out every option and choose among them; options that serve all models take precedence.

    Raises:
        ConfigError: a machine is unknown, or no option is feasible; the message gives the last option's reason.
    """
    specs = request.on or _usual(request, context)
    for spec in (*specs, *request.pinned.values()):
        check_known(spec, context.providers)
    options = tuple(work_out_option(request.recipe, spec, request, context) for spec in specs)
    if all(each.problem for each in options):
        raise ConfigError(_why(options))
    good = [at for at, each in enumerate(options) if not each.problem and each.allows(request.rate)]
    whole = [at for at in good if not options[at].left_out] or good
    best = min(whole, key=lambda at: (options[at].price, options[at].seconds[1]), default=None)
    fastest = min(whole, key=lambda at: options[at].seconds[1], default=None)
    shown = best if best is not None else next(at for at, each in enumerate(options) if not each.problem)
    return DeploymentAdvice(
        recipe=request.recipe.name,
        rate=request.rate,
        within=request.within,
        assumed=request.assumed,
        options=options,
        best=best,
        fastest=fastest,
        against=_against(request, specs[shown], context),
    )


def _usual(request: DeploymentRequest, context: PlanningContext) -> tuple[PlacementSpec, ...]:
    """Return the recipe's providers and the usual machines; if some models are pinned, only the first provider."""
    named = dict.fromkeys(name for name, _ in _names(request.recipe))
    providers = [name for name in named if name not in context.providers or not context.providers[name].in_process]
    if request.pinned and providers:
        return (PlacementSpec(providers[0]),)
    return (*(PlacementSpec(name) for name in providers), *(PlacementSpec(name) for name in USUAL))


def _names(recipe: Recipe) -> list[Name]:
    layers = [*recipe.layers, *([recipe.escalate] if recipe.escalate else [])]
    names = [(slot.provider, slot.model) for layer in layers for slot in layer.proposers]
    if recipe.aggregator is not None and recipe.aggregator.model:
        names.append((recipe.aggregator.provider, recipe.aggregator.model))
    return list(dict.fromkeys(names))


def _against(request: DeploymentRequest, spec: PlacementSpec, context: PlanningContext) -> tuple[DeploymentOption, ...]:
    """Return one model alone and a cascade on the same machines, each with as many copies as it needs."""
    free = msgspec.structs.replace(request, within=None)
    others = [made for made in (single_of(request.recipe), cascade_of(request.recipe)) if made is not None]
    return tuple(work_out_option(other, spec, free, context) for other in others)


def _why(options: tuple[DeploymentOption, ...]) -> str:
    if len(options) == 1:
        return options[0].problem
    return f"{options[-1].problem}; the other {len(options) - 1} options fail too"
