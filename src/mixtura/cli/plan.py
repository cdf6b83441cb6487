"""`mixtura plan`: the machines a mixture needs, its latency and cost, and how many mixtures a key's limits allow."""

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from mixtura.cli.capacity_view import CapacityCounter, describe, mixtures_a_minute, sentence
from mixtura.cli.common import UserPath, complete_recipes, json_option, notice, write_json, write_lines
from mixtura.cli.settings import Settings
from mixtura.errors import ConfigError
from mixtura.models.catalog import TIERS, Tier
from mixtura.models.registry import ModelRegistry
from mixtura.planning.capacity import Capacity
from mixtura.planning.schedule import planned_models
from mixtura.recipe import Recipe

if TYPE_CHECKING:
    from mixtura.hardware.shape import ModelShape
    from mixtura.room.plan.advice import DeploymentAdvice
    from mixtura.room.plan.option import DeploymentRequest, PlanningContext

_HELP = """\
Find the machines or the provider that serve mixtures of RECIPE best, and predict their latency under load and their
cost; also compute how many mixtures the rate limits of a plan allow. No model is called and no key is needed.

Step models fitted to measured points and a simulation of the queues predict the times; a provider's speeds are those
it publishes. A range holds for 8 of 10 machines.

\b
mixtura plan
mixtura plan fast --rate 300 --on h100 --on b200 --within 5
mixtura plan --on groq --on openai/gpt-oss-120b=8xh200
mixtura plan deep --limits --plan developer --question-tokens 3000
"""
_RATE = re.compile(r"(?P<number>[^/\s]+)\s*(?:/\s*(?P<unit>s|sec|second|min|minute|h|hour|d|day))?")
_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_WITHOUT = "without numpy only limits are planned: pip install 'mixtura[room]' to plan machines too"


def _rate(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Parse "30", "30/min", "2/s", "1000/h" or "5000/day" as mixtures per second."""
    found = _RATE.fullmatch(value.strip())
    try:
        number = float(found["number"]) if found else 0.0
    except ValueError:
        number = 0.0
    if found is None or not 0 < number < 1e12:
        raise click.BadParameter(f"expected mixtures a minute above 0, such as 30, 2/s or 1000/h, got {value!r}")
    return number / _SECONDS.get(found["unit"] or "", 60.0)


def _above_zero(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < 1e9:
        raise click.BadParameter(f"expected seconds above 0, got {value:g}")
    return value


@click.command("plan", help=_HELP, short_help="Plan machines, latency, cost and limits of a mixture.")
@click.argument("recipe", default="balanced", shell_complete=complete_recipes)
@click.option(
    "--on",
    multiple=True,
    metavar="WHERE",
    help="A chip (h100, 8xh200, 8xh200/sglang, lpu, wse3) or a provider; several are compared. MODEL=WHERE places one "
    "model.  [default: the recipe's provider and five chips]",
)
@click.option(
    "--rate", default="10", show_default=True, callback=_rate, metavar="N", help="Mixtures a minute; or 2/s, 1000/h."
)
@click.option(
    "--within", type=float, callback=_above_zero, metavar="SECONDS", help="Latency that 95 % of the mixtures must meet."
)
@click.option(
    "--output", type=click.IntRange(1), default=400, show_default=True, metavar="N", help="Tokens of a reply."
)
@click.option(
    "--differ",
    type=click.FloatRange(0, 1),
    default=0.4,
    show_default=True,
    metavar="SHARE",
    help="Share of mixtures whose drafts differ.",
)
@click.option(
    "--shape", "shapes", multiple=True, metavar="[MODEL=]FILE", help="A config.json, or the name of a similar model."
)
@click.option("--plot", type=UserPath(dir_okay=False, path_type=Path), help="Draw the frontier to an SVG file.")
@click.option(
    "--predictions",
    type=UserPath(dir_okay=False, path_type=Path),
    help="Write predicted call times on the advised machines, for MIXTURA_PREDICTIONS.",
)
@click.option("--limits", "limits_alone", is_flag=True, help="Show only what the rate limits of a plan allow.")
@click.option("--plan", type=click.Choice(TIERS), help="The plan of the key.  [default: MIXTURA_PLAN, else free]")
@click.option(
    "--question-tokens",
    type=click.IntRange(1),
    metavar="N",
    default=200,
    show_default=True,
    help="Tokens of each question.",
)
@json_option
def command(
    recipe: str,
    on: tuple[str, ...],
    rate: float,
    within: float | None,
    output: int,
    differ: float,
    shapes: tuple[str, ...],
    plot: Path | None,
    predictions: Path | None,
    limits_alone: bool,
    plan: Tier | None,
    question_tokens: int,
    as_json: bool,
) -> None:
    """Plan a recipe."""
    registry = ModelRegistry(env=Settings(os.environ).environment(), plan=plan)
    plans = CapacityCounter(registry, registry.plan or "free", question_tokens)
    wanted = Recipe.named(recipe)
    living, notes = plans.replace_gone(wanted)
    found, half = plans.count(living), plans.count_halved(living)
    if found.unknown:
        notes.append(f"no limits of {', '.join(found.unknown)} are known on this plan; they are left out")
    machines = not limits_alone and importlib.util.find_spec("numpy") is not None
    if not machines and not limits_alone:
        if on or within or plot or shapes or predictions:
            raise ConfigError("planning machines needs numpy: pip install 'mixtura[room]'")
        notes.append(_WITHOUT)
    advice = None
    if machines:
        request, standing = _request(registry, wanted, on, (rate, within, output, differ, question_tokens), shapes)
        advice, more = _advise(request, _context(registry, plans), named=bool(on or within or plot or predictions))
        # Notes on substitutes and retired models, already present, concern the provider's rows.
        notes += more + standing
        if plot is not None and advice is not None:
            from mixtura.cli.machines_view import draw

            draw(plot, request, advice, _context(registry, plans))
        if predictions is not None and advice is not None:
            _write_predictions(predictions, request, advice, registry)
    if as_json:
        write_json(_document(found, half, plans, advice, notes))
        return
    if advice is None:
        write_lines(describe(found, half, plans.plan))
    else:
        from mixtura.cli.machines_view import text

        write_lines(text(advice, sentence(found, plans.plan)))
    for note in notes:
        notice(f"mixtura: {note}")


def _request(
    registry: ModelRegistry,
    recipe: Recipe,
    on: Sequence[str],
    sizes: tuple[float, float | None, int, float, int],
    shapes: Sequence[str],
) -> tuple["DeploymentRequest", list[str]]:
    """Return the planning request, and notes on shapes that stand in for unknown ones."""
    from mixtura.room.plan.machines import read_spec
    from mixtura.room.plan.option import DeploymentRequest
    from mixtura.room.plan.work import AssumedSizes

    rate, within, output, differ, question = sizes
    specs = [read_spec(text) for text in on]
    names = planned_models(recipe)
    pinned = {_of(recipe, names, spec.model): spec._replace(model=None) for spec in specs if spec.model is not None}
    own = dict(_shape(recipe, names, text) for text in shapes)
    standing = {name: found for name in names if name not in own and (found := _stand_in(registry, name))}
    request = DeploymentRequest(
        recipe=recipe,
        rate=rate,
        on=tuple(spec for spec in specs if spec.model is None),
        pinned=pinned,
        within=within,
        assumed=AssumedSizes(question=question, output=output, differ=differ),
        shapes=own | standing,
    )
    return request, [
        f"{model} is planned with the shape of {found.name}, an assumption: its own shape is not known "
        f"(--shape {model}=FILE, a config.json)"
        for (_, model), found in standing.items()
    ]


def _of(recipe: Recipe, names: Sequence[tuple[str, str]], wanted: str) -> tuple[str, str]:
    """Return the model of the recipe with that name, with or without its vendor."""
    for name in names:
        if wanted in (name[1], name[1].rpartition("/")[2]):
            return name
    raise ConfigError(f"{recipe.name} has no model {wanted!r}: its models are {', '.join(name for _, name in names)}")


def _shape(recipe: Recipe, names: Sequence[tuple[str, str]], text: str) -> tuple[tuple[str, str], "ModelShape"]:
    """Parse `MODEL=FILE`, or `FILE` for the only model whose shape is not known."""
    from mixtura.hardware.shapes import shape

    model, equals, file = text.partition("=")
    if equals:
        return _of(recipe, names, model), shape(file)
    unknown = [name for name in names if not _has_shape(name[1])]
    if len(unknown) != 1:
        raise ConfigError(f"--shape {text}: name the model, as in MODEL={text}")
    return unknown[0], shape(text)


def _stand_in(registry: ModelRegistry, name: tuple[str, str]) -> "ModelShape | None":
    """Return the shape assumed for a model; None if its own shape is known or its family is not."""
    from mixtura.hardware.shapes import stand_in

    kept = registry.catalog.get(*name)
    return None if kept is None or _has_shape(name[1]) else stand_in(kept.family)


def _has_shape(model: str) -> bool:
    from mixtura.hardware.shapes import shape

    try:
        shape(model)
    except ConfigError:
        return False
    return True


def _context(registry: ModelRegistry, plans: CapacityCounter) -> "PlanningContext":
    from mixtura.room.plan.option import PlanningContext, RateAllowance

    return PlanningContext(
        models=registry,
        providers=registry.catalog.providers,
        served=lambda recipe: plans.replace_gone(recipe)[0],
        allowed=lambda recipe, models: RateAllowance(*mixtures_a_minute(plans.count(recipe, models))),
    )


def _advise(
    request: "DeploymentRequest", context: "PlanningContext", *, named: bool
) -> tuple["DeploymentAdvice | None", list[str]]:
    """Return the advice and its notes; no advice if no machine is feasible and the user named none."""
    from mixtura.room.plan.advice import advise

    try:
        advice = advise(request, context)
    except ConfigError as error:
        if named:
            raise
        return None, [f"no machines planned: {error.message}"]
    left = {model: why for option in advice.options for model, why in option.left_out.items()}
    return advice, [
        f"the plan for machines leaves out {model}, so it covers less than the whole mixture: {why} "
        f"(--shape {model}=FILE)"
        for model, why in left.items()
    ]


def _write_predictions(
    path: Path, request: "DeploymentRequest", advice: "DeploymentAdvice", registry: ModelRegistry
) -> None:
    """Write the predictions of the advised option, or of the first feasible one on machines."""
    from mixtura.models.predictions import predictions_toml
    from mixtura.room.predictions import predictions_of_option

    hosted = [option for option in advice.options if option.chips is not None]
    best = advice.options[advice.best] if advice.best is not None else None
    chosen = best if best in hosted else next(iter(hosted), None)
    if chosen is None:
        raise ConfigError("there are no predictions for a provider: give machines of your own, as in --on h100")
    text = f"# mixtura plan {request.recipe.name}, on {chosen.on}\n" + predictions_toml(
        predictions_of_option(chosen, request, registry)
    )
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error
    notice(f"mixtura: {path} holds the predictions for {chosen.on}: MIXTURA_PREDICTIONS={path}")


def _document(
    found: Capacity,
    half: Capacity | None,
    plans: CapacityCounter,
    advice: "DeploymentAdvice | None",
    notes: Sequence[str],
) -> bytes:
    whole = {"plan": plans.plan, "question_tokens": plans.question_tokens, **msgspec.to_builtins(found)}
    return msgspec.json.encode({**whole, "halved": half, "notes": notes, "machines": advice})
