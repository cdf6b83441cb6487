"""The answer of a run before it is an event, and the draft that takes an aggregator's place."""

from typing import NamedTuple

from mixtura.chat import FinishReason, JsonObject
from mixtura.decisions import FellBackDetail
from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.events import AnswerFinished, Draft


class Outcome(NamedTuple):
    """The answer.

    Attributes:
        text, reasoning, finish_reason, tool_calls: as in `events.Answer`.
        source: the number of the call it came from.
        verbatim: text, reasoning and tool calls are those of `source`, word for word.
        model: who wrote it; "" where it was put together.
        tokens: how many its writer wrote, reasoning included, as far as the provider says.
    """

    text: str
    source: int | None
    reasoning: str = ""
    finish_reason: FinishReason = "stop"
    tool_calls: list[JsonObject] | None = None
    verbatim: bool = False
    model: str = ""
    tokens: int = 0

    def event(self, at: float) -> AnswerFinished:
        """Return the event that ends the answer."""
        if self.verbatim:
            return AnswerFinished(at=at, finish_reason=self.finish_reason, source=self.source)
        return AnswerFinished(
            at=at,
            text=self.text,
            reasoning=self.reasoning,
            finish_reason=self.finish_reason,
            tool_calls=self.tool_calls,
            source=self.source,
        )


def outcome_of(draft: Draft) -> Outcome:
    """Return `draft` as the answer."""
    return Outcome(
        draft.text,
        draft.call,
        draft.reasoning,
        draft.finish_reason,
        draft.tool_calls,
        verbatim=True,
        model=draft.answered_by or draft.model,
        tokens=draft.usage.completion_tokens,
    )


def fall_back(run: Run, drafts: DraftSet, why: str, named: Draft | None = None) -> Outcome:
    """Return the best draft in the aggregator's place, or the one that it `named`, and emit why."""
    chosen, reason = drafts.best if named is None else (named, "the one it names")
    run.fell_back = True
    run.decide(
        FellBackDetail(call=chosen.call),
        f"the aggregator {why}; the answer is the draft of {chosen.model} ({reason})",
        warning=True,
    )
    return outcome_of(chosen)
