"""Replies with a plain head and a length, read without aiohttp's parser; everything else goes to that parser."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpResponseParserPy
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from local_servers import http_model
from mixtura.chat import ChatRequest, Delta, Message
from mixtura.errors import RateLimitedError, UnreachableError
from mixtura.models.openai.plain_reply import MOST_BYTES, plain_head
from raw_servers import Turn, completion, http, raw_server

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n"

NAMES = st.sampled_from(
    ["Content-Length", "content-length", "Transfer-Encoding", "Content-Encoding", "X-Request-Id", "Connection", "Date"]
)
VALUES = st.one_of(
    st.sampled_from(["12", "0", "1 2", "+5", "chunked", "gzip", "close", " 7", "7 ", "7\t", "\u00e9", "a\x00b", ""]),
    st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=255), max_size=20),
)
PLAIN = st.sampled_from(["Server: x", "x-ratelimit-limit-tokens: 6000", "Date:Fri", "Connection: keep-alive", "A:  b"])
LINES = st.one_of(PLAIN, PLAIN, st.tuples(NAMES, VALUES).map(lambda pair: f"{pair[0]}: {pair[1]}"), VALUES)
STATUSES = st.sampled_from(["HTTP/1.1 200 OK", "HTTP/1.1 429", "HTTP/1.1 500 ", "HTTP/1.0 200 OK", "HTTP/1.1 2x0 O"])


def by_aiohttp(head: bytes) -> tuple[int, CIMultiDict[str]] | None:
    """Return what aiohttp's own parser reads of a head."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpResponseParserPy(BaseProtocol(loop), loop, 2**16)
        messages, _, _ = parser.feed_data(head + b"\r\n")
        return (messages[0][0].code, CIMultiDict(messages[0][0].headers)) if messages else None
    except aiohttp.http.HttpProcessingError:
        return None
    finally:
        loop.close()


@given(STATUSES, st.lists(LINES, max_size=5))
def test_a_plain_head_is_read_as_aiohttp_reads_it(status: str, lines: list[str]) -> None:
    head = "".join(f"{line}\r\n" for line in [status, *lines, "Content-Length: 12"]).encode("latin-1")
    found = plain_head(head)
    if found is not None:
        assert by_aiohttp(head) == (found.status, found.headers)
        assert found.headers.getall("Content-Length") == [found.headers["Content-Length"]]


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"1.1", b"1.0"),
        HEAD + b"Content-Length: 12\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n",
        HEAD + b"content-encoding: gzip\r\n",
        HEAD + b" folded: line\r\n",
        HEAD + b"no colon\r\n",
        HEAD + b"bad name: x\r\n",
        HEAD + b"X: a\nContent-Length: 3\r\n",
        HEAD + b"X: a\rY: b\r\n",
        HEAD + b"X: a \r\n",
        HEAD + "X: é\r\n".encode(),
        HEAD.replace(b"200", b"100"),
        HEAD.replace(b"200", b"204"),
        HEAD.replace(b"200", b"304"),
        HEAD.replace(b"200", b"2000"),
        HEAD.replace(b" 12", b" -1"),
        HEAD.replace(b" 12", b" 1_2"),
        HEAD.replace(b" 12", b" %d" % (MOST_BYTES + 1)),
        HEAD.replace(b" 12", b" 0000000012"),
        HEAD.replace(b"Content-Length: 12\r\n", b""),
        HEAD + b"X: " + b"y" * 20_000 + b"\r\n",
        b"",
        b"\r\n",
        b"HTTP/1.1 200",
    ],
)
def test_a_head_that_says_more_or_could_be_read_otherwise_is_left_to_the_parser(head: bytes) -> None:
    assert plain_head(HEAD) is not None
    assert plain_head(head) is None


Script = Callable[[Turn], Awaitable[bytes | None]]


def saying(reply: bytes) -> Script:
    async def script(_turn: Turn) -> bytes | None:
        return reply

    return script


@pytest.mark.parametrize(
    "reply",
    [
        http(completion()),
        http(completion(), "Keep-Alive: timeout=50\r\nConnection: Keep-Alive\r\n"),
        http(completion()).replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1),
        b"HTTP/1.1 100 Continue\r\n\r\n" + http(completion()),
        http(completion()).replace(b"Content-Length: ", b"Content-Length:"),
        http(completion("é" * 100_000)),
    ],
    ids=["plain", "kept", "HTTP/1.0", "after a 100", "no blank", "larger"],
)
async def test_the_connection_is_used_again(reply: bytes) -> None:
    async with raw_server(saying(reply)) as (server, url):
        model = http_model(url)
        texts = {(await model.chat(REQUEST)).text for _ in range(3)}
        assert len(texts) == 1
        assert server.seen == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("size", [1, 7, 100])
async def test_a_reply_may_come_in_pieces_of_any_size(size: int) -> None:
    async def script(turn: Turn) -> bytes | None:
        whole = http(completion("in pieces"))
        for at in range(0, len(whole), size):
            turn.writer.write(whole[at : at + size])
            await turn.writer.drain()
            await asyncio.sleep(0)
        return b""

    async with raw_server(script) as (server, url):
        model = http_model(url)
        for _ in range(2):
            assert (await model.chat(REQUEST)).text == "in pieces"
        assert len(server.writers) == 1


@pytest.mark.parametrize("end", [b"HTTP/1.1 200 OK\r\n", b"x"])
async def test_a_connection_on_which_more_came_than_was_said_is_not_used_again(end: bytes) -> None:
    async with raw_server(saying(http(completion()) + end)) as (server, url):
        model = http_model(url)
        for _ in range(2):
            assert (await model.chat(REQUEST)).text == "hello"
        assert server.seen == [(0, 0), (1, 0)]


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def in_chunks(body: bytes) -> bytes:
    """Return a whole reply in one chunk."""
    return CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize("first", [http(completion("the first")), in_chunks(completion("the first"))])
async def test_what_comes_when_nobody_asked_is_no_reply_to_the_next_request(first: bytes) -> None:
    late = asyncio.Event()

    async def script(turn: Turn) -> bytes | None:
        if turn.connection == 0:
            turn.writer.write(first)
            await turn.writer.drain()
            await asyncio.sleep(0.02)
            turn.writer.write(http(b"{}", status="408 Request Timeout"))
            await turn.writer.drain()
            late.set()
            return b""
        return in_chunks(completion("the second"))

    async with raw_server(script) as (server, url):
        model = http_model(url)
        assert (await model.chat(REQUEST)).text == "the first"
        await late.wait()
        await asyncio.sleep(0.02)
        assert (await model.chat(REQUEST)).text == "the second"
        assert server.seen == [(0, 0), (1, 0)]


async def test_a_server_that_says_it_closes_is_not_asked_on_that_connection() -> None:
    async with raw_server(saying(http(completion(), "Connection: close\r\n"))) as (server, url):
        model = http_model(url)
        for _ in range(2):
            assert (await model.chat(REQUEST)).text == "hello"
        assert server.seen == [(0, 0), (1, 0)]


async def test_a_reply_that_breaks_off_is_said_to_be_billed_and_its_connection_is_gone() -> None:
    async def script(turn: Turn) -> bytes | None:
        if turn.connection == 0:
            turn.writer.write(http(completion())[:-5])
            await turn.writer.drain()
            return None
        return http(completion())

    async with raw_server(script) as (server, url):
        model = http_model(url)
        with pytest.raises(UnreachableError) as caught:
            await model.chat(REQUEST)
        assert caught.value.usage is not None
        assert caught.value.usage.prompt_tokens > 0
        assert (await model.chat(REQUEST)).text == "hello"
        assert server.seen == [(0, 0), (1, 0)]


async def test_a_call_that_is_stopped_leaves_no_half_read_connection_behind() -> None:
    async def script(turn: Turn) -> bytes | None:
        if turn.connection == 0:
            turn.writer.write(http(completion())[:-5])
            await turn.writer.drain()
            await asyncio.sleep(0.2)
            return http(completion())[-5:]
        return http(completion("the second"))

    async with raw_server(script) as (server, url):
        model = http_model(url)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await model.chat(REQUEST)
        assert (await model.chat(REQUEST)).text == "the second"
        assert server.seen == [(0, 0), (1, 0)]


async def test_a_failing_status_is_read_as_well() -> None:
    refused = http(b'{"error": {"message": "too many"}}', "Retry-After: 3\r\n", "429 Too Many Requests")
    async with raw_server(saying(refused)) as (server, url):
        model = http_model(url)
        for _ in range(2):
            with pytest.raises(Exception, match="too many") as caught:
                await model.chat(REQUEST)
            assert getattr(caught.value, "retry_after", None) == 3
        assert server.seen == [(0, 0), (0, 1)]


async def test_a_refusal_that_breaks_off_says_what_its_head_says() -> None:
    refused = http(b'{"error": {"message": "too many"}}', "Retry-After: 3\r\n", "429 Too Many Requests")[:-3]

    async def script(turn: Turn) -> bytes | None:
        turn.writer.write(refused)
        await turn.writer.drain()
        return None

    async with raw_server(script) as (_, url):
        with pytest.raises(RateLimitedError) as caught:
            await http_model(url).chat(REQUEST)
        assert caught.value.retry_after == 3


STREAM = b"".join(
    b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}\n\n' % pair
    for pair in ((b"a", b"null"), (b"b", b'"stop"'))
)


async def test_a_stream_that_says_its_length_is_read_as_it_comes() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % (len(STREAM) + 40)
    seen: list[str] = []
    shown = asyncio.Event()

    def show(delta: Delta) -> None:
        seen.append(delta.text)
        shown.set()

    async def script(turn: Turn) -> bytes | None:
        turn.writer.write(head + STREAM[: len(STREAM) // 2])
        await turn.writer.drain()
        await shown.wait()
        turn.writer.write(STREAM[len(STREAM) // 2 :])
        await turn.writer.drain()
        return None

    async with raw_server(script) as (_, url):
        done = await http_model(url).chat(REQUEST, emit=show)
        assert (done.text, "".join(seen)) == ("ab", "ab")
