"""A streamed reply that is parsed late: when its caller wants what has come of it, and once at its end.

A run that limits how long a call may be silent, or that uses what a straggler had written, streams its drafts although
nobody watches them. Parsing each piece as it comes costs more than everything else that is done for such a call.
"""

from collections.abc import Sequence

from mixtura.chat import Delta
from mixtura.models.openai.reply import WireError
from mixtura.models.openai.sse import EventParser, LineTooLongError, ServerEvent
from mixtura.models.openai.stream import StreamedReply, joined

# What breaks a stream off stands in one of these; bytes that hold none, and no [DONE], need no look.
_ERRORS = (b'"error"', b"event: error", b"event:error")
_LONGEST_MARK = max(map(len, _ERRORS))
# Bytes, and pieces, that wait at most. A longer stream is parsed in parts, so that it neither stays in memory twice nor
# holds the event loop up at its end; a common reply is shorter and parsed once.
_MOST_BYTES = 256 * 1024
_MOST_PIECES = 4096
# Pieces that nobody has read and that are kept one by one.
_MOST_UNREAD = 1024


class LateReader:
    """The bytes of one stream with the times of their arrival; a `chat.PartialReader`.

    Attributes:
        first: event-loop time at which the first bytes came, or, once it is known, the first text or reasoning.
    """

    def __init__(self, gathered: StreamedReply) -> None:
        self.first: float | None = None
        self._gathered = gathered
        self._parser: EventParser | None = None
        self._waiting: list[tuple[float, bytes]] = []
        self._unread: list[tuple[float, Delta]] = []
        self._joined = 0  # of them, those that hold what many pieces said
        self._tail = b""
        self._line_limit = gathered.bounds.event
        self._open = 0  # bytes of the line that has not ended
        self._size = 0  # bytes that wait
        self._alert = False  # an event that may break the stream off has begun and not ended
        self._problem: WireError | LineTooLongError | None = None

    def feed(self, piece: bytes, now: float) -> bool:
        """Take the next bytes; return whether the stream is over.

        Raises:
            WireError, LineTooLongError: the stream broke off with an error, or is none.
        """
        self._waiting.append((now, piece))
        self._size += len(piece)
        seen = self._tail + piece if self._tail else piece
        self._tail = seen[-_LONGEST_MARK:]
        self._open = len(piece) - piece.rfind(b"\n") - 1 + (self._open if b"\n" not in piece else 0)
        if (
            not self._alert
            and b"[DONE]" not in seen
            and self._open <= self._line_limit
            and (b"error" not in seen or not any(mark in seen for mark in _ERRORS))
        ):
            if self._size > _MOST_BYTES or len(self._waiting) > _MOST_PIECES:
                self._parse_part()
                self._raise()
            return self._gathered.done
        self._alert = not piece.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
        self._parse_whole()
        self._raise()
        return self._gathered.done

    def finish(self) -> None:
        """Parse what is left.

        Raises:
            WireError, LineTooLongError: as `feed`.
        """
        self._parse_whole()
        if self._problem is None and not self._gathered.done and self._parser is not None:
            self._parse_events(self._parser.finish(), self._waiting[-1][0] if self._waiting else 0.0)
        self._raise()

    def read(self) -> Sequence[tuple[float, Delta]]:
        """Return the pieces that have arrived since the last call. See `chat.PartialReader`."""
        self._parse()
        found, self._unread, self._joined = self._unread, [], 0
        return found

    def parse(self) -> None:
        """Parse what has come, so that the reply is counted as far as it goes. Never raises."""
        self._parse()

    def _parse_whole(self) -> None:
        """Parse what is waiting; nobody has asked for a piece of it yet, so its text is taken as a whole if it can."""
        if self._parser is None and self._waiting:
            waiting = self._waiting
            body = waiting[0][1] if len(waiting) == 1 else b"".join([piece for _, piece in waiting])
            taken = self._gathered.take_body(body)
            if taken is not None:
                self.first = self._first_text() if self.first is None else self.first
                self._waiting = [(self._waiting[-1][0], body[taken:])]
        self._parse()

    def _parse_part(self) -> None:
        """Parse the whole events of what is waiting; their pieces are kept for whoever asks."""
        if self._parser is None:
            at = self._waiting[-1][0]
            body = b"".join([piece for _, piece in self._waiting])
            end = body.rfind(b"\n\n") + 2
            texts: list[Delta] = []
            taken = self._gathered.take_body(body[:end], texts) if end > 1 else None
            if taken is not None:
                self.first = self._first_text() if self.first is None else self.first
                self._unread += [(at, delta) for delta in texts]
                self._waiting = [(at, body[taken:])]
                self._size = len(body) - taken
                if self._size <= _MOST_BYTES:
                    return
        self._parse()

    def _first_text(self) -> float:
        """Return when the first text came, as near as can be told: the first bytes most often only name the stream."""
        times = [at for at, _ in self._waiting]
        first = self._waiting[0][1]
        alone = first.find(b"\n\n", first.find(b"\n\n") + 2) < 0
        return times[1] if alone and len(times) > 1 else times[0]

    def _parse(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        parser = self._parser = self._parser or EventParser(self._line_limit)
        for at, piece in waiting:
            if self._problem is not None:
                return
            try:
                events = parser.feed(piece)
            except LineTooLongError as problem:
                self._problem = problem
                return
            self._parse_events(events, at)

    def _parse_events(self, events: Sequence[ServerEvent], at: float) -> None:
        for event in events:
            if self._problem is not None:
                return
            try:
                delta = self._gathered.take(event)
            except WireError as problem:
                # A caller who asks how far the reply has come must not fail for it: reading the stream does.
                self._problem = problem
                return
            if delta is not None:
                self.first = at if self.first is None else self.first
                self._unread.append((at, delta))
        if len(self._unread) - self._joined > _MOST_UNREAD:
            self._unread[self._joined :] = [
                (at, delta) for delta in joined(one for _, one in self._unread[self._joined :])
            ]
            self._joined = len(self._unread)

    def _raise(self) -> None:
        if self._problem is not None:
            raise self._problem
