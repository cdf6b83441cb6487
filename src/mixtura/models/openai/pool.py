"""The connections that all models of one event loop share.

A pool closes itself when its loop shuts down, so that nothing has to be closed by hand after `asyncio.run(...)`;
`close_pool()` does it earlier.
"""

import asyncio
import socket
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from mixtura.forks import forget_in_child, never_finalize
from mixtura.loops import PerLoop, close_with_loop
from mixtura.models.openai.endpoint import Endpoint

if TYPE_CHECKING:
    import aiohttp

    from mixtura.models.openai.exchange import Route

CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS = 60.0


class Pool:
    """The session of one event loop, and the routes to its endpoints."""

    def __init__(self, make_route: "type[Route]", session: "aiohttp.ClientSession") -> None:
        self._make_route = make_route
        self.session = session
        # A key is held no longer than the models that call with it.
        self._routes: WeakKeyDictionary[Endpoint, Route] = WeakKeyDictionary()
        self._keeper = close_with_loop(self._end, held=True)

    @classmethod
    def opened(cls) -> "Pool":
        """Return a new pool for the running loop."""
        import aiohttp

        from mixtura.models.openai.exchange import Route
        from mixtura.models.openai.resolver import new_resolver

        return cls(
            Route,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,
                    keepalive_timeout=_KEEPALIVE_SECONDS,
                    socket_factory=_POOLS.open_socket,
                    resolver=new_resolver(),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
            ),
        )

    async def _end(self) -> None:
        loop = asyncio.get_running_loop()
        if _POOLS.of_loops.get(loop) is self:
            del _POOLS.of_loops[loop]
        await self.session.close()

    async def close(self) -> None:
        """Close every connection, those in use included."""
        await self._keeper.aclose()

    def route(self, endpoint: Endpoint) -> "Route":
        """Return where calls to `endpoint` go."""
        route = self._routes.get(endpoint)
        if route is None:
            url, headers = endpoint.address("/chat/completions")
            route = self._routes[endpoint] = self._make_route(self.session, url, headers, endpoint.proxy)
        return route


class _Pools:
    """The pools of this process by event loop, and the sockets of their connections."""

    def __init__(self) -> None:
        self.of_loops: PerLoop[Pool] = PerLoop()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        # Loops of several threads may open their pools at once, and a fork waits for them: the first one imports the
        # client. Looking a pool up needs no lock.
        self._opening = threading.RLock()
        forget_in_child(self, self._opening)

    def open_socket(self, address: "aiohttp.AddrInfoType") -> socket.socket:
        """Return a new socket for a connection to `address`."""
        opened = socket.socket(*address[:3])
        self._sockets.add(opened)
        return opened

    def open(self, loop: asyncio.AbstractEventLoop) -> Pool:
        """Return a new pool for the running `loop`."""
        with self._opening:
            pool = self.of_loops[loop] = Pool.opened()
        return pool

    def forget(self) -> None:
        """Drop, in a forked process, the parent's connections.

        The sockets are closed here, which nobody notices: while a process has one open, what the parent hangs up on
        goes on at the provider.
        """
        for opened in list(self._sockets):
            opened.close()
        for pool in self.of_loops.values():
            never_finalize(pool)
        self.of_loops.clear()
        self._sockets.clear()


_POOLS = _Pools()


def current_pool() -> Pool:
    """Return the running loop's pool, opened if need be."""
    loop = asyncio.get_running_loop()
    pool = _POOLS.of_loops.get(loop)
    return pool if pool is not None and not pool.session.closed else _POOLS.open(loop)


async def close_pool() -> None:
    """Close the running loop's connections now. The next call opens new ones."""
    pool = _POOLS.of_loops.get(asyncio.get_running_loop())
    if pool is not None:
        await pool.close()
