"""A stream in other people's programs: heartbeats, stop buttons, other tasks, readers who are cancelled or go away."""

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from mixtura import Answer, ConfigError, Event, EventStream, Mixture, NoAnswerError, fold
from mixtura.events import AnswerDelta, CallFailed, CallFinished, CallStarted, RunFinished
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

QUESTION = "Why is the sky blue?"
# Four calls, of which three begin at once; the answer takes seconds.
SLOW = SimOptions(unlimited=True, tokens=100, profile="rate:40")
Read = Callable[[EventStream, list[Event]], Awaitable[None]]


@asynccontextmanager
async def asked(sim: SimOptions = SLOW) -> AsyncIterator[tuple[Mixture, SimulatedCloud]]:
    async with simulated_cloud(sim) as cloud:
        yield Mixture("classic", env={"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}), cloud


async def everything(stream: EventStream, read: list[Event]) -> None:
    async for event in stream:
        read.append(event)  # noqa: PERF401  # what came before an error or a stop has to be kept


async def stopped_calls(cloud: SimulatedCloud) -> int:
    """How many calls were cut off before they were answered; waits until none is open."""
    async with asyncio.timeout(5):
        await cloud.ledger.wait_idle()
    return cloud.ledger.aborted


def check_whole(read: list[Event], stream: EventStream) -> None:
    assert fold(read) == stream.answer
    assert stream.answer.status == "ok"
    assert "".join(event.text for event in read if isinstance(event, AnswerDelta)) == stream.answer.text


def check_stopped(read: list[Event]) -> None:
    """The reader was told: of every call that it saw begin that it ended, and of the run that it was stopped."""
    begun = {event.call for event in read if isinstance(event, CallStarted)}
    ended = [event.done.call for event in read if isinstance(event, CallFinished)]
    ended += [event.failure.call for event in read if isinstance(event, CallFailed)]
    assert sorted(ended) == sorted(begun)
    last = read[-1]
    assert isinstance(last, RunFinished)
    assert (last.status, last.error) == ("failed", "the run was stopped")


async def with_wait_for(stream: EventStream, read: list[Event]) -> None:
    while True:
        try:
            read.append(await asyncio.wait_for(anext(stream), 0.01))
        except TimeoutError:
            continue
        except StopAsyncIteration:
            return


async def with_a_task_of_its_own(stream: EventStream, read: list[Event]) -> None:
    async def step() -> Event | None:
        return await anext(stream, None)

    while True:
        try:
            event = await asyncio.wait_for(step(), 0.01)
        except TimeoutError:
            continue
        if event is None:
            return
        read.append(event)


async def with_timeout(stream: EventStream, read: list[Event]) -> None:
    while True:
        try:
            async with asyncio.timeout(0.01):
                async for event in stream:
                    read.append(event)  # noqa: PERF401  # the wait may end at any of them
                return
        except TimeoutError:
            continue


async def with_wait(stream: EventStream, read: list[Event]) -> None:
    waiting: asyncio.Task[Event | None] | None = None
    while True:
        waiting = waiting or asyncio.ensure_future(anext(stream, None))
        done, _ = await asyncio.wait({waiting}, timeout=0.01)
        if done:
            event, waiting = waiting.result(), None
            if event is None:
                return
            read.append(event)


async def with_readers_in_turn(stream: EventStream, read: list[Event]) -> None:
    async def some() -> bool:
        for _ in range(3):
            event = await anext(stream, None)
            if event is None:
                return True
            read.append(event)
        return False

    while not await asyncio.create_task(some()):
        pass


async def with_a_group(stream: EventStream, read: list[Event]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(everything(stream, read))
        group.create_task(asyncio.sleep(0.5))


@pytest.mark.parametrize(
    "reads",
    [
        everything,
        with_wait_for,
        pytest.param(
            with_a_task_of_its_own,
            id="with_wait_for over a coroutine of the caller's",
        ),
        with_timeout,
        with_wait,
        with_readers_in_turn,
        with_a_group,
    ],
)
def test_however_it_is_waited_for_no_event_is_lost(reads: Read) -> None:
    async def main() -> None:
        async with asked() as (mixture, cloud):
            read: list[Event] = []
            async with mixture.stream(QUESTION) as stream:
                await asyncio.wait_for(reads(stream, read), 60)
            check_whole(read, stream)
            assert await stopped_calls(cloud) == 0

    run_virtual(main())


async def test_a_heartbeat_in_real_time() -> None:
    async with asked(SimOptions(unlimited=True, tokens=4, profile="rate:8")) as (mixture, _):
        read: list[Event] = []
        beats = 0
        async with mixture.stream(QUESTION) as stream:
            while True:
                try:
                    read.append(await asyncio.wait_for(anext(stream), 0.03))
                except TimeoutError:
                    beats += 1
                except StopAsyncIteration:
                    break
        check_whole(read, stream)
        assert beats > 2


async def by_closing(stream: EventStream, _task: asyncio.Task[None]) -> None:
    await stream.aclose()


async def by_closing_twice_at_once(stream: EventStream, _task: asyncio.Task[None]) -> None:
    await asyncio.gather(stream.aclose(), stream.aclose())
    await stream.aclose()


@pytest.mark.parametrize("stop", [by_closing, by_closing_twice_at_once])
@pytest.mark.parametrize("after", [0.0, 0.3, 3.0])
def test_a_stop_button(stop: Callable[[EventStream, asyncio.Task[None]], Awaitable[None]], after: float) -> None:
    async def main() -> None:
        async with asked() as (mixture, cloud):
            read: list[Event] = []
            stream = mixture.stream(QUESTION)
            task = asyncio.create_task(everything(stream, read))
            await asyncio.sleep(after)
            begun = asyncio.get_running_loop().time()
            await stop(stream, task)
            await task  # it ends by itself, and raises nothing
            assert asyncio.get_running_loop().time() - begun < 0.1
            if after:
                check_stopped(read)
                assert fold(read) == stream.answer
                assert await stopped_calls(cloud) > 0
            assert [event async for event in stream] == []

    run_virtual(main())


def test_the_reader_of_a_stopped_run_gets_what_waited_for_it() -> None:
    async def main() -> None:
        async with asked() as (mixture, _):
            async with mixture.stream(QUESTION) as stream:
                first = await anext(stream)
                await asyncio.sleep(1)
            rest = [event async for event in stream]
            check_stopped([first, *rest])

    run_virtual(main())


def test_a_second_reader_at_the_same_time_is_told_so_and_the_first_reads_on() -> None:
    async def main() -> None:
        async with asked() as (mixture, _), mixture.stream(QUESTION) as stream:
            read: list[Event] = []
            first = asyncio.create_task(everything(stream, read))
            await asyncio.sleep(0.2)
            with pytest.raises(ConfigError, match="another task is waiting for its next event"):
                await anext(stream)
            await first
            check_whole(read, stream)

    run_virtual(main())


async def consume(mixture: Mixture) -> None:
    async for _ in mixture.stream(QUESTION):
        pass


async def consume_held(mixture: Mixture) -> None:
    async with mixture.stream(QUESTION) as stream:
        async for _ in stream:
            pass


async def consume_until_timeout(mixture: Mixture) -> None:
    async with asyncio.timeout(0.5), mixture.stream(QUESTION) as stream:
        async for _ in stream:
            pass


async def consume_beside_a_failure(mixture: Mixture) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.5)
        raise RuntimeError("the program's own")

    async with asyncio.TaskGroup() as group:
        group.create_task(consume_held(mixture))
        group.create_task(fail())


@pytest.mark.parametrize("reads", [consume, consume_held, consume_until_timeout, consume_beside_a_failure])
def test_a_reader_who_is_cancelled_takes_the_run_along(reads: Callable[[Mixture], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asked() as (mixture, cloud):
            task = asyncio.ensure_future(reads(mixture))
            await asyncio.sleep(1)
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(ended, BaseException)  # and is held here, with its traceback
            assert await stopped_calls(cloud) == 3

    run_virtual(main())


def test_a_stream_that_is_dropped_is_stopped(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with asked() as (mixture, cloud):
            stream = mixture.stream(QUESTION)
            async for event in stream:
                if isinstance(event, CallStarted):
                    break
            await asyncio.sleep(0.5)
            assert cloud.ledger.in_flight == 3
            del stream
            gc.collect()
            assert await stopped_calls(cloud) == 3

    run_virtual(main())
    assert caplog.records == []


def test_a_stream_that_is_dropped_in_another_thread_is_stopped() -> None:
    async def main() -> None:
        async with asked() as (mixture, cloud):
            held = [mixture.stream(QUESTION)]
            await anext(held[0])
            await asyncio.sleep(0.5)
            await asyncio.to_thread(held.clear)
            assert await stopped_calls(cloud) == 3

    run_virtual(main())


def test_a_loop_that_is_left_while_nobody_holds_the_stream_stops_it() -> None:
    async def main() -> None:
        async with asked() as (mixture, cloud):
            async for event in mixture.stream(QUESTION):
                if isinstance(event, CallStarted):
                    break
            await asyncio.sleep(0)
            await asyncio.sleep(0.1)
            assert cloud.ledger.in_flight == 0

    run_virtual(main())


async def test_a_stream_that_is_never_read_says_so_and_asks_nothing() -> None:
    async with asked() as (mixture, cloud):
        with pytest.warns(RuntimeWarning, match="a stream was never read: its question was not asked"):
            mixture.stream(QUESTION)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with mixture.stream(QUESTION):
                pass
            closed = mixture.stream(QUESTION)
            await closed.aclose()
            assert [event async for event in closed] == []
        assert cloud.ledger.arrived == 0


@pytest.mark.parametrize("late", [False, True])
def test_an_error_is_raised_once_behind_the_last_event(late: bool) -> None:
    async def main() -> None:
        async with asked(SimOptions(unlimited=True, faults="401")) as (mixture, _):
            stream = mixture.stream(QUESTION)
            read = [await anext(stream)]
            if late:
                await asyncio.sleep(5)
            with pytest.raises(NoAnswerError) as caught:
                await everything(stream, read)
            assert isinstance(read[-1], RunFinished)
            assert isinstance(caught.value.answer, Answer)
            assert caught.value.answer == fold(read)
            assert [event async for event in stream] == []

    run_virtual(main())


def test_a_stream_belongs_to_the_loop_of_its_first_read() -> None:
    stream: list[EventStream] = []

    async def begin() -> None:
        async with asked() as (mixture, _):
            stream.append(mixture.stream(QUESTION))
            await anext(stream[0])

    async def go_on() -> None:
        with pytest.raises(ConfigError, match="belongs to another event loop"):
            await anext(stream[0])

    run_virtual(begin())
    asyncio.run(go_on())


def test_a_loop_closed_by_hand_stops_its_runs_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    held: list[EventStream] = []

    async def begin() -> None:
        await held[0].__anext__()
        await asyncio.sleep(0.1)

    async def main() -> None:
        async with asked() as (mixture, cloud):
            held.append(mixture.stream(QUESTION))
            await asyncio.to_thread(loop.run_until_complete, begin())
            assert cloud.ledger.in_flight == 3
            await asyncio.to_thread(loop.close)
            assert await stopped_calls(cloud) == 3
            await held[0].aclose()
            held.clear()
            gc.collect()

    asyncio.run(main())
    assert caplog.records == []


def test_a_stop_button_in_another_thread() -> None:
    read: list[Event] = []
    begun = threading.Event()

    async def reader(mixture: Mixture, streams: list[EventStream]) -> None:
        streams.append(mixture.stream(QUESTION))
        async for event in streams[0]:
            read.append(event)
            begun.set()

    async def main() -> None:
        async with asked() as (mixture, cloud):
            streams: list[EventStream] = []
            thread = threading.Thread(target=lambda: asyncio.run(reader(mixture, streams)))
            thread.start()
            await asyncio.to_thread(begun.wait)
            await asyncio.wait_for(streams[0].aclose(), 10)
            await asyncio.to_thread(thread.join)
            check_stopped(read)
            await stopped_calls(cloud)

    asyncio.run(main())


def test_a_loop_whose_tasks_begin_at_once() -> None:
    eager = getattr(asyncio, "eager_task_factory", None)  # since Python 3.12

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(eager)
        async with asked() as (mixture, cloud):
            read: list[Event] = []
            async with mixture.stream(QUESTION) as stream:
                await with_wait_for(stream, read)
            check_whole(read, stream)
            assert (await mixture.ask(QUESTION)).status == "ok"
            stopped, heard = mixture.stream(QUESTION), list[Event]()
            task = asyncio.create_task(everything(stopped, heard))
            await asyncio.sleep(0.5)
            await stopped.aclose()
            await task
            check_stopped(heard)
            assert await stopped_calls(cloud) == 3

    run_virtual(main())
