"""The call that writes the answer: streamed when watched, less an opening about drafts, judged by the guard."""

from mixtura.chat import Completion, Delta
from mixtura.decisions import EditedDetail, FellBackDetail, NoticedDetail
from mixtura.engine import calls, guard, results
from mixtura.engine.context import Run
from mixtura.engine.draft_prompt import Reading
from mixtura.engine.drafts import DraftSet
from mixtura.engine.outcome import Outcome
from mixtura.engine.race import Race, call_within
from mixtura.errors import BrokenReplyError, ModelError
from mixtura.events import AnswerDelta
from mixtura.recipe import Aggregator


class AnswerWriter:
    """One attempt of an aggregator's model at the answer.

    Attributes:
        said: pieces of it have been emitted.
        error: why the call failed; None while it has not.
    """

    def __init__(self, run: Run) -> None:
        self.said = False
        self.error: ModelError | None = None
        self._run = run
        self._filter = None if run.options.watch == "nothing" else guard.LeadInFilter(self._say, run.question)

    async def write(self, aggregator: Aggregator, reading: Reading, drafts: DraftSet) -> Outcome | str:
        """Return the answer, or in words why the reply cannot be one."""
        run = self._run
        ask = calls.Ask(
            "aggregator",
            aggregator,
            reading.messages,
            len(run.recipe.layers),
            run.options.chat,
            reads=reading.calls,
        )
        watch = None if self._filter is None else self._watch
        try:
            number, completion = await call_within(Race(run, ask, run.deadline, watch, exclusive=True))
        except ModelError as error:
            self.error = error
            return f"failed ({error.reason})"
        results.emit_finished(run, number, ask, completion)
        problem = guard.problem(completion, drafts.all)
        if problem and not self._stands_anyway(completion, drafts):
            return problem
        text = completion.text if "draft" in run.question.casefold() else guard.without_lead_in(completion.text)
        if text != completion.text:
            run.decide(EditedDetail(), "words about the drafts were taken off the front of the answer")
        if self._filter is not None:
            self._filter.close()
        return Outcome(
            text,
            number,
            completion.reasoning,
            completion.finish_reason,
            completion.tool_calls,
            verbatim=text == completion.text,
            said=self.said,
        )

    def _stands_anyway(self, completion: Completion, drafts: DraftSet) -> bool:
        """Say whether a cut-off answer is still the best there is: every draft is cut off as well, or there is none."""
        if completion.finish_reason != "length" or not completion.text.strip():
            return False
        if all(draft.finish_reason == "length" for draft in drafts):
            self._run.decide(NoticedDetail(), "the answer is cut off at its output limit", warning=True)
            return True
        return False

    def _watch(self, _number: int, delta: Delta) -> None:
        if delta.reasoning:
            self._run.emit(AnswerDelta(at=self._run.now, reasoning=delta.reasoning))
        if delta.text and self._filter is not None:
            self._filter.add(delta.text)

    def _say(self, text: str) -> None:
        self.said = True
        self._run.emit(AnswerDelta(at=self._run.now, text=text))


async def answer_alone(run: Run, aggregator: Aggregator) -> Outcome:
    """Let the aggregator answer the conversation itself, when no draft came.

    Raises:
        ModelError: it could not either.
    """
    run.fell_back = True
    said = f"no usable draft came; {aggregator.model} was asked to answer alone"
    run.decide(FellBackDetail(), said, warning=True)
    writer = AnswerWriter(run)
    result = await writer.write(aggregator, Reading(run.conversation), DraftSet(()))
    if isinstance(result, Outcome):
        return result
    raise writer.error or BrokenReplyError(aggregator.provider, aggregator.model, result)
