"""`mixtura ask`: one question, one answer."""

import asyncio
import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import click
import msgspec

from mixtura.cli.access import environment_for, filled, mixture_of, not_listed
from mixtura.cli.answer_options import AnswerOptions, answer_options, write_prompts
from mixtura.cli.common import (
    budget_option,
    check_text,
    complete_models,
    deadline_option,
    dollars,
    json_option,
    max_cost_option,
    model_options,
    named,
    notice,
    plan_option,
    read_question,
    recipe_option,
    sim_options,
    table,
    today,
    write_json,
    write_lines,
    write_text,
)
from mixtura.cli.measured import alone
from mixtura.cli.models import life
from mixtura.cli.own_server import at_own_server
from mixtura.cli.patience_options import PatienceOptions, patience_options
from mixtura.cli.session import Window, check_simulated, chosen_recipe, environment, follow, simulation
from mixtura.cli.versus import Pair, answer_both, write_forecasts
from mixtura.errors import BudgetError, MissingKeyError, MixturaError
from mixtura.events import Answer, Event
from mixtura.folding import Fold
from mixtura.mixture import AskOptions, Mixture
from mixtura.models.catalog import Catalog, Tier
from mixtura.models.local.machine import Machine, is_installed
from mixtura.models.registry import ModelRegistry
from mixtura.planning.forecast import Forecast
from mixtura.planning.schedule import models_of
from mixtura.recipe import Recipe
from mixtura.sim.options import SimOptions


class _Asked(AnswerOptions, frozen=True, kw_only=True):
    """The options of the command line, by their names."""

    recipe: str | None
    models: tuple[str, ...]
    provider: str | None
    system: str | None
    as_json: bool
    drafts: bool
    show_prompts: bool
    deadline: float | None
    max_cost: float | None
    daily_budget: float | None
    plan: Tier | None
    priority: Literal["interactive", "batch"]
    dry_run: bool
    seed: int | None
    quiet: bool
    sim: bool
    as_of: dt.date | None
    vs: str | None
    first_token: float | None
    hedge: bool

    @property
    def patience(self) -> PatienceOptions:
        return PatienceOptions(first_token=self.first_token, hedge=self.hedge)

    @property
    def options(self) -> AskOptions:
        return AskOptions(
            system=None if self.system is None else check_text("the system prompt", self.system),
            options=self.chat(),
            deadline=self.deadline,
            max_cost=self.max_cost,
            seed=self.seed,
            priority=self.priority,
        )

    def mixture(self, recipe: Recipe, env: Mapping[str, str], events: list[Event]) -> Mixture:
        """Return the mixture to ask; with `--show-prompts` its events are added to `events`."""
        listeners = [events.append] if self.show_prompts else []
        return mixture_of(recipe, env, plan=self.plan, daily_budget=self.daily_budget, listeners=listeners)


_HELP = """\
Ask several models QUESTION and get one answer.

The question is what follows the command; "-" in it stands for what is piped in. Without one, all of it is
piped in.

\b
mixtura ask "Why is the sky blue?"
git diff | mixtura ask "Write a commit message for this change:" -
mixtura ask -m openai/gpt-oss-20b -m qwen/qwen3.8-27b --json "Is 91 prime?"
"""


@click.command(
    "ask",
    help=_HELP,
    short_help="Ask several models and get one answer.",
    epilog="Exit codes: 0 answered, 1 failed, 2 bad question or usage, 3 key, recipe or model to be fixed, "
    "75 try again later, 130 Ctrl-C.",
)
@click.argument("question", nargs=-1)
@recipe_option
@model_options
@click.option("-s", "--system", help="A system prompt.")
@json_option
@click.option("--drafts", is_flag=True, help="Show every draft too, on stderr.")
@click.option("--show-prompts", is_flag=True, help="Show every prompt too, on stderr.")
@answer_options
@deadline_option
@patience_options
@max_cost_option
@budget_option
@plan_option
@click.option(
    "--priority",
    type=click.Choice(["interactive", "batch"]),
    default="interactive",
    show_default=True,
    help="Who goes first where rate limits make runs wait.",
)
@click.option("--dry-run", is_flag=True, help="Show what it would take; send nothing.")
@click.option("--seed", type=int, help="Fix the order in which drafts are shown to a model.")
@click.option("-q", "--quiet", is_flag=True, help="The answer alone.")
@click.option(
    "--vs",
    metavar="MODEL",
    callback=named,
    shell_complete=complete_models,
    help="Ask this model alone as well, and compare the two.",
)
@sim_options
def command(question: tuple[str, ...], **given: Any) -> None:
    """Ask QUESTION, or forecast what that would take."""
    defaults = ("recipe", "provider", "deadline", "max_cost")
    asked, fold = _Asked(**filled(given, defaults, simulated=given["sim"], quiet=given["quiet"])), Fold()
    if asked.vs is not None:
        _compare(question, asked, asked.vs)
        return
    try:
        answer = _answer(question, asked, fold)
    except MixturaError as error:
        if asked.as_json and not asked.dry_run:
            failed = msgspec.structs.replace(fold.answer(), status="failed", error=error.message)
            write_json(failed.to_json())
        raise
    if isinstance(answer, Forecast):
        _write_forecast(answer, as_json=asked.as_json)
    elif asked.as_json:
        write_json(answer.to_json())
    elif not Window(quiet=asked.quiet).streams:
        write_text(answer.text)


def _prepared(words: Sequence[str], asked: _Asked) -> tuple[str, Recipe, SimOptions | None]:
    """Return the question, the recipe and the cloud that `--sim` starts.

    Raises:
        ConfigError: one of them cannot be.
    """
    question = read_question(words)
    check_text("the system prompt", asked.system or "")
    recipe = asked.patience.applied_to(chosen_recipe(asked.recipe, asked.models, asked.provider))
    if asked.sim:
        check_simulated(recipe)
    else:
        recipe = at_own_server(recipe, asked.provider, asked.models, quiet=asked.quiet, ask=not asked.dry_run)
    simulated = simulation(asked.sim, asked.as_of, plan=asked.plan, quiet=asked.quiet or asked.dry_run)
    if not (asked.recipe or asked.models or asked.provider or asked.sim or asked.dry_run or asked.vs):
        recipe = _answerable(recipe)
    if asked.dry_run:
        for provider, _ in models_of(recipe):
            ModelRegistry().provider(provider)  # unknown ones raise here; a forecast asks nobody and would not
    return question, recipe, simulated


def _answer(words: Sequence[str], asked: _Asked, fold: Fold) -> Answer | Forecast:
    question, recipe, simulated = _prepared(words, asked)
    if asked.dry_run:
        return _forecast(recipe, question, asked)
    window = Window(quiet=asked.quiet, drafts=asked.drafts, own_answer=asked.as_json)

    async def run() -> Answer:
        async with environment(simulated, recipe) as env:
            return await follow(asked.mixture(recipe, env, events), question, window, fold, asked.options)

    events: list[Event] = []
    try:
        return asyncio.run(run())
    finally:
        write_prompts(events)


def _compare(words: Sequence[str], asked: _Asked, model: str) -> None:
    """Ask, or forecast, the mixture and `model` alone."""
    question, recipe, simulated = _prepared(words, asked)
    events: list[Event] = []
    pair = Pair(
        question=question,
        recipe=recipe,
        model=model,
        alone=alone(model, asked.provider),
        options=asked.options,
        make=lambda recipe, env: asked.mixture(recipe, env, events),
    )
    if asked.dry_run:
        write_forecasts(pair, lambda found: _write_forecast(found, as_json=False), as_json=asked.as_json)
        for note in dict.fromkeys([*_notes(recipe), *_notes(pair.alone)]):
            notice(f"mixtura: {note}")
    else:
        registry = ModelRegistry(env=environment_for(recipe, pair.alone) if simulated is None else {})
        for provider, _ in [*models_of(recipe), *models_of(pair.alone)] if simulated is None else ():
            if not registry.is_in_process(provider):
                registry.endpoint(provider)  # a missing key is said before the first of the two is paid for
        window = Window(quiet=asked.quiet, drafts=asked.drafts, own_answer=asked.as_json)
        try:
            answer_both(pair, window, simulated, as_json=asked.as_json)
        finally:
            write_prompts(events)


def _forecast(recipe: Recipe, question: str, asked: _Asked) -> Forecast:
    """Return what the run would take at most, and in its notes what `--max-cost` makes of it."""
    mixture = mixture_of(recipe, environment_for(recipe))
    try:
        forecast = mixture.forecast(question, **asked.options)
    except BudgetError:
        whole = asked.options
        whole["max_cost"] = None
        forecast = mixture.forecast(question, **whole)
        refused = f"with --max-cost {asked.max_cost:g} the run would be refused; this is what it would take whole"
        forecast = msgspec.structs.replace(forecast, notes=[refused])
    return msgspec.structs.replace(forecast, notes=[*forecast.notes, *_notes(recipe)])


def _answerable(recipe: Recipe) -> Recipe:
    """Return `recipe`; on a terminal and without a key the toy in its place, which says so.

    Raises:
        MissingKeyError: there is no key, and nobody sees what answers, or the toy cannot run here.
    """
    try:
        registry = ModelRegistry(env=environment_for(recipe))
        for provider, _ in models_of(recipe):
            if not registry.is_in_process(provider):
                registry.endpoint(provider)
    except MissingKeyError as error:
        if not sys.stdout.isatty() or not is_installed() or Machine.here().unfit_reason():
            raise
        notice(
            f"mixtura: {error.env} is not set, so the toy in this process answers: arithmetic word problems only",
        )
        return Recipe.named("toy")
    return recipe


def _notes(recipe: Recipe) -> list[str]:
    """Return what stands against the run although nothing was asked."""
    notes = []
    for provider, model in models_of(recipe):
        row = Catalog.load().get(provider, model)
        if row is not None and not row.is_served(today()):
            notes.append(
                f"{model} is {life(row, today())} by the catalogue: a free or developer key gets no answer of it"
            )
    return [*notes, *not_listed(recipe, models_of(recipe))]


def _write_forecast(forecast: Forecast, *, as_json: bool) -> None:
    if as_json:
        write_json(msgspec.json.encode(forecast))
        return
    rows = [["role", "model", "provider", "calls", "tokens in", "tokens out", "dollars"]]
    rows += [
        [
            row.role,
            row.model,
            row.provider,
            str(row.count),
            f"~{row.prompt_tokens:,}",
            f"{row.completion_tokens:,}",
            dollars(row.cost),
        ]
        for row in forecast.rows
    ]
    total = [str(forecast.calls), f"~{forecast.prompt_tokens:,}", f"{forecast.completion_tokens:,}"]
    rows.append(["at most", "", "", *total, dollars(forecast.cost)])
    write_lines(table(rows, right=(3, 4, 5, 6)))
    notes = list(forecast.notes)
    if forecast.unpriced:
        notes.append(f"no price is known for {', '.join(forecast.unpriced)}; the sum leaves it out")
    for note in notes:
        notice(f"mixtura: {note}")
