"""From the options of a verb to a mixture that is asked and watched: used by ask, chat and demo."""

import asyncio
import datetime as dt
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TextIO

import click
import msgspec

from mixtura.cli.access import environment_for
from mixtura.cli.common import notice, today
from mixtura.errors import ConfigError, RecipeError
from mixtura.events import Answer
from mixtura.folding import Fold
from mixtura.mixture import AskOptions, Mixture, Question
from mixtura.mixture.composition import daily_budget_of
from mixtura.models.catalog import Tier
from mixtura.models.registry import ModelRegistry
from mixtura.planning.moving import moved_to
from mixtura.planning.schedule import models_of
from mixtura.recipe import Layer, Policy, Proposer, Recipe
from mixtura.sim.options import SimOptions
from mixtura.sim.server import simulated_cloud
from mixtura.temporary import temporary_folder
from mixtura.terminal import TerminalView, screen_of

SIMULATED_KEY = "gsk_simulated"
_FILLER = 80  # tokens of a simulated reply
# What real runs are held to, across processes, and what is said of real machines.
_REAL = ("MIXTURA_DAILY_BUDGET", "MIXTURA_PLAN", "MIXTURA_PREDICTIONS", "MIXTURA_REDIS_URL")


def chosen_recipe(name: str | None, models: Sequence[str] = (), provider: str | None = None) -> Recipe:
    """Return the recipe that `--recipe`, `--model` and `--provider` describe together.

    One model alone runs the recipe `single`. Models with a recipe, or several of them, are the proposers of its
    last layer. A provider serves the models named; without any it serves the whole recipe.

    Raises:
        RecipeError: no such recipe, or it cannot be with these models.
    """
    if len(models) == 1 and name is None:
        name = "single"
    recipe = Recipe.named(name or "balanced")
    if not models:
        return recipe if provider is None else moved_to(recipe, provider)
    try:
        last = Layer(
            proposers=tuple(
                Proposer(model=model) if provider is None else Proposer(model=model, provider=provider)
                for model in models
            )
        )
        layers = (*recipe.layers[:-1], last)
        tools = recipe.tools.of(last.size)
        policy = _fitting(recipe.policy, layers)
        if provider is not None:
            policy = msgspec.structs.replace(policy, deadline="auto")
        return msgspec.structs.replace(recipe, layers=layers, policy=policy, tools=tools)
    except ValueError as error:
        raise RecipeError(f"{recipe.name} with --model", str(error)) from error


def _fitting(policy: Policy, layers: Sequence[Layer]) -> Policy:
    """Return `policy` asking for no more drafts than the smallest of `layers` makes."""
    smallest = min(layer.size for layer in layers)
    quorum = None if policy.quorum is None or smallest == 1 else min(policy.quorum, smallest)
    return msgspec.structs.replace(policy, quorum=quorum, min_drafts=min(policy.min_drafts, smallest))


@asynccontextmanager
async def environment(simulated: SimOptions | None, *recipes: Recipe) -> AsyncIterator[Mapping[str, str]]:
    """Give what keys and addresses are read from: the command's for `recipes`, or a simulated cloud's."""
    if simulated is None:
        yield environment_for(*recipes)
        return
    # What a simulated cloud bills is no money, and its windows are nobody else's: neither is kept with the real ones.
    with _own_home() as home:
        async with simulated_cloud(simulated) as cloud:
            kept = {name: value for name, value in os.environ.items() if name not in _REAL}
            direct = [os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "", "127.0.0.1"]
            yield {
                **kept,
                "GROQ_BASE_URL": cloud.url,
                "GROQ_API_KEY": SIMULATED_KEY,
                "MIXTURA_HOME": home,
                "no_proxy": ",".join(filter(None, direct)),
            }


@contextmanager
def _own_home() -> Iterator[str]:
    """Give a folder for what a simulated run keeps; where none can be made, a name that nothing can be written to."""
    with ExitStack() as opened:
        try:
            home = str(opened.enter_context(temporary_folder("mixtura-sim-")))
        except OSError:
            home = f"{os.devnull}/mixtura"
        yield home


def check_simulated(recipe: Recipe) -> None:
    """Refuse a recipe that would ask anybody for real, behind a line that says the opposite.

    Raises:
        ConfigError: it names a provider that is not simulated.
    """
    others = sorted({provider for provider, _ in models_of(recipe) if provider != "groq"})
    if others:
        raise ConfigError(f"--sim simulates groq only, and the recipe also asks {', '.join(map(repr, others))}")


def simulation(
    wanted: bool, as_of: dt.date | None, *, plan: Tier | None = None, quiet: bool = False
) -> SimOptions | None:
    """Return the options of the cloud that `--sim` starts, None without it; says on stderr what will answer.

    Its key is of `plan`, by default of the developer plan.

    Raises:
        click.UsageError: `--as-of` without `--sim`.
    """
    if not wanted:
        if as_of is not None:
            raise click.UsageError("--as-of needs --sim")
        return None
    if not quiet:
        notice("mixtura: a simulated cloud answers: its words are filler, no model is asked")
        for problem in _wrong_settings(os.environ):
            notice(f"mixtura: {problem}; --sim goes on without it")
    return SimOptions(as_of=as_of or today(), plan=plan or "developer", profile="lpu", tokens=_FILLER)


def _wrong_settings(env: Mapping[str, str]) -> Iterator[str]:
    """Give what is wrong with the settings of real runs, which a simulated cloud does not use."""
    checks: dict[str, Callable[[Mapping[str, str]], object]] = {
        "MIXTURA_PLAN": lambda one: ModelRegistry(env=one),
        "MIXTURA_PREDICTIONS": lambda one: ModelRegistry(env=one),
        "MIXTURA_DAILY_BUDGET": lambda one: daily_budget_of(None, one),
        "MIXTURA_REDIS_URL": _check_redis,
    }
    for name, check in checks.items():
        value = env.get(name, "").strip()
        try:
            if value:
                check({name: value})
        except ConfigError as error:
            yield error.message


def _check_redis(env: Mapping[str, str]) -> None:
    from mixtura.limits.redis.store import RedisStore

    RedisStore(env["MIXTURA_REDIS_URL"])


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is shown.

    Attributes:
        quiet: the answer alone, nothing about the run.
        drafts: every draft written out.
        own_answer: the answer is left to the caller.
        one_stream: what is said about the run and the answer both go to stdout, as they come.
    """

    quiet: bool = False
    drafts: bool = False
    own_answer: bool = False
    one_stream: bool = False

    @property
    def streams(self) -> bool:
        """The answer is written while it comes."""
        return not self.quiet and not self.own_answer and (self.one_stream or sys.stdout.isatty())


async def follow(mixture: Mixture, question: Question, window: Window, fold: Fold, options: AskOptions) -> Answer:
    """Ask, show the run as it goes, and return the answer; `fold` keeps what is known when it fails.

    Raises:
        MixturaError: what `Mixture.ask` raises.
    """
    if window.quiet:
        async with mixture.stream(question, **options) as events:
            async for event in events:
                fold.add(event)
        return fold.answer()
    answer: TextIO | None = sys.stdout if window.streams else None
    status = sys.stdout if window.one_stream else sys.stderr
    view = TerminalView(status, answer, screen=screen_of(status, os.environ), drafts=window.drafts)
    loop = asyncio.get_running_loop()
    begun = loop.time()

    ticking: asyncio.Handle

    def tick() -> None:
        nonlocal ticking
        view.tick(loop.time() - begun)
        ticking = loop.call_later(0.1, tick)

    ticking = loop.call_soon(tick)
    try:
        async with mixture.stream(question, **options) as events:
            async for event in events:
                fold.add(event)
                view.add(event)
    finally:
        ticking.cancel()
        view.stop()
    return fold.answer()
