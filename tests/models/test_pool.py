import asyncio
import errno
import gc
import os
import socket
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from mixtura import open_files
from mixtura.models.openai import pool, resolver
from mixtura.models.openai.connector import Connector
from mixtura.models.openai.pool import close_pool, current_pool


async def answering(request: web.Request) -> web.StreamResponse:
    return web.Response(text="hello")


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/", answering)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def fetched(url: str) -> str:
    reply = await current_pool().session.get(url)
    return await reply.text()


def test_nothing_has_to_be_closed_after_a_loop_s_end() -> None:
    async def ask() -> None:
        async with served() as url:
            assert await fetched(url) == "hello"
            assert await fetched(url) == "hello"

    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    for _ in range(2):
        with asyncio.Runner() as runner:
            runner.run(ask())
            loops.append(weakref.ref(runner.get_loop()))
        del runner
    # An unclosed session or socket would warn now, and warnings are errors here.
    gc.collect()
    assert [loop() for loop in loops] == [None, None]


async def test_a_loop_has_one_pool_and_a_new_one_after_it_was_closed() -> None:
    async with served() as url:
        first = current_pool()
        assert await fetched(url) == "hello"
        assert current_pool() is first
        await close_pool()
        await close_pool()
        assert first.session.closed
        assert current_pool() is not first
        assert await fetched(url) == "hello"
        await close_pool()


def test_loops_of_several_threads_each_have_their_own() -> None:
    sessions: list[object] = []

    async def look() -> None:
        sessions.append(current_pool().session)

    threads = [threading.Thread(target=lambda: asyncio.run(look())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert len({id(session) for session in sessions}) == 4


async def test_the_connection_that_was_not_used_for_longest_is_given_up() -> None:
    closed: list[str] = []

    def idle(name: str, since: float) -> Any:
        return deque([(SimpleNamespace(abort=lambda: closed.append(name)), since)])

    connector: Any = SimpleNamespace(_conns={"b": idle("b", 1.0), "a": idle("a", 2.0)})
    assert [Connector.give_up_idle(connector) for _ in range(3)] == [True, True, False]
    assert closed == ["b", "a"]


async def test_names_are_looked_up_as_the_interpreter_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "interpreter_ends", lambda: True)
    found = await resolver._Lookups().getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert found[0][4] == ("127.0.0.1", 80)


def test_what_is_left_for_others_is_no_room_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "most_open", lambda: 1.0)
    monkeypatch.setattr(type(pool._POOLS), "count_open", lambda _: 1000)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)) as caught:
        pool._POOLS.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)))
    assert caught.value.errno == errno.EMFILE
