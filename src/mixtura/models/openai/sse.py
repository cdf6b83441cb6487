"""Server-sent events: bytes in, events out. Knows nothing of models.

The parser follows the HTML standard's grammar (LF, CR and CRLF, comments, several `data:` lines) with these liberties:
what a stream that stops without its last blank line had said is delivered by `EventParser.finish`; JSON objects that no
blank line parts are events of their own; so is a line that is a JSON object without `data:` (JSON lines); and a field
may be written with capitals, and with blanks round it.
"""

from typing import NamedTuple

LINE_LIMIT = 8 * 1024 * 1024
_LONGEST_NAME = 1000
BOM = b"\xef\xbb\xbf"
"""The mark that some servers put before UTF-8."""
_BLANKS = b" \t"
# How a line begins that goes on inside an object, and how one ends that closes it.
_INSIDE = (b" ", b"\t", b"}", b"]", b'"')
_CLOSED = (b"}", b"} ")
_FIELDS = (b"data:", b"event:", b":", b"id:", b"retry:")
# A chunk is shorter than this.
_LONGEST_LINE = 64 * 1024
_LONGEST_FIELD = max(map(len, _FIELDS))


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
            lines[0] = lines[0].removeprefix(BOM)
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
        self._read([line if self._begun else line.removeprefix(BOM), b""], events)
        return events

    def _hold(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > self._limit:
            raise LineTooLongError(f"a line of the stream is longer than {self._limit} bytes")

    def _read(self, lines: list[bytes], events: list[ServerEvent]) -> None:
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line[6:] if line.startswith(b"data: ") else line[5:], events)
            elif not line:
                if self._data is not None:
                    self._end(events)
                self._event = ""
            else:
                self._read_other(line, events)

    def _read_other(self, line: bytes, events: list[ServerEvent]) -> None:
        """Read a line that neither ends an event nor is plainly one of data."""
        bare = line.lstrip(_BLANKS)
        if bare[:1] == b"{" and line.rstrip().endswith(b"}"):
            if len(line) > self._limit:
                raise LineTooLongError(f"an event of the stream is longer than {self._limit} bytes")
            if self._data is not None:
                self._end(events)
            events.append(ServerEvent(self._event, bare))
            return
        name, colon, value = bare.partition(b":")
        field = name[:_LONGEST_NAME].rstrip(_BLANKS).lower()
        if field == b"event":
            if self._ends_object():
                self._end(events)
            self._event = value[:_LONGEST_NAME].removeprefix(b" ").decode("utf-8", "replace")
        elif field == b"data":
            self._take(value.removeprefix(b" ") if colon else b"", events)
        elif self._data is not None and self._data[:1] in (b"{", b"[") and line[:1] in _INSIDE:
            self._take(line, events)

    def _take(self, value: bytes, events: list[ServerEvent]) -> None:
        """Take a line of an event's data."""
        if self._data is None:
            self._data = value
        elif value[:1] in (b"{", b"[") and self._ends_object():
            # Within JSON nothing opens right behind what has closed: these are two, and the blank line is missing.
            self._end(events)
            self._data = value
        else:
            self._more += b"\n"
            self._more += value
        if len(self._data) + len(self._more) > self._limit:
            raise LineTooLongError(f"an event of the stream is longer than {self._limit} bytes")

    def _ends_object(self) -> bool:
        """Say whether the data so far may be a whole JSON object."""
        if self._data is None or self._data[:1] != b"{":
            return False
        return self._more.endswith(_CLOSED) if self._more else self._data.endswith(_CLOSED)

    def _end(self, events: list[ServerEvent]) -> None:
        assert self._data is not None
        events.append(ServerEvent(self._event, self._data if not self._more else self._data + self._more))
        self._data = None
        self._more.clear()


def begins_stream(begin: bytes, *, said: bool) -> bool | None:
    """Say by the first bytes of a body whether it is a stream of events or JSON lines; None: too few to say.

    Args:
        begin: the bytes.
        said: the head of the reply says that it is a stream. Servers say so of other bodies too.
    """
    text = begin.lstrip(_BLANKS + b"\r\n" + BOM)
    if not text:
        return None
    if text[:1] == b"{":
        line, ended, _ = text[:_LONGEST_LINE].partition(b"\n")
        return bool(ended) and line.rstrip().endswith(b"}") and (b'"delta"' in line or b'"done"' in line)
    if text[:1] in (b"[", b"<"):
        return False
    word = text[:_LONGEST_FIELD].lower().replace(b" :", b":")
    if said or word.startswith(_FIELDS):
        return True
    return None if any(field.startswith(word) for field in _FIELDS) else False


def plain_data(chunk: bytes) -> list[bytes]:
    """Return the data of the events in `chunk` if it is whole events of one `data:` line each; else an empty list.

    Most servers send nothing but such events, and to split them takes a tenth of the time of parsing them.
    """
    if not (chunk.startswith(b"data: ") and chunk.endswith(b"\n\n")):
        return []
    found = chunk[6:-2].split(b"\n\ndata: ")
    # Between them stand all the line ends that there are.
    return found if chunk.count(b"\n") == 2 * len(found) else []
