"""From a run to the reader of its events: a queue that does not grow with a reader who is slow.

Pieces of a text that nobody has taken yet are merged, so that what waits is bounded by the events of other kinds, of
which a run has a few for each call. No event of another kind is ever lost or overtaken by a later piece.
"""

import asyncio
from collections import deque

from mixtura.events import AnswerDelta, CallDelta, Event

# Events that wait before pieces are merged.
_MERGE_FROM = 64
_ANSWER = -1


class _Pieces:
    """Pieces of one text that become one event."""

    __slots__ = ("call", "last", "reasoning", "text", "tool_calls")

    def __init__(self, first: CallDelta | AnswerDelta, call: int) -> None:
        self.call = call
        self.last = first
        self.text = [first.text]
        self.reasoning = [first.reasoning]
        self.tool_calls = list(first.tool_calls or ())

    def add(self, delta: CallDelta | AnswerDelta) -> None:
        self.last = delta
        self.text.append(delta.text)
        self.reasoning.append(delta.reasoning)
        self.tool_calls += delta.tool_calls or ()

    def event(self) -> Event:
        at, calls = self.last.at, self.tool_calls or None
        text, reasoning = "".join(self.text), "".join(self.reasoning)
        if self.call == _ANSWER:
            return AnswerDelta(at=at, text=text, reasoning=reasoning, tool_calls=calls)
        return CallDelta(at=at, call=self.call, text=text, reasoning=reasoning, tool_calls=calls)


class EventQueue:
    """Events on their way to one reader, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Event | _Pieces] = deque()
        self._open: dict[int, _Pieces] = {}
        self._news = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: Event) -> None:
        """Take the next event of the run."""
        if not isinstance(event, CallDelta | AnswerDelta):
            # A later piece must not be merged into one that stands before this event.
            self._open.clear()
        elif self._merged(event):
            return
        self._waiting.append(event)
        self._news.set()

    def _merged(self, delta: CallDelta | AnswerDelta) -> bool:
        """Merge a piece with those that wait, if any do or too much waits; say whether that was done."""
        if not self._open and len(self._waiting) < _MERGE_FROM:
            return False
        call = delta.call if isinstance(delta, CallDelta) else _ANSWER
        pieces = self._open.get(call)
        if pieces is not None:
            pieces.add(delta)
        elif len(self._waiting) >= _MERGE_FROM:
            pieces = self._open[call] = _Pieces(delta, call)
            self._waiting.append(pieces)
        return pieces is not None

    def close(self) -> None:
        """Note that no event follows."""
        self._closed = True
        self._news.set()

    async def get(self) -> Event | None:
        """Return the next event; None when there is none and none will follow."""
        while not self._waiting:
            if self._closed:
                return None
            self._news.clear()
            await self._news.wait()
        taken = self._waiting.popleft()
        if not isinstance(taken, _Pieces):
            return taken
        if self._open.get(taken.call) is taken:
            del self._open[taken.call]
        return taken.event()
