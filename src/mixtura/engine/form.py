"""The answer in the form that the caller asked for: as it is, repaired once, or a draft that has it."""

from mixtura import prompts
from mixtura.answer_format import AnswerFormat
from mixtura.chat import Message
from mixtura.decisions import DroppedDetail, EditedDetail, FellBackDetail, NoticedDetail, RepairedDetail
from mixtura.engine import results
from mixtura.engine.alone import call_within
from mixtura.engine.ask import Ask
from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.engine.own_words import find_slip
from mixtura.engine.race import Race
from mixtura.errors import DeadlineError, MixturaError, ModelError, NoAnswerError, TimedOutError
from mixtura.events import Draft
from mixtura.planning.schedule import repairer, returns_drafts, writer_options
from mixtura.recipe import Proposer

# An output limit that is so many times what was written, and so many tokens more, did not end the answer.
_FAR, _FAR_TOKENS = 10, 256


def usable_drafts(run: Run, drafts: list[Draft]) -> list[Draft]:
    """Return the drafts that have the form which is asked of them; all where none has it, or none is asked of them."""
    form = run.form
    if form is None or not returns_drafts(run.recipe):
        return drafts
    sound = [draft for draft in drafts if not form.problem(draft.text)]
    if not sound or len(sound) == len(drafts):
        return drafts
    for draft in drafts:
        if draft not in sound:
            reason = f"the draft of {draft.model} has not the form that was asked for: {form.problem(draft.text)}"
            run.decide(DroppedDetail(call=draft.call), reason)
    return sound


async def in_form(run: Run, outcome: Outcome, drafts: DraftSet) -> Outcome:
    """Return `outcome` in the form that the caller asked for.

    Raises:
        NoAnswerError: neither it nor a repair nor any draft has the form.
        DeadlineError: the deadline passed before a repair was there.
    """
    form = run.form
    if form is None or outcome.tool_calls:
        return outcome
    problem = form.problem(outcome.text)
    if not problem:
        return _bare(run, outcome, form)
    if ended_by_caller(run, outcome.finish_reason, outcome.tokens):
        run.decide(NoticedDetail(), f"max_tokens cut the answer off: {problem}", warning=True)
        return outcome
    others = [draft for draft in drafts if not form.problem(draft.text)]
    failed: ModelError | None = None
    if not (run.fell_back and others):
        repaired = await _repair(run, outcome, problem, form)
        if isinstance(repaired, Outcome):
            return repaired
        failed = repaired
    if not others:
        raise _no_form(run, outcome, problem, failed)
    chosen, reason = DraftSet(others).best
    run.fell_back = True
    said = f"the answer has not the form that was asked for ({problem}); it is the draft of {chosen.model} ({reason})"
    run.decide(FellBackDetail(call=chosen.call), said, warning=True)
    return _bare(run, outcome_of(chosen), form)


def ended_by_caller(run: Run, finish_reason: str, tokens: int) -> bool:
    """Say whether an answer of `tokens` tokens ended because of the caller's own output limit, which is no failure.

    Servers count tokens in ways of their own, so only a limit that is far from reached counts as somebody else's.
    """
    most = run.caller_limit
    return finish_reason == "length" and most is not None and (not tokens or most <= _FAR * tokens + _FAR_TOKENS)


def _no_form(run: Run, outcome: Outcome, problem: str, failed: ModelError | None) -> MixturaError:
    """Return the error of a run in which no reply has the form."""
    said = f"no reply has the form that was asked for; that of {outcome.model or 'the models'}: {problem}"
    if isinstance(failed, TimedOutError) and run.loop.time() >= run.deadline - 0.01:
        return DeadlineError(f"{said}; the deadline left no time to ask again: a longer one may help")
    if failed is not None:
        return NoAnswerError([failed], f"{said}; asked again, {failed.message}")
    return NoAnswerError([], f"{said}; say in the question what to write, or take a model that keeps to schemas")


def _bare(run: Run, outcome: Outcome, form: AnswerFormat) -> Outcome:
    """Return the JSON of an answer alone."""
    text = form.read(outcome.text)
    if text == outcome.text:
        return outcome
    run.decide(EditedDetail(), "the words round the JSON were taken off")
    return outcome._replace(text=text, verbatim=False)


async def _repair(run: Run, outcome: Outcome, problem: str, form: AnswerFormat) -> Outcome | ModelError | None:
    """Ask once more for an answer whose form is wrong; return the error of that call, None if it gives none either."""
    slot = repairer(run.recipe)
    if slot is None or run.loop.time() >= run.deadline:
        return None
    words = prompts.REPAIR.format(problem=problem)
    asked = [Message(role="user", content=words)]
    if outcome.text.strip():
        asked.insert(0, Message(role="assistant", content=outcome.text))
    options = writer_options(run.options.chat)
    # An aggregator's own system text is about drafts, and there are none here.
    system = slot.system if isinstance(slot, Proposer) else None
    messages = (*prompts.with_system(run.conversation_for(options), system), *asked)
    ask = Ask("repair", slot, messages, len(run.recipe.layers), options)
    try:
        number, completion = await call_within(Race(run, ask, run.deadline))
    except ModelError as error:
        run.decide(NoticedDetail(), f"{slot.model} could not repair the answer ({error.reason})", warning=True)
        return error
    results.emit_finished(run, number, ask, completion)
    slip = find_slip(completion.text, run.markers, run.asked)
    if still := f"it copied {slip.what}" if slip else form.problem(completion.text):
        run.decide(NoticedDetail(call=number), f"the repair by {slot.model} is no better: {still}", warning=True)
        return None
    run.decide(RepairedDetail(call=number), f"the answer's form was wrong ({problem}); {slot.model} wrote it again")
    written = Outcome(
        completion.text,
        number,
        completion.reasoning,
        completion.finish_reason,
        verbatim=True,
    )
    return _bare(run, written, form)
