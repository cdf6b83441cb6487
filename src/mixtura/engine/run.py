"""A run from its first event to its last: layers of proposers, escalation, aggregation."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from mixtura import prompts
from mixtura.chat import Delta, Message
from mixtura.engine import agree, calls, results
from mixtura.engine.aggregate import Outcome, aggregate, answer_alone
from mixtura.engine.context import Meter, Run
from mixtura.engine.propose import Drafting
from mixtura.engine.race import Race, call_within
from mixtura.errors import (
    BudgetError,
    DeadlineError,
    LimitError,
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
from mixtura.limits.limiter import Hold, Limiter, NoRoomError
from mixtura.models.served import Models
from mixtura.planning import admission, demand, estimates
from mixtura.planning.admission import Asked, Plan
from mixtura.planning.forecast import forecast
from mixtura.planning.options import RunOptions
from mixtura.recipe import Layer, Proposer, Recipe

# So many seconds before the deadline it counts as over: the last stage's timer is set to the same moment.
_NEARLY = 0.01

__all__ = ["RunOptions", "drive", "run"]


async def drive(
    recipe: Recipe, conversation: Sequence[Message], models: Models, emit: Listener, options: RunOptions
) -> None:
    """Run `recipe` over `conversation` and hand every event to `emit`.

    Everything that is awaited lives inside this coroutine: when it returns, raises or is cancelled, no call of the
    run is still open. The last event is always one RunFinished, unless an error is raised before RunStarted.

    Raises:
        ConfigError, BudgetError: before anything was sent, and before any event.
        LimitError: it does not fit its rate limits in time; before anything was sent.
        NoAnswerError: no draft survived and the aggregator could not answer alone.
        DeadlineError: the deadline passed first.
    """
    limiter = _check_slots(recipe, models)
    if limiter is None and options.max_cost is None and options.budget is None and not recipe.policy.latency_target:
        asked, plan = None, admission.Plan(recipe)
    else:
        asked = Asked(recipe, conversation, models, options, limiter, asyncio.get_running_loop().time())
        plan = await _planned(asked)
    meter = Meter(emit) if options.budget is not None else None
    run = Run(plan.recipe, conversation, models, emit if meter is None else meter, options)
    run.hedges = plan.recipe.policy.hedge and plan.may_hedge
    run.say(RunStarted(run=options.run, recipe=recipe.name, calls=plan.recipe.calls, started_at=options.started_at))
    _say_plan(run, plan)
    try:
        if asked is not None and limiter is not None and (plan.needs or plan.owed):
            await _hold(run, plan, limiter, asked)
        outcome = await _answer(run)
    except BaseException as error:
        # Whatever ends a run, listeners hear that it ended; then it goes on to the caller.
        run.say(RunFinished(at=run.now, status="failed", error=_last_words(error)))
        raise
    finally:
        if run.hold is not None:
            await run.hold.close()
        if meter is not None and options.budget is not None:
            await options.budget.settle(options.run, meter.dollars)
    if limiter is not None and limiter.degraded:
        reason = "the rate-limit windows that processes share cannot be reached; this one keeps its own for now"
        run.decide("noticed", reason, warning=True)
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


async def _planned(asked: Asked) -> Plan:
    """Return what can be run, its worst cost reserved from the day's budget."""
    options, budget = asked.options, asked.options.budget
    most = options.max_cost
    if budget is not None:
        today = await budget.today()
        left = max(0.0, today.allowed - today.spent - today.reserved)
        most = left if most is None else min(most, left)
    try:
        plan = admission.choose(asked._replace(most=most))
    except BudgetError as error:
        if budget is not None and error.worst is not None and most != options.max_cost:
            # The day's books say it better: how much is left, and when there is more.
            await budget.reserve(options.run, error.worst)
            # Room came meanwhile; the run was refused all the same, and must leave nothing booked.
            await budget.settle(options.run, 0.0)
        raise
    if most is None:
        return plan
    cost = forecast(plan.recipe, asked.conversation, asked.models).cost or 0.0
    may_hedge = plan.recipe.policy.hedge and 2 * cost <= most
    worst = 2 * cost if may_hedge else cost
    if budget is not None:
        await budget.reserve(options.run, worst)
    return plan._replace(may_hedge=may_hedge, most=cost)


def _say_plan(run: Run, plan: Plan) -> None:
    if plan.routed:
        run.decide("routed", plan.routed, warning=True)
    if plan.steps:
        run.decide("reduced", f"{plan.why}: {', '.join(plan.steps)}", warning=True, steps=list(plan.steps))
    if plan.wait > 0:
        reason = f"no room yet in {plan.binding}; the run waits about {plan.wait:.1f} s for it"
        run.decide("waited", reason, seconds=round(plan.wait, 3), window=plan.binding)


async def _hold(run: Run, plan: Plan, limiter: Limiter, asked: Asked) -> None:
    """Wait for the room the run needs before it spends anything; where that does not come, run what has room now."""
    try:
        run.hold = await _held(run, plan, limiter)
    except LimitError:
        if "wait" not in run.recipe.policy.when_limited or run.loop.time() >= run.deadline:
            raise
        # The estimate was too good. What the policy allows besides waiting may still be run, for what is reserved.
        most = asked.options.max_cost if asked.options.budget is None else plan.most
        smaller = admission.choose(asked._replace(now=run.loop.time(), patient=False, most=most))
        run.recipe = smaller.recipe
        _say_plan(run, smaller)
        if smaller.needs or smaller.owed:
            run.hold = await _held(run, smaller, limiter)


async def _held(run: Run, plan: Plan, limiter: Limiter) -> Hold:
    latest = max(run.start, run.deadline - sum(estimates.stages(run.models, run.recipe)))
    try:
        return await limiter.admit(
            plan.needs,
            priority=run.options.priority,
            until=latest,
            lifetime=run.deadline - run.start + 1.0,
            owed=plan.owed,
        )
    except NoRoomError as error:
        quote = error.quote
        raise LimitError(
            f"no room in {plan.binding} before {latest - run.start:.0f} s of the run had passed; nothing was sent: "
            f"try again in about {quote.wait:.0f} s, or with a longer deadline",
            retry_after=quote.wait,
            window=plan.binding,
        ) from None


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
    slots = recipe.layers[0].slots
    if recipe.aggregator is None and len(recipe.layers) == 1 and len(slots) == 1:
        return await _single(run, slots[0])
    drafts, errors = await _layers(run)
    may_stop = recipe.policy.stop_when_agree or recipe.escalate is not None
    if drafts and recipe.aggregator is not None and may_stop and not run.options.chat.tools:
        counted = agree.tally(drafts)
        if counted.unanimous:
            run.decide("agreed", f"all {len(drafts)} drafts end in {counted.winner!r}", winner=counted.winner)
            chosen = drafts[agree.best(drafts)[0]]
            return Outcome(chosen.text, chosen.call, chosen.reasoning, chosen.finish_reason)
    if recipe.escalate is not None and (drafts or not _hopeless(errors, recipe.escalate.proposers)):
        drafts, errors = await _escalate(run, recipe.escalate, drafts, errors)
    if drafts:
        return await aggregate(run, drafts)
    return await _without_drafts(run, errors)


async def _layers(run: Run) -> tuple[list[Draft], list[ModelError]]:
    """Run the layers one after the other; a layer that gives nothing leaves the drafts of the one before."""
    drafts: list[Draft] = []
    errors: list[ModelError] = []
    layers = run.recipe.layers
    stages = _stages(run)
    for index, layer in enumerate(layers):
        if not drafts and _hopeless(errors, layer.proposers):
            break
        drafting = Drafting(run, "proposer", index, run.until(stages[index:]))
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


def _stages(run: Run) -> list[float]:
    """Return how long each stage of the run is expected to take; all the same where nobody needs to know."""
    if run.streams or run.hedges or estimates.predicts(run.models, run.recipe):
        stages = estimates.stages(run.models, run.recipe)
        found = demand.demands(run.recipe, run.conversation, run.models)
        if not found:
            return stages
        waits = demand.stage_waits(found, run.loop.time(), len(stages))
        return [took + wait for took, wait in zip(stages, waits, strict=True)]
    recipe, aggregator = run.recipe, run.recipe.aggregator
    after = 0 if aggregator is None else bool(recipe.escalate) + (aggregator.kind == "rank") + bool(aggregator.model)
    return [1.0] * (len(recipe.layers) + after)


async def _escalate(
    run: Run, layer: Layer, drafts: list[Draft], errors: list[ModelError]
) -> tuple[list[Draft], list[ModelError]]:
    names = ", ".join(slot.model for slot in layer.proposers)
    counted = agree.tally(drafts)
    why = (
        f"only {counted.votes:g} of {counted.total:g} drafts agree"
        if counted.winner
        else "the drafts cannot be compared"
    )
    run.decide("escalated", f"{why if drafts else 'no draft came'}; {names} asked as well")
    drafting = Drafting(run, "escalation", len(run.recipe.layers), run.until(_stages(run)[len(run.recipe.layers) :]))
    await drafting.ask_all(layer, ())
    return drafts + drafting.drafts, errors + drafting.errors


async def _without_drafts(run: Run, errors: list[ModelError]) -> Outcome:
    aggregator = run.recipe.aggregator
    alone = aggregator is not None and aggregator.model and not _hopeless(errors, (aggregator,))
    if aggregator is not None and alone and run.loop.time() < run.deadline:
        try:
            return await answer_alone(run, aggregator)
        except ModelError as error:
            errors.append(error)
    raise _nothing(run, errors)


def _hopeless(errors: Sequence[ModelError], slots: Sequence[calls.Slot]) -> bool:
    """Say whether the providers of `slots` refused the key or could not be reached: asking them would repeat that."""
    lost = {error.provider for error in errors}
    return (
        bool(errors)
        and all(isinstance(error, UnauthorizedError | UnreachableError) for error in errors)
        and all(link.provider in lost for slot in slots for link in (slot, *slot.fallbacks))
    )


def _nothing(run: Run, errors: list[ModelError]) -> MixturaError:
    over = run.loop.time() >= run.deadline - _NEARLY
    if over and errors and all(isinstance(error, TimedOutError) for error in errors):
        seconds = run.deadline - run.start
        return DeadlineError(
            f"no model answered within the deadline of {seconds:g} s; a longer one (deadline, --deadline) may help"
        )
    return NoAnswerError(errors, "" if errors else "every draft came back empty; raise max_tokens or change the model")


async def _single(run: Run, slot: Proposer) -> Outcome:
    """One model, no aggregator: its reply is the answer, streamed as such."""
    role: Role = "proposer"
    messages = prompts.with_system(run.conversation, slot.system)
    ask = calls.Ask(role, slot, messages, 0, run.options.chat)
    said = False

    def watch(_number: int, delta: Delta) -> None:
        nonlocal said
        said = said or bool(delta.text)
        run.say(AnswerDelta(at=run.now, text=delta.text, reasoning=delta.reasoning))

    race = Race(run, ask, run.deadline, watch if run.options.watched else None, exclusive=True)
    try:
        number, completion = await call_within(race)
    except ModelError as error:
        if race.partial is None:
            raise _nothing(run, [error]) from error
        run.fell_back = True
        run.decide("cut", f"{slot.model} {_how_it_ended(error)}; the answer is what it had written", warning=True)
        return Outcome(race.partial.text, race.partial.call, race.partial.reasoning, "unknown", said=said)
    draft = results.draft(number, ask, completion)
    run.say(CallFinished(at=run.now, done=draft))
    if not completion.text.strip() and not completion.tool_calls:
        only = " (only reasoning)" if completion.reasoning else ""
        raise NoAnswerError([], f"{slot.model} wrote no answer{only}; raise max_tokens or lower reasoning_effort")
    if completion.finish_reason == "length":
        run.decide("noticed", "the answer is cut off at its output limit", warning=True)
    return Outcome(draft.text, number, draft.reasoning, draft.finish_reason, draft.tool_calls, said)


def _how_it_ended(error: ModelError) -> str:
    return "was stopped at the deadline" if isinstance(error, TimedOutError) else f"broke off ({error.reason})"


def _check_slots(recipe: Recipe, models: Models) -> Limiter | None:
    """Raise what is wrong with a provider or a key before anything is sent; return who keeps limits that are known."""
    limiter: Limiter | None = None
    keeper: Limiter | None = None
    for slot in calls.slots(recipe):
        for link in (slot, *slot.fallbacks):
            accounting = models.find(link.provider, link.model).accounting
            if accounting is None or limiter is not None:
                continue
            keeper = keeper or accounting.limiter()
            if accounting.known or keeper.keeps:
                account = accounting.account(keeper)
                if account.known and not account.unlimited:
                    limiter = keeper
    return limiter
