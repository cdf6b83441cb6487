"""What a run came to, from its events: `Answer` is a pure fold over them."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from mixtura.chat import Usage
from mixtura.events import (
    Answer,
    AnswerDelta,
    AnswerFinished,
    AnswerRestarted,
    Call,
    CallFailed,
    CallFinished,
    CallStarted,
    Decision,
    Draft,
    Event,
    Failure,
    Note,
    RunFinished,
    RunStarted,
    UnknownEvent,
)


class Fold:
    """Collects events into an `Answer`; `add` is a listener, `answer()` may be asked at any time."""

    __slots__ = (
        *("_calls", "_decisions", "_drafts", "_failures", "_finished", "_open", "_pieces", "_started", "_text"),
        *("_twice", "_unknown"),
    )

    def __init__(self) -> None:
        self._started: RunStarted | None = None
        self._unknown: list[UnknownEvent] = []
        self._drafts: list[Draft] = []
        self._calls: list[Call] = []
        # Calls that were started and have not ended; and those that ended without having been open.
        self._open: dict[int, CallStarted] = {}
        self._twice: list[int] = []
        self._failures: list[Failure] = []
        self._decisions: list[Decision] = []
        self._pieces: list[str] = []
        self._text: AnswerFinished | None = None
        self._finished: RunFinished | None = None

    def add(self, event: Event) -> None:
        """Take the next event of the run."""
        # By type and not by asking one after the other: a fold takes every piece of every reply.
        take = self._TAKES.get(type(event))
        if take is not None:
            take(self, event)

    def _take_piece(self, event: AnswerDelta) -> None:
        self._pieces.append(event.text)

    def _take_restart(self, _event: AnswerRestarted) -> None:
        self._pieces.clear()

    def _take_begun(self, event: CallStarted) -> None:
        self._open[event.call] = event

    def _close(self, call: int) -> None:
        if self._open.pop(call, None) is None:
            self._twice.append(call)

    def _take_call(self, event: CallFinished) -> None:
        self._close(event.done.call)
        if isinstance(event.done, Draft):
            self._drafts.append(event.done)
        else:
            self._calls.append(event.done)

    def _take_failure(self, event: CallFailed) -> None:
        self._close(event.failure.call)
        self._failures.append(event.failure)

    def _take_decision(self, event: Decision) -> None:
        self._decisions.append(event)

    def _take_unknown(self, event: UnknownEvent) -> None:
        self._unknown.append(event)

    def _take_start(self, event: RunStarted) -> None:
        self._started = event

    def _take_text(self, event: AnswerFinished) -> None:
        self._text = event

    def _take_end(self, event: RunFinished) -> None:
        self._finished = event

    # Functions and not bound methods: a fold that held those would be freed by the garbage collector alone.
    _TAKES: ClassVar[dict[type, Callable[["Fold", Any], None]]] = {
        AnswerDelta: _take_piece,
        AnswerFinished: _take_text,
        AnswerRestarted: _take_restart,
        CallFailed: _take_failure,
        CallFinished: _take_call,
        CallStarted: _take_begun,
        Decision: _take_decision,
        RunFinished: _take_end,
        RunStarted: _take_start,
        UnknownEvent: _take_unknown,
    }

    @property
    def broken_calls(self) -> list[str]:
        """What is wrong with the events of calls: each that was started ends once, before its run does."""
        left = self._open.values() if self._finished is not None else ()
        return [
            *(f"call {begun.call} of {begun.model} was started and its end was never said" for begun in left),
            *(f"call {call} ended without having been under way" for call in self._twice),
        ]

    @property
    def text(self) -> str:
        """The text of the answer as far as it is known."""
        return self.answer().text

    def answer(self) -> Answer:
        """Return the answer as far as it is known: pieces, until it is finished."""
        done: list[Call] = [*self._drafts, *self._calls]
        usage = Usage()
        for call in done:
            usage = usage + call.usage
            if call.wasted is not None:
                usage = usage + call.wasted
        lost = [failure for failure in self._failures if failure.usage is not None]
        for failure in lost:
            usage = usage + (failure.usage or Usage())
        spent: list[Call | Failure] = [*done, *lost]
        priced = [one.cost for one in spent if one.cost is not None]
        charged = [call.charged for call in done if call.charged is not None]
        estimates = [_estimate(one) for one in spent] if charged else []
        final, ended, started = self._text, self._finished, self._started
        said: Call | AnswerFinished | None = final
        if final is not None and final.text is None:
            said = next((call for call in done if call.call == final.source), final)
        return Answer(
            text=(said.text or "") if said else "".join(self._pieces),
            reasoning=said.reasoning if said else "",
            finish_reason=final.finish_reason if final else "unknown",
            tool_calls=said.tool_calls if said else None,
            source=final.source if final else None,
            status=ended.status if ended else "failed",
            error=ended.error if ended else "the run has not finished",
            run=started.run if started else "",
            recipe=started.recipe.name if started else "",
            started_at=started.started_at if started else 0.0,
            seconds=ended.at if ended else 0.0,
            drafts=sorted(self._drafts, key=lambda draft: draft.call),
            calls=list(self._calls),
            failures=list(self._failures),
            decisions=[
                Note(kind=made.kind, reason=made.reason, warning=made.warning, detail=made.detail)
                for made in self._decisions
            ],
            warnings=[*(said.reason for said in self._decisions if said.warning), *self._unread(), *self.broken_calls],
            usage=usage,
            cost=sum(priced) if priced else None,
            charged=sum(charged) if charged else None,
            estimate=sum(known) if (known := [each for each in estimates if each is not None]) else None,
            unpriced=sorted({one.model for one in spent if one.cost is None}),
        )

    def _unread(self) -> list[str]:
        if not self._unknown:
            return []
        names = ", ".join(dict.fromkeys(str(event.data.get("event")) for event in self._unknown))
        return [f"{len(self._unknown)} events are of a newer schema than this version reads and are left out: {names}"]


def _estimate(one: Call | Failure) -> float | None:
    """Return the dollars of a call by the catalogue's price."""
    return one.cost if isinstance(one, Failure) or one.charged is None else one.estimate


def fold(events: Iterable[Event]) -> Answer:
    """Return the answer that `events` add up to."""
    folded = Fold()
    for event in events:
        folded.add(event)
    return folded.answer()
