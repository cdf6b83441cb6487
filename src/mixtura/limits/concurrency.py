"""How many calls one machine serves at once: learned from its replies, and kept to by a queue of our own.

A server with one slot takes four calls and answers them one after the other. Seen from here, three of them are silent
for minutes. So the calls that share a machine know of each other: none counts as silent while the machine works for
another one, and once it is known how many the machine serves at once, the rest wait here and not there.

    enter ----- waits here ------ sent ------ waits there ------ begun ------ first token ------ leave
          more calls than `width`       more calls than slots          reads the prompt
"""

import asyncio
import threading
from collections import deque

from mixtura import forks

# A reply of so many pieces, which came over so many seconds, takes long enough to be seen beside another one where both
# are written at the same time. One that came at once, as behind a proxy that reads whole replies, says nothing of that.
_LONG_ENOUGH = 8
_WRITING_SECONDS = 0.05
# So many calls in a row must have had to wait for the end of another before the rest is held back here.
_EVIDENCE_NEEDED = 2
# After so many calls the next that would wait is let through beside the others: there may be more slots by now.
_PROBE_EVERY = 16
# A machine that had no call for so many seconds may have been started anew with other settings.
_FORGET_SECONDS = 600.0


class Visit:
    """One call at a machine.

    Attributes:
        sent: event-loop time at which it was let through.
        first: when its first piece came; None before.
        last: when its latest piece came.
        pieces: how many have come.
        streamed: its reply comes in pieces. What the machine does for one that does not cannot be told.
    """

    __slots__ = ("_queue", "first", "last", "pieces", "sent", "streamed")

    def __init__(self, queue: "ServerQueue", sent: float) -> None:
        self._queue = queue
        self.sent = self.last = sent
        self.first: float | None = None
        self.pieces = 0
        self.streamed = False

    @property
    def begun(self) -> float:
        """The latest moment at which the machine can have begun it: when it was sent, or the last other call ended."""
        if self.first is not None:
            return min(self.first, max(self.sent, self._queue.ended_before(self.first)))
        return max(self.sent, self._queue.ended)

    @property
    def wrote_long(self) -> bool:
        """Whether it has been seen to write for long enough that another one would have been seen beside it."""
        return self.first is not None and self.pieces >= _LONG_ENOUGH and self.last - self.first >= _WRITING_SECONDS

    @property
    def stirred(self) -> float:
        """When the machine last did something for any call: until then a call that waits is not silent."""
        return max(self.sent, self._queue.stirred)

    @property
    def waiting(self) -> int:
        """How many calls have not written yet, this one included: their prompts may be read at the same time."""
        return self._queue.waiting

    @property
    def busy(self) -> bool:
        """Whether the machine may be at work on a whole reply, which nobody can see."""
        return self._queue.has_whole(beside=self)

    def piece(self, now: float) -> None:
        """Note that a piece has come."""
        self.pieces += 1
        self.last = now
        if self.first is None:
            self.first = now
            self._queue.answers(self, now)
        self._queue.stirred = now


class ServerQueue:
    """The calls of this process at one machine. Safe to use from any thread.

    Args:
        width: how many it serves at once, where that is known; else it is learned.

    Attributes:
        width: how many calls are let through at once; None for all.
        visits: the calls that are there.
        stirred: event-loop time of the latest piece or end of any call.
        ended: event-loop time of the latest end.
    """

    def __init__(self, width: int | None = None) -> None:
        self.width = self._stated = width
        self.visits: set[Visit] = set()
        self.stirred = self.ended = float("-inf")
        self._lock = threading.RLock()
        forks.forget_in_child(self, self._lock)
        self._places: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._most = 1
        self._evidence = 0
        self._entered = self._probed = 0
        # When calls ended, and whether they had been seen to write for long enough.
        self._ends: deque[tuple[float, bool]] = deque(maxlen=64)
        self._granted = 0

    @property
    def waiting(self) -> int:
        """How many of the calls there have not written yet."""
        # Calls of other threads come and go meanwhile.
        with self._lock:
            return sum(visit.first is None for visit in self.visits)

    def has_whole(self, *, beside: Visit) -> bool:
        """Say whether any call there but `beside` gets its reply in one piece."""
        with self._lock:
            return any(not visit.streamed for visit in self.visits if visit is not beside)

    def ended_before(self, moment: float) -> float:
        """Return when the last call ended before `moment`, -inf for none."""
        with self._lock:
            return max((end for end, _ in self._ends if end <= moment), default=float("-inf"))

    async def enter(self) -> Visit:
        """Wait until the machine has room for one more call, and return the call's visit; `leave` must follow."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._forget(loop.time())
            place = None if self._has_room() and not self._places else loop.create_future()
            if place is None:
                self._granted += 1
            else:
                self._places.append((loop, place))
        if place is not None:
            try:
                await place
            except BaseException:
                self._give_up(loop, place)
                raise
        visit = Visit(self, loop.time())
        with self._lock:
            self._granted -= 1
            self._entered += 1
            self.visits.add(visit)
            if self.width is not None and len(self.visits) > self.width:
                self._probed = self._entered
        return visit

    def leave(self, visit: Visit, now: float) -> None:
        """End a visit; the next call in the queue is let through."""
        with self._lock:
            self.visits.discard(visit)
            self.stirred = self.ended = now
            self._ends.append((now, visit.wrote_long))
            self._admit()

    def answers(self, visit: Visit, now: float) -> None:
        """Learn from the first piece of a call whether it had to wait for the end of another one."""
        with self._lock:
            writing = sum(other.first is not None for other in self.visits)
            if writing > self._most:
                self._most, self._evidence = writing, 0
                if self.width is not None and self._stated is None:
                    self.width = max(self.width, writing)
                    self._admit()
                return
            had_to_wait = any(visit.sent < end <= now and long for end, long in self._ends)
            self._evidence = self._evidence + 1 if had_to_wait else 0
            if self._evidence >= _EVIDENCE_NEEDED and self.width is None:
                self.width = self._most

    def forget(self) -> None:
        """Begin anew in a forked process: the calls there, and those that wait, are its parent's."""
        self.visits.clear()
        self._places.clear()
        self._granted = 0

    def _forget(self, now: float) -> None:
        """Forget what was learned of a machine that had nothing to do for long."""
        if not self.visits and now - self.stirred > _FORGET_SECONDS:
            self.width = self._stated
            self._most, self._evidence = 1, 0
            self._ends.clear()

    def _has_room(self) -> bool:
        if self.width is None:
            return True
        there = len(self.visits) + self._granted
        probes = self._stated is None and self._entered - self._probed >= _PROBE_EVERY
        return there < self.width + probes

    def _admit(self) -> None:
        """Let through who waits, as far as there is room. The lock is held."""
        while self._places and self._has_room():
            loop, place = self._places.popleft()
            self._granted += 1
            try:
                loop.call_soon_threadsafe(_let_through, place)
            except RuntimeError:
                # The caller's loop is closed: nobody waits there any more.
                self._granted -= 1

    def _give_up(self, loop: asyncio.AbstractEventLoop, place: "asyncio.Future[None]") -> None:
        with self._lock:
            if (loop, place) in self._places:
                self._places.remove((loop, place))
                return
            # It had been let through in the moment in which it was cancelled.
            self._granted -= 1
            self._admit()


def _let_through(place: "asyncio.Future[None]") -> None:
    if not place.done():
        place.set_result(None)
