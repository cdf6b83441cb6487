"""The connections that all models of one event loop share.

A pool closes itself when its loop shuts down, so that nothing has to be closed by hand after `asyncio.run(...)`;
`close_pool()` does it earlier.
"""

import asyncio
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mixtura.loops import close_with_loop
from mixtura.models.openai.endpoint import Endpoint

if TYPE_CHECKING:
    import aiohttp

    from mixtura.models.openai.exchange import Route

CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS = 60.0


class Pool:
    """The session of one event loop, and the routes to its endpoints."""

    def __init__(self, session: "aiohttp.ClientSession") -> None:
        self.session = session
        self._routes: dict[Endpoint, Route] = {}
        self._keeper = close_with_loop(self._end)

    @classmethod
    def opened(cls) -> "Pool":
        """Return a new pool for the running loop."""
        import aiohttp

        return cls(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
            )
        )

    async def _end(self) -> None:
        # A session refers to its loop, so a pool left here would keep a finished loop alive.
        loop = asyncio.get_running_loop()
        if _POOLS.get(loop) is self:
            del _POOLS[loop]
        await self.session.close()

    async def close(self) -> None:
        """Close every connection, those in use included."""
        await self._keeper.aclose()

    def route(self, endpoint: Endpoint) -> "Route":
        """Return where calls to `endpoint` go."""
        route = self._routes.get(endpoint)
        if route is None:
            from mixtura.models.openai.exchange import Route

            url, headers = endpoint.address("/chat/completions")
            route = self._routes[endpoint] = Route(self.session, url, headers, endpoint.proxy)
        return route


_POOLS: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()
# Loops of several threads may open their pools at once; looking one up needs no lock.
_OPENING = threading.Lock()


def current_pool() -> Pool:
    """Return the running loop's pool, opened if need be."""
    loop = asyncio.get_running_loop()
    pool = _POOLS.get(loop)
    if pool is not None and not pool.session.closed:
        return pool
    with _OPENING:
        # Loops that were closed without shutting down left their pools behind.
        for old in [old for old in _POOLS if old.is_closed()]:
            del _POOLS[old]
        pool = _POOLS[loop] = Pool.opened()
    return pool


async def close_pool() -> None:
    """Close the running loop's connections now. The next call opens new ones."""
    pool = _POOLS.get(asyncio.get_running_loop())
    if pool is not None:
        await pool.close()
