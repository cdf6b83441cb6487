"""The one door: a recipe, models and listeners, composed; `ask` gives an `Answer`, `stream` its events."""

import os
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, Unpack

import msgspec

from mixtura.engine.run import drive
from mixtura.errors import ConfigError, MixturaError
from mixtura.events import Answer, Event, Listener
from mixtura.folding import Fold
from mixtura.forks import random_generator
from mixtura.limits.budget.base import DailyBudget
from mixtura.limits.limiter import Limiter
from mixtura.mixture.composition import daily_budget_of, registry_of, shown_recipe
from mixtura.mixture.conversation import Question, as_conversation
from mixtura.mixture.listeners import ListenerGroup, checked, watched_by
from mixtura.mixture.options import AskOptions, RunSettings, run_options
from mixtura.mixture.portal import portal
from mixtura.mixture.stream import EventStream
from mixtura.models.card import Predicted
from mixtura.models.served import Models
from mixtura.planning.admission import plan_for_money
from mixtura.planning.forecast import Forecast, forecast
from mixtura.planning.options import RunOptions, Watch
from mixtura.planning.schedule import acting_recipe
from mixtura.portable import OfOneProcess
from mixtura.recipe import Recipe
from mixtura.variables import Variables

__all__ = ["AskOptions", "EventStream", "Mixture", "Question", "as_conversation", "ask"]


class Mixture(OfOneProcess):
    """A recipe ready to be asked.

    Safe to share between tasks and threads: every question is a run of its own. Connections belong to the event loop
    and are pooled there; there is nothing to close. A copy shares models, limits, budget and listeners with its
    original. It holds keys and cannot be pickled: each process makes one.

        answer = await Mixture("balanced").ask("Why is the sky blue?")

    Args:
        recipe: a built-in name, a path to a .toml file, or a `Recipe`.
        models: who answers; by default every provider of the catalogue, keys taken from `env`.
        client: your own AsyncGroq, AsyncOpenAI, Groq or OpenAI client, asked for every model of the recipe.
        env: where keys and base URLs are read; by default the process environment, as it is at the time of this call.
        plan: the plan of the provider's keys ("free", "developer", "enterprise"), whose rate limits are kept from the
            first call on; by default MIXTURA_PLAN of `env`, else they are learned from the first replies.
        limiter: keeps the rate limits; by default one for all mixtures of the process, or the one in Redis where
            MIXTURA_REDIS_URL of `env` is set. Not with `models` of your own: their `Accounting` names it.
        daily_budget: dollars that all runs of a day (UTC) may cost together; by default MIXTURA_DAILY_BUDGET of `env`,
            else any amount. Kept in a file for all processes of this user, or in Redis where MIXTURA_REDIS_URL is set.
        budget: keeps the day's budget, in place of that file or server.
        predicted: what calls of {(provider, model)} are expected to take until enough were measured, for the split of
            deadlines and for `latency_target`; by default the file that MIXTURA_PREDICTIONS of `env` names, if any.
            With `models` of your own their cards say it.
        listeners: called with every event of every run, in order, from the event loop; they must not block. One
            that raises is logged (logger "mixtura") and not called again in that run. Its attribute `watches` ("answer"
            or "calls") has replies streamed for it; without one it gets the events that there are.
        record: whether the first event of a run carries the conversation, or its digest alone.

    Raises:
        RecipeError: no such recipe, or it is not one.
        ConfigError: a listener is asynchronous; no such plan; no such budget; a file of predictions that cannot be
            read; two arguments that exclude each other.
    """

    _instead = "it holds keys; make one in each process, from its recipe (Mixture.recipe), which can be pickled"

    def __init__(
        self,
        recipe: str | Path | Recipe = "balanced",
        *,
        models: Models | None = None,
        client: object | None = None,
        env: Mapping[str, str] | None = None,
        plan: str | None = None,
        limiter: Limiter | None = None,
        daily_budget: float | None = None,
        budget: DailyBudget | None = None,
        predicted: Mapping[tuple[str, str], Predicted] | None = None,
        listeners: Sequence[Listener] = (),
        record: Literal["conversation", "digest"] = "conversation",
    ) -> None:
        self.recipe = recipe if isinstance(recipe, Recipe) else Recipe.named(str(recipe))
        # A copy: what is set later in the environment is for mixtures made later.
        env = Variables.of(os.environ if env is None else env)
        if models is not None and limiter is not None:
            raise ConfigError("limiter: expected none beside models of your own; name it in their Accounting")
        if models is not None and not callable(getattr(models, "find", None)):
            raise ConfigError(
                f"models: a {type(models).__name__} finds no models: hand in an object with `find` and `card` (see "
                "docs/library.md), or an SDK's client as client="
            )
        if budget is not None and daily_budget is not None:
            raise ConfigError("budget: expected either an amount (daily_budget) or who keeps it (budget), not both")
        if record not in ("conversation", "digest"):
            raise ConfigError(f"record: expected 'conversation' or 'digest', got {record!r}")
        self._models = registry_of(client, env, plan, predicted, limiter) if models is None else models
        self.recipe = shown_recipe(self.recipe, self._models)
        self._listeners = checked(listeners)
        self._budget = daily_budget_of(daily_budget, env) if budget is None else budget
        self._settings = RunSettings(rng=random_generator(), record=record, gone={}, told=set(), budget=self._budget)

    async def ask(self, question: Question, **asked: Unpack[AskOptions]) -> Answer:
        """Return the answer to `question`.

        Args:
            question: a text, or a conversation: `Message`s or dicts of the OpenAI wire, ending in what is asked.
            **asked: see `AskOptions`.

        Raises:
            ConfigError: nothing was sent; something has to be set or written differently.
            BudgetError: not even the smallest run allowed costs at most `max_cost`, or (DailyBudgetError) what
                is left for today; nothing was sent.
            LimitError: it does not fit its rate limits within the deadline; nothing was sent.
            NoAnswerError: no model gave a usable answer.
            DeadlineError: the deadline passed before anything usable came.

        Each error's `answer` holds what is known of the run by then.
        """
        folded = Fold()
        options = self._options(asked, asked.get("watch", "nothing"))
        conversation = as_conversation(question, asked.get("system"), options.chat.images or ())
        recipe = acting_recipe(self.recipe, options.chat)
        try:
            await drive(recipe, conversation, self._models, self._heard_by(folded.add), options)
        except MixturaError as error:
            error.answer = folded.answer()
            raise
        return folded.answer()

    def stream(self, question: Question, **asked: Unpack[AskOptions]) -> EventStream:
        """Return the events of a run over `question` as they happen; same arguments and errors as `ask`."""
        options = self._options(asked, asked.get("watch", "calls"))
        conversation = as_conversation(question, asked.get("system"), options.chat.images or ())
        recipe = acting_recipe(self.recipe, options.chat)

        def begin(emit: Listener) -> Coroutine[Any, Any, None]:
            return drive(recipe, conversation, self._models, self._heard_by(emit), options)

        return EventStream(begin)

    def ask_sync(self, question: Question, **asked: Unpack[AskOptions]) -> Answer:
        """`ask` for code without an event loop, or inside one that cannot await; proposers still run in parallel.

        The run lives in one background thread shared by all such calls; Ctrl-C here stops it there.
        """
        return portal().run(self.ask(question, **asked))

    def forecast(self, question: Question, **asked: Unpack[AskOptions]) -> Forecast:
        """Return the calls, tokens and dollars that `ask` would take at most; nothing is sent, no key is needed.

        With `max_cost` it is the forecast of the run that this leaves, and `notes` say what is reduced.

        Raises:
            BudgetError: not even the smallest run allowed costs at most `max_cost`.
        """
        options = self._options(asked, "nothing")
        conversation = as_conversation(question, asked.get("system"), options.chat.images or ())
        recipe = acting_recipe(self.recipe, options.chat)
        if options.max_cost is None:
            return forecast(recipe, conversation, self._models, options.chat)
        plan = plan_for_money(recipe, conversation, self._models, options)
        found = forecast(plan.recipe, conversation, self._models, plan.chat)
        return msgspec.structs.replace(found, notes=[f"{plan.why}: {', '.join(plan.steps)}"] if plan.steps else [])

    def __copy__(self) -> Self:
        made = type(self).__new__(type(self))
        vars(made).update(vars(self))
        return made

    def __deepcopy__(self, memo: object) -> Self:
        return self.__copy__()

    def _options(self, asked: AskOptions, watch: Watch) -> RunOptions:
        return run_options(asked, watched_by(self._listeners, watch), self._settings)

    def _heard_by(self, first: Listener) -> Listener:
        """Return a listener that hands events to `first` and then to the mixture's own."""
        if not self._listeners:
            return first
        group = ListenerGroup(self._listeners)

        def emit(event: Event) -> None:
            first(event)
            group(event)

        return emit


def ask(question: Question, recipe: str | Path | Recipe = "balanced", **asked: Unpack[AskOptions]) -> Answer:
    """Ask one question of a recipe and wait for the answer; no event loop needed. See `Mixture.ask`."""
    return Mixture(recipe).ask_sync(question, **asked)
