"""What happens in a run, and the answer it adds up to.

A run is a stream of these events; `Answer` is a pure fold over them, so that a stored stream gives the same answer
again (`stored.py`). `at` is seconds since the run began. Calls are numbered from 0 in the order they were started.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from mixtura.answer_forms import AnswerForms, CallForms
from mixtura.chat import ChatOptions, FinishReason, JsonObject, Message, Timing, Usage
from mixtura.decisions import DecisionKind, Detail
from mixtura.kinds import CallRole
from mixtura.recipe import Recipe

SCHEMA = 1
"""The number of this form of the events; `RunStarted.schema` carries it."""

Role = CallRole

Status = Literal["ok", "partial", "failed"]


class Call(CallForms, msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="call"):
    """One finished call: what was asked of whom, what came back, what it took.

    `wasted` is what failed attempts before it took, `cost` holds it too. `charged` is what the provider says that it
    charged for the call, None where it says nothing; `cost` is that, then, and `estimate` what the tokens cost by the
    catalogue's price, None where that is not known.
    """

    call: int
    role: Role
    model: str
    provider: str
    answered_by: str = ""
    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason = "stop"
    tool_calls: list[JsonObject] | None = None
    usage: Usage = Usage()
    cost: float | None = None
    timing: Timing = Timing()
    attempts: int = 1
    service_tier: str | None = None
    extra: JsonObject = {}
    wasted: Usage | None = None
    charged: float | None = None
    estimate: float | None = None


class Draft(Call, frozen=True, kw_only=True, tag_field="type", tag="draft"):
    """A proposer's finished call. `choice` is the final answer found in its text, "" when none was.

    `sure`: whether `choice` is surely what the text comes to; drafts agree only where they are sure.
    `incomplete`: it was stopped while it wrote, for the reason given; its usage is an estimate and it has no `choice`.
    """

    layer: int = 0
    weight: float = 1.0
    choice: str = ""
    incomplete: str = ""
    sure: bool = True


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One call that gave nothing: `kind` as in errors.py, or "abandoned"; `reason` a scrubbed sentence.

    `usage` and `cost` are what it will be billed for all the same, as estimated.
    """

    call: int
    role: Role
    model: str
    provider: str
    kind: str
    reason: str
    layer: int = 0
    status: int | None = None
    attempts: int = 1
    usage: Usage | None = None
    cost: float | None = None


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event"):
    at: float = 0.0
    # Fields of a newer schema, kept for whoever writes the event again; see `stored.py`.
    unknown: JsonObject | None = None


class RunStarted(_Event, frozen=True, kw_only=True, tag="run_started"):
    """First event.

    Attributes:
        run: the run's id.
        recipe: what is run, after reductions; a `ReducedDetail` that comes later replaces it.
        calls: the most calls it makes when none fails.
        started_at: Unix time in seconds, 0 when the caller gave none.
        conversation: what was asked; None when the caller keeps it out of the events.
        digest: SHA-256 (hexadecimal) of the conversation's JSON, in its place.
        options: what the caller asks of the answer; None for nothing.
        schema: the number of the events' form; see `SCHEMA`.
    """

    run: str
    recipe: Recipe
    calls: int
    started_at: float = 0.0
    conversation: tuple[Message, ...] | None = None
    digest: str = ""
    options: ChatOptions | None = None
    schema: int = 0


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request asks for besides its messages; None leaves a value to the provider."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    options: ChatOptions | None = None


class CallStarted(_Event, frozen=True, kw_only=True, tag="call_started"):
    """A request is about to be sent.

    `reads` are the drafts, by call, that it is shown, in their order; `messages` is None where they are the run's
    conversation as it is, or the caller keeps them out.
    """

    call: int
    role: Role
    model: str
    provider: str
    layer: int = 0
    parameters: Parameters = Parameters()
    reads: list[int] = []
    messages: tuple[Message, ...] | None = None


class CallDelta(_Event, frozen=True, kw_only=True, tag="call_delta", omit_defaults=True):
    """A piece of a draft as it is written; `tool_calls` as in `chat.Delta`."""

    call: int
    text: str = ""
    reasoning: str = ""
    tool_calls: list[JsonObject] | None = None


class CallFinished(_Event, frozen=True, kw_only=True, tag="call_finished"):
    """A reply is whole."""

    done: Draft | Call


class CallFailed(_Event, frozen=True, kw_only=True, tag="call_failed"):
    """A call failed for good, or was abandoned; its siblings go on."""

    failure: Failure


class Decision(_Event, frozen=True, kw_only=True, tag="decision", omit_defaults=True):
    """Something was decided that a reader of the answer may want to know. `warning`: it should worry them."""

    kind: DecisionKind
    reason: str
    detail: Detail
    warning: bool = False


class AnswerDelta(_Event, frozen=True, kw_only=True, tag="answer_delta", omit_defaults=True):
    """A piece of the answer as it is written; `tool_calls` as in `chat.Delta`."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[JsonObject] | None = None


class AnswerRestarted(_Event, frozen=True, kw_only=True, tag="answer_restarted"):
    """Forget the pieces so far: the answer begins anew (see the decision before this event)."""


class AnswerFinished(_Event, frozen=True, kw_only=True, tag="answer_finished", omit_defaults=True):
    """The whole answer; it wins over the pieces. `source` is the call that it came from.

    `text` is None where text, reasoning and tool calls are those of `source`, word for word.
    """

    text: str | None = None
    reasoning: str = ""
    finish_reason: FinishReason = "stop"
    tool_calls: list[JsonObject] | None = None
    source: int | None = None


class RunFinished(_Event, frozen=True, kw_only=True, tag="run_finished", omit_defaults=True):
    """Last event, exactly one. `partial`: an answer, but not the one the recipe meant."""

    status: Status
    error: str = ""


class UnknownEvent(_Event, frozen=True, kw_only=True, tag="unknown"):
    """An event of a newer schema that this version cannot read; `data` is all of it."""

    data: JsonObject


Event = (
    RunStarted
    | CallStarted
    | CallDelta
    | CallFinished
    | CallFailed
    | Decision
    | AnswerDelta
    | AnswerRestarted
    | AnswerFinished
    | RunFinished
    | UnknownEvent
)
"""What can happen in a run; `RunStarted` comes first and `RunFinished` last, each once."""
Listener = Callable[[Event], None]


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as the answer keeps it."""

    kind: DecisionKind
    reason: str
    detail: Detail
    warning: bool = False


class Answer(AnswerForms, msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to.

    Attributes:
        text: the answer; the model's own words, without reasoning.
        drafts: every draft that arrived, in the order of their calls, all layers.
        calls: every other call that finished (reviewers, selector, aggregator).
        failures: every call that did not.
        decisions: what was decided on the way.
        warnings: sentences for a person; empty when all went as the recipe says.
        usage: tokens of all calls, failed and abandoned ones included; `estimated` when a part of it is.
        cost: dollars of all calls with a known price, failed and abandoned ones included; None when none has one.
        charged: the part of `cost` that providers say they charged; None when none says so. The rest is estimated by
            the catalogue's prices.
        estimate: what all calls cost by the catalogue's prices, those without one left out; None where `charged` is,
            for then it is `cost`.
        unpriced: models without a known price, whose cost is missing from `cost`.
        seconds: wall time of the run.
    """

    text: str = ""
    reasoning: str = ""
    finish_reason: FinishReason = "unknown"
    tool_calls: list[JsonObject] | None = None
    source: int | None = None
    status: Status = "failed"
    error: str = ""
    run: str = ""
    recipe: str = ""
    started_at: float = 0.0
    seconds: float = 0.0
    drafts: list[Draft] = []
    calls: list[Call] = []
    failures: list[Failure] = []
    decisions: list[Note] = []
    warnings: list[str] = []
    usage: Usage = Usage()
    cost: float | None = None
    charged: float | None = None
    estimate: float | None = None
    unpriced: list[str] = []

    @property
    def n_calls(self) -> int:
        """How many calls finished."""
        return len(self.drafts) + len(self.calls)
