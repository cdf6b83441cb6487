"""The virtual clock, with real sockets, threads and timers."""

import asyncio
import random
import time

import aiohttp
import pytest
from aiohttp import web

from mixtura.virtual import VirtualClockLoop, run_virtual


def test_ten_minutes_pass_without_waiting() -> None:
    async def sleep_long() -> float:
        await asyncio.sleep(600)
        return asyncio.get_running_loop().time()

    assert run_virtual(sleep_long()) == 600


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def main() -> list[int]:
        done: list[int] = []

        async def one(delay: int) -> None:
            await asyncio.sleep(delay)
            done.append(delay)

        async with asyncio.TaskGroup() as group:
            for delay in (300, 5, 60, 1):
                group.create_task(one(delay))
        return done

    assert run_virtual(main()) == [1, 5, 60, 300]


def test_data_on_a_socket_comes_before_any_later_timer() -> None:
    async def main() -> tuple[bytes, float]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            await asyncio.sleep(29)
            writer.write(line.upper())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            async with asyncio.timeout(30):
                line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line, asyncio.get_running_loop().time()

    assert run_virtual(main()) == (b"HELLO\n", 29)


def test_a_timeout_fires_at_its_moment() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(12.5):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 12.5


def test_the_clock_stands_still_while_a_thread_works() -> None:
    async def main() -> tuple[bool, float]:
        loop = asyncio.get_running_loop()
        overtaken = False

        def overtake() -> None:
            nonlocal overtaken
            overtaken = True

        timer = loop.call_later(0.001, overtake)
        await asyncio.to_thread(time.sleep, 0.05)
        timer.cancel()
        return overtaken, loop.time()

    assert run_virtual(main()) == (False, 0)


def test_name_lookups_do_not_move_the_clock() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert await loop.getaddrinfo("localhost", 80)
        return loop.time()

    assert run_virtual(main()) == 0


def test_time_goes_on_after_a_thread_has_failed() -> None:
    def fail() -> None:
        raise KeyError("thread")

    async def main() -> float:
        with pytest.raises(KeyError):
            await asyncio.to_thread(fail)
        await asyncio.sleep(3)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 3


async def _a_busy_quarter_of_an_hour() -> list[tuple[float, int]]:
    """Several aiohttp clients and a server in one loop, each call taking seconds."""
    loop, rng = asyncio.get_running_loop(), random.Random(7)
    seen: list[tuple[float, int]] = []

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query["seconds"]))
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", slow)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port, *_ = runner.addresses[0]

    async def client(name: int) -> None:
        for _ in range(20):
            await asyncio.sleep(rng.uniform(0, 30))
            url = f"http://{host}:{port}/?seconds={rng.uniform(0, 30)}"
            async with session.get(url) as response:
                assert await response.text() == "done"
            seen.append((loop.time(), name))

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for name in range(5):
            group.create_task(client(name))
    await runner.cleanup()
    return seen


def test_a_scenario_over_http_takes_the_same_course_every_time() -> None:
    first = run_virtual(_a_busy_quarter_of_an_hour())
    assert len(first) == 100
    assert first[-1][0] > 450
    assert run_virtual(_a_busy_quarter_of_an_hour()) == first


def test_an_error_in_the_main_coroutine_comes_out() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        raise LookupError("inside")

    with pytest.raises(LookupError, match="inside"):
        run_virtual(main())


def test_the_loop_starts_at_zero() -> None:
    loop = VirtualClockLoop()
    try:
        assert loop.time() == 0
    finally:
        loop.close()


def test_a_loop_that_ends_waits_for_its_threads_in_real_time(recwarn: pytest.WarningsRecorder) -> None:
    async def main() -> None:
        # The thread outlives the task that started it, and is still running when the loop shuts down.
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.2)

    begun = time.monotonic()
    run_virtual(main())
    assert time.monotonic() - begun >= 0.2
    assert [str(said.message) for said in recwarn] == []
