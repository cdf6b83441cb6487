"""Which machines for which mixtures: options side by side, one of them advised, against one model and a cascade."""

import msgspec

from mixtura.errors import ConfigError
from mixtura.recipe import Recipe
from mixtura.room.plan.machines import PlacementSpec, check_known
from mixtura.room.plan.option import DeploymentOption, DeploymentRequest, PlanningContext, work_out_option
from mixtura.room.plan.work import AssumedSizes, Name, cascade_of, single_of

USUAL = ("h100", "h200", "b200", "lpu", "wse3")
"""Machines that are compared when nobody names one."""


class DeploymentAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """All options, those that are good (place in `options`), and the advised one against other ways to answer.

    `best` is the cheapest that is allowed, can be and is in time; `fastest` likewise; None when there is none.
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
    """Work out every option and choose: models that are left out of an option speak against it.

    Raises:
        ConfigError: an unknown machine, or no option can be: the text is the reason of the last.
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
    """Return the recipe's providers and the usual machines; with some models pinned, the others at their provider."""
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
    """Return what the same machines make of one model alone and of a cascade, each with the copies it needs."""
    free = msgspec.structs.replace(request, within=None)
    others = [made for made in (single_of(request.recipe), cascade_of(request.recipe)) if made is not None]
    return tuple(work_out_option(other, spec, free, context) for other in others)


def _why(options: tuple[DeploymentOption, ...]) -> str:
    if len(options) == 1:
        return options[0].problem
    return f"{options[-1].problem}; the other {len(options) - 1} machines cannot do it either"
