"""The bodies of replies that come in one piece: read up to their limits, and decoded.

What is large is decoded in a thread, since it would hold the event loop up. A thread cannot be stopped, but nobody
waits for it: a caller whose time is up goes, and the thread ends by itself a moment later.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from mixtura.chat import ChatRequest, Completion, JsonObject, Timing
from mixtura.models.openai.bounds import ERROR_BYTES, INLINE, LIST_BYTES, LIST_OBJECTS, Bounds, bounds_of, megabytes
from mixtura.models.openai.kept import kept
from mixtura.models.openai.pages import BETWEEN, page_in
from mixtura.models.openai.reply import UnreadableError, WireError, decode_reply
from mixtura.models.openai.sse import EventParser, begins_stream
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import completion_from
from mixtura.models.threads import DaemonThreads

if TYPE_CHECKING:
    from mixtura.models.openai.exchange import Reply

_THREADS = DaemonThreads("mixtura-decode")
_SLICE = 64 * 1024
# Bytes of a body after which the event loop gets its turn where no wait gave it one.
_TURN = 256 * 1024


async def _read_long(reply: "Reply", request: ChatRequest, said: int | None, begin: bytes) -> bytearray:
    """Return the body of a reply to `request` that is long by its head, or of which that says nothing.

    `begin` was read of it before.

    Raises:
        WireError: it is larger than can be of what was asked for.
    """
    bounds = bounds_of(request)
    if said is not None and said > bounds.whole:
        raise too_large(bounds, bounds.whole)
    body = bytearray(begin)
    async for piece in pieces_of(reply):
        body += piece
        if len(body) > bounds.whole:
            raise too_large(bounds, bounds.whole)
    return body


async def pieces_of(reply: "Reply") -> AsyncIterator[bytes]:
    """Yield a large body as it comes. What is unpacked here is there at once: others get their turn in between."""
    size = 0
    while piece := await reply.more():
        size += len(piece)
        if size > _TURN:
            size = 0
            await asyncio.sleep(0)
        yield piece


async def read_error(reply: "Reply") -> bytes:
    """Return the beginning of the body of an error: the status says what it means, and a longer text says no more."""
    from aiohttp import ClientError

    body = bytearray()
    try:
        async for piece in pieces_of(reply):
            body += piece
            if len(body) > ERROR_BYTES:
                break
    except (ClientError, OSError):
        # It broke off: the status and the head say what they say all the same.
        pass
    reply.close()
    return bytes(body[:ERROR_BYTES])


def _length(reply: "Reply") -> int | None:
    """Return how long a body is by its head; None where that is not said, or it comes compressed."""
    said = reply.headers.get("Content-Length", "")
    return int(said) if said.isdecimal() and len(said) < 20 and "Content-Encoding" not in reply.headers else None


def too_large(bounds: Bounds, most: int) -> WireError:
    """Return the error for a reply of more than `most` bytes."""
    return WireError(f"a reply of more than {megabytes(most)} where {bounds.tokens:,} tokens were allowed", alike=True)


async def beginning(reply: "Reply") -> bytes:
    """Return as much of a body as says what it is; b"" for an empty one."""
    begin = await reply.more()
    while begin and begins_stream(begin, said=False) is None and len(begin) < _SLICE:
        if not (piece := await reply.more()):
            break
        begin += piece
    return begin


async def read_whole(
    reply: "Reply", request: ChatRequest, begun: float, *, streamed: bool, begin: bytes = b""
) -> Completion:
    """Read a reply in one piece; a large one is decoded in a thread, since it takes the time of many events.

    Args:
        reply: the reply.
        request: what it answers.
        begun: event-loop time at which the call began.
        streamed: a stream was asked for.
        begin: what was read of its body before.
    """
    loop = asyncio.get_running_loop()
    said = _length(reply)
    if said is not None and said <= INLINE:
        body: bytes | bytearray = begin + await reply.read() if begin else await reply.read()
    else:
        body = await _read_long(reply, request, said, begin)
    total = loop.time() - begun
    timing = Timing(total=total, first_token=total if streamed else None)
    if len(body) <= INLINE:
        return _whole(body, request, timing)
    return await loop.run_in_executor(_THREADS, _whole, body, request, timing)


def _whole(body: bytes | bytearray, request: ChatRequest, timing: Timing) -> Completion:
    """Read a reply that came in one piece: a completion, or a stream that nobody asked for."""
    begin = b"" if body[:1] == b"{" else bytes(body[:_SLICE])
    if begin and begins_stream(begin, said=False):
        return _untold_stream(body, StreamedReply(request), timing)
    if begin.lstrip()[:1] == b"[":
        return _listed(body, request, timing)
    try:
        return completion_from(decode_reply(body, bounds_of(request)), request, timing)
    except UnreadableError:
        if b"\n{" not in body and b"\ndata:" not in body and b"}\n" not in body:
            raise
        # One object a line, or a stream behind words of its server's.
        gathered = StreamedReply(request)
        try:
            return _untold_stream(body, gathered, timing)
        except WireError as problem:
            if gathered.pieces or problem.reported is not None:
                raise
        raise


def _untold_stream(body: bytes | bytearray, gathered: StreamedReply, timing: Timing) -> Completion:
    """Read a stream that nobody asked for, or that says it is none."""
    parser = EventParser(gathered.bounds.event)
    for at in range(0, len(body), _SLICE):
        for event in parser.feed(bytes(body[at : at + _SLICE])):
            gathered.take(event)
    for event in parser.finish():
        gathered.take(event)
    return gathered.completion(timing)


def _listed(body: bytes | bytearray, request: ChatRequest, timing: Timing) -> Completion:
    """Read a list of chunks, or one that holds a whole reply."""
    gathered = StreamedReply(request)
    if gathered.take_list(bytes(body)):
        return gathered.completion(timing)
    return completion_from(decode_reply(body, gathered.bounds), request, timing)


class _ModelList(msgspec.Struct):
    data: msgspec.Raw


async def read_list(reply: "Reply") -> list[JsonObject]:
    """Return the rows of a provider's list of models.

    Raises:
        ValueError: it is none, or too large.
    """
    body = bytearray()
    async for piece in pieces_of(reply):
        body += piece
        if len(body) > LIST_BYTES:
            raise WireError(f"a list of more than {megabytes(LIST_BYTES)}")
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _rows_in, body)


def _rows_in(body: bytearray) -> list[JsonObject]:
    try:
        rows = kept(msgspec.json.decode(body, type=_ModelList).data, LIST_OBJECTS)
    except RecursionError:
        raise WireError("a list that is nested too deeply") from None
    except msgspec.DecodeError:
        if (page := page_in(body)) is None:
            raise
        raise WireError(f"not a list of models but {page}, {BETWEEN}") from None
    return msgspec.convert(rows, list[dict[str, Any]])
