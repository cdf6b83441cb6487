"""One request and its reply over a pooled connection: head and body leave in one write.

aiohttp's session does much for a request that a call of a model does not need: redirects, cookies, traces, a task for
the body, a timer. Of 0.33 ms of CPU for four whole calls, 0.18 were the session's (`make bench`). Here aiohttp's
connector opens, pools and checks connections as ever, and its parser reads the reply; what lies between is this file.
It uses parts of aiohttp that are not promised to stay, so only releases that it was tested with get it. With others, a
proxy or a large body, the session makes the request.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol

import aiohttp

if TYPE_CHECKING:
    import yarl
    from aiohttp.connector import Connection
    from multidict import CIMultiDict, CIMultiDictProxy

_TESTED = ("3.14.",)
# Larger bodies are left to the session, which waits where the connection cannot take them at once.
_MOST_BYTES = 64 * 1024
_BUFFER = 64 * 1024


class Reply(Protocol):
    """A reply whose head has come, as `aiohttp.ClientResponse` has it; `close` unless it was read to its end."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> "CIMultiDictProxy[str]":
        """The headers."""

    @property
    def content(self) -> aiohttp.StreamReader:
        """The body as it comes."""

    async def read(self) -> bytes:
        """Return the whole body."""

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

    async def post(self, body: bytes) -> Reply:
        """Send `body` and return the reply, whose body has yet to come.

        Raises:
            aiohttp.ClientError, OSError: no connection, or it broke before the head of the reply was whole.
        """
        if self._template is None or len(body) > _MOST_BYTES:
            return await self._session.post(
                self._url, data=body, headers=self._headers, proxy=self._proxy, allow_redirects=False
            )
        connection = await self._connect(self._template)
        try:
            protocol = connection.protocol
            assert protocol is not None
            assert protocol.transport is not None
            protocol.set_response_params(read_until_eof=True, read_bufsize=_BUFFER)
            protocol.transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
            while True:
                message, content = await protocol.read()
                # A reply of this class only announces another one.
                if not 100 <= message.code < 200 or message.code == 101:
                    return _PooledReply(connection, message.code, message.headers, content)
        except aiohttp.http.HttpProcessingError as problem:
            connection.close()
            raise aiohttp.ClientResponseError(self._template.request_info, (), message=problem.message) from problem
        except BaseException:
            # Cancelled callers included: a connection with half a reply in it is of no use.
            connection.close()
            raise

    async def _connect(self, template: aiohttp.ClientRequest) -> "Connection":
        connector = self._session.connector
        if connector is None:
            raise aiohttp.ClientConnectionError("the pool of connections is closed")
        try:
            return await connector.connect(template, [], self._session.timeout)
        except TimeoutError as problem:
            raise aiohttp.ConnectionTimeoutError(f"no connection to {self._url.host}") from problem


class _PooledReply:
    """A reply on a connection that goes back to the pool when the reply ends."""

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(
        self,
        connection: "Connection",
        status: int,
        headers: "CIMultiDictProxy[str]",
        content: aiohttp.StreamReader,
    ) -> None:
        self.status = status
        self.headers = headers
        self.content = content
        self._connection: Connection | None = connection
        content.on_eof(self._release)

    async def read(self) -> bytes:
        """Return the whole body."""
        return await self.content.read()

    def close(self) -> None:
        """Close the connection unless the reply has ended."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()
