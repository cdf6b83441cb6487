"""CPU of pipelines, round by round: in each round every pipeline has one turn, and ratios are taken within a round.

A pipeline has an event loop of its own, kept for all rounds, so that loops of different kinds can be compared and no
pipeline pays for another's connections. CPU is that of the whole process, threads of a pipeline included.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.measure import Spread
from bench.pipelines import MakePipeline

# Some systems count CPU in ticks of 10 ms: a turn has to be much longer than one.
TURN_SECONDS = 0.25
_WARM_UP = 30


class Contender(NamedTuple):
    """A pipeline and the kind of event loop it runs in; by default asyncio's own."""

    make: MakePipeline
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None


class Turn(NamedTuple):
    """What one turn measured: milliseconds of CPU a mixture, and mixtures a second."""

    milliseconds: float
    rate: float


class Load(NamedTuple):
    """How a pipeline is asked.

    Attributes:
        at_once: how many mixtures are under way at the same time.
        apart: seconds between their starts.
    """

    at_once: int = 1
    apart: float = 0.0


ONE_BY_ONE = Load()

Turns = dict[str, list[Turn]]


class Opened:
    """A pipeline that is ready to be asked."""

    def __init__(self, contender: Contender, url: str) -> None:
        self._runner = asyncio.Runner(loop_factory=contender.loop)
        self._manager = contender.make(url)
        self._ask = self._runner.run(self._manager.__aenter__())

    def turn(self, times: int, load: Load) -> Turn:
        """Ask `times` mixtures for each that is under way at once."""
        gc.collect()
        wall, used = time.perf_counter(), time.process_time()
        self._runner.run(self._all(times, load))
        used, wall = time.process_time() - used, time.perf_counter() - wall
        asked = times * load.at_once
        return Turn(used / asked * 1e3, asked / wall)

    async def _all(self, times: int, load: Load) -> None:
        if load.at_once == 1:
            await self._some(times, 0.0)
            return
        await asyncio.gather(*(self._some(times, place * load.apart) for place in range(load.at_once)))

    async def _some(self, times: int, later: float) -> None:
        if later:
            await asyncio.sleep(later)
        for _ in range(times):
            answer = await self._ask()
            assert answer, "a pipeline returned no answer"

    def close(self) -> None:
        """Close the pipeline and its event loop."""
        self._runner.run(self._manager.__aexit__(None, None, None))
        self._runner.close()


def measure(
    contenders: dict[str, Contender], url: str, rounds: int, load: Load = ONE_BY_ONE, seconds: float = TURN_SECONDS
) -> Turns:
    """Return the turns of each contender, in the order of the rounds.

    Args:
        contenders: the pipelines by name.
        url: the server's base URL.
        rounds: how many turns each pipeline has.
        load: how many mixtures are under way at once.
        seconds: how long a turn of mixtures one after the other takes, about.
    """
    found: Turns = {name: [] for name in contenders}
    with _opened(contenders, url) as opened:
        times = {name: _times(pipeline, load, seconds) for name, pipeline in opened.items()}
        # What is alive now stays: no turn pays for the collector's walk through another pipeline's modules.
        gc.collect()
        gc.freeze()
        try:
            for _ in range(rounds):
                for name, pipeline in opened.items():
                    found[name].append(pipeline.turn(times[name], load))
        finally:
            gc.unfreeze()
    return found


@contextlib.contextmanager
def _opened(contenders: dict[str, Contender], url: str) -> Iterator[dict[str, Opened]]:
    opened: dict[str, Opened] = {}
    try:
        for name, contender in contenders.items():
            opened[name] = Opened(contender, url)
        yield opened
    finally:
        for pipeline in opened.values():
            pipeline.close()


def _times(pipeline: Opened, load: Load, seconds: float) -> int:
    """Warm `pipeline` up; return how often it has to be asked for a turn of `seconds`."""
    pipeline.turn(1, load)
    if load.at_once > 1:
        return 1
    pipeline.turn(_WARM_UP, load)
    return max(1, round(seconds * pipeline.turn(_WARM_UP, load).rate))


def milliseconds(turns: list[Turn]) -> Spread:
    """Return the CPU of a mixture over all turns."""
    return Spread.of([turn.milliseconds for turn in turns])


def ratio(mine: list[Turn], theirs: list[Turn]) -> Spread:
    """Return the CPU of one pipeline over another's, taken round by round."""
    return Spread.of([one.milliseconds / other.milliseconds for one, other in zip(mine, theirs, strict=True)])
