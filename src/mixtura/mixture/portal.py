"""An event loop in a thread of its own, for callers that have none."""

import asyncio
import atexit
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any

from mixtura.errors import ConfigError
from mixtura.events import Answer
from mixtura.forks import forget_in_child, never_finalize


class Portal:
    """An event loop in a daemon thread, for callers that have none; one per process, started on first use."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mixtura", daemon=True)
        self._thread.start()
        atexit.register(self._close)
        forget_in_child(self)

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Run `work` on the loop and wait for its answer; an interrupt of the caller cancels it there."""
        if threading.current_thread() is self._thread:
            work.close()
            raise ConfigError("ask_sync was called from a listener of a run it would have to wait for; use ask there")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C lands here, in the caller's thread; the run must not go on (and cost money) without it.
            future.cancel()
            raise

    def forget(self) -> None:
        """Leave, in a forked process, the parent's loop alone: its thread does not run here."""
        atexit.unregister(self._close)
        never_finalize(self)

    def _close(self) -> None:
        if self._thread.is_alive():
            closing = asyncio.run_coroutine_threadsafe(self._loop.shutdown_asyncgens(), self._loop)
            # A listener that blocks the loop must not keep the process from ending: nothing here waits for ever.
            concurrent.futures.wait([closing], timeout=2)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=2)
        if not self._loop.is_running():
            self._loop.close()


class _Portals:
    """The portal of this process, if one has been started."""

    def __init__(self) -> None:
        self._portal: Portal | None = None
        self._lock = threading.RLock()
        forget_in_child(self, self._lock)

    def forget(self) -> None:
        """Begin a forked process without a portal."""
        self._portal = None

    def get(self) -> Portal:
        """Return the portal, started if need be."""
        # Two threads asking first must not start two loops.
        with self._lock:
            if self._portal is None:
                self._portal = Portal()
            return self._portal


_PORTALS = _Portals()
portal = _PORTALS.get
"""Return the portal of this process, started if need be."""
