"""What a layer waits for once its quorum is there.

Where many machines serve, stragglers have `grace` seconds from that moment on. Where calls wait for each other, a call
is no straggler for having been begun last: each has as long as the slowest draft that is there took, and the grace on
top, from when its server began it. A call that was not begun yet is waited for.

    quorum there ---- grace ---- stopped                                        many machines
    quorum there . . . . begun ---- as long as the others took, and grace ---- stopped        one machine, this process
"""

import asyncio
import weakref
from collections.abc import Iterable
from typing import Protocol

from mixtura.engine.context import Run
from mixtura.engine.race import Race

_ENOUGH = "enough drafts were there without it"
# What waits in a queue is looked at again after so many seconds.
_LOOK_AGAIN = 0.5


class Layer(Protocol):
    """What the grace has to know of its layer."""

    run: Run

    def stop(self, reason: str, tasks: Iterable[asyncio.Task[None]] | None = None) -> None:
        """Stop what still runs, or of that `tasks` alone."""
        ...


class Grace:
    """The stragglers of one layer, and until when each of them is waited for."""

    def __init__(self, layer: Layer) -> None:
        # The layer owns its grace: two that held each other would be freed by the garbage collector alone.
        self._layer: Layer = weakref.proxy(layer)
        self._loop = layer.run.loop
        self._races: dict[asyncio.Task[None], Race] = {}
        self._slowest = 0.0
        self._seconds = 0.0
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, race: Race) -> None:
        """Take the race of the running task."""
        task = asyncio.current_task()
        if task is not None:
            self._races[task] = race

    @property
    def writing(self) -> int:
        """How many of the layer's calls that still run have begun to write."""
        return sum(race.progress is not None and race.progress.pieces > 0 for race in self._races.values())

    def note(self, seconds: float) -> None:
        """Take what a draft took from when its server began it."""
        self._slowest = max(self._slowest, seconds)

    def begin(self, seconds: float) -> None:
        """Begin the grace of `seconds`: the quorum is there."""
        self._seconds, self._since = seconds, self._loop.time()
        self._look()

    def cancel(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        # Races know their layer, who would so know itself.
        self._races.clear()

    def _look(self) -> None:
        """Stop who has had its time, and look again when the next has."""
        now = self._loop.time()
        current = asyncio.current_task()
        open_ = [(task, race) for task, race in self._races.items() if not task.done() and task is not current]
        ends = [(self._end_of(race), task) for task, race in open_]
        self._layer.stop(_ENOUGH, [task for end, task in ends if end is not None and end <= now])
        later = [now + _LOOK_AGAIN if end is None else end for end, _ in ends if end is None or end > now]
        if later:
            self._timer = self._loop.call_at(min(later), self._look)

    def _end_of(self, race: Race) -> float | None:
        """Return until when a race is waited for; None while its call waits its turn."""
        assert self._since is not None
        progress = race.progress
        if progress is None or not progress.place.queues:
            return self._since + self._seconds
        if progress.since is None:
            return None
        begun = progress.since if progress.shared is None else max(progress.since, progress.shared.begun)
        # Lengths differ: on a slow machine a reply a third longer takes many seconds more.
        return max(self._since + self._seconds, begun + self._slowest + max(self._seconds, self._slowest))
