"""The answer in the form that the caller asked for: as it is, repaired once, or a draft that has it."""

from mixtura import prompts
from mixtura.answer_format import AnswerFormat
from mixtura.chat import Message
from mixtura.decisions import DroppedDetail, EditedDetail, FellBackDetail, NoticedDetail, RepairedDetail
from mixtura.engine import calls, results
from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.engine.race import Race, call_within
from mixtura.errors import ModelError, NoAnswerError
from mixtura.events import AnswerRestarted, Draft
from mixtura.planning.schedule import repairer, writer_options


def usable_drafts(run: Run, drafts: list[Draft]) -> list[Draft]:
    """Return the drafts that have the form which is asked of them; all of them where none has it."""
    form = run.form
    if form is None:
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
    """
    form = run.form
    if form is None or outcome.tool_calls:
        return outcome
    problem = form.problem(outcome.text)
    if not problem:
        return _bare(run, outcome, form)
    if ended_by_caller(run, outcome.finish_reason):
        run.decide(NoticedDetail(), f"max_tokens cut the answer off: {problem}", warning=True)
        return outcome
    others = [draft for draft in drafts if not form.problem(draft.text)]
    if not (run.fell_back and others):
        repaired = await _repair(run, outcome, problem, form)
        if repaired is not None:
            return repaired
    if not others:
        raise NoAnswerError([], f"no reply has the form that was asked for; the last one: {problem}")
    chosen, reason = DraftSet(others).best
    run.fell_back = True
    said = f"the answer has not the form that was asked for ({problem}); it is the draft of {chosen.model} ({reason})"
    run.decide(FellBackDetail(call=chosen.call), said, warning=True)
    _withdraw(run, outcome)
    return _bare(run, outcome_of(chosen), form)


def ended_by_caller(run: Run, finish_reason: str) -> bool:
    """Say whether an answer ended because of the caller's own output limit, which is no failure."""
    return finish_reason == "length" and run.options.chat.max_tokens is not None


def _bare(run: Run, outcome: Outcome, form: AnswerFormat) -> Outcome:
    """Return the JSON of an answer alone."""
    text = form.read(outcome.text)
    if text == outcome.text:
        return outcome
    run.decide(EditedDetail(), "the words round the JSON were taken off")
    _withdraw(run, outcome)
    return outcome._replace(text=text, verbatim=False, said=False)


def _withdraw(run: Run, outcome: Outcome) -> None:
    if outcome.said:
        run.emit(AnswerRestarted(at=run.now))


async def _repair(run: Run, outcome: Outcome, problem: str, form: AnswerFormat) -> Outcome | None:
    """Ask once more for an answer whose form is wrong; None if that gives none either."""
    slot = repairer(run.recipe)
    if slot is None or run.loop.time() >= run.deadline:
        return None
    words = prompts.REPAIR.format(problem=problem)
    asked = [Message(role="user", content=words)]
    if outcome.text.strip():
        asked.insert(0, Message(role="assistant", content=outcome.text))
    options = writer_options(run.options.chat)
    messages = (*run.conversation_for(options), *asked)
    ask = calls.Ask("repair", slot, messages, len(run.recipe.layers), options)
    try:
        number, completion = await call_within(Race(run, ask, run.deadline))
    except ModelError as error:
        run.decide(NoticedDetail(), f"{slot.model} could not repair the answer ({error.reason})", warning=True)
        return None
    results.emit_finished(run, number, ask, completion)
    if still := form.problem(completion.text):
        run.decide(NoticedDetail(call=number), f"the repair by {slot.model} is no better: {still}", warning=True)
        return None
    run.decide(RepairedDetail(call=number), f"the answer's form was wrong ({problem}); {slot.model} wrote it again")
    _withdraw(run, outcome)
    written = Outcome(
        completion.text,
        number,
        completion.reasoning,
        completion.finish_reason,
        verbatim=True,
    )
    return _bare(run, written, form)
