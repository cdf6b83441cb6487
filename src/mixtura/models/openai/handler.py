"""One connection to a server, and how the replies on it are read.

- A reply with a plain head and a length (`plain_reply`) is collected here; any other goes to aiohttp's parser.
- The head of a reply may be as large as the official SDKs let it be, and no larger than memory can bear.
- A connection on which something comes that nobody asked for is closed.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from mixtura.models.openai.plain_reply import PlainReply, plain_head

# A server counts from when it sent a reply, and a request has to arrive by then.
_ON_THE_WAY_SECONDS = 1.0
# The SDKs read heads of 100 KiB with as many fields as fit there.
HEADS: Any = {"max_line_size": 128 * 1024, "max_field_size": 128 * 1024, "max_headers": 32 * 1024}
_MOST_HEAD = 256 * 1024
_BUFFER = 64 * 1024
_KEPT = re.compile(r"\b(timeout|max)\s*=\s*\"?(\d+)", re.IGNORECASE)


class HeadTooLargeError(BadHttpMessage):
    """The head of a reply is larger than may be."""


class Handler(ResponseHandler):
    """One connection.

    Attributes:
        uses: how many requests were made on it.
        came: something of the reply to the latest one came.
        idle: nobody uses it.
        keeps: seconds that its server keeps it when nobody uses it; None where that was not said.
        waited: seconds that the latest call waited for its turn.
    """

    uses = 0
    came = False
    idle = False
    waited = 0.0
    keeps: float | None = None
    # The reply that is awaited, and as much of it as has come, while it may be a plain one.
    _awaited: "asyncio.Future[PlainReply | None] | None" = None
    _plain: PlainReply | None = None
    _body: bytearray
    _length = 0

    @property
    def was_read(self) -> bool:
        """Whether the request on this connection, which broke, may have been read by its server.

        A connection that was used before may have been given up by the server, or by a machine on the way, while nobody
        used it. It then breaks before a byte of the reply comes.
        """
        return self.uses < 2 or self.came

    def expect_reply(self, *, whole: bool) -> "asyncio.Future[PlainReply | None]":
        """Begin to read the reply to a new request; the future holds it when it is whole.

        It holds None where the reply is not a plain one, or is not to be `whole`, but read as it comes: by `read`.
        """
        self.uses += 1
        self.came = self.idle = False
        self._parser = None
        awaited = self._awaited = self._loop.create_future()
        if self._tail or not whole:
            # What is in the tail came before anything was asked.
            self._leave_to_parser()
        return awaited

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._awaited is not None:
            self.came = True
            self._collect(data)
        elif data and (self.idle or (self._parser is None and self.uses)):
            # Nobody asked for it: what it is part of cannot be known.
            self.abort()
        else:
            super().data_received(data)

    def _collect(self, data: bytes) -> None:
        """Take more of the reply that is awaited."""
        reply = self._plain
        if reply is None:
            end = data.find(b"\r\n\r\n") + 4
            head = plain_head(data[: end - 2]) if end >= 4 else None
            if head is None:
                self._leave_to_parser(data)
                return
            reply = PlainReply(head)
            self._heed(head.headers)
            data = data[end:]
            if len(data) == head.length:
                reply.body = data
                self._answer(reply)
                return
            self._plain, self._length = reply, head.length
            self._body = bytearray()
        self._body += data
        if len(self._body) >= self._length:
            if len(self._body) > self._length:
                self.force_close()
            reply.body = bytes(self._body[: self._length])
            self._answer(reply)

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Take what a plain head says of the connection."""
        if (kept := headers.get("Keep-Alive")) is not None:
            self.keep_for(kept)
        if headers.get("Connection", "keep-alive").lower() != "keep-alive":
            self.force_close()

    def _answer(self, reply: PlainReply | None) -> None:
        awaited, self._awaited, self._plain = self._awaited, None, None
        if awaited is not None and not awaited.done():
            awaited.set_result(reply)

    def _leave_to_parser(self, data: bytes = b"") -> None:
        """Have aiohttp's parser read the reply that is awaited."""
        self._answer(None)
        self._parse()
        if data:
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Say that no more comes."""
        awaited, self._awaited = self._awaited, None
        reply, self._plain = self._plain, None
        super().connection_lost(exc)
        if awaited is None or awaited.done():
            return
        if reply is not None:
            reply.problem = aiohttp.ClientPayloadError(f"{len(self._body)} of {self._length} bytes of the reply came")
            reply.body = bytes(self._body)
            awaited.set_result(reply)
        else:
            awaited.set_exception(self.exception() or aiohttp.ServerDisconnectedError())

    def set_response_params(self, **params: Any) -> None:
        """Begin to read the reply to a new request, by aiohttp's parser."""
        self.uses += 1
        self.came = self.idle = False
        self._parse(**params)

    def _parse(self, **params: Any) -> None:
        # A tunnel is asked for without them.
        super().set_response_params(**{**HEADS, "read_until_eof": True, "read_bufsize": _BUFFER, **params})
        self._parser = _Head(self, self._parser)  # type: ignore[assignment]  # what is called of a parser until then

    def keep_for(self, said: str) -> None:
        """Take the `Keep-Alive` header of a reply: "timeout=5, max=99"."""
        found = {name.lower(): int(number[:9]) for name, number in _KEPT.findall(said)}
        if "timeout" in found:
            self.keeps = found["timeout"] - _ON_THE_WAY_SECONDS
        if found.get("max", 1) <= 0 or (self.keeps is not None and self.keeps <= 0):
            self.force_close()


class _Head:
    """The parser of a connection until the head of the reply has come, with an eye on its size.

    Then the connection has its own parser again, but for a body in chunks: what follows those is as long as the server
    likes.
    """

    __slots__ = ("_body", "_handler", "_parser", "_seen", "_size")

    def __init__(self, handler: Handler, parser: Any) -> None:
        self._handler, self._parser = handler, parser
        self._size = self._seen = 0
        self._body: aiohttp.StreamReader | None = None

    def feed_data(self, data: bytes) -> Any:
        """Parse what came."""
        handler, body = self._handler, self._body
        handler.came = True
        parsed = self._parser.feed_data(data)
        if parsed[0]:
            message, body = parsed[0][-1]
            # A reply of class 1xx only announces another one.
            if not 100 <= message.code < 200 or message.code == 101:
                if (kept := message.headers.get("Keep-Alive")) is not None:
                    handler.keep_for(kept)
                if not message.chunked:
                    handler._parser = self._parser  # noqa: SLF001
                    return parsed
                self._body = body
        if body is not None and body.total_bytes != self._seen:
            self._seen, self._size = body.total_bytes, 0
            return parsed
        self._size += len(data)
        if self._size > _MOST_HEAD:
            raise HeadTooLargeError(f"no end of the head within {_MOST_HEAD:,} bytes")
        return parsed

    def feed_eof(self) -> Any:
        """Take the end of the connection."""
        return self._parser.feed_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


def is_head_too_large(problem: BaseException) -> bool:
    """Say whether a reply could not be read because its head was too large."""
    found: BaseException | None = problem
    while found is not None:
        if isinstance(found, (LineTooLong, HeadTooLargeError)):
            return True
        said = getattr(found, "message", "")
        if isinstance(said, str) and said.startswith(("Got more than", "Too many headers", "no end of the head")):
            return True
        found = found.__cause__ or found.__context__
    return False
