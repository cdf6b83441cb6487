"""The events of a run for one reader, who may give up waiting for one and come back."""

import asyncio
import concurrent.futures
import warnings
from collections.abc import Callable, Coroutine
from typing import Any, Self

from mixtura.engine.delivery import EventQueue
from mixtura.errors import ConfigError, MixturaError
from mixtura.events import Answer, Event, Listener
from mixtura.folding import Fold
from mixtura.loops import end_with_loop
from mixtura.portable import OfOneProcess

# Seconds between two looks at whether another event loop still turns.
_LOOK_SECONDS = 0.5


class EventStream(OfOneProcess):
    """The events of one run, in order; the run begins with the first read, in a task of its own.

    `aclose` from any task, the end of `async with`, or dropping the stream stops the run. A loop that is left by
    `break` stops nothing while the stream is still held: use `async with`.

    A read that is given up (`asyncio.wait_for`, `asyncio.timeout`) loses nothing: the run goes on and the next read
    gets the next event. One task reads at a time. A reader who is slower than the run gets the pieces of a text merged,
    and no other event late or less often.

    After the last event, iteration raises what `Mixture.ask` would raise, if anything. A run that `aclose` stopped
    ends in a RunFinished that says so, and raises nothing.
    """

    _instead = "read it here, and send the events on"

    def __init__(self, drive: Callable[[Listener], Coroutine[Any, Any, None]]) -> None:
        self._drive = drive
        self._fold = Fold()
        self._queue = EventQueue()
        self._driver: asyncio.Task[None] | None = None
        self._reading = False
        # Somebody has asked for the end; somebody has been told how the run ended.
        self._stopped = False
        self._told = False

    @property
    def answer(self) -> Answer:
        """The answer as far as the run has come: whole after the last event, also where iteration raises."""
        return self._fold.answer()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event.

        Raises:
            StopAsyncIteration: the run has ended and every event was read.
            MixturaError: the run failed; its `answer` holds what is known of it.
            ConfigError: another task reads at this moment, or the run belongs to another event loop.
        """
        self._begin_read()
        try:
            event = await self._queue.get()
            if event is None:
                self._raise_end()
                raise StopAsyncIteration
            return event
        finally:
            self._reading = False
            # A traceback keeps its frames: one that is held somewhere would keep the run of a dropped stream going.
            del self

    async def aclose(self) -> None:
        """Stop the run; returns when no call of it is open any more. May be called again, from any task and loop."""
        driver = self._driver
        self._stopped = True
        if driver is None or driver.done():
            return
        if driver.get_loop() is asyncio.get_running_loop():
            driver.cancel()
            await asyncio.wait([driver])
        else:
            await _stop_elsewhere(driver)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        """Stop a run that nobody can read any more."""
        driver = getattr(self, "_driver", None)
        if driver is None:
            if not getattr(self, "_stopped", True):
                warnings.warn("a stream was never read: its question was not asked", RuntimeWarning, stacklevel=2)
        elif not driver.done() and not driver.get_loop().is_closed():
            # Collected by any thread.
            driver.get_loop().call_soon_threadsafe(driver.cancel)

    def _begin_read(self) -> None:
        """Let the run begin, if it has not.

        Raises:
            ConfigError: as in `__anext__`.
        """
        driver = self._driver
        if self._reading:
            raise ConfigError(
                "stream: another task is waiting for its next event; let one task read it, and hand the events on"
            )
        if driver is not None and driver.get_loop() is not asyncio.get_running_loop():
            raise ConfigError("stream: its run belongs to another event loop; read it in the loop of its first read")
        if driver is None and not self._stopped:
            # What the run holds must not hold the stream: a stream that nobody holds ends its run.
            fold, queue = self._fold.add, self._queue.put

            def emit(event: Event) -> None:
                fold(event)
                queue(event)

            self._driver = asyncio.create_task(self._drive(emit))
            end_with_loop(self._driver)
            self._driver.add_done_callback(_closing(self._queue))
        elif driver is None:
            self._queue.close()
        self._reading = True

    def _raise_end(self) -> None:
        """Raise, once, what the run raised; that it was stopped as asked is nothing to raise."""
        driver, told = self._driver, self._told
        self._told = True
        if driver is None or told or (self._stopped and driver.cancelled()):
            return
        if driver.cancelled():
            raise asyncio.CancelledError("the run was stopped")
        error = driver.exception()
        if isinstance(error, MixturaError):
            error.answer = self._fold.answer()
        if error is not None:
            raise error


async def _stop_elsewhere(driver: asyncio.Task[None]) -> None:
    """Stop a run of another event loop, which another thread runs; wait for its end as long as that loop turns."""
    loop, ended = driver.get_loop(), concurrent.futures.Future[None]()

    def stop() -> None:
        driver.add_done_callback(lambda _: ended.set_result(None))
        driver.cancel()

    if loop.is_closed():
        return
    loop.call_soon_threadsafe(stop)
    waiting = asyncio.wrap_future(ended)
    while loop.is_running() and not waiting.done():
        await asyncio.wait([waiting], timeout=_LOOK_SECONDS)


def _closing(queue: EventQueue) -> Callable[[asyncio.Task[None]], None]:
    def close(driver: asyncio.Task[None]) -> None:
        queue.close()
        if not driver.cancelled():
            driver.exception()  # seen, whether or not the reader stays for it

    return close
