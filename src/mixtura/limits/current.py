"""Which limiter counts a call when none is handed in.

A limiter belongs to a clock. All event loops of a process read the same one and share a limiter, so that all mixtures
that use one key share its windows. A loop with a clock of its own (`virtual.py`) is given a limiter of its own, which
is bound to the loop itself: a `contextvars` context would carry it into threads, and into the loop of `ask_sync`.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mixtura.forks import forget_in_child
from mixtura.limits.limiter import Limiter
from mixtura.secret import NO_SECRET, Secret

_OF_PROCESS = Limiter()
_OF_LOOPS: dict[asyncio.AbstractEventLoop, Limiter] = {}


def current_limiter(redis: Secret = NO_SECRET) -> Limiter:
    """Return the limiter of the running event loop.

    Args:
        redis: the URL of a Redis server whose windows are shared; an empty one for none. A loop with a limiter of its
            own does not use it: the server lives in real time.

    Raises:
        ConfigError: `redis` is not the URL of a Redis server, or the package for Redis is missing.
    """
    own = _OF_LOOPS.get(asyncio.get_running_loop())
    if own is not None:
        return own
    return _SHARED.get(redis) if redis else _OF_PROCESS


@contextmanager
def own_limiter(loop: asyncio.AbstractEventLoop) -> Iterator[Limiter]:
    """Give `loop` a limiter of its own inside the block, which lasts as long as the loop runs."""
    limiter = _OF_LOOPS[loop] = Limiter()
    try:
        yield limiter
    finally:
        del _OF_LOOPS[loop]


class _SharedLimiters:
    """The limiters whose windows are kept in Redis, by the server's URL."""

    def __init__(self) -> None:
        self._of_servers: dict[Secret, Limiter] = {}
        self._opening = threading.RLock()
        forget_in_child(self, self._opening)

    def forget(self) -> None:
        """Change nothing in a forked process: each limiter sees to itself."""

    def get(self, url: Secret) -> Limiter:
        """Return the limiter of the server at `url`, opened if need be."""
        limiter = self._of_servers.get(url)
        if limiter is None:
            from mixtura.limits.redis.store import RedisStore

            with self._opening:
                limiter = self._of_servers.get(url)
                if limiter is None:
                    limiter = self._of_servers[url] = Limiter(RedisStore(url))
        return limiter


_SHARED = _SharedLimiters()
