"""`mixtura chat`: a conversation; every answer is a run over all that was said."""

import asyncio
import datetime as dt
import difflib
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import click

from mixtura import interrupts
from mixtura.chat import Message
from mixtura.cli.access import environment_for, filled, mixture_of
from mixtura.cli.chat_file import KeptTalk, save_new
from mixtura.cli.chat_lines import FENCE, Entry, Lines
from mixtura.cli.common import (
    budget_option,
    check_text,
    deadline_option,
    dollars,
    max_cost_option,
    model_options,
    notice,
    plan_option,
    recipe_option,
    sim_options,
    table,
    write_text,
)
from mixtura.cli.own_server import at_own_server, with_models
from mixtura.cli.patience_options import PatienceOptions, patience_options
from mixtura.cli.session import Window, check_simulated, chosen_recipe, environment, follow, simulation
from mixtura.columns import one_line, safe
from mixtura.errors import InputError, MixturaError
from mixtura.events import Answer
from mixtura.folding import Fold
from mixtura.mixture import AskOptions
from mixtura.models.catalog import Tier
from mixtura.planning.moving import moved_to
from mixtura.planning.schedule import planned_models
from mixtura.recipe import Recipe, recipe_names

_COMMANDS = {
    "/retry": "/retry          ask the last question again, in place of its answer",
    "/recipe": "/recipe NAME    go on with another recipe; without a name: which one it is",
    "/model": "/model NAME     go on with one model, or with several as the ones that draft",
    "/drafts": "/drafts         show the drafts behind the last answer",
    "/cost": "/cost           show what each answer took so far, and all of them",
    "/system": "/system TEXT    set the system prompt; without a text: take it away",
    "/clear": "/clear          forget what was said",
    "/save": "/save FILE      write the conversation to a new file: JSON if it ends in .json, else Markdown",
    "/help": "/help           show this",
    "/quit": "/quit           leave; Ctrl-D does too",
}
_SEVERAL = f"Several lines are one message when they are pasted, or stand between {FENCE} and {FENCE}."


@click.command("chat", short_help="Talk with a mixture; what was said is kept.")
@recipe_option
@model_options
@click.option("-s", "--system", help="A system prompt.")
@click.option(
    "--resume", metavar="FILE", help="Keep the conversation in FILE as it goes, and go on with what is there."
)
@deadline_option
@patience_options
@max_cost_option
@plan_option
@budget_option
@sim_options
@click.pass_context
def command(ctx: click.Context, /, **given: Any) -> None:
    """Talk with a mixture; what was said is kept.

    Every line is a question; /help lists the commands. Several lines are one question when they are pasted, or
    stand between two lines of three double quotes. Ctrl-C stops an answer, Ctrl-D leaves. Lines may be piped in;
    the exit code is then that of the last question that failed.
    """
    asked = filled(given, ("recipe", "provider", "deadline", "max_cost"), simulated=given["sim"])
    as_of: dt.date | None = asked["as_of"]
    talk = _Talk(asked)
    chosen = talk.patience.applied_to(chosen_recipe(asked["recipe"], asked["models"], asked["provider"]))
    talk.take(chosen if talk.simulated else at_own_server(chosen, asked["provider"], asked["models"]))
    simulated = simulation(talk.simulated, as_of, plan=talk.plan)
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        if simulated is not None:
            talk.simulated_env = runner.run(opened.enter_async_context(environment(simulated)))
        try:
            talk.loop(runner)
        finally:
            runner.run(opened.aclose())
    if not talk.lines.typed:
        ctx.exit(talk.exit_code)


class _Talk:
    """The conversation so far and what the next question is asked with.

    Raises:
        ConfigError: the file of `--resume` cannot be continued.
    """

    recipe: Recipe

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.simulated: bool = asked["sim"]
        self.provider: str | None = asked["provider"]
        self.patience = PatienceOptions(first_token=asked["first_token"], hedge=asked["hedge"])
        self.plan: Tier | None = asked["plan"]
        self.daily_budget: float | None = asked["daily_budget"]
        self.options = AskOptions(deadline=asked["deadline"], max_cost=asked["max_cost"])
        self.kept = None if asked["resume"] is None else KeptTalk(asked["resume"])
        self.history = list(self.kept.messages) if self.kept else []
        self.system = check_text("the system prompt", asked["system"] or "")
        if self.history and self.history[0].role == "system":
            said = self.history.pop(0)
            self.system = self.system or said.text
        self.question = next((turn.text for turn in reversed(self.history) if turn.role == "user"), None)
        self.simulated_env: Mapping[str, str] = {}
        self.lines = Lines()
        self.turns: list[tuple[str, Answer]] = []
        self.last: Answer | None = None
        self.exit_code = 0

    def loop(self, runner: asyncio.Runner) -> None:
        """Read messages until there are no more, and answer each."""
        if self.lines.typed:
            resumed = f", {len(self.history)} messages from {self.kept.path}" if self.kept and self.history else ""
            _tell(f"mixtura: recipe {self.recipe.name}{resumed}; /help lists commands, Ctrl-D leaves")
        while True:
            try:
                entry = self.lines.read()
                if entry is None or (not entry.several and entry.text.split()[:1] == ["/quit"]):
                    break
                self._take(entry, runner)
            except MixturaError as error:
                self.exit_code = error.exit_code
                _tell(f"mixtura: {one_line(error.message)}")
            except KeyboardInterrupt:
                if not self.lines.typed or interrupts.told_to_end():
                    raise
                click.echo(err=True)

    def _take(self, entry: Entry, runner: asyncio.Runner) -> None:
        if entry.text.startswith("/") and not entry.several:
            name, _, rest = entry.text.partition(" ")
            if name == "/retry":
                runner.run(self._ask(self._taken_back(), self.question or ""))
            else:
                self._obey(name, rest.strip())
        elif entry.text.strip():
            runner.run(self._ask(self.history, check_text("the question", entry.text)))

    def _taken_back(self) -> list[Message]:
        """Return what was said before the last question, whether or not that was answered."""
        if self.question is None:
            raise InputError("there is no question to ask again yet")
        places = [place for place, turn in enumerate(self.history) if turn.role == "user"]
        if places and self.history[places[-1]].text == self.question:
            return self.history[: places[-1]]
        return self.history

    async def _ask(self, before: list[Message], question: str) -> None:
        asked = [*before, Message(role="user", content=question)]
        self.question = question
        env = self.simulated_env if self.simulated else environment_for(self.recipe)
        # A listener hears of calls that end because the run is stopped; who reads the events has left by then.
        spent = Fold()
        mixture = mixture_of(self.recipe, env, plan=self.plan, daily_budget=self.daily_budget, listeners=[spent.add])
        options: AskOptions = {**self.options, "system": self.system or None}
        try:
            answer = await follow(mixture, asked, Window(), Fold(), options)
        finally:
            if (took := spent.answer()).run:
                self.turns.append((self.recipe.name, took))
        # Only now: a question that failed is not part of what was said.
        self.history = [*asked, Message(role="assistant", content=answer.text)]
        self.last = answer
        if not Window().streams:
            write_text(answer.text)
        self._keep()

    def _messages(self) -> list[Message]:
        return [Message(role="system", content=self.system)] * bool(self.system) + self.history

    def _keep(self) -> None:
        if self.kept is not None and (said := self.kept.save(self._messages())):
            _tell(f"mixtura: {said}")

    def chosen(self, name: str | None, models: Sequence[str]) -> Recipe:
        """Return what /recipe or /model names, all of it where `--provider` has it: nobody else gets what was said.

        Raises:
            ConfigError: there is no such recipe, or the server of the provider cannot be reached.
        """
        recipe = self.patience.applied_to(chosen_recipe(name, models, self.provider))
        if self.provider is None or self.simulated:
            return recipe
        recipe = at_own_server(moved_to(recipe, self.provider), self.provider, models)
        missing = [model for _, model in planned_models(recipe) if model not in models]
        return with_models(recipe, missing, models, self.provider) if missing and models else recipe

    def take(self, recipe: Recipe) -> None:
        """Go on with `recipe`.

        Raises:
            ConfigError: a simulated cloud answers, and not for this recipe.
        """
        if self.simulated:
            check_simulated(recipe)
        self.recipe = recipe

    def _obey(self, name: str, rest: str) -> None:
        if name not in _COMMANDS:
            near = difflib.get_close_matches(name, _COMMANDS, n=1)
            raise InputError(f"no command {name!r}; " + (f"did you mean {near[0]}?" if near else "see /help"))
        if name == "/recipe":
            if rest:
                self.take(self.chosen(rest, ()))
            _tell(f"recipe {self.recipe.name}; built in are {', '.join(recipe_names())}")
        elif name == "/model":
            self._take_models(rest.split())
        elif name == "/system":
            self.system = check_text("the system prompt", rest)
            _tell("system prompt set" if rest else "no system prompt")
        elif name == "/clear":
            self.history, self.last, self.question = [], None, None
            _tell("forgotten" + (f"; the next answer replaces what is in {self.kept.path}" if self.kept else ""))
        elif name == "/drafts":
            _tell(_drafts(self.last))
        elif name == "/cost":
            _tell(_cost(self.turns))
        elif name == "/save":
            if not rest:
                raise InputError("/save needs the name of a file")
            save_new(rest, self._messages())
            _tell(f"{len(self._messages())} messages written to {rest}")
        elif name == "/help":
            _tell("\n".join([*_COMMANDS.values(), "", _SEVERAL]))

    def _take_models(self, models: list[str]) -> None:
        if models:
            self.take(self.chosen(None, models))
        asked = list(dict.fromkeys(slot.model for slot in self.recipe.layers[-1].proposers))
        _tell(f"recipe {self.recipe.name} with {', '.join(map(one_line, asked))}")


def _cost(turns: list[tuple[str, Answer]]) -> str:
    """Return a table of what each answer took, those that failed or were stopped included."""
    if not turns:
        return "nothing was asked yet"
    rows = [["turn", "recipe", "", "seconds", "calls", "tokens", "dollars"]]
    for number, (recipe, answer) in enumerate(turns, 1):
        ended = "stopped" if answer.error == "the run has not finished" else answer.status
        rows.append([str(number), recipe, "" if ended == "ok" else ended, f"{answer.seconds:.1f}", *_figures([answer])])
    took = [answer for _, answer in turns]
    rows.append(["all", "", "", f"{sum(answer.seconds for answer in took):.1f}", *_figures(took)])
    return table(rows, right=(3, 4, 5, 6))


def _figures(answers: list[Answer]) -> list[str]:
    """Return calls, tokens and dollars; `~` marks an estimate, `+` a sum that leaves out calls without a price."""
    calls = sum(answer.n_calls + len(answer.failures) for answer in answers)
    tokens = sum(answer.usage.total_tokens for answer in answers)
    costs = [answer.cost for answer in answers if answer.cost is not None]
    rough = "~" * any(answer.usage.estimated for answer in answers)
    more = "+" * any(answer.unpriced for answer in answers)
    return [str(calls), f"{rough}{tokens:,}", f"{rough}{dollars(sum(costs) if costs else None)}{more}"]


def _drafts(answer: Answer | None) -> str:
    if answer is None or not answer.drafts:
        return "there are no drafts yet"
    return "\n\n".join(f"--- {safe(draft.model)}\n{safe(draft.text)}" for draft in answer.drafts)


def _tell(text: str) -> None:
    notice(text)
