"""A recipe on machines, or at a provider, under a rate: one option, worked out whole."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import msgspec

from mixtura.errors import ConfigError
from mixtura.hardware.cost import Range
from mixtura.hardware.shape import Shape
from mixtura.hardware.step import NINETIETH
from mixtura.models.catalog import CatalogProvider
from mixtura.models.served import Models
from mixtura.recipe import Layer, Recipe
from mixtura.room.plan.fleet import bill, carrying, meeting
from mixtura.room.plan.machines import Hosted, Machine, Placed, Published, Spec, place
from mixtura.room.plan.simulation import PERCENTS, SimulatedMixtures, Station, floor, run
from mixtura.room.plan.work import Assumed, Name, Work, work_of

_WIDER = (1, 2, 4, 8)  # times the least GPUs of a copy that are tried to meet an SLO
_AHEAD = 1.15  # an empty machine should beat the SLO by so much, or its load leaves nothing


class Allowed(NamedTuple):
    """What the rate limits of a plan allow: mixtures a minute in the long run (None: not known), and what binds."""

    minute: float | None
    binds: str = ""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be planned.

    Attributes:
        recipe: the mixture.
        rate: mixtures a second.
        on: where to serve it, an option each; none: the usual machines, and the recipe's providers.
        pinned: where some models are served in every option.
        within: seconds in which 95 % of the mixtures are to end; None: any.
        assumed: sizes that nobody knows before a run.
        shapes: of models that the catalogue of shapes does not know.
    """

    recipe: Recipe
    rate: float
    on: tuple[Spec, ...] = ()
    pinned: Mapping[Name, Spec] = {}
    within: float | None = None
    assumed: Assumed = Assumed()
    shapes: Mapping[Name, Shape] = {}


class World(NamedTuple):
    """What is known beside.

    Attributes:
        models: their cards.
        providers: by name.
        served: a recipe as providers serve it today, models that are gone replaced.
        allowed: what the key's plan allows of a recipe when these of its models are asked at providers.
    """

    models: Models
    providers: Mapping[str, CatalogProvider]
    served: Callable[[Recipe], Recipe]
    allowed: Callable[[Recipe, Collection[Name]], Allowed]


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """A model's machines in an option.

    `busy` is the share of time in which they do something, `waits` the share of a mixture's time that it waits for
    this model. `basis` says what its times rest on.
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


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A stage: its mean seconds, and in which share of the mixtures each model is the last to end."""

    name: str
    seconds: float
    last: dict[str, float]


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe on machines under the rate asked for.

    Attributes:
        on: as asked for: a chip or a provider.
        recipe: its name.
        problem: why it cannot be, or not in time; "" when it can. Then nothing below is known.
        seconds: p50, p95, p99 of a mixture, predicted.
        mixtures: simulated ones that these rest on.
        p95: that of machines faster and slower than one in ten will be: low and high.
        posts: who serves what.
        stages: where the time goes.
        prompts, outputs: mean tokens of a mixture.
        dollars: for 1,000 mixtures, low and high; None where not known.
        watt_hours: of one mixture, low and high; None where not known.
        limit: mixtures a minute that the plan of a key allows, None where none is known or needed.
        binds: what binds it.
        left_out: models that are not part of it, and why.
        cut: share of the mixtures in which a draft came too late (the recipe's quorum and grace).
        drift: seconds by which stage times are not settled; 0: exact for this model of the machines.
    """

    on: str
    recipe: str
    problem: str = ""
    seconds: tuple[float, ...] = ()
    mixtures: int = 0
    p95: tuple[float, float] = (0.0, 0.0)
    posts: tuple[Post, ...] = ()
    stages: tuple[Stage, ...] = ()
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
        """Chips of one's own, all copies together; None at a provider alone."""
        mine = [post.chips * post.copies for post in self.posts if post.chips is not None]
        return sum(mine) if mine else None

    @property
    def price(self) -> float:
        """The geometric mean of `dollars`, infinite where not known."""
        return float((self.dollars[0] * self.dollars[1]) ** 0.5) if self.dollars else float("inf")

    def allowed(self, rate: float) -> bool:
        """Say whether rate limits allow `rate` mixtures a second."""
        return self.limit is None or self.limit >= 60 * rate * (1 - 1e-9)


def option(recipe: Recipe, spec: Spec, asked: Asked, world: World) -> Option:
    """Return `recipe` where `spec` says, as far as `asked` pins nothing else; its rate and SLO are those asked for."""
    left: dict[str, str] = {}
    hired = _is_provider(spec, world)
    if hired:
        recipe = world.served(moved(recipe, spec.on))
    try:
        work = work_of(recipe, world.models, asked.assumed)
        found = placed(work, spec, asked, world)
        if found.left:
            left = {model: why for (_, model), why in found.left.items()}
            work = work.without(found.left)
        machines: Mapping[Name, Machine] = found.machines
        if asked.within is None:
            stations = carrying(work, machines, asked.rate)
            told = run(work, stations, asked.rate)
        else:
            if not hired and spec.chips is None:
                machines = _wide_enough(work, machines, spec, asked, world)
            stations, told = meeting(work, machines, asked.rate, asked.within)
        low, high = (run(work, stations, asked.rate, sigmas=sigmas).at(95) for sigmas in (-NINETIETH, NINETIETH))
        made = _told(recipe, stations, told, (asked, world))
        return msgspec.structs.replace(made, on=spec.text, p95=(low, high), left_out=left)
    except ConfigError as error:
        return Option(on=spec.text, recipe=recipe.name, problem=error.message, left_out=left)


def moved(recipe: Recipe, provider: str) -> Recipe:
    """Return a recipe whose models are all asked at `provider`."""

    def layer(one: Layer) -> Layer:
        return Layer(proposers=tuple(msgspec.structs.replace(slot, provider=provider) for slot in one.proposers))

    return msgspec.structs.replace(
        recipe,
        layers=tuple(layer(one) for one in recipe.layers),
        escalate=recipe.escalate and layer(recipe.escalate),
        aggregator=recipe.aggregator and msgspec.structs.replace(recipe.aggregator, provider=provider),
    )


def _is_provider(spec: Spec, world: World) -> bool:
    return spec.on in world.providers or spec.on.startswith(("http://", "https://"))


def placed(work: Work, spec: Spec, asked: Asked, world: World, wider: Mapping[Name, int] | None = None) -> Placed:
    """Return the machines of `work` where `spec` and what is pinned say; `wider` sets chips of single models."""
    pinned = {model: own for (_, model), own in asked.pinned.items()}
    specs = {model: pinned.get(model[1], spec) for model in work.models}
    for model, many in (wider or {}).items():
        specs[model] = specs[model]._replace(chips=many)
    shapes = {model: shape for _, model, shape in ((*name, shape) for name, shape in asked.shapes.items())}
    own = {model: shapes[model[1]] for model in work.models if model[1] in shapes}
    return place(work, specs, world.models, providers=world.providers, shapes=own)


def _wide_enough(
    work: Work, machines: Mapping[Name, Machine], spec: Spec, asked: Asked, world: World
) -> Mapping[Name, Machine]:
    """Return machines with as few GPUs a copy as are fast enough when empty, else the fastest of those tried."""
    assert asked.within is not None
    pinned = {model for _, model in asked.pinned}
    gpus = {
        model: machine.host
        for model, machine in machines.items()
        if isinstance(machine, Hosted) and machine.host.line is None and model[1] not in pinned
    }
    found: list[tuple[float, Mapping[Name, Machine]]] = []
    for times in _WIDER:
        wider = {model: min(host.chips * times, max(host.chip.node, host.chips)) for model, host in gpus.items()}
        tried = machines if times == 1 else placed(work, spec, asked, world, wider).machines
        ends = floor(work, tried).at(95)
        if ends * _AHEAD <= asked.within:
            return tried
        found.append((ends, tried))
        if not gpus:
            break
    return min(found, key=lambda pair: pair[0])[1]


def _told(
    recipe: Recipe, stations: Mapping[Name, Station], told: SimulatedMixtures, known: tuple[Asked, World]
) -> Option:
    asked, world = known
    cost = bill(stations, told, asked.rate)
    hired = [model for model, station in stations.items() if isinstance(station.machine, Published)]
    allowed = world.allowed(recipe, hired) if hired else Allowed(None)
    return Option(
        on="",
        recipe=recipe.name,
        seconds=tuple(told.at(percent) for percent in PERCENTS),
        mixtures=len(told.seconds),
        posts=tuple(_post(model, station, told) for model, station in stations.items()),
        stages=tuple(
            Stage(name=each.name, seconds=each.seconds, last={name: share for (_, name), share in each.last.items()})
            for each in told.stages
        ),
        prompts=told.prompts,
        outputs=told.outputs,
        dollars=_pair(cost.dollars, 1000),
        watt_hours=_pair(cost.joules, 1 / 3600),
        limit=allowed.minute,
        binds=allowed.binds,
        cut=told.cut,
        drift=told.drift,
    )


def _post(model: Name, station: Station, told: SimulatedMixtures) -> Post:
    machine = station.machine
    served = told.served[model]
    return Post(
        provider=model[0],
        model=model[1],
        machine=machine.name,
        basis=machine.basis,
        chips=machine.host.chips if isinstance(machine, Hosted) else None,
        copies=station.copies,
        busy=served.busy,
        in_flight=served.in_flight,
        waits=told.waits[model],
    )


def _pair(values: Range | None, times: float) -> tuple[float, float] | None:
    return None if values is None else (times * float(values.low), times * float(values.high))
