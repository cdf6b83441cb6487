"""The call that writes the answer: streamed when watched, less an opening about drafts, judged by the guard."""

from collections.abc import Callable
from typing import NamedTuple

from mixtura import prompts
from mixtura.chat import Completion, Delta, JsonObject
from mixtura.decisions import EditedDetail, FellBackDetail, NoticedDetail
from mixtura.engine import guard, results
from mixtura.engine.alone import call_within
from mixtura.engine.ask import Ask
from mixtura.engine.context import Run
from mixtura.engine.draft_prompt import Reading
from mixtura.engine.drafts import DraftSet
from mixtura.engine.form import ended_by_caller
from mixtura.engine.outcome import Outcome
from mixtura.engine.own_words import fence_begins, fence_stands, find_slip, named_draft, stands_alone, talk_of_drafts
from mixtura.engine.race import Race
from mixtura.engine.repetition import find_loop, may_be_loop
from mixtura.errors import BrokenReplyError, ModelError
from mixtura.events import AnswerDelta
from mixtura.planning.schedule import writer_options
from mixtura.recipe import Aggregator


class Failure(NamedTuple):
    """Why a reply is no answer, in words; what it says before it goes wrong; the draft that is all it names."""

    why: str
    kept: str = ""
    named: int | None = None


class FenceFilter:
    """Passes a streamed answer on, and nothing from where it copies the fence of the drafts.

    What may be the beginning of one is held back until that is decided.
    """

    def __init__(self, emit: Callable[[str], None]) -> None:
        self._emit = emit
        self._held = ""

    def add(self, text: str) -> None:
        """Take the next piece."""
        if not self._held and "<" not in text:
            self._emit(text)
            return
        self._held += text
        if fence_stands(self._held):
            return
        end = fence_begins(self._held)
        passed, self._held = self._held[:end], self._held[end:]
        if passed:
            self._emit(passed)

    def close(self) -> None:
        """Pass on what is held: the answer stands."""
        if self._held:
            self._emit(self._held)
            self._held = ""


class AnswerPieces:
    """The pieces of an answer on their way to its reader.

    Attributes:
        said: any of its text or calls of tools have been emitted.
    """

    def __init__(self, run: Run, *, held: bool) -> None:
        self.said = False
        self._run = run
        self._opening = guard.Opening(self._say, run.question, run.form) if held else None
        self._fences = FenceFilter(self._emit) if held else None

    def take(self, _number: int, delta: Delta) -> None:
        """Take the next piece of the reply."""
        if self._opening is None:
            self._emit(delta.text, delta.reasoning, delta.tool_calls)
            return
        if delta.reasoning:
            self._emit("", delta.reasoning)
        if delta.text:
            self._opening.add(delta.text)
        if delta.tool_calls:
            self.close()
            self._emit("", "", delta.tool_calls)

    def close(self) -> None:
        """Emit what was held back: the answer stands."""
        if self._opening is not None:
            self._opening.close()
        if self._fences is not None:
            self._fences.close()

    def end(self) -> None:
        """Let go of what holds pieces back, and knows this object: no piece follows."""
        self._opening = self._fences = None

    def _say(self, text: str) -> None:
        if self._fences is None:
            self._emit(text)
        else:
            self._fences.add(text)

    def _emit(self, text: str, reasoning: str = "", tool_calls: list[JsonObject] | None = None) -> None:
        self.said = self.said or bool(text or tool_calls)
        self._run.emit(AnswerDelta(at=self._run.now, text=text, reasoning=reasoning, tool_calls=tool_calls))


class AnswerWriter:
    """One attempt of an aggregator's model at the answer.

    Attributes:
        error: why the call failed; None while it has not.
        named: which of the drafts it read the reply names, where that is all that it does.
    """

    def __init__(self, run: Run) -> None:
        self.error: ModelError | None = None
        self.named: int | None = None
        self._run = run
        self._pieces = AnswerPieces(run, held=run.options.watch != "nothing")

    @property
    def said(self) -> bool:
        """Whether pieces of it have been emitted."""
        return self._pieces.said

    async def write(self, aggregator: Aggregator, reading: Reading, drafts: DraftSet) -> Outcome | str:
        """Return the answer, or in words why the reply cannot be one."""
        try:
            return await self._write(aggregator, reading, drafts)
        finally:
            self._pieces.end()

    async def _write(self, aggregator: Aggregator, reading: Reading, drafts: DraftSet) -> Outcome | str:
        run = self._run
        options = writer_options(run.options.chat)
        ask = Ask("aggregator", aggregator, reading.messages, len(run.recipe.layers), options, reads=reading.calls)
        watch = None if run.options.watch == "nothing" else self._pieces.take
        try:
            number, completion = await call_within(Race(run, ask, run.deadline, watch, exclusive=True))
        except ModelError as error:
            self.error = error
            return f"failed ({error.reason})"
        results.emit_finished(run, number, ask, completion)
        text = completion.text
        if failure := self._failure(completion, reading, drafts):
            if failure.kept and stands_alone(failure.kept, drafts.best[0].text if len(drafts) else ""):
                run.fell_back = True
                said = f"the answer of {aggregator.model} ends before the place where it {failure.why}"
                run.decide(EditedDetail(), said, warning=True)
                text = failure.kept
            else:
                self.named = failure.named
                return failure.why
        elif problem := self._problem(completion, drafts):
            return problem
        if run.form is None and "draft" not in run.question.casefold():
            text = guard.without_lead_in(text)
        if text != completion.text and not failure:
            run.decide(EditedDetail(), "words about the drafts were taken off the front of the answer")
        if watch is not None and not failure:
            self._pieces.close()
        return Outcome(
            text,
            number,
            completion.reasoning,
            completion.finish_reason,
            completion.tool_calls,
            verbatim=text == completion.text,
            model=completion.model,
            tokens=completion.usage.completion_tokens,
        )

    def _failure(self, completion: Completion, reading: Reading, drafts: DraftSet) -> Failure | None:
        """Return what the reply holds that is no answer: a loop, our own words, talk of drafts; None for nothing."""
        run, text = self._run, completion.text
        ended = completion.finish_reason == "stop"
        suspect = may_be_loop(text, ended=ended)
        if suspect and (loop := find_loop(text, run.allowed_repeats, ended=ended)) is not None:
            if len(drafts) and any(find_loop(draft.text, run.allowed_repeats, ended=ended) for draft in drafts):
                said = f"the answer repeats itself ({loop}), as drafts do"
                run.decide(NoticedDetail(), said, warning=True)
            else:
                return Failure(f"repeated itself ({loop})", text[: loop.end])
        if not reading.calls:
            return None
        acted = "" if completion.tool_calls is None else prompts.describe_calls(completion.tool_calls)
        if (slip := find_slip(text, run.markers, run.asked)) is not None:
            return Failure(f"copied {slip.what}", text[: slip.start])
        if acted and find_slip(acted, run.markers, run.asked) is not None:
            return Failure("copied the marker of the drafts into a call of a tool")
        if talk := talk_of_drafts(guard.without_lead_in(text), run.asked, [draft.text for draft in drafts.all]):
            return Failure(f"speaks of drafts ({talk!r})", named=named_draft(text, len(reading.calls)))
        return None

    def _problem(self, completion: Completion, drafts: DraftSet) -> str:
        """Return why the reply cannot stand as the answer, "" when it can."""
        if completion.tool_calls or stands_empty(self._run, completion):
            return ""
        if ended_by_caller(self._run, completion.finish_reason, completion.usage.completion_tokens):
            return ""
        problem = guard.problem(completion, drafts.all)
        return "" if problem and self._stands_anyway(completion, drafts) else problem

    def _stands_anyway(self, completion: Completion, drafts: DraftSet) -> bool:
        """Say whether a cut-off answer is still the best there is: every draft is cut off as well, or there is none."""
        if completion.finish_reason != "length" or not completion.text.strip():
            return False
        if all(draft.finish_reason == "length" for draft in drafts):
            self._run.decide(NoticedDetail(), "the answer is cut off at its output limit", warning=True)
            return True
        return False


def stands_empty(run: Run, completion: Completion) -> bool:
    """Say whether a reply without text is what the caller asked for: a stop word came first."""
    stopped = run.options.chat.stop is not None and completion.finish_reason == "stop"
    return stopped and not completion.text.strip() and not completion.reasoning


async def answer_alone(run: Run, aggregator: Aggregator) -> Outcome:
    """Let the aggregator answer the conversation itself, when no draft came.

    Raises:
        ModelError: it could not either.
    """
    run.fell_back = True
    said = f"no usable draft came; {aggregator.model} was asked to answer alone"
    run.decide(FellBackDetail(), said, warning=True)
    writer = AnswerWriter(run)
    messages = run.conversation_for(writer_options(run.options.chat))
    result = await writer.write(aggregator, Reading(messages), DraftSet(()))
    if isinstance(result, Outcome):
        return result
    raise writer.error or BrokenReplyError(aggregator.provider, aggregator.model, result)
