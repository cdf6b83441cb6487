"""Works out one option: a recipe on machines, or at a provider, at a rate of mixtures."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import msgspec

from mixtura.errors import ConfigError
from mixtura.hardware.cost import CostRange
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.step import NINETIETH
from mixtura.models.catalog import CatalogProvider
from mixtura.models.served import Models
from mixtura.planning.moving import moved_to
from mixtura.recipe import Recipe
from mixtura.room.plan.fleet import bill, size_for_rate, size_for_slo
from mixtura.room.plan.machines import HostedModel, ModelServer, PlacedModels, PlacementSpec, ProviderModel, place
from mixtura.room.plan.simulation import PERCENTS, ModelCopies, SimulatedMixtures, floor, run
from mixtura.room.plan.work import AssumedSizes, MixtureWork, Name, work_of

_WIDER = (1, 2, 4, 8)  # multiples of the least GPUs of a copy to try for an SLO
_AHEAD = 1.15  # factor by which an empty machine should beat the SLO, to leave time for load


class RateAllowance(NamedTuple):
    """The sustained mixtures per minute that a key's rate limits allow (None: not known), and the binding limit."""

    minute: float | None
    binds: str = ""


class DeploymentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a deployment plan.

    Attributes:
        recipe: the mixture.
        rate: mixtures per second.
        on: placements to compare, one option each; empty: the usual machines and the recipe's providers.
        pinned: placements of single models, the same in every option.
        within: seconds within which 95 % of the mixtures must end; None: no bound.
        assumed: sizes that are not known before a run.
        shapes: shapes of models that are not in the catalogue of shapes.
    """

    recipe: Recipe
    rate: float
    on: tuple[PlacementSpec, ...] = ()
    pinned: Mapping[Name, PlacementSpec] = {}
    within: float | None = None
    assumed: AssumedSizes = AssumedSizes()
    shapes: Mapping[Name, ModelShape] = {}


class PlanningContext(NamedTuple):
    """What the planner needs to know about models and providers.

    Attributes:
        models: the source of models' cards.
        providers: all providers, by name.
        served: returns a recipe with retired models replaced, as providers serve it today.
        allowed: returns what the key's rate limits allow of a recipe if providers serve the given models.
    """

    models: Models
    providers: Mapping[str, CatalogProvider]
    served: Callable[[Recipe], Recipe]
    allowed: Callable[[Recipe, Collection[Name]], RateAllowance]


class ModelPlacement(msgspec.Struct, frozen=True, kw_only=True):
    """A model's machines in an option.

    `busy` is the machines' busy share of time, `waits` the share of a mixture's time spent waiting for this model,
    `basis` the origin of its times (see `ModelServer.basis`).
    """

    provider: str
    model: str
    machine: str
    basis: str
    chips: int | None
    copies: int
    busy: float | None
    in_flight: float
    waits: float


class OptionStage(msgspec.Struct, frozen=True, kw_only=True):
    """A stage: its mean seconds, and for each model the share of mixtures in which it ends last."""

    name: str
    seconds: float
    last: dict[str, float]


class DeploymentOption(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe on machines at the requested rate.

    Attributes:
        on: the requested placement: a chip or a provider.
        recipe: the recipe's name.
        problem: why the option is not feasible or not in time; "" if it is. With a problem, the fields below are empty.
        seconds: predicted p50, p95 and p99 of a mixture.
        mixtures: number of simulated mixtures behind these percentiles.
        p95: low and high end of p95: with machines as fast, or as slow, as one in ten is.
        posts: the machines of each model.
        stages: mean time of each stage.
        prompts, outputs: mean tokens of a mixture.
        dollars: dollars per 1,000 mixtures, low and high; None if not known.
        watt_hours: watt-hours of one mixture, low and high; None if not known.
        limit: mixtures per minute that the key's rate limits allow; None if not known or not needed.
        binds: the binding limit.
        left_out: models that the option leaves out, with the reason.
        cut: share of the mixtures in which a draft came too late (the recipe's quorum and grace).
        drift: seconds by which p95 still moved in the last simulation round; 0: the simulation is exact.
    """

    on: str
    recipe: str
    problem: str = ""
    seconds: tuple[float, ...] = ()
    mixtures: int = 0
    p95: tuple[float, float] = (0.0, 0.0)
    posts: tuple[ModelPlacement, ...] = ()
    stages: tuple[OptionStage, ...] = ()
    prompts: float = 0.0
    outputs: float = 0.0
    dollars: tuple[float, float] | None = None
    watt_hours: tuple[float, float] | None = None
    limit: float | None = None
    binds: str = ""
    left_out: dict[str, str] = {}
    cut: float = 0.0
    drift: float = 0.0

    @property
    def chips(self) -> int | None:
        """The user's own chips over all copies; None if providers serve all models."""
        mine = [post.chips * post.copies for post in self.posts if post.chips is not None]
        return sum(mine) if mine else None

    @property
    def price(self) -> float:
        """The geometric mean of `dollars`; infinite if not known."""
        return float((self.dollars[0] * self.dollars[1]) ** 0.5) if self.dollars else float("inf")

    def allows(self, rate: float) -> bool:
        """Return whether rate limits allow `rate` mixtures per second."""
        return self.limit is None or self.limit >= 60 * rate * (1 - 1e-9)


def work_out_option(
    recipe: Recipe, spec: PlacementSpec, request: DeploymentRequest, context: PlanningContext
) -> DeploymentOption:
    """Return `recipe` at the placement `spec`, except for models that `request` pins, at its rate and SLO."""
    left: dict[str, str] = {}
    hired = _is_provider(spec, context)
    if hired:
        recipe = context.served(moved_to(recipe, spec.on))
    try:
        work = work_of(recipe, context.models, request.assumed)
        found = place_models(work, spec, request, context)
        if found.left:
            left = {model: why for (_, model), why in found.left.items()}
            work = work.without(found.left)
        machines: Mapping[Name, ModelServer] = found.machines
        if request.within is None:
            stations = size_for_rate(work, machines, request.rate)
            result = run(work, stations, request.rate)
        else:
            if not hired and spec.chips is None:
                machines = _wide_enough(work, machines, spec, request, context)
            stations, result = size_for_slo(work, machines, request.rate, request.within)
        low, high = (run(work, stations, request.rate, sigmas=sigmas).at(95) for sigmas in (-NINETIETH, NINETIETH))
        made = _option_of(recipe, stations, result, (request, context))
        return msgspec.structs.replace(made, on=spec.text, p95=(low, high), left_out=left)
    except ConfigError as error:
        return DeploymentOption(on=spec.text, recipe=recipe.name, problem=error.message, left_out=left)


def _is_provider(spec: PlacementSpec, context: PlanningContext) -> bool:
    return spec.on in context.providers or spec.on.startswith(("http://", "https://"))


def place_models(
    work: MixtureWork,
    spec: PlacementSpec,
    request: DeploymentRequest,
    context: PlanningContext,
    wider: Mapping[Name, int] | None = None,
) -> PlacedModels:
    """Return the servers of `work` at `spec` and the pinned placements; `wider` sets the chips of single models."""
    pinned = {model: own for (_, model), own in request.pinned.items()}
    specs = {model: pinned.get(model[1], spec) for model in work.models}
    for model, many in (wider or {}).items():
        specs[model] = specs[model]._replace(chips=many)
    shapes = {model: shape for _, model, shape in ((*name, shape) for name, shape in request.shapes.items())}
    own = {model: shapes[model[1]] for model in work.models if model[1] in shapes}
    return place(work, specs, context.models, providers=context.providers, shapes=own)


def _wide_enough(
    work: MixtureWork,
    machines: Mapping[Name, ModelServer],
    spec: PlacementSpec,
    request: DeploymentRequest,
    context: PlanningContext,
) -> Mapping[Name, ModelServer]:
    """Return machines with the fewest GPUs per copy that are fast enough when empty, else the fastest tried."""
    assert request.within is not None
    pinned = {model for _, model in request.pinned}
    gpus = {
        model: machine.host
        for model, machine in machines.items()
        if isinstance(machine, HostedModel) and machine.host.layout is None and model[1] not in pinned
    }
    found: list[tuple[float, Mapping[Name, ModelServer]]] = []
    for times in _WIDER:
        wider = {model: min(host.chips * times, max(host.chip.node, host.chips)) for model, host in gpus.items()}
        tried = machines if times == 1 else place_models(work, spec, request, context, wider).machines
        ends = floor(work, tried).at(95)
        if ends * _AHEAD <= request.within:
            return tried
        found.append((ends, tried))
        if not gpus:
            break
    return min(found, key=lambda pair: pair[0])[1]


def _option_of(
    recipe: Recipe,
    stations: Mapping[Name, ModelCopies],
    result: SimulatedMixtures,
    known: tuple[DeploymentRequest, PlanningContext],
) -> DeploymentOption:
    request, context = known
    cost = bill(stations, result, request.rate)
    hired = [model for model, station in stations.items() if isinstance(station.machine, ProviderModel)]
    allowed = context.allowed(recipe, hired) if hired else RateAllowance(None)
    return DeploymentOption(
        on="",
        recipe=recipe.name,
        seconds=tuple(result.at(percent) for percent in PERCENTS),
        mixtures=len(result.seconds),
        posts=tuple(_placement_of(model, station, result) for model, station in stations.items()),
        stages=tuple(
            OptionStage(
                name=each.name, seconds=each.seconds, last={name: share for (_, name), share in each.last.items()}
            )
            for each in result.stages
        ),
        prompts=result.prompts,
        outputs=result.outputs,
        dollars=_pair(cost.dollars, 1000),
        watt_hours=_pair(cost.joules, 1 / 3600),
        limit=allowed.minute,
        binds=allowed.binds,
        cut=result.cut,
        drift=result.drift,
    )


def _placement_of(model: Name, station: ModelCopies, result: SimulatedMixtures) -> ModelPlacement:
    machine = station.machine
    served = result.served[model]
    return ModelPlacement(
        provider=model[0],
        model=model[1],
        machine=machine.name,
        basis=machine.basis,
        chips=machine.host.chips if isinstance(machine, HostedModel) else None,
        copies=station.copies,
        busy=served.busy,
        in_flight=served.in_flight,
        waits=result.waits[model],
    )


def _pair(values: CostRange | None, times: float) -> tuple[float, float] | None:
    return None if values is None else (times * float(values.low), times * float(values.high))
