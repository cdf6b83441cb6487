"""A line for the slots of one model, for callers on any number of event loops and threads."""

import asyncio
import threading
from collections import deque


class SlotQueue:
    """At most `slots` callers are past `acquire` and not yet past `release`; the others wait in the order they came."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._lock = threading.Lock()  # guards the two fields around it, and nothing is called under it that waits
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def acquire(self) -> None:
        """Wait for a slot; a caller that is cancelled meanwhile has none."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._free:
                self._free -= 1
                return
            place = loop, loop.create_future()
            self._waiting.append(place)
        try:
            await place[1]
        except BaseException:
            with self._lock:
                granted = place not in self._waiting
                if not granted:
                    self._waiting.remove(place)
            if granted:
                self.release()
            raise

    def release(self) -> None:
        """Give a slot to the next in line; from any thread."""
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_grant_slot, turn)
                except RuntimeError:
                    continue  # its loop is closed: nobody waits there any more
                return
            self._free += 1


def _grant_slot(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
