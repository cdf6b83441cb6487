"""How long the stragglers of a layer are waited for once its quorum is there, by where they are served."""

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mixtura.engine.grace import Grace, Layer
from mixtura.engine.race import Race
from mixtura.models.place import Place
from mixtura.virtual import run_virtual

MANY, ONE, HERE = Place(name="api"), Place(name="desk", served_by="machine"), Place(served_by="process")
SINCE = 100.0  # when the quorum is there


class Stops:
    """A layer whose calls take for ever; it notes which are stopped, when, and why."""

    def __init__(self) -> None:
        self.run = SimpleNamespace(loop=asyncio.get_running_loop())
        self.grace = Grace(cast("Layer", self))
        self.names: dict[asyncio.Task[None], str] = {}
        self.stopped: dict[str, float] = {}
        self.reasons: set[str] = set()

    def stop(self, reason: str, tasks: Iterable[asyncio.Task[None]] | None = None) -> None:
        for task in tasks or ():
            self.stopped[self.names[task]] = self.run.loop.time()
            self.reasons.add(reason)
            task.cancel()

    def call(self, name: str, place: Place | None, since: float | None, **shared: float) -> SimpleNamespace:
        """Begin a call at `place`, sent at `since`; None for one without a try under way."""
        progress = SimpleNamespace(
            place=place, since=since, pieces=0, shared=SimpleNamespace(**shared) if shared else None
        )
        race = SimpleNamespace(progress=None if place is None else progress)

        async def work() -> None:
            self.grace.watch(cast("Race", race))
            await asyncio.Event().wait()

        task = asyncio.create_task(work())
        self.names[task] = name
        return progress


def stopped(
    seconds: float, took: tuple[float, ...], *calls: tuple[str, Any, Any, dict[str, float]]
) -> dict[str, float]:
    """Have the quorum there after drafts that `took` so long; return when each call was stopped, from then on."""

    async def main() -> dict[str, float]:
        layer = Stops()
        for name, place, since, shared in calls:
            layer.call(name, place, since, **shared)
        for draft in took:
            layer.grace.note(draft)
        await asyncio.sleep(SINCE)
        layer.grace.begin(seconds)
        await asyncio.sleep(1000.0)
        layer.grace.cancel()
        assert layer.reasons <= {"enough drafts were there without it"}
        return {name: at - SINCE for name, at in layer.stopped.items()}

    return run_virtual(main())


@pytest.mark.parametrize("seconds", [0.0, 3.0])
@pytest.mark.parametrize("since", [None, 0.0, 99.0])
def test_where_many_machines_serve_the_grace_runs_from_the_quorum_on(seconds: float, since: float | None) -> None:
    ends = stopped(seconds, (50.0,), ("a", MANY, since, {}), ("b", None, None, {}))
    assert ends == pytest.approx({"a": seconds, "b": seconds})


@pytest.mark.parametrize(
    ("seconds", "took", "since", "end"),
    [
        (1.0, (4.0,), 98.0, 6.0),  # 98 + 4, and as much again
        (10.0, (4.0,), 98.0, 12.0),  # the grace is longer than that
        (10.0, (4.0, 7.0, 5.0), 98.0, 15.0),  # the slowest counts
        (10.0, (4.0,), 20.0, 10.0),  # begun long ago: at least the grace
        (0.0, (4.0,), 20.0, 0.0),
    ],
)
@pytest.mark.parametrize("place", [ONE, HERE])
def test_where_calls_wait_for_each_other_each_has_as_long_as_the_slowest_took(
    place: Place, seconds: float, took: tuple[float, ...], since: float, end: float
) -> None:
    assert stopped(seconds, took, ("a", place, since, {})) == pytest.approx({"a": end})


@pytest.mark.parametrize(("begun", "end"), [(99.0, 7.0), (10.0, 6.0)])
def test_a_call_that_waited_at_the_server_began_when_the_server_began_it(begun: float, end: float) -> None:
    assert stopped(1.0, (4.0,), ("a", ONE, 98.0, {"begun": begun})) == pytest.approx({"a": end})


def test_a_call_that_waits_its_turn_is_looked_at_again_and_waited_for() -> None:
    async def main() -> dict[str, float]:
        layer = Stops()
        progress = layer.call("a", ONE, None)
        layer.call("b", ONE, 95.0)
        layer.grace.note(4.0)
        await asyncio.sleep(SINCE)
        layer.grace.begin(1.0)
        await asyncio.sleep(20.1)
        assert layer.stopped == pytest.approx({"b": SINCE + 3.0})
        progress.since = 120.0
        await asyncio.sleep(1000.0)
        return layer.stopped

    assert run_virtual(main()) == pytest.approx({"a": 128.0, "b": 103.0})


def test_no_call_is_stopped_once_nothing_is_waited_for_any_more() -> None:
    async def main() -> dict[str, float]:
        layer = Stops()
        layer.grace.cancel()
        layer.call("a", MANY, 0.0)
        await asyncio.sleep(SINCE)
        layer.grace.begin(5.0)
        await asyncio.sleep(1.0)
        layer.grace.cancel()
        await asyncio.sleep(1000.0)
        return layer.stopped

    assert run_virtual(main()) == {}


def test_only_calls_that_have_begun_to_write_count_as_writing() -> None:
    async def main() -> None:
        layer = Stops()
        one, other = layer.call("a", MANY, 0.0), layer.call("b", MANY, 0.0)
        layer.call("c", None, None)
        await asyncio.sleep(1.0)
        assert layer.grace.writing == 0
        one.pieces = 1
        assert layer.grace.writing == 1
        other.pieces = 7
        assert layer.grace.writing == 2

    run_virtual(main())


def test_the_call_that_completes_the_quorum_is_not_stopped() -> None:
    async def main() -> dict[str, float]:
        layer = Stops()
        layer.call("late", MANY, 0.0)
        await asyncio.sleep(SINCE)
        task = asyncio.current_task()
        assert task is not None
        layer.names[task] = "last"
        race = SimpleNamespace(progress=SimpleNamespace(place=MANY, since=0.0, pieces=0, shared=None))
        layer.grace.watch(cast("Race", race))
        layer.grace.begin(0.0)
        layer.grace.cancel()
        return layer.stopped

    assert run_virtual(main()) == {"late": SINCE}
