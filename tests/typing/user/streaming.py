"""A user streams, matches on events, keeps them, and watches with listeners."""

from typing import assert_never, assert_type

from mixtura import Answer, Draft, Event, EventStream, Message, Mixture, Recipe, fold
from mixtura.decisions import Detail, ReducedDetail, VotedDetail, WaitedDetail
from mixtura.events import (
    AnswerDelta,
    AnswerFinished,
    AnswerRestarted,
    Call,
    CallDelta,
    CallFailed,
    CallFinished,
    CallStarted,
    Decision,
    Failure,
    Listener,
    RunFinished,
    RunStarted,
    UnknownEvent,
)
from mixtura.folding import Fold
from mixtura.stored import decode_event, encode_event


def facts(detail: Detail) -> str:
    """The facts of a decision have a type for each kind."""
    match detail:
        case VotedDetail(votes=votes):
            assert_type(votes, dict[int, str])
            return detail.winner
        case WaitedDetail(seconds=seconds):
            assert_type(seconds, float)
            return detail.window
        case ReducedDetail(recipe=recipe):
            assert_type(recipe, Recipe | None)
            return ", ".join(detail.steps)
        case _:
            return ""


def in_words(event: Event) -> str:
    """Every event is one of these; a new one would be an error here."""
    match event:
        case RunStarted(run=run, recipe=recipe):
            assert_type(recipe, Recipe)
            assert_type(event.conversation, tuple[Message, ...] | None)
            return run
        case CallStarted(call=call, model=model):
            assert_type(call, int)
            return model
        case CallDelta(text=text) | AnswerDelta(text=text):
            assert_type(text, str)
            return text
        case CallFinished(done=done):
            assert_type(done, Draft | Call)
            return done.text
        case CallFailed(failure=failure):
            assert_type(failure, Failure)
            return failure.reason
        case Decision(reason=reason):
            assert_type(event.warning, bool)
            assert_type(event.detail, Detail)
            return reason + facts(event.detail)
        case AnswerRestarted():
            return ""
        case AnswerFinished():
            assert_type(event.source, int | None)
            return event.text or "the text of the call it came from"
        case RunFinished(status=status):
            return status
        case UnknownEvent(data=data):
            return str(data)
        case _:
            assert_never(event)


async def watch(mixture: Mixture) -> Answer:
    events: list[Event] = []
    async with mixture.stream("Why is the sky blue?", deadline=10) as stream:
        assert_type(stream, EventStream)
        async for event in stream:
            assert_type(event.at, float)
            events.append(event)
        assert_type(stream.answer, Answer)
    assert_type(decode_event(encode_event(events[0])), Event)
    return fold(events)


class Meter:
    """Adds up dollars; its method is a listener."""

    def __init__(self) -> None:
        self.spent = 0.0

    def add(self, event: Event) -> None:
        if isinstance(event, CallFinished):
            self.spent += event.done.cost or 0.0


def watched(meter: Meter) -> Mixture:
    folded = Fold()
    listeners: list[Listener] = [meter.add, folded.add, lambda event: None]
    return Mixture("classic", listeners=listeners)
