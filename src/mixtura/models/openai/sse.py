"""Server-sent events: bytes in, events out. Knows nothing of models.

The parser follows the HTML standard's grammar (LF, CR and CRLF, comments, several `data:` lines) with one
liberty: what a stream that stops without its last blank line had said is delivered by `EventParser.finish`.
"""

from typing import NamedTuple

LINE_LIMIT = 8 * 1024 * 1024
_LONGEST_NAME = 1000
_BOM = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """One event; `event` is "" when the stream gave it no name."""

    event: str
    data: bytes


class LineTooLongError(ValueError):
    """A line, or one event's data, is longer than a parser is ready to hold."""


class EventParser:
    """Turns the bytes of one stream into events, however they are cut into chunks."""

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._begun = False
        self._after_cr = False
        # The unfinished last line, and the lines of an event behind its first: one growing run of bytes each, so that
        # tiny chunks and tiny lines cost no more than their length.
        self._rest = bytearray()
        self._event = ""
        self._data: bytes | None = None
        self._more = bytearray()
        self._problem: LineTooLongError | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Return the events that `chunk` completes.

        Raises:
            LineTooLongError: a line or an event is over the limit; the parser is of no use any more. Events that stood
                before it are returned first: the next call raises.
        """
        if self._problem is not None:
            raise self._problem
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._hold(chunk)
            return []
        lines = chunk.split(b"\n")
        if self._rest:
            self._rest += lines[0]
            lines[0] = bytes(self._rest)
            self._rest.clear()
        rest = lines.pop()
        if not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[ServerEvent] = []
        try:
            self._read(lines, events)
            if rest:
                self._hold(rest)
        except LineTooLongError as problem:
            if not events:
                raise
            self._problem = problem
        return events

    def finish(self) -> list[ServerEvent]:
        """Return the event that the end of the stream completes, if it left one open."""
        if self._problem is not None:
            raise self._problem
        line = bytes(self._rest)
        self._rest.clear()
        events: list[ServerEvent] = []
        self._read([line if self._begun else line.removeprefix(_BOM), b""], events)
        return events

    def _hold(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > self._limit:
            raise LineTooLongError(f"a line of the stream is longer than {self._limit} bytes")

    def _read(self, lines: list[bytes], events: list[ServerEvent]) -> None:
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line:
                if self._data is not None:
                    data = self._data if not self._more else self._data + self._more
                    events.append(ServerEvent(self._event, data))
                    self._data = None
                    self._more.clear()
                self._event = ""
            else:
                name, _, value = line.partition(b":")
                if name == b"event":
                    self._event = value[:_LONGEST_NAME].removeprefix(b" ").decode("utf-8", "replace")
                elif name == b"data":
                    self._take(b"")

    def _take(self, value: bytes) -> None:
        """Take a line of an event's data."""
        if self._data is None:
            self._data = value
        else:
            self._more += b"\n"
            self._more += value
        if len(self._data) + len(self._more) > self._limit:
            raise LineTooLongError(f"an event of the stream is longer than {self._limit} bytes")


def plain_data(chunk: bytes) -> list[bytes]:
    """Return the data of the events in `chunk` if it is whole events of one `data:` line each; else an empty list.

    Most servers send nothing but such events, and to split them takes a tenth of the time of parsing them.
    """
    if not (chunk.startswith(b"data: ") and chunk.endswith(b"\n\n")):
        return []
    found = chunk[6:-2].split(b"\n\ndata: ")
    # Between them stand all the line ends that there are.
    return found if chunk.count(b"\n") == 2 * len(found) else []
