"""A user streams, matches on events, keeps them, and watches with listeners."""

from typing import assert_never, assert_type

from mixtura import Answer, Draft, Event, EventStream, Mixture, fold
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
    Fold,
    Listener,
    RunFinished,
    RunStarted,
)


def in_words(event: Event) -> str:
    """Every event is one of these; a new one would be an error here."""
    match event:
        case RunStarted(run=run):
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
            return reason
        case AnswerRestarted():
            return ""
        case AnswerFinished():
            assert_type(event.source, int | None)
            return event.text
        case RunFinished(status=status):
            return status
        case _:
            assert_never(event)


async def watch(mixture: Mixture) -> Answer:
    events: list[Event] = []
    async with mixture.stream("Why is the sky blue?", deadline=10) as stream:
        assert_type(stream, EventStream)
        async for event in stream:
            assert_type(event.at, float)
            events.append(event)
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
