"""`mixtura chat`: a conversation; every answer is a run over all that was said."""

import asyncio
import datetime as dt
import difflib
import importlib
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import click
import msgspec

from mixtura import interrupts
from mixtura.chat import Message
from mixtura.cli.common import (
    budget_option,
    check_text,
    model_options,
    notice,
    plan_option,
    recipe_option,
    sim_options,
    write_answer,
)
from mixtura.cli.session import Window, check_simulated, chosen_recipe, environment, follow, simulation
from mixtura.columns import one_line, safe
from mixtura.errors import ConfigError, InputError, MixturaError
from mixtura.events import Answer, Fold
from mixtura.mixture import AskOptions, Mixture
from mixtura.models.catalog import Tier
from mixtura.recipe import Recipe, recipe_names

_COMMANDS = {
    "/recipe": "/recipe NAME    go on with another recipe; without a name: which one it is",
    "/drafts": "/drafts         show the drafts behind the last answer",
    "/system": "/system TEXT    set the system prompt; without a text: take it away",
    "/clear": "/clear          forget what was said",
    "/save": "/save FILE      write the conversation to a new file: JSON if it ends in .json, else Markdown",
    "/help": "/help           show this",
    "/quit": "/quit           leave; Ctrl-D does too",
}


@click.command("chat", short_help="Talk with a mixture; what was said is kept.")
@recipe_option
@model_options
@click.option("-s", "--system", help="A system prompt.")
@plan_option
@budget_option
@sim_options
@click.pass_context
def command(
    ctx: click.Context,
    recipe: str | None,
    models: tuple[str, ...],
    provider: str | None,
    system: str | None,
    plan: Tier | None,
    daily_budget: float | None,
    sim: bool,
    as_of: dt.date | None,
) -> None:
    """Talk with a mixture; what was said is kept.

    Every line is a question; /help lists the commands. Ctrl-C stops an answer, Ctrl-D leaves. Lines may be
    piped in; the exit code is then that of the last question that failed.
    """
    talk = _Talk(check_text("the system prompt", system or ""), simulated=sim)
    talk.take(chosen_recipe(recipe, models, provider))
    talk.plan, talk.daily_budget = plan, daily_budget
    simulated = simulation(sim, as_of, plan=plan)
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        talk.env = runner.run(opened.enter_async_context(environment(simulated)))
        try:
            talk.loop(runner)
        finally:
            runner.run(opened.aclose())
    if not sys.stdin.isatty():
        ctx.exit(talk.exit_code)


class _Talk:
    """The conversation so far and what the next question is asked with."""

    recipe: Recipe

    def __init__(self, system: str, *, simulated: bool) -> None:
        self.simulated = simulated
        self.system = system
        self.plan: Tier | None = None
        self.daily_budget: float | None = None
        self.env: Mapping[str, str] = {}
        self.history: list[Message] = []
        self.last: Answer | None = None
        self.exit_code = 0

    def loop(self, runner: asyncio.Runner) -> None:
        """Read lines until there are no more, and answer each."""
        typed = sys.stdin.isatty()
        if typed:
            _use_readline()
            notice(f"mixtura: recipe {self.recipe.name}; /help lists commands, Ctrl-D leaves")
        while True:
            try:
                line = _typed_line() if typed else _piped_line()
                if line is None or line.split()[:1] == ["/quit"]:
                    break
                self._take(line.strip(), runner)
            except MixturaError as error:
                self.exit_code = error.exit_code
                notice(f"mixtura: {one_line(error.message)}")
            except KeyboardInterrupt:
                if not typed or interrupts.told_to_end():
                    raise
                click.echo(err=True)

    def _take(self, line: str, runner: asyncio.Runner) -> None:
        if line.startswith("/"):
            self._obey(*line.partition(" ")[::2])
        elif line:
            runner.run(self._ask(check_text("the question", line)))

    async def _ask(self, question: str) -> None:
        asked = [*self.history, Message(role="user", content=question)]
        mixture = Mixture(self.recipe, env=self.env, plan=self.plan, daily_budget=self.daily_budget)
        answer = await follow(mixture, asked, Window(), Fold(), AskOptions(system=self.system or None))
        # Only now: a question that failed is not part of what was said.
        self.history = [*asked, Message(role="assistant", content=answer.text)]
        self.last = answer
        if not Window().streams:
            write_answer(answer.text)

    def take(self, recipe: Recipe) -> None:
        """Go on with `recipe`.

        Raises:
            ConfigError: a simulated cloud answers, and not for this recipe.
        """
        if self.simulated:
            check_simulated(recipe)
        self.recipe = recipe

    def _obey(self, name: str, rest: str) -> None:
        rest = rest.strip()
        if name not in _COMMANDS:
            near = difflib.get_close_matches(name, _COMMANDS, n=1)
            raise InputError(f"no command {name!r}; " + (f"did you mean {near[0]}?" if near else "see /help"))
        if name == "/recipe":
            if rest:
                self.take(chosen_recipe(rest))
            _tell(f"recipe {self.recipe.name}; built in are {', '.join(recipe_names())}")
        elif name == "/system":
            self.system = check_text("the system prompt", rest)
            _tell("system prompt set" if rest else "no system prompt")
        elif name == "/clear":
            self.history, self.last = [], None
            _tell("forgotten")
        elif name == "/drafts":
            _tell(_drafts(self.last))
        elif name == "/save":
            self._save(rest)
        elif name == "/help":
            _tell("\n".join(_COMMANDS.values()))

    def _save(self, name: str) -> None:
        if not name:
            raise InputError("/save needs the name of a file")
        messages = [Message(role="system", content=self.system)] * bool(self.system) + self.history
        if name.endswith(".json"):
            text = msgspec.json.format(msgspec.json.encode(messages), indent=2).decode()
        else:
            text = "\n\n".join(f"## {message.role}\n\n{message.text}" for message in messages)
        try:
            with Path(name).expanduser().open("x", encoding="utf-8", errors="replace") as file:
                file.write(text + "\n")
        except OSError as error:
            raise ConfigError(f"{name}: cannot be written: {error.strerror or error}") from error
        _tell(f"{len(messages)} messages written to {name}")


def _drafts(answer: Answer | None) -> str:
    if answer is None or not answer.drafts:
        return "there are no drafts yet"
    return "\n\n".join(f"--- {draft.model}\n{safe(draft.text)}" for draft in answer.drafts)


def _tell(text: str) -> None:
    notice(text)


def _use_readline() -> None:
    """Give typed lines editing and a history, where Python was built with it."""
    try:
        importlib.import_module("readline")
    except ImportError:
        return


def _typed_line() -> str | None:
    try:
        if sys.stdout.isatty():
            return input("> ")
        click.echo("> ", nl=False, err=True)
        return input()
    except EOFError:
        click.echo(err=True)
        return None


def _piped_line() -> str | None:
    raw = sys.stdin.buffer.readline()
    try:
        return raw.decode() if raw else None
    except UnicodeDecodeError as error:
        raise InputError(f"the line is not UTF-8 text (byte {error.start + 1})") from None
