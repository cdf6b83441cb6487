"""Events of a stream that are no chunks: what keeps the connection open, what ends the stream, what is wrapped."""

import re

import msgspec

from mixtura.models.openai.bounds import ERROR_BYTES
from mixtura.models.openai.kept import kept
from mixtura.models.openai.reply import WireError, decode_reply
from mixtura.models.openai.sse import BOM

# As much of an event as can be a word of its server's.
_LONGEST = 100
# As much of an event that cannot be read as is shown.
_GLIMPSE = 2000
_AROUND = b" \t\r\n\"'[]()<>.:-"
_ENDS = frozenset((b"DONE", b"END", b"EOF", b"EOS", b"FINISHED", b"COMPLETE", b"COMPLETED"))
_ENDING_NAMES = frozenset(("done", "end", "eof", "[done]", "finished", "complete", "completed"))
_QUIET_NAMES = frozenset(
    ("ping", "pong", "heartbeat", "keepalive", "keep-alive", "keep_alive", "open", "start", "connected", "comment")
)
INFORMING = frozenset(("status", "progress", "info", "warning", "metadata", "queue", "queued", "log", "debug"))
"""Names of events that say something of the work on a reply, and hold nothing of the reply."""
_QUIET = re.compile(
    rb"(?:ping|pong|heart[ _-]?beat|keep[ _-]?alive|alive|waiting|queued|connected|open(?:ed)?|started|ok|null|true"
    rb"|false|(?:\w{1,30} )?processing|[\d.]{1,40})?",
    re.IGNORECASE,
)
_TAG = re.compile(rb"\s{0,9}\[[A-Za-z][\w -]{0,60}\]\s{0,9}")
# Events in one event, and layers of quotation, that are unwrapped.
_MOST_LAYERS = 3
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def ends(name: str, data: bytes) -> bool:
    """Say whether an event says that its stream is over."""
    if name and name.strip().lower() in _ENDING_NAMES:
        return True
    return len(data) <= _LONGEST and (data[:6].upper() == b"[DONE]" or data.strip(_AROUND).upper() in _ENDS)


def says_nothing(name: str, data: bytes) -> bool:
    """Say whether an event only keeps its connection open."""
    if name.lower() in _QUIET_NAMES:
        return True
    if len(data) > _LONGEST:
        return False
    return _QUIET.fullmatch(data.strip(_AROUND)) is not None or _TAG.fullmatch(data) is not None


def unwrapped(data: bytes) -> list[bytes]:
    """Return the chunks in the data of an event: items of a list, a text that holds one, one behind a second `data:`.

    What is none of these is returned as it is.
    """
    for _ in range(_MOST_LAYERS):
        data = data.strip().removeprefix(BOM).lstrip()
        if data[:5].lower() == b"data:":
            data = data[5:]
        elif data[:1] == b'"':
            try:
                data = msgspec.json.decode(data, type=str).encode("utf-8", "surrogatepass")
            except (ValueError, RecursionError):
                break
        else:
            break
    if data[:1] == b"[":
        try:
            return [bytes(item) for item in _LIST.decode(data)]
        except (ValueError, RecursionError):
            pass
    return [data]


def no_chunk(data: bytes) -> WireError:
    """Return the error for an event that is no chunk, with its first words."""
    try:
        decode_reply(data[:_GLIMPSE])
    except WireError as problem:
        return problem
    return WireError("not a completion", alike=True)


def error_in(data: bytes) -> object:
    """Return what an event says that reports an error."""
    try:
        parsed = kept(data, ERROR_BYTES)
    except (ValueError, RecursionError):
        return data[:_GLIMPSE].decode("utf-8", "replace") or "no text"
    return (parsed.get("error") or parsed) if isinstance(parsed, dict) else parsed
