"""The one door: a recipe, models and listeners, composed; `ask` gives an `Answer`, `stream` its events."""

import inspect
import logging
import math
import os
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, TypedDict, Unpack

from mixtura.chat import ChatOptions, Message
from mixtura.engine.run import drive, run
from mixtura.errors import ConfigError, DeadlineError, InputError, NoAnswerError
from mixtura.events import Answer, Event, Fold, Listener
from mixtura.limits.queue import Priority
from mixtura.mixture.composition import daily_budget as daily_budget_of
from mixtura.mixture.composition import registry
from mixtura.mixture.conversation import Question, as_conversation
from mixtura.mixture.portal import portal
from mixtura.models.card import Predicted
from mixtura.models.served import Models
from mixtura.planning.forecast import Forecast, forecast
from mixtura.planning.options import RunOptions
from mixtura.recipe import Recipe

__all__ = ["AskOptions", "EventStream", "Mixture", "Question", "as_conversation", "ask"]

_LOG = logging.getLogger("mixtura")

_PRIORITIES = {"interactive": Priority.INTERACTIVE, "batch": Priority.BATCH}


class AskOptions(TypedDict, total=False):
    """What one question may set for itself.

    Attributes:
        system: a system prompt, put before the conversation's own.
        options: tools, response_format, stop and the like, for the model that answers.
        deadline: seconds for the whole run, in place of the recipe's.
        max_cost: dollars the run may cost at most, decided before anything is sent.
        seed: fixes what the run draws at random (the order drafts are shown in).
        priority: "interactive" (somebody waits) goes before "batch" where rate limits make runs wait in line.
    """

    system: str | None
    options: ChatOptions | None
    deadline: float | None
    max_cost: float | None
    seed: int | None
    priority: Literal["interactive", "batch"]


class EventStream:
    """The events of one run, in order; `aclose`, the end of `async with`, or dropping it stops what is open.

    A loop that is left by `break` stops nothing while the stream is still held: use `async with`.

    After the last event, iteration raises what `Mixture.ask` would raise, if anything.
    """

    def __init__(self, events: AsyncGenerator[Event, None], listeners: Sequence[Listener]) -> None:
        self._events = events
        self._listen = _Listeners(listeners)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await anext(self._events)
        self._listen(event)
        return event

    async def aclose(self) -> None:
        """Stop the run; returns when no call of it is open any more."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Mixture:
    """A recipe ready to be asked.

    Safe to share between tasks: every question is a run of its own. Connections belong to the event loop and are
    pooled there; there is nothing to close.

        answer = await Mixture("balanced").ask("Why is the sky blue?")

    Args:
        recipe: a built-in name, a path to a .toml file, or a `Recipe`.
        models: who answers; by default every provider of the catalogue, keys taken from `env`.
        client: your own AsyncGroq, AsyncOpenAI, Groq or OpenAI client, asked for every model of the recipe.
        env: where keys and base URLs are read; by default the process environment, at the time of this call.
        plan: the plan of the provider's keys ("free", "developer", "enterprise"), whose rate limits are kept from the
            first call on; by default MIXTURA_PLAN of `env`, else they are learned from the first replies.
        daily_budget: dollars that all runs of a day (UTC) may cost together; by default MIXTURA_DAILY_BUDGET of `env`,
            else any amount. Kept in a file for all processes of this user, or in Redis where MIXTURA_REDIS_URL is set.
        predicted: what calls of {(provider, model)} are expected to take until enough were measured, for the split of
            deadlines and for `latency_target`; by default the file that MIXTURA_PREDICTIONS of `env` names, if any.
            With `models` of your own their cards say it.
        listeners: called with every event of every run, in order, from the event loop; they must not block. One
            that raises is logged (logger "mixtura") and not called again in that run.

    Raises:
        RecipeError: no such recipe, or it is not one.
        ConfigError: a listener is a coroutine function: nobody would await it; no such plan; no such budget; a
            file of predictions that cannot be read.
    """

    def __init__(
        self,
        recipe: str | Path | Recipe = "balanced",
        *,
        models: Models | None = None,
        client: object | None = None,
        env: Mapping[str, str] | None = None,
        plan: str | None = None,
        daily_budget: float | None = None,
        predicted: Mapping[tuple[str, str], Predicted] | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self.recipe = recipe if isinstance(recipe, Recipe) else Recipe.named(str(recipe))
        env = os.environ if env is None else env
        self._models = models or registry(client, env, plan, predicted)
        self._budget = daily_budget_of(daily_budget, env)
        self._listeners = tuple(listeners)
        for listener in self._listeners:
            if inspect.iscoroutinefunction(listener):
                raise ConfigError(f"listener {listener.__name__!r} is async: listeners are called, not awaited")
        self._gone: dict[tuple[str, str], str] = {}
        self._rng = random.Random()

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
            NoAnswerError: no model gave a usable answer; its `answer` holds what is known.
            DeadlineError: the deadline passed before anything usable came.
        """
        folded = Fold()
        emit = folded.add if not self._listeners else _after(folded.add, _Listeners(self._listeners))
        conversation, options = self._prepare(question, asked, watched=bool(self._listeners))
        try:
            await drive(self.recipe, conversation, self._models, emit, options)
        except (NoAnswerError, DeadlineError) as error:
            error.answer = folded.answer()
            raise
        return folded.answer()

    def stream(self, question: Question, **asked: Unpack[AskOptions]) -> EventStream:
        """Return the events of a run over `question` as they happen; same arguments and errors as `ask`."""
        conversation, options = self._prepare(question, asked, watched=True)
        return EventStream(run(self.recipe, conversation, self._models, options), self._listeners)

    def ask_sync(self, question: Question, **asked: Unpack[AskOptions]) -> Answer:
        """`ask` for code without an event loop, or inside one that cannot await; proposers still run in parallel.

        The run lives in one background thread shared by all such calls; Ctrl-C here stops it there.
        """
        return portal().run(self.ask(question, **asked))

    def forecast(self, question: Question, **asked: Unpack[AskOptions]) -> Forecast:
        """Return the calls, tokens and dollars that `ask` would take at most; nothing is sent, no key is needed."""
        conversation, _ = self._prepare(question, asked, watched=False)
        return forecast(self.recipe, conversation, self._models)

    def _prepare(
        self, question: Question, asked: AskOptions, *, watched: bool
    ) -> tuple[tuple[Message, ...], RunOptions]:
        conversation = as_conversation(question, asked.get("system"))
        deadline, cost = asked.get("deadline"), asked.get("max_cost")
        if deadline is not None and not (_is_number(deadline) and deadline > 0):
            raise InputError(f"deadline: expected seconds above 0, got {deadline!r}")
        if cost is not None and not (_is_number(cost) and cost >= 0):
            raise InputError(f"max_cost: expected dollars, 0 or more, got {cost!r}")
        seed: object = asked.get("seed")
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise InputError(f"seed: expected a whole number, got {seed!r}")
        options_given: object = asked.get("options")
        if options_given is not None and not isinstance(options_given, ChatOptions):
            raise InputError(f"options: expected ChatOptions, got {type(options_given).__name__}")
        priority: str = asked.get("priority", "interactive")
        if priority not in _PRIORITIES:
            raise InputError(f"priority: expected {' or '.join(_PRIORITIES)}, got {priority!r}")
        options = RunOptions(
            chat=asked.get("options") or ChatOptions(),
            deadline=deadline,
            max_cost=cost,
            seed=asked.get("seed"),
            rng=self._rng,
            run=f"{self._rng.getrandbits(128):032x}",
            started_at=time.time(),
            watched=watched,
            gone=self._gone,
            budget=self._budget,
            priority=_PRIORITIES[priority],
        )
        return conversation, options


def ask(question: Question, recipe: str | Path | Recipe = "balanced", **asked: Unpack[AskOptions]) -> Answer:
    """Ask one question of a recipe and wait for the answer; no event loop needed. See `Mixture.ask`."""
    return Mixture(recipe).ask_sync(question, **asked)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _after(first: Listener, then: Listener) -> Listener:
    def emit(event: Event) -> None:
        first(event)
        then(event)

    return emit


class _Listeners:
    """Hands events on; a listener that raises is logged and not called again, since a run must not be lost to it."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = list(listeners)

    def __call__(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:  # noqa: BLE001  # a listener is anybody's code; it is logged below
                self._listeners.remove(listener)
                _LOG.exception("a listener of a run raised and is not called again in this run")
