"""The connections that all models of one event loop share.

A pool closes itself when its loop shuts down, so that nothing has to be closed by hand after `asyncio.run(...)`;
`close_pool()` does it earlier.
"""

import asyncio
import contextlib
import errno
import os
import socket
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from mixtura import open_files
from mixtura.forks import forget_in_child, never_finalize
from mixtura.loops import PerLoop, close_with_loop
from mixtura.models.openai.endpoint import Endpoint

if TYPE_CHECKING:
    import aiohttp

    from mixtura.models.openai.connector import Connector
    from mixtura.models.openai.exchange import Route

# Of the descriptors that the process may have, one in four is left to name lookups, files and sockets of its own, and
# no more than so many.
_SHARE_OF_OTHERS = 0.25
_MOST_OF_OTHERS = 64
# With no more connections than these they take what is left all the same.
_FEW = 2


class Pool:
    """The session of one event loop, and the routes to its endpoints."""

    def __init__(self, make_route: "type[Route]", connector: "Connector", session: "aiohttp.ClientSession") -> None:
        self._make_route = make_route
        self.connector = connector
        self.session = session
        # A key is held no longer than the models that call with it.
        self._routes: WeakKeyDictionary[Endpoint, Route] = WeakKeyDictionary()
        self._keeper = close_with_loop(self._end, held=True)

    @classmethod
    def opened(cls) -> "Pool":
        """Return a new pool for the running loop."""
        import aiohttp

        from mixtura.models.openai.exchange import Route
        from mixtura.models.openai.handler import HEADS
        from mixtura.models.openai.unix import UnixConnector

        connector = UnixConnector(_POOLS)
        return cls(
            Route,
            connector,
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                **HEADS,
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
            route = self._routes[endpoint] = self._make_route(self.session, self.connector, endpoint)
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
        """Return a new socket for a connection to `address`.

        Raises:
            OSError: the system gives none, or what is left is not for connections.
        """
        from mixtura.models.openai.connector import socket_opened

        opened = socket.socket(*address[:3])
        most = open_files.most_open()
        # Its number is the lowest that was free: all below it are in use, by whomever. (Windows numbers otherwise, and
        # sets no limit.)
        if opened.fileno() >= most - min(_SHARE_OF_OTHERS * most, _MOST_OF_OTHERS) and self.count_open() >= _FEW:
            opened.close()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._sockets.add(opened)
        socket_opened()
        return opened

    def count_open(self) -> int:
        """Return how many connections this process has, those in the making included."""
        return sum(opened.fileno() >= 0 for opened in list(self._sockets))

    def give_up_idle_elsewhere(self, connector: "Connector") -> None:
        """Have the pools of other event loops close one idle connection each."""
        with self._opening:
            others = [(loop, pool.connector) for loop in self.of_loops if (pool := self.of_loops.get(loop)) is not None]
        for loop, other in others:
            if other is not connector:
                # A loop that is closed has no connections.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(other.give_up_idle)

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
