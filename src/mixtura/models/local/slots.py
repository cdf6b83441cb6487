"""A queue for the slots of one model file, for callers on any number of event loops and threads."""

import asyncio
import threading
from collections import deque


class SlotQueue:
    """Lets at most `slots` callers hold a slot at a time. The others wait in the order in which they came."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._lock = threading.Lock()  # guards `_free` and `_waiting`; never held during a call that blocks
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def acquire(self) -> None:
        """Wait for a slot. A caller that is cancelled while it waits holds none."""
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
        """Give the slot to the next caller in the queue. May be called from any thread."""
        with self._lock:
            while self._waiting:
                loop, turn = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_grant_slot, turn)
                except RuntimeError:
                    continue  # the caller's loop is closed, so it waits no longer
                return
            self._free += 1


def _grant_slot(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
