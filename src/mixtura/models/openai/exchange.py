"""One request and its reply over a pooled connection: head and body leave in one write.

aiohttp's session does much for a request that a call of a model does not need: redirects, cookies, traces, a task for
the body, a timer. Of 0.33 ms of CPU for four whole calls, 0.18 were the session's (`make bench`). Here aiohttp's
connector opens, pools and checks connections as ever, and its parser reads the reply; what lies between is this file.
It uses parts of aiohttp that are not promised to stay, so only releases that it was tested with get it. With others, a
proxy or a large body, the session makes the request.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from mixtura.models.openai.connector import (
    MOST_FIELDS,
    MOST_LINE,
    Connector,
    Handler,
    SessionCall,
    session_call,
    was_read,
)

if TYPE_CHECKING:
    import yarl
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from multidict import CIMultiDict, CIMultiDictProxy

    from mixtura.chat import CallContext

_TESTED = ("3.14.",)
# Larger bodies are left to the session, which waits where the connection cannot take them at once.
_MOST_BYTES = 64 * 1024
_BUFFER = 64 * 1024
# Replies of class 1xx that are read before the one that counts.
_MOST_ANNOUNCED = 16
# A server that lets so much time pass may have read the request, and bill it.
_UNREAD_SECONDS = 2.0


class Reply(Protocol):
    """A reply whose head has come; `close` it unless it was read to its end."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> "CIMultiDictProxy[str]":
        """The headers."""

    @property
    def ended(self) -> bool:
        """Everything was read."""

    @property
    def waited(self) -> float:
        """The seconds that its call waited for its turn at this machine's connections."""

    async def read(self) -> bytes:
        """Return the whole body."""

    async def more(self) -> bytes:
        """Return what has come since the last call, waiting for it if need be; b"" at the end."""

    def close(self) -> None:
        """Close the connection, unless the reply has ended."""


class Route:
    """Where the requests of one endpoint go, and what all of them have in common.

    Args:
        session: of the running event loop.
        url: where to post to.
        headers: of every request.
        proxy: the address of an HTTP proxy.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: "yarl.URL", headers: "CIMultiDict[str]", proxy: str | None
    ) -> None:
        self._session, self._url, self._headers, self._proxy = session, url, headers, proxy
        self._template: aiohttp.ClientRequest | None = None
        if proxy is None and aiohttp.__version__.startswith(_TESTED):
            loop = asyncio.get_running_loop()
            # Never sent: it tells the connector which connection is wanted.
            self._template = aiohttp.ClientRequest("POST", url, headers=headers, loop=loop, session=session)
            lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"Host: {self._template.headers['Host']}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self._head = "\r\n".join([*lines, "Content-Length: "]).encode("utf-8")

    async def post(self, body: bytes, context: "CallContext | None" = None) -> Reply:
        """Send `body` and return the reply, whose body has yet to come.

        A connection that was used before and breaks before a byte of the reply came is replaced by a new one.

        Args:
            body: the request.
            context: is told when it waits for its turn at this machine's connections.

        Raises:
            aiohttp.ClientError, OSError: no connection, or it broke before the head of the reply was whole.
        """
        template = self._template
        if template is None or len(body) > _MOST_BYTES:
            return await by_session(
                self._session, "POST", self._url, context, data=body, headers=self._headers, proxy=self._proxy
            )
        data = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        connector, clock = self._connector, asyncio.get_running_loop().time
        while True:
            try:
                connection = await connector.take(template, context)
            except TimeoutError as problem:
                raise aiohttp.ConnectionTimeoutError(f"no connection to {self._url.host}") from problem
            protocol, sent = connection.protocol, clock()
            try:
                return await self._exchange(template, connection, data)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if protocol is None or was_read(protocol) or clock() - sent > _UNREAD_SECONDS:
                    raise
            # The others were idle as long: the next one is new, and if it breaks too, that is a failure.
            connector.give_up_idle(template.connection_key)

    async def _exchange(self, template: aiohttp.ClientRequest, connection: "Connection", data: bytes) -> Reply:
        """Send a request on a connection, and return the reply whose head came."""
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                # It broke in the moment in which it was made.
                raise aiohttp.ServerDisconnectedError
            protocol.set_response_params(
                read_until_eof=True,
                read_bufsize=_BUFFER,
                max_line_size=MOST_LINE,
                max_field_size=MOST_LINE,
                max_headers=MOST_FIELDS,
            )
            protocol.transport.write(data)
            for _ in range(_MOST_ANNOUNCED):
                message, content = await protocol.read()
                # A reply of this class only announces another one.
                if not 100 <= message.code < 200 or message.code == 101:
                    return _PooledReply(connection, protocol, message, content)
            raise aiohttp.http.HttpProcessingError(message="it announces a reply and sends none")
        except aiohttp.http.HttpProcessingError as problem:
            connection.close()
            raise aiohttp.ClientResponseError(template.request_info, (), message=problem.message) from problem
        except BaseException:
            # Cancelled callers included: a connection with half a reply in it is of no use.
            connection.close()
            raise

    @property
    def _connector(self) -> Connector:
        connector = self._session.connector
        if not isinstance(connector, Connector):
            raise aiohttp.ClientConnectionError("the pool of connections is closed")
        return connector


async def by_session(
    session: aiohttp.ClientSession, method: str, url: "yarl.URL", context: "CallContext | None" = None, **options: Any
) -> "SessionReply":
    """Return the reply to a request that aiohttp's session makes. Raises as `Route.post`."""
    call = SessionCall(context)
    clock = asyncio.get_running_loop().time
    token = session_call.set(call)
    try:
        while True:
            sent = clock()
            try:
                reply = await session.request(method, url, allow_redirects=False, **options)
                return SessionReply(reply, call.protocol)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as problem:
                never = isinstance(problem, aiohttp.ClientConnectorError) or call.protocol is None
                if never or was_read(call.protocol) or clock() - sent > _UNREAD_SECONDS:  # type: ignore[arg-type]
                    raise
    finally:
        session_call.reset(token)


class SessionReply:
    """A reply to a request that the session made."""

    def __init__(self, reply: aiohttp.ClientResponse, protocol: object = None) -> None:
        self.status, self.headers = reply.status, reply.headers
        self.read, self.more, self.close = reply.read, reply.content.readany, reply.close
        self._reply = reply
        self.waited = _waited(protocol)

    @property
    def ended(self) -> bool:
        """Everything was read."""
        return self._reply.content.at_eof()


def _waited(protocol: object) -> float:
    """Return the seconds that a call waited for its connection, once."""
    if not isinstance(protocol, Handler):
        return 0.0
    waited, protocol.waited = protocol.waited, 0.0
    return waited


class _PooledReply:
    """A reply on a connection that goes back to the pool when the reply ends."""

    __slots__ = ("_connection", "_content", "headers", "status", "waited")

    def __init__(
        self,
        connection: "Connection",
        protocol: "ResponseHandler",
        message: "aiohttp.http.RawResponseMessage",
        content: aiohttp.StreamReader,
    ) -> None:
        self.status = message.code
        self.headers = message.headers
        self.waited = _waited(protocol)
        self._content = content
        self._connection: Connection | None = connection
        content.on_eof(self._release)

    @property
    def ended(self) -> bool:
        """Everything was read."""
        return self._content.at_eof()

    async def read(self) -> bytes:
        """Return the whole body."""
        return await self._content.read()

    async def more(self) -> bytes:
        """Return what has come since the last call. See `Reply.more`."""
        content = self._content
        if content is aiohttp.streams.EMPTY_PAYLOAD:
            return b""
        waiting: deque[bytes] = content._buffer  # noqa: SLF001
        while not waiting and not content._eof:  # noqa: SLF001
            if (problem := content.exception()) is not None:
                raise problem
            await content._wait("more")  # noqa: SLF001
        if len(waiting) > 1 and not content._buffer_offset:  # noqa: SLF001
            # A stream comes in many small chunks. Taken one by one each costs more than parsing it.
            merged = b"".join(waiting)
            waiting.clear()
            waiting.append(merged)
        return content.read_nowait()

    def close(self) -> None:
        """Close the connection unless the reply has ended."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()
