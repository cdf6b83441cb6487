"""A run from its first event to its last: layers of proposers, escalation, aggregation."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from mixtura.chat import Delta, Message
from mixtura.engine import agree, calls, prompts
from mixtura.engine.aggregate import Outcome, aggregate, answer_alone
from mixtura.engine.context import Run, RunOptions
from mixtura.engine.forecast import forecast
from mixtura.engine.propose import Drafting
from mixtura.errors import (
    BudgetError,
    DeadlineError,
    MixturaError,
    ModelError,
    NoAnswerError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from mixtura.events import (
    AnswerDelta,
    AnswerFinished,
    CallFinished,
    Draft,
    Event,
    Listener,
    Role,
    RunFinished,
    RunStarted,
)
from mixtura.models.base import Models
from mixtura.recipe import Layer, Proposer, Recipe

__all__ = ["RunOptions", "drive", "run"]


async def drive(
    recipe: Recipe, conversation: Sequence[Message], models: Models, emit: Listener, options: RunOptions
) -> None:
    """Run `recipe` over `conversation` and hand every event to `emit`.

    Everything that is awaited lives inside this coroutine: when it returns, raises or is cancelled, no call of the
    run is still open. The last event is always one RunFinished, unless an error is raised before RunStarted.

    Raises:
        ConfigError, BudgetError: before anything was sent, and before any event.
        NoAnswerError: no draft survived and the aggregator could not answer alone.
        DeadlineError: the deadline passed first.
    """
    _check_seats(recipe, models)
    if options.max_cost is not None:
        worst = forecast(recipe, conversation, models, options)
        if worst.cost is None or worst.unpriced or worst.cost > options.max_cost:
            why = f"unknown for {', '.join(worst.unpriced)}"
            raise BudgetError(None if worst.unpriced else worst.cost, options.max_cost, why)
    run = Run(recipe, conversation, models, emit, options)
    run.say(RunStarted(run=options.run, recipe=recipe.name, calls=recipe.calls, started_at=options.started_at))
    try:
        outcome = await _answer(run)
    except BaseException as error:
        # Whatever ends a run, listeners hear that it ended; then it goes on to the caller.
        run.say(RunFinished(at=run.now, status="failed", error=_last_words(error)))
        raise
    if options.watched and outcome.text and not outcome.said:
        run.say(AnswerDelta(at=run.now, text=outcome.text))
    run.say(
        AnswerFinished(
            at=run.now,
            text=outcome.text,
            reasoning=outcome.reasoning,
            finish_reason=outcome.finish_reason,
            tool_calls=outcome.tool_calls,
            source=outcome.source,
        )
    )
    run.say(RunFinished(at=run.now, status="partial" if run.fell_back else "ok"))


def _last_words(error: BaseException) -> str:
    if isinstance(error, MixturaError):
        return error.message
    return "the run was stopped" if isinstance(error, asyncio.CancelledError) else f"{type(error).__name__}: {error}"


async def run(
    recipe: Recipe, conversation: Sequence[Message], models: Models, options: RunOptions
) -> AsyncGenerator[Event, None]:
    """Run `recipe` and yield its events as they happen; raises what `drive` raises, after the last event.

    Closing the generator, or dropping it, cancels everything that is still open.
    """
    events: deque[Event] = deque()
    news = asyncio.Event()

    def emit(event: Event) -> None:
        events.append(event)
        news.set()

    driver = asyncio.create_task(drive(recipe, conversation, models, emit, options))
    driver.add_done_callback(lambda _: news.set())
    try:
        while True:
            await news.wait()
            news.clear()
            while events:
                yield events.popleft()
            if driver.done() and not events:
                break
        await driver
    finally:
        # The generator owns the task: whoever walks away stops it, and waits until it has let go of its calls.
        driver.cancel()
        await asyncio.wait([driver])
        if not driver.cancelled():
            driver.exception()  # seen, whether or not the consumer stayed for it


async def _answer(run: Run) -> Outcome:
    recipe = run.recipe
    seats = recipe.layers[0].seats
    if recipe.aggregator is None and len(recipe.layers) == 1 and len(seats) == 1:
        return await _single(run, seats[0])
    drafts, errors = await _layers(run)
    may_stop = recipe.policy.stop_when_agree or recipe.escalate is not None
    if drafts and recipe.aggregator is not None and may_stop and not run.options.chat.tools:
        counted = agree.tally(drafts)
        if counted.unanimous:
            run.decide("agreed", f"all {len(drafts)} drafts end in {counted.winner!r}", winner=counted.winner)
            chosen = drafts[agree.best(drafts)[0]]
            return Outcome(chosen.text, chosen.call, chosen.reasoning, chosen.finish_reason)
    if recipe.escalate is not None:
        drafts, errors = await _escalate(run, recipe.escalate, drafts, errors)
    if drafts:
        return await aggregate(run, drafts)
    return await _without_drafts(run, errors)


async def _layers(run: Run) -> tuple[list[Draft], list[ModelError]]:
    """Run the layers one after the other; a layer that gives nothing leaves the drafts of the one before."""
    drafts: list[Draft] = []
    errors: list[ModelError] = []
    layers = run.recipe.layers
    for index, layer in enumerate(layers):
        drafting = Drafting(run, "proposer", index, run.until(len(layers) - index + _stages_after(run.recipe)))
        await drafting.ask_all(layer, drafts)
        errors += drafting.errors
        if drafting.drafts:
            _say_lost(run, drafting, layer)
            drafts = drafting.drafts
        elif drafts:
            run.decide("noticed", f"layer {index + 1} gave no draft; going on with those before it", warning=True)
    return drafts, errors


def _say_lost(run: Run, drafting: Drafting, layer: Layer) -> None:
    """Say which drafts a layer goes on without: a run with fewer than it meant must not look like a full one."""
    if drafting.errors:
        lost = ", ".join(f"{error.model}: {error.kind.replace('_', ' ')}" for error in drafting.errors)
        run.decide("dropped", f"{len(drafting.errors)} of {layer.size} drafts did not come ({lost})", warning=True)


def _stages_after(recipe: Recipe) -> int:
    aggregator = recipe.aggregator
    if aggregator is None:
        return 0
    return bool(recipe.escalate) + (aggregator.kind == "rank") + bool(aggregator.model)


async def _escalate(
    run: Run, layer: Layer, drafts: list[Draft], errors: list[ModelError]
) -> tuple[list[Draft], list[ModelError]]:
    names = ", ".join(seat.model for seat in layer.proposers)
    counted = agree.tally(drafts)
    why = (
        f"only {counted.votes:g} of {counted.total:g} drafts agree"
        if counted.winner
        else "the drafts cannot be compared"
    )
    run.decide("escalated", f"{why if drafts else 'no draft came'}; {names} asked as well")
    drafting = Drafting(run, "escalation", len(run.recipe.layers), run.until(_stages_after(run.recipe)))
    await drafting.ask_all(layer, ())
    return drafts + drafting.drafts, errors + drafting.errors


async def _without_drafts(run: Run, errors: list[ModelError]) -> Outcome:
    aggregator = run.recipe.aggregator
    # Where the aggregator's own provider refuses the key or cannot be reached, asking it would only repeat that.
    hopeless = errors and all(
        isinstance(error, UnauthorizedError | UnreachableError)
        and aggregator is not None
        and error.provider == aggregator.provider
        for error in errors
    )
    if aggregator is not None and aggregator.model and not hopeless and run.loop.time() < run.deadline:
        try:
            return await answer_alone(run, aggregator)
        except ModelError as error:
            errors.append(error)
    raise _nothing(run, errors)


def _nothing(run: Run, errors: list[ModelError]) -> MixturaError:
    if errors and all(isinstance(error, TimedOutError) for error in errors):
        seconds = run.deadline - run.start
        return DeadlineError(
            f"no model answered within the deadline of {seconds:g} s; a longer one (deadline, --deadline) may help"
        )
    return NoAnswerError(errors, "" if errors else "every draft came back empty; raise max_tokens or change the model")


async def _single(run: Run, seat: Proposer) -> Outcome:
    """One model, no aggregator: its reply is the answer, streamed as such."""
    role: Role = "proposer"
    messages = prompts.with_system(run.conversation, seat.system)
    ask = calls.Ask(role, seat, messages, 0, run.options.chat)
    said = False

    def watch(_number: int, delta: Delta) -> None:
        nonlocal said
        said = said or bool(delta.text)
        run.say(AnswerDelta(at=run.now, text=delta.text, reasoning=delta.reasoning))

    try:
        number, completion = await calls.call_within(run, ask, run.deadline, watch if run.options.watched else None)
    except ModelError as error:
        raise _nothing(run, [error]) from error
    draft = calls.draft(number, ask, completion)
    run.say(CallFinished(at=run.now, done=draft))
    if not completion.text.strip() and not completion.tool_calls:
        only = " (only reasoning)" if completion.reasoning else ""
        raise NoAnswerError([], f"{seat.model} wrote no answer{only}; raise max_tokens or lower reasoning_effort")
    if completion.finish_reason == "length":
        run.decide("noticed", "the answer is cut off at its output limit", warning=True)
    return Outcome(draft.text, number, draft.reasoning, draft.finish_reason, draft.tool_calls, said)


def _check_seats(recipe: Recipe, models: Models) -> None:
    """Raise what is wrong with a provider or a key before anything is sent."""
    for layer in recipe.layers if recipe.escalate is None else (*recipe.layers, recipe.escalate):
        for proposer in layer.proposers:
            models.find(proposer.provider, proposer.model)
    if recipe.aggregator is not None and recipe.aggregator.model:
        models.find(recipe.aggregator.provider, recipe.aggregator.model)
