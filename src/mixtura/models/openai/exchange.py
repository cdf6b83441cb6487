"""One request and its reply over a pooled connection: head and body leave in one write.

aiohttp's session does much for a request that a call of a model does not need: redirects, cookies, traces, a task for
the body, a timer. Of 0.33 ms of CPU for four whole calls, 0.18 were the session's (`make bench`). Here aiohttp's
connector opens, pools and checks connections as ever, and its parser reads the reply; what lies between is this file.
It uses parts of aiohttp that are not promised to stay, so only releases that it was tested with get it. With others, a
proxy that carries no TLS or a large body, the session makes the request.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import aiohttp
import yarl

from mixtura.models.openai.connector import Connector, SessionCall, session_call
from mixtura.models.openai.endpoint import Endpoint, Way
from mixtura.models.openai.handler import Handler
from mixtura.models.openai.plain_reply import PlainReply
from mixtura.models.openai.proxy import Gate, gate_of, refusal_of

if TYPE_CHECKING:
    from aiohttp.connector import Connection
    from multidict import CIMultiDict

    from mixtura.chat import CallContext

_TESTED = ("3.14.",)
# Larger bodies are left to the session, which waits where the connection cannot take them at once.
_MOST_BYTES = 64 * 1024
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
    def headers(self) -> "Mapping[str, str]":
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


class Destination(NamedTuple):
    """Where a request goes, and the way there; `gate` lets a password through to its proxy.

    It does not hold the endpoint: a pool keeps a route for as long as anything else holds that.
    """

    url: yarl.URL
    headers: "CIMultiDict[str]"
    way: Way
    gate: Gate | None

    @classmethod
    def of(cls, endpoint: Endpoint, path: str) -> "Destination":
        """Return where requests to `path` go.

        Raises:
            ConfigError: the authorities that the environment names cannot be read.
        """
        return cls(*endpoint.address(path), endpoint.way(), gate_of(endpoint.through))


class Route:
    """Where the requests of one endpoint go, and what all of them have in common; `session` is its event loop's.

    Args:
        session: of the running event loop.
        connector: of that session.
        endpoint: where to.

    Raises:
        ConfigError: the authorities that the environment names cannot be read.
    """

    def __init__(self, session: aiohttp.ClientSession, connector: Connector, endpoint: Endpoint) -> None:
        self.session, self._connector = session, connector
        self._to = Destination.of(endpoint, "/chat/completions")
        url, headers, way, self._gate = self._to
        self._template: aiohttp.ClientRequest | None = None
        # A proxy carries TLS without reading it: once there is a tunnel, the connection is like any other.
        if (endpoint.proxy is None or endpoint.secure) and aiohttp.__version__.startswith(_TESTED):
            proxy = None if way["proxy"] is None else yarl.URL(way["proxy"])
            # Never sent: it tells the connector which connection is wanted.
            self._template = aiohttp.ClientRequest(
                "POST",
                url,
                headers=headers,
                loop=asyncio.get_running_loop(),
                session=session,
                proxy=proxy,
                proxy_headers=way["proxy_headers"],
                ssl=way["ssl"],
                server_hostname=way["server_hostname"],
            )
            self._key = self._template.connection_key
            lines = [f"POST {url.raw_path_qs} HTTP/1.1", f"Host: {self._template.headers['Host']}"]
            lines += [f"{name}: {value}" for name, value in headers.items() if name != "Host"]
            self._head = "\r\n".join([*lines, "Content-Length: "]).encode("utf-8")

    async def post(self, body: bytes, context: "CallContext | None", begun: float, *, whole: bool) -> Reply:
        """Send `body` and return the reply, whose body has yet to come.

        A connection that was used before and breaks before a byte of the reply came is replaced by a new one.

        Args:
            body: the request.
            context: is told when it waits for its turn at this machine's connections.
            begun: event-loop time at which the call began.
            whole: the reply is wanted when all of it is there, and not as it comes.

        Raises:
            aiohttp.ClientError, OSError: no connection, or it broke before the head of the reply was whole.
        """
        template = self._template
        if template is None or len(body) > _MOST_BYTES:
            return await by_session(self.session, self._to, "POST", body, context)
        while True:
            connection = self._connector.take_idle(self._key) or await self._connect(template, context)
            protocol: Any = connection.protocol
            try:
                if protocol is None or protocol.transport is None:
                    # It broke in the moment in which it was made.
                    raise aiohttp.ServerDisconnectedError
                awaited = protocol.expect_reply(whole=whole)
                protocol.transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
                plain: PlainReply | None = await awaited
                if plain is not None:
                    plain.waited = protocol.waited
                    connection.release()
                    return plain
                for _ in range(_MOST_ANNOUNCED):
                    message, content = await protocol.read()
                    # A reply of this class only announces another one.
                    if not 100 <= message.code < 200 or message.code == 101:
                        return _PooledReply(connection, protocol.waited, message, content)
                raise aiohttp.http.HttpProcessingError(message="it announces a reply and sends none")
            except aiohttp.http.HttpProcessingError as problem:
                connection.close()
                raise aiohttp.ClientResponseError(template.request_info, (), message=problem.message) from problem
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                connection.close()
                if protocol is None or not _unread(protocol, begun):
                    raise
            except BaseException:
                # Cancelled callers included: a connection with half a reply in it is of no use.
                connection.close()
                raise
            # The others were idle as long: the next one is new, and if it breaks too, that is a failure.
            self._connector.give_up_idle(template.connection_key)

    async def _connect(self, template: aiohttp.ClientRequest, context: "CallContext | None") -> "Connection":
        if self._gate is None:
            return await self._connector.take(template, context)
        return await self._gate.through(lambda: self._connector.take(template, context))


def _unread(protocol: object, begun: float) -> bool:
    """Say whether a connection broke that had died before its server could read the request of a call."""
    if not isinstance(protocol, Handler) or protocol.was_read:
        return False
    return asyncio.get_running_loop().time() - begun - protocol.waited <= _UNREAD_SECONDS


async def by_session(
    session: aiohttp.ClientSession,
    to: Destination,
    method: str,
    body: bytes | None = None,
    context: "CallContext | None" = None,
) -> "SessionReply":
    """Make a request by aiohttp's session and return the reply, whose body has yet to come.

    Raises:
        aiohttp.ClientError, OSError: no connection, or it broke; a proxy that carries no TLS refused.
    """
    url, headers, way, gate = to
    call, begun = SessionCall(context), asyncio.get_running_loop().time()

    async def ask() -> SessionReply:
        while True:
            try:
                reply = await session.request(method, url, data=body, headers=headers, allow_redirects=False, **way)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as problem:
                if isinstance(problem, aiohttp.ClientConnectorError) or not _unread(call.protocol, begun):
                    raise
            else:
                break
        if reply.status == 407 and way["proxy"] is not None:
            reply.close()
            raise refusal_of(reply)
        protocol = call.protocol
        return SessionReply(reply, protocol.waited if isinstance(protocol, Handler) else 0.0)

    token = session_call.set(call)
    try:
        return await (ask() if gate is None else gate.through(ask))
    finally:
        session_call.reset(token)


class SessionReply:
    """A reply to a request that the session made."""

    def __init__(self, reply: aiohttp.ClientResponse, waited: float) -> None:
        self.status, self.headers = reply.status, reply.headers
        self.read, self.more, self.close = reply.read, reply.content.readany, reply.close
        self._reply, self.waited = reply, waited

    @property
    def ended(self) -> bool:
        """Everything was read."""
        return self._reply.content.at_eof()


class _PooledReply:
    """A reply on a connection that goes back to the pool when the reply ends."""

    __slots__ = ("_connection", "_content", "headers", "status", "waited")

    def __init__(
        self,
        connection: "Connection",
        waited: float,
        message: "aiohttp.http.RawResponseMessage",
        content: aiohttp.StreamReader,
    ) -> None:
        self.status = message.code
        self.headers = message.headers
        self.waited = waited
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
