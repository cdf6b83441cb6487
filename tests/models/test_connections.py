import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from msgspec import structs

from local_servers import FAILURES, Unseen, http_model
from mixtura.chat import ChatRequest, Message
from mixtura.errors import ModelError, UnreachableError
from mixtura.models.openai import exchange
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.http import HttpModel, list_models
from mixtura.models.openai.pool import close_pool
from mixtura.models.openai.trust import Trust
from mixtura.models.openai.wire import Dialect
from raw_servers import RawServer, Turn, completion, http, raw_server, reset, sound

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
LARGE = structs.replace(REQUEST, messages=(Message(role="user", content="hi " * 30_000),))
STREAM = b"".join(
    b"data: " + b'{"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":%s}]}\n\n' % end
    for end in (b"null", b'"stop"')
)


async def slow(turn: Turn) -> bytes | None:
    """Answer late enough that requests sent together come on as many connections."""
    await asyncio.sleep(0.02)
    return http(completion())


async def resets_the_second(turn: Turn) -> bytes | None:
    if turn.turn:
        reset(turn.writer)
        return None
    return await slow(turn)


async def closes_before_the_second_reply(turn: Turn) -> bytes | None:
    return None if turn.turn else await slow(turn)


@pytest.mark.parametrize("script", [resets_the_second, closes_before_the_second_reply])
@pytest.mark.parametrize("request_", [REQUEST, LARGE], ids=["small", "large"])
async def test_a_connection_that_died_while_nobody_used_it_is_replaced_by_a_new_one(
    script: Any, request_: ChatRequest
) -> None:
    async with raw_server(script) as (server, url):
        model = http_model(url)
        await asyncio.gather(*(model.chat(REQUEST) for _ in range(8)))
        assert len(server.writers) == 8
        assert (await model.chat(request_)).text == "hello"
        # One dead connection was met, not eight, and a ninth was made.
        assert (len(server.writers), len(server.seen), server.seen[-1]) == (9, 10, (8, 0))


@pytest.mark.parametrize("watched", [True, False])
async def test_a_streamed_call_gets_a_new_connection_as_well(watched: bool) -> None:
    async def script(turn: Turn) -> bytes | None:
        if turn.turn:
            reset(turn.writer)
            return None
        return http(STREAM).replace(b"application/json", b"text/event-stream")

    request = REQUEST if watched else structs.replace(REQUEST, context=Unseen())
    async with raw_server(script) as (server, url):
        model = http_model(url)
        for _ in range(3):
            done = await model.chat(request, emit=(lambda _: None) if watched else None)
            assert done.text == "hellohello"
        assert server.seen == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


async def test_a_connection_through_a_proxy_is_replaced_as_well() -> None:
    async with raw_server(resets_the_second) as (server, url):
        endpoint = Endpoint(provider="groq", url="http://nowhere.invalid/v1", proxy=url)
        model = HttpModel(endpoint, Dialect(), FAILURES)
        await asyncio.gather(*(model.chat(REQUEST) for _ in range(5)))
        assert (await model.chat(REQUEST)).text == "hello"
        assert server.seen[-1] == (5, 0)


async def test_a_connection_over_tls_is_replaced_as_well(tmp_path: Path) -> None:
    authority, server_side = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    trust = Trust(file=str(tmp_path / "authority.pem"))
    async with raw_server(resets_the_second, tls=server_side) as (server, url):
        model = HttpModel(Endpoint(provider="groq", url=url, trust=trust), Dialect(), FAILURES)
        await asyncio.gather(*(model.chat(REQUEST) for _ in range(5)))
        for request in (REQUEST, LARGE):
            assert (await model.chat(request)).text == "hello"
        assert [server.seen[-1], len(server.writers)] == [(6, 0), 7]


async def test_the_list_of_models_gets_a_new_connection_as_well() -> None:
    async def script(turn: Turn) -> bytes | None:
        found = await resets_the_second(turn)
        return found and http(b'{"data": [{"id": "a"}]}')

    async with raw_server(script) as (server, url):
        endpoint = Endpoint(provider="groq", url=url)
        await asyncio.gather(*(list_models(endpoint, FAILURES) for _ in range(5)))
        assert await list_models(endpoint, FAILURES) == [{"id": "a"}]
        assert server.seen[-1] == (5, 0)


async def test_a_server_that_dies_on_a_new_connection_has_failed() -> None:
    async def script(turn: Turn) -> bytes | None:
        reset(turn.writer)
        return None

    async with raw_server(script) as (server, url):
        with pytest.raises(UnreachableError, match="broke before the answer was whole") as caught:
            await http_model(url).chat(REQUEST)
        assert caught.value.connected
        assert server.seen == [(0, 0)]


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\ncontent-type: app", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("hard", [True, False])
async def test_nothing_is_sent_again_once_a_byte_of_the_reply_came(begun: bytes, hard: bool) -> None:
    async def script(turn: Turn) -> bytes | None:
        if not turn.turn:
            return http(completion())
        turn.writer.write(begun)
        await asyncio.sleep(0.05)
        if hard:
            reset(turn.writer)
        return None

    async with raw_server(script) as (server, url):
        model = http_model(url)
        await model.chat(REQUEST)
        with pytest.raises(ModelError):
            await model.chat(REQUEST)
        assert server.seen == [(0, 0), (0, 1)]


async def test_nothing_is_sent_again_where_the_server_had_time_to_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_UNREAD_SECONDS", 0.0)
    async with raw_server(resets_the_second) as (server, url):
        model = http_model(url)
        await asyncio.gather(model.chat(REQUEST), model.chat(REQUEST))
        with pytest.raises(UnreachableError):
            await model.chat(REQUEST)
        # The next attempt is the retry policy's.
        assert len(server.seen) == 3


class ThreadedServer:
    """A server in a thread, which goes on while no loop of the test runs."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.raw = RawServer(sound)
        self._server = self._run(asyncio.start_server(self.raw.serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def hang_up(self, *, hard: bool) -> None:
        async def end() -> None:
            for writer in self.raw.writers:
                if hard and not writer.is_closing():
                    reset(writer)
                writer.close()
            await asyncio.sleep(0.01)

        self._run(end())

    def close(self) -> None:
        self.hang_up(hard=True)
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.mark.parametrize("hard", [True, False])
def test_a_connection_that_died_while_no_loop_ran_is_replaced(hard: bool) -> None:
    server = ThreadedServer()
    with asyncio.Runner() as runner:
        model = http_model(server.url)

        async def ask() -> list[str]:
            return [done.text for done in await asyncio.gather(*(model.chat(REQUEST) for _ in range(4)))]

        runner.run(ask())
        server.hang_up(hard=hard)
        assert runner.run(ask()) == ["hello"] * 4
    server.close()


@pytest.mark.parametrize(
    ("said", "used"),
    [
        ("timeout=60", [(0, 0), (0, 1)]),
        ("timeout=1", [(0, 0), (1, 0)]),
        ("max=0, timeout=60", [(0, 0), (1, 0)]),
        ("nonsense", [(0, 0), (0, 1)]),
    ],
)
@pytest.mark.parametrize("request_", [REQUEST, LARGE], ids=["small", "large"])
async def test_a_connection_is_not_used_for_longer_than_its_server_keeps_it(
    said: str, used: list[tuple[int, int]], request_: ChatRequest
) -> None:
    async def script(turn: Turn) -> bytes | None:
        return http(completion(), f"Keep-Alive: {said}\r\n")

    async with raw_server(script) as (server, url):
        for _ in range(2):
            await http_model(url).chat(request_)
        assert server.seen == used


async def test_the_time_that_a_server_keeps_a_connection_runs_from_its_last_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def script(turn: Turn) -> bytes | None:
        return http(completion(), "Keep-Alive: timeout=5\r\n")

    async with raw_server(script) as (server, url):
        for passed in (0.0, 3.0, 6.5):
            now = time.monotonic() + passed
            monkeypatch.setattr("aiohttp.connector.monotonic", lambda now=now: now)
            await http_model(url).chat(REQUEST)
        assert server.seen == [(0, 0), (0, 1), (0, 2)]
        later = time.monotonic() + 11.0
        monkeypatch.setattr("aiohttp.connector.monotonic", lambda: later)
        await http_model(url).chat(REQUEST)
        assert server.seen[-1] == (1, 0)


@contextmanager
def names(monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> Iterator[dict[str, list[str]]]:
    """Have the names of `known` resolved to the addresses that stand there at the time."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        found: list[Any] = []
        for address in known.get(str(host).removesuffix(".invalid"), ()):
            where: Any = (address, port, 0, 0) if ":" in address else (address, port)
            found.append((socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", where))
        return found or real(host, port, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield known


@pytest.mark.parametrize("behind", [False, True], ids=["direct", "proxy"])
async def test_a_name_that_moved_is_found_by_the_next_call(monkeypatch: pytest.MonkeyPatch, behind: bool) -> None:
    first, second = RawServer(sound), RawServer(sound)
    port = int((await first.start()).rpartition(":")[2])
    where = f"http://moves.invalid:{port}"
    with names(monkeypatch, moves=["127.0.0.1"]) as known:
        url, proxy = ("http://nowhere.invalid/v1", where) if behind else (f"{where}/v1", None)
        model = HttpModel(Endpoint(provider="groq", url=url, proxy=proxy), Dialect(), FAILURES)
        await model.chat(REQUEST)
        known["moves"] = ["127.0.0.2"]
        await first.stop()
        await second.start("127.0.0.2", port)
        assert (await model.chat(REQUEST)).text == "hello"
        assert second.seen == [(0, 0)]
    await close_pool()
    await second.stop()


@pytest.mark.parametrize("addresses", [["::1", "127.0.0.1"], ["127.0.0.3", "127.0.0.1"], ["127.0.0.1", "::1"]])
async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    async with raw_server(sound) as (_, url):
        with names(monkeypatch, several=addresses):
            for _ in range(2):
                done = await http_model(url.replace("127.0.0.1", "several.invalid")).chat(REQUEST)
                assert done.text == "hello"
                await close_pool()


async def test_an_address_that_stays_refused_is_the_error_that_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    server = RawServer(sound)
    url = await server.start()
    with names(monkeypatch, gone=["127.0.0.1"]):
        model = http_model(url.replace("127.0.0.1", "gone.invalid"))
        await model.chat(REQUEST)
        await server.stop()
        with pytest.raises(UnreachableError, match=r"nothing answers at gone.invalid.*Connection refused.*running"):
            await model.chat(REQUEST)
    await close_pool()


MANY = "".join(f"X-Header-{number}: v\r\n" for number in range(5000))


@pytest.mark.parametrize("headers", ["X-Large: " + "x" * 90_000 + "\r\n", MANY], ids=["large", "many"])
@pytest.mark.parametrize("request_", [REQUEST, LARGE], ids=["small", "large"])
async def test_heads_as_the_sdks_read_them_are_read(headers: str, request_: ChatRequest) -> None:
    async def script(turn: Turn) -> bytes | None:
        return http(completion(), headers)

    async with raw_server(script) as (server, url):
        for _ in range(2):
            assert (await http_model(url).chat(request_)).text == "hello"
        assert server.seen == [(0, 0), (0, 1)]


async def test_a_long_reason_is_read() -> None:
    async def script(turn: Turn) -> bytes | None:
        return http(completion(), status="200 " + "fine " * 10_000)

    async with raw_server(script) as (_, url):
        assert (await http_model(url).chat(REQUEST)).text == "hello"


@pytest.mark.parametrize(
    "head",
    [
        b"X-Large: " + b"x" * 300_000 + b"\r\n",
        b"".join(b"X-%d: " % number + b"x" * 10_000 + b"\r\n" for number in range(100)),
        b"".join(b"a%d:b\r\n" % number for number in range(60_000)),
    ],
    ids=["one", "several", "many"],
)
@pytest.mark.parametrize("request_", [REQUEST, LARGE], ids=["small", "large"])
async def test_a_head_that_no_client_reads_is_called_what_it_is(head: bytes, request_: ChatRequest) -> None:
    async def script(turn: Turn) -> bytes | None:
        turn.writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await turn.writer.drain()
        return b"Content-Length: 0\r\n\r\n"

    async with raw_server(script) as (_, url):
        with pytest.raises(
            UnreachableError, match=r"127.0.0.1:\d+ answered with headers that are too large to be read"
        ):
            await http_model(url).chat(request_)


@pytest.mark.parametrize("before", [b"", b"1\r\n \r\n" * 1000])
async def test_what_follows_a_reply_in_chunks_is_bounded_too(before: bytes) -> None:
    sent = 0

    async def script(turn: Turn) -> bytes | None:
        nonlocal sent
        turn.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + before + b"0\r\n")
        for number in range(1000):
            turn.writer.write(b"X-%d: " % number + b"x" * 30_000 + b"\r\n")
            await turn.writer.drain()
            sent += 30_000
        return b"\r\n"

    async with raw_server(script) as (_, url):
        with pytest.raises(ModelError):
            await http_model(url).chat(REQUEST)
        # The system's buffers hold the rest.
        assert sent < 12_000_000


async def test_announcements_without_end_are_bounded_too() -> None:
    async def script(turn: Turn) -> bytes | None:
        for _ in range(1000):
            turn.writer.write(b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 30_000 + b"\r\n\r\n")
            await turn.writer.drain()
        return None

    async with raw_server(script) as (_, url):
        with pytest.raises(UnreachableError):
            await http_model(url).chat(REQUEST)


async def test_a_chunked_body_of_any_length_is_read() -> None:
    async def script(turn: Turn) -> bytes | None:
        turn.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        body = completion("x" * 200_000)
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        turn.writer.write(pieces)
        return b"0\r\n\r\n"

    async with raw_server(script) as (server, url):
        for _ in range(2):
            assert len((await http_model(url).chat(REQUEST)).text) == 200_000
        assert server.seen == [(0, 0), (0, 1)]
