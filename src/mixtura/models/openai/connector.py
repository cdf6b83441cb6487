"""Opens and keeps the connections of one event loop: aiohttp's connector, and what a machine's limits ask of it.

- A call for whose connection this machine has nothing left waits for its turn, first come, first served, until another
  call ends or an idle connection is given up. It has not begun: that is no silence of its provider, and no failure.
- A connection is not used for longer than its server says that it keeps it.
- An address that is refused is looked up again, since the name may have moved. A certificate that is refused is not
  asked for at the other addresses of its host.

It overrides parts of aiohttp that are not promised to stay. Where a release has them no more, waiting calls look for
room by the clock alone, and the rest is as aiohttp has it.
"""

import asyncio
import functools
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from mixtura import open_files
from mixtura.models.openai.handler import Handler
from mixtura.models.openai.resolver import new_resolver

if TYPE_CHECKING:
    import socket

    from aiohttp.client_reqrep import ConnectionKey

    from mixtura.chat import CallContext

CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS = 60.0
_LIMITS = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
# Seconds between two looks for room where nothing says that some was made: other threads and files free it as well.
_LOOK_SECONDS = 0.05
# So long one waits where no connection is there whose end could make room.
_VAIN_SECONDS = 60.0


class NoRoomError(aiohttp.ClientConnectionError):
    """This machine had nothing left for one more connection for as long as that could be waited for."""


class CertificateError(aiohttp.ClientError):
    """A certificate was not accepted: that of `host` and `port`, which may be a proxy's; `error` says why."""

    def __init__(self, host: str, port: int | None, error: Exception) -> None:
        self.host, self.port, self.error = host, port, error
        super().__init__(f"the certificate of {host}:{port} was not accepted: {error}")


class Sockets(Protocol):
    """The sockets of all connectors of this process."""

    def open_socket(self, address: "aiohttp.AddrInfoType") -> "socket.socket":
        """Return a new socket. Raises OSError where none can be had."""

    def count_open(self) -> int:
        """Return how many are open."""

    def give_up_idle_elsewhere(self, connector: "Connector") -> None:
        """Have the other connectors close a connection that nobody uses."""


class SessionCall:
    """What a call through aiohttp's session has to do with the connector.

    Attributes:
        context: of the call.
        protocol: of its latest connection.
    """

    def __init__(self, context: "CallContext | None") -> None:
        self.context = context
        self.protocol: ResponseHandler | None = None


session_call: ContextVar[SessionCall | None] = ContextVar("session_call", default=None)


class _Place:
    """A call in the queue."""

    def __init__(self, waiting: "deque[_Place]") -> None:
        self._waiting = waiting
        self._news = asyncio.Event()

    def tell(self) -> None:
        """Say that it may be its turn, or that there may be room."""
        self._news.set()

    def leave(self) -> None:
        """Leave the queue to the next one."""
        waiting = self._waiting
        if self in waiting:
            waiting.remove(self)
            if waiting:
                waiting[0].tell()

    async def first(self) -> None:
        """Wait until it is the first one."""
        while self._waiting[0] is not self:
            self._news.clear()
            await self._news.wait()
        self._news.clear()

    async def room(self, seconds: float) -> None:
        """Wait until there may be room, for so many seconds at the most."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    def again(self) -> None:
        """Go back to where it was: its socket was not enough."""
        if self not in self._waiting:
            self._waiting.appendleft(self)


_in_turn: ContextVar[_Place | None] = ContextVar("in_turn", default=None)


def socket_opened() -> None:
    """Let the next call have its turn: the one that is being connected has what it waited for."""
    place = _in_turn.get()
    if place is not None:
        place.leave()


class Connector(aiohttp.TCPConnector):
    """The connections of one event loop.

    Args:
        sockets: those of this process.
    """

    def __init__(self, sockets: Sockets) -> None:
        super().__init__(
            limit=0,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            socket_factory=sockets.open_socket,
            resolver=new_resolver(),
        )
        self._factory = functools.partial(Handler, loop=self._loop)  # type: ignore[assignment]  # it makes a subclass
        self._sockets = sockets
        self._places: deque[_Place] = deque()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Return a connection for a request of the session."""
        call = session_call.get()
        if call is None:
            return await self.take(req)
        if isinstance(call.protocol, Handler) and not call.protocol.was_read:
            self.give_up_idle(req.connection_key)
        connection = await self.take(req, call.context)
        call.protocol = connection.protocol
        return connection

    async def take(self, request: aiohttp.ClientRequest, context: "CallContext | None" = None) -> Connection:
        """Return a connection for `request`: one that is idle, or a new one as soon as this machine has room for it.

        Args:
            request: says where to.
            context: of the call that it is for.

        Raises:
            aiohttp.ClientError, OSError: there is none to be had.
        """
        if not self._places:
            try:
                connection = await super().connect(request, [], _LIMITS)
            except TimeoutError as problem:
                raise aiohttp.ConnectionTimeoutError(f"no connection to {request.url.host}") from problem
            except (aiohttp.ClientError, OSError, RuntimeError) as problem:
                if open_files.shortage(problem) is None:
                    raise
            else:
                if (protocol := connection.protocol) is not None:
                    protocol.waited = 0.0  # type: ignore[attr-defined]  # a Handler
                return connection
        return await self._queue(request, context)

    def take_idle(self, key: "ConnectionKey") -> Connection | None:
        """Return a connection to `key` that nobody uses; None where `take` has to look for one."""
        idle = self._conns.get(key)
        if not idle or self._places:
            return None
        protocol, since = idle[0]
        now = aiohttp.connector.monotonic()  # type: ignore[attr-defined]  # the clock that `since` was read from
        if not protocol.is_connected() or now - since > _KEEPALIVE_SECONDS:
            return None
        idle.popleft()
        if not idle:
            del self._conns[key]
        self._acquired.add(protocol)
        protocol.waited = 0.0  # type: ignore[attr-defined]  # a Handler
        return Connection(self, key, protocol, self._loop)

    async def _queue(self, request: aiohttp.ClientRequest, context: "CallContext | None") -> Connection:
        """Wait for a turn, and then for room."""
        place, begun = _Place(self._places), self._loop.time()
        self._places.append(place)
        if context is not None:
            context.pause()
        try:
            await place.first()
            connection = await self._wait_for_room(request, place)
        finally:
            place.leave()
        now = self._loop.time()
        if isinstance(connection.protocol, Handler):
            connection.protocol.waited = now - begun
        if context is not None:
            context.begin(now)
        return connection

    async def _wait_for_room(self, request: aiohttp.ClientRequest, place: _Place) -> Connection:
        vain_since: float | None = None
        while True:
            token = _in_turn.set(place)
            try:
                return await super().connect(request, [], _LIMITS)
            except TimeoutError as problem:
                raise aiohttp.ConnectionTimeoutError(f"no connection to {request.url.host}") from problem
            except (aiohttp.ClientError, OSError, RuntimeError) as problem:
                want = open_files.shortage(problem)
                if want is None:
                    raise
            finally:
                _in_turn.reset(token)
            now = self._loop.time()
            if self._sockets.count_open():
                vain_since = None
            elif vain_since is None:
                vain_since = now
            elif now - vain_since >= _VAIN_SECONDS:
                raise NoRoomError(want.strerror) from want
            place.again()
            if self.give_up_idle():
                # Its descriptor is free after one turn of the event loop, or two with TLS.
                await place.room(0.001)
            else:
                self._sockets.give_up_idle_elsewhere(self)
                await place.room(_LOOK_SECONDS)

    def give_up_idle(self, key: "ConnectionKey | None" = None) -> bool:
        """Close every connection to `key` that nobody uses; or of all the one that was not used for longest."""
        idle = self._conns
        gone = []
        if key is not None:
            gone = [protocol for protocol, _ in idle.pop(key, ())]
        elif used := [where for where, kept in idle.items() if kept]:
            oldest = min(used, key=lambda where: idle[where][0][1])
            gone.append(idle[oldest].popleft()[0])
            if not idle[oldest]:
                del idle[oldest]
        for protocol in gone:
            protocol.abort()
        return bool(gone)

    def _release(self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, Handler):
            protocol.idle = True
        super()._release(key, protocol, should_close=should_close)
        keeps = protocol.keeps if isinstance(protocol, Handler) else None
        kept = None if keeps is None or keeps >= _KEEPALIVE_SECONDS else self._conns.get(key)
        if keeps is not None and kept and kept[-1][0] is protocol:
            # aiohttp counts its own time from when a connection was last used.
            kept[-1] = (protocol, kept[-1][1] - (_KEEPALIVE_SECONDS - keeps))
        if self._places:
            self._places[0].tell()

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        where = req.proxy or req.url
        known = (where.raw_host or "", where.port or 0)
        remembered = known in self._cached_hosts
        try:
            return await super()._create_connection(req, traces, timeout)
        except aiohttp.ClientConnectorError as problem:
            if open_files.shortage(problem) is not None:
                raise
            self.clear_dns_cache(*known)
            if not remembered:
                raise
        except (TimeoutError, asyncio.CancelledError):
            # Nobody answered there in time.
            self.clear_dns_cache(*known)
            raise
        return await super()._create_connection(req, traces, timeout)

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._wrap_create_connection(*args, **kwargs)
        except aiohttp.ClientConnectorCertificateError as problem:
            # As a ClientConnectorError it would be caught, and the next address be tried.
            raise CertificateError(problem.host, problem.port, problem.certificate_error) from problem
