"""A run from its first event to its last: layers of proposers, escalation, aggregation."""

import asyncio
import hashlib
from collections.abc import Sequence

import msgspec

from mixtura import prompts
from mixtura.answer_forms import clipped
from mixtura.caller_options import without_texts
from mixtura.chat import NO_OPTIONS, ChatOptions, Completion, Message
from mixtura.decisions import AgreedDetail, CutDetail, DroppedDetail, EscalatedDetail, NoticedDetail
from mixtura.engine import results, tools
from mixtura.engine.aggregate import aggregate
from mixtura.engine.allowance import Allowance
from mixtura.engine.alone import call_within
from mixtura.engine.ask import Ask
from mixtura.engine.context import CostMeter, Run
from mixtura.engine.draft_check import check_draft
from mixtura.engine.drafts import DraftSet
from mixtura.engine.form import ended_by_caller, in_form, usable_drafts
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.engine.propose import Drafting
from mixtura.engine.race import Race
from mixtura.engine.shown import ShownAnswer
from mixtura.engine.start import (
    close_accounts,
    emit_deadline,
    emit_notes,
    emit_plan,
    find_limiters,
    hold_room,
    plan_run,
)
from mixtura.engine.writer import AnswerPieces, answer_alone, stands_empty
from mixtura.errors import (
    DeadlineError,
    MixturaError,
    ModelError,
    NoAnswerError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from mixtura.events import SCHEMA, CallFinished, Draft, Listener, RunFinished, RunStarted
from mixtura.models.served import Models
from mixtura.planning import demand, estimates
from mixtura.planning.options import RunOptions
from mixtura.planning.schedule import count_calls, draft_options, schedule
from mixtura.recipe import Layer, Proposer, Recipe, Slot

# So many seconds before the deadline it counts as over: the last stage's timer is set to the same moment.
_NEARLY = 0.01


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
    begun = asyncio.get_running_loop().time()
    keeper, limiter, notes = find_limiters(recipe, models)
    plan, request = await plan_run(recipe, conversation, models, options, limiter)
    meter = CostMeter(emit) if options.budget is not None else None
    shown = ShownAnswer(emit if meter is None else meter) if options.watch != "nothing" else None
    run = Run(plan.recipe, conversation, models, shown or meter or emit, options)
    run.limit_options(plan.chat)
    if plan.most is not None and plan.allowed is not None:
        run.allowance = Allowance(plan.allowed, plan.most)
    if options.budget is not None:
        # The deadline counts from the question, so what the budget took is gone.
        run.deadline -= run.start - begun
    run.emit(_started(run))
    emit_notes(run, notes)
    emit_plan(run, plan)
    emit_deadline(run)
    try:
        if request is not None and limiter is not None:
            await hold_room(run, plan, limiter, request)
        outcome = await _answer(run)
    except BaseException as error:
        # Whatever ends a run, listeners hear that it ended; then it goes on to the caller.
        try:
            await close_accounts(run, meter, keeper)
        finally:
            run.emit(RunFinished(at=run.now, status="failed", error=_last_words(error)))
        raise
    try:
        if meter is not None or keeper is not None:
            await close_accounts(run, meter, keeper)
    finally:
        if shown is not None:
            shown.complete(outcome, run.now)
        run.emit(outcome.event(run.now))
        run.emit(RunFinished(at=run.now, status="partial" if run.fell_back else "ok"))


def _started(run: Run) -> RunStarted:
    """Return the first event: all that has to be known to tell the run again."""
    options, kept = run.options, run.options.record == "conversation"
    return RunStarted(
        run=options.run,
        recipe=run.recipe,
        calls=count_calls(run.recipe),
        started_at=options.started_at,
        conversation=run.conversation if kept else None,
        digest="" if kept else hashlib.sha256(msgspec.json.encode(run.conversation)).hexdigest(),
        options=_kept_options(options.chat, kept),
        schema=SCHEMA,
    )


def _kept_options(chat: ChatOptions, kept: bool) -> ChatOptions | None:
    if chat is NO_OPTIONS:
        return None
    # The images are in the conversation.
    return msgspec.structs.replace(chat, images=None) if kept else without_texts(chat)


def _last_words(error: BaseException) -> str:
    if isinstance(error, MixturaError):
        return error.message
    return "the run was stopped" if isinstance(error, asyncio.CancelledError) else f"{type(error).__name__}: {error}"


async def _answer(run: Run) -> Outcome:
    """Return the answer, in the form that the caller asked for."""
    layers = run.recipe.layers
    if run.recipe.aggregator is None and len(layers) == 1 and layers[0].size == 1:
        outcome, drafts = await _single(run, layers[0].proposers[0]), DraftSet(())
    else:
        outcome, drafts = await _mixed(run)
    if why := run.declined.get(-1 if outcome.source is None else outcome.source):
        run.fell_back = True
        run.decide(NoticedDetail(call=outcome.source), f"the question was not answered: {why}", warning=True)
    return outcome if run.form is None else await in_form(run, outcome, drafts)


async def _mixed(run: Run) -> tuple[Outcome, DraftSet]:
    """Return what the drafts lead to, and the drafts."""
    recipe = run.recipe
    found, errors = await _layers(run)
    drafts = DraftSet(usable_drafts(run, found))
    may_stop = recipe.policy.stop_when_agree or recipe.escalate is not None
    if found and recipe.aggregator is not None and may_stop and drafts.agreed:
        winner = drafts.tally.winner
        run.decide(AgreedDetail(winner=winner), f"all {len(drafts)} drafts end in {winner!r}")
        return outcome_of(drafts.best[0]), drafts
    if recipe.escalate is not None and (found or not _hopeless(errors, recipe.escalate.proposers)):
        more, lost = await _escalate(run, recipe.escalate, drafts)
        drafts, errors = DraftSet(usable_drafts(run, [*drafts, *more])), errors + lost
    decided = tools.decide_by_agreement(run, drafts)
    if decided is not None:
        return decided, drafts
    outcome = await aggregate(run, drafts) if len(drafts) else await _without_drafts(run, errors)
    if run.options.chat.tools:
        tools.emit_acting(run, outcome)
    return outcome, drafts


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
            _emit_lost(run, drafting, layer)
            drafts = drafting.drafts
        elif drafts:
            said = f"layer {index + 1} gave no draft; going on with those before it"
            run.decide(NoticedDetail(), said, warning=True)
    return drafts, errors


def _emit_lost(run: Run, drafting: Drafting, layer: Layer) -> None:
    """Emit which drafts a layer goes on without: a run with fewer than it meant must not look like a full one."""
    if drafting.errors:
        lost = ", ".join(f"{error.model}: {error.kind.replace('_', ' ')}" for error in drafting.errors)
        said = f"{len(drafting.errors)} of {layer.size} drafts did not come ({lost})"
        run.decide(DroppedDetail(lost=len(drafting.errors)), said, warning=True)


def _stages(run: Run) -> list[float]:
    """Return how long each stage of the run is expected to take; equal shares when estimates are not needed."""
    planned = schedule(run.recipe, run.options.chat)
    if not (run.protected or estimates.has_predictions(run.models, planned)):
        return [1.0] * len(planned.stages)
    stages = estimates.stage_seconds(run.models, planned)
    found = demand.demands(run.recipe, run.conversation, run.models, run.options.chat)
    if not found:
        return stages
    waits = demand.stage_waits(found, run.loop.time(), len(stages))
    return [took + wait for took, wait in zip(stages, waits, strict=True)]


async def _escalate(run: Run, layer: Layer, drafts: DraftSet) -> tuple[list[Draft], list[ModelError]]:
    """Ask the stronger models as well; return their drafts and failures."""
    models = [slot.model for slot in layer.proposers]
    counted = drafts.tally
    why = (
        "the drafts agree, and not all of them surely"
        if counted.unanimous
        else f"only {counted.votes:g} of {counted.total:g} drafts agree"
        if counted.winner
        else "the drafts cannot be compared"
    )
    said = f"{why if len(drafts) else 'no draft came'}; {', '.join(models)} asked as well"
    run.decide(EscalatedDetail(models=models), said)
    stages = _stages(run)[len(run.recipe.layers) :]
    drafting = Drafting(run, "escalation", len(run.recipe.layers), run.until(stages))
    await drafting.ask_all(layer, ())
    if len(drafts) or drafting.drafts:
        _emit_lost(run, drafting, layer)
    return drafting.drafts, drafting.errors


async def _without_drafts(run: Run, errors: list[ModelError]) -> Outcome:
    aggregator = run.recipe.aggregator
    alone = aggregator is not None and aggregator.model and not _hopeless(errors, (aggregator,))
    if aggregator is not None and alone and run.loop.time() < run.deadline:
        try:
            return await answer_alone(run, aggregator)
        except ModelError as error:
            errors.append(error)
    raise _nothing(run, errors)


def _hopeless(errors: Sequence[ModelError], slots: Sequence[Slot]) -> bool:
    """Say whether the providers of `slots` refused the key or could not be reached: asking them would repeat that."""
    lost = {error.provider for error in errors}
    return (
        bool(errors)
        and all(isinstance(error, UnauthorizedError | UnreachableError) for error in errors)
        and all(link.provider in lost for slot in slots for link in slot.links)
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
    options = draft_options(run.recipe, run.options.chat, last=True)
    messages = prompts.with_system(run.conversation_for(options), slot.system)
    ask = Ask("proposer", slot, messages, 0, options)
    # No draft can stand in for a refusal, so only an answer without the form is held back.
    pieces = AnswerPieces(run, held=run.form is not None)
    watch = None if run.options.watch == "nothing" else pieces.take
    race = Race(run, ask, run.deadline, watch, exclusive=True)
    try:
        number, completion = await call_within(race)
    except ModelError as error:
        if race.partial is None:
            raise _nothing(run, [error]) from error
        run.fell_back = True
        ended = f"{slot.model} {_how_it_ended(error)}; the answer is what it had written"
        run.decide(CutDetail(call=race.partial.call), ended, warning=True)
        return outcome_of(race.partial)
    finally:
        pieces.end()
    draft = check_draft(run, results.make_draft(number, ask, completion))
    run.emit(CallFinished(at=run.now, done=draft))
    if draft.incomplete:
        run.fell_back = True
        said = f"the answer of {slot.model} is used as far as it goes: {draft.incomplete}"
        run.decide(CutDetail(call=draft.call), said, warning=True)
        return outcome_of(draft)
    _check_written(run, slot, completion)
    outcome = outcome_of(draft)
    if options.tools:
        tools.emit_acting(run, outcome)
    return outcome


def _check_written(run: Run, slot: Proposer, completion: Completion) -> None:
    """Emit what is wrong with the reply of a model that answers alone.

    Raises:
        NoAnswerError: there is nothing in it that could be the answer.
    """
    if ended_by_caller(run, completion.finish_reason, completion.usage.completion_tokens):
        return
    if not completion.text.strip() and not completion.tool_calls and not stands_empty(run, completion):
        if (refusal := completion.extra.get("refusal")) and isinstance(refusal, str):
            raise NoAnswerError([], f"{slot.model} refused to answer: {clipped(refusal)}")
        only = " (only reasoning)" if completion.reasoning else ""
        raise NoAnswerError([], f"{slot.model} wrote no answer{only}; raise max_tokens or lower reasoning_effort")
    if completion.finish_reason == "length":
        run.decide(NoticedDetail(), "the answer is cut off at its output limit", warning=True)


def _how_it_ended(error: ModelError) -> str:
    return "was stopped at the deadline" if isinstance(error, TimedOutError) else f"broke off ({error.reason})"
