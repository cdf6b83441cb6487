import asyncio
import gzip
import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from msgspec import structs

import local_servers
from local_servers import FAILURES, Handler, Unseen
from mixtura._version import __version__
from mixtura.chat import ChatRequest, Delta, JsonObject, Message
from mixtura.errors import (
    BrokenReplyError,
    ModelError,
    OverloadedError,
    RateLimitedError,
    UnauthorizedError,
    UnreachableError,
)
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.http import HttpModel, list_models
from mixtura.models.openai.pool import close_pool
from mixtura.models.openai.wire import Dialect
from mixtura.secret import Secret

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))


def reply(text: str = "hello") -> JsonObject:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "queue_time": 0.25}
    choices = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    return {"id": "c1", "model": "m", "choices": choices, "usage": usage}


def chunk(text: str, finish: str | None = None) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


UNSEEN = structs.replace(REQUEST, context=Unseen())


@asynccontextmanager
async def served(handler: Handler) -> AsyncGenerator[str]:
    """Serve every path with `handler`; the value is the base URL. A handler is cancelled when its client goes."""
    async with local_servers.served(handler) as url:
        yield f"{url}/v1"


def model(url: str, **fields: Any) -> HttpModel:
    return HttpModel(Endpoint(provider="groq", url=url, **fields), Dialect(), FAILURES)


async def answering(request: web.Request) -> web.StreamResponse:
    return web.json_response(reply())


async def started(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    return response


def streaming(*pieces: bytes) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await started(request)
        for piece in pieces:
            await response.write(piece)
        return response

    return handler


async def test_a_call_is_one_post_and_its_reply_a_completion() -> None:
    seen: list[tuple[str, str, dict[str, str], JsonObject]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path, dict(request.headers), await request.json()))
        return web.json_response(reply())

    async with served(handler) as url:
        await model(url).chat(REQUEST)
        assert "Authorization" not in seen.pop()[2]
        completion = await model(url, key=Secret("gsk_secret")).chat(REQUEST)
    assert (completion.text, completion.usage.prompt_tokens, completion.id) == ("hello", 3, "c1")
    assert completion.timing.total > 0
    assert (completion.timing.queue, completion.timing.first_token) == (0.25, None)
    [(method, path, headers, body)] = seen
    assert (method, path) == ("POST", "/v1/chat/completions")
    assert headers["Authorization"] == "Bearer gsk_secret"
    assert headers["User-Agent"] == f"mixtura/{__version__}"
    assert body == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def test_a_watched_call_is_streamed_piece_by_piece() -> None:
    second = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert (await request.json())["stream"] is True
        response = await started(request)
        await response.write(chunk("Hel"))
        await second.wait()
        await response.write(chunk("lo", "stop") + b"data: [DONE]\n\n")
        return response

    def emit(delta: Delta) -> None:
        seen.append(delta)
        second.set()

    seen: list[Delta] = []
    async with served(handler) as url:
        completion = await model(url).chat(REQUEST, emit=emit)
    assert seen == [Delta("Hel"), Delta("lo")]
    assert (completion.text, completion.finish_reason) == ("Hello", "stop")
    assert completion.timing.first_token is not None
    assert 0 < completion.timing.first_token <= completion.timing.total


async def test_a_server_that_does_not_stream_when_asked_is_read_all_the_same() -> None:
    seen: list[Delta] = []
    async with served(answering) as url:
        completion = await model(url).chat(REQUEST, emit=seen.append)
    assert (seen, completion.text) == ([Delta("hello")], "hello")


async def test_a_server_that_streams_unasked_is_read_all_the_same() -> None:
    async with served(streaming(chunk("hel"), chunk("lo", "stop"))) as url:
        assert (await model(url).chat(REQUEST)).text == "hello"


@pytest.mark.parametrize("kind", ["Text/Event-Stream", "text/plain", ""])
@pytest.mark.parametrize("watched", [True, False])
async def test_a_stream_is_known_by_what_it_is_where_its_type_is_written_oddly(kind: str, watched: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = chunk("hel") + chunk("lo", "stop") + b"data: [DONE]\n\n"
        response = web.Response(body=body, headers={"Content-Type": kind} if kind else None)
        if not kind:
            response.headers.popall("Content-Type", None)
        return response

    seen: list[Delta] = []
    async with served(handler) as url:
        completion = await model(url).chat(REQUEST if watched else UNSEEN, emit=seen.append if watched else None)
    assert completion.text == "hello"
    assert "".join(delta.text for delta in seen) == ("hello" if watched else "")


LIVE = pytest.mark.parametrize(
    ("kind", "before", "between"),
    [
        ("text/event-stream", b"", b""),
        ("text/plain; charset=utf-8", b"", b""),
        ("application/json", b"", b"data:\n\n"),
        ("", b": hi\n\n", b": hi\n\n"),
        ("text/html", b"\xef\xbb\xbf\n", b"event: ping\ndata: x\n\n"),
        ("application/octet-stream", b"id: 7\n", b""),
        ("text/event-stream", b"event: message\n", b"data: null\n\n"),
    ],
)


@LIVE
async def test_a_stream_is_shown_as_it_comes_whatever_its_type(kind: str, before: bytes, between: bytes) -> None:
    shown = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind} if kind else None)
        await response.prepare(request)
        # The first bytes alone do not say what comes.
        for piece in (before[:1], before[1:], b"da", chunk("Hel")[2:], between):
            await response.write(piece)
            await asyncio.sleep(0)
        await asyncio.wait_for(shown.wait(), 5)
        await response.write(chunk("lo", "stop") + b"data: [DONE]\n\n")
        return response

    def emit(delta: Delta) -> None:
        seen.append(delta)
        shown.set()

    seen: list[Delta] = []
    async with served(handler) as url:
        completion = await model(url).chat(REQUEST, emit=emit)
    assert seen == [Delta("Hel"), Delta("lo")]
    assert (completion.text, completion.finish_reason, completion.warnings) == ("Hello", "stop", ())


async def test_json_lines_are_shown_as_they_come() -> None:
    shown = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(chunk("Hel")[6:-1])
        await asyncio.wait_for(shown.wait(), 5)
        await response.write(chunk("lo", "stop")[6:-1])
        return response

    def emit(delta: Delta) -> None:
        seen.append(delta)
        shown.set()

    seen: list[Delta] = []
    async with served(handler) as url:
        assert (await model(url).chat(REQUEST, emit=emit)).text == "Hello"
    assert [delta.text for delta in seen] == ["Hel", "lo"]


LINES = (chunk("hel") + chunk("lo", "stop")).replace(b"data: ", b"").replace(b"\n\n", b"\n")
LISTED = b"[%b]" % b",".join(LINES.splitlines())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(json.dumps(reply()).encode(), id="whole"),
        pytest.param(b"\xef\xbb\xbf\n" + json.dumps(reply(), indent=1).encode() + b"\n\n", id="whole, over many lines"),
        pytest.param(json.dumps(reply()).encode() + b"\n<!-- served by node 7 -->", id="whole, with words behind it"),
        pytest.param(json.dumps([reply()]).encode(), id="whole, in a list"),
        pytest.param(LINES, id="lines"),
        pytest.param(LINES.replace(b"\n", b"\r\n"), id="lines with CR"),
        pytest.param(b"INFO: loading\n" + LINES, id="lines behind a log"),
        pytest.param(LISTED, id="list"),
        pytest.param(json.dumps(json.loads(LISTED), indent=2).encode(), id="list over many lines"),
        pytest.param(b"WARNING: slow\n" + chunk("hello", "stop"), id="stream behind a log"),
        pytest.param(b"  " + chunk("hello", "stop"), id="stream behind blanks"),
        pytest.param(
            chunk("hello", "stop").replace(b"data: ", b"retry: 3\ndata:"), id="stream that names a pause first"
        ),
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
async def test_a_reply_is_read_as_what_it_is_however_it_was_asked_for(body: bytes, kind: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Type": kind})

    seen: list[Delta] = []
    async with served(handler) as url:
        whole = await model(url).chat(REQUEST)
        watched = await model(url).chat(REQUEST, emit=seen.append)
        late = await model(url).chat(UNSEEN)
    assert [one.text for one in (whole, watched, late)] == ["hello"] * 3
    assert "".join(delta.text for delta in seen) == "hello"


@pytest.mark.parametrize(
    ("body", "alike"),
    [
        (b'{"choices":[]}', True),
        (b"<html>hello</html>", True),
        (b"nothing", True),
        (b"", True),
        (b"{}", True),
        (b'{"choices":[{"message":{"content":"hal', False),
        (chunk("half"), False),
        (b"data: [DONE]\n\n", True),
        (b'data: {"other":"x"}\n\ndata: [DONE]\n\n', True),
        (b"data: oops\n\n", True),
    ],
)
@pytest.mark.parametrize("watched", [True, False])
async def test_a_broken_reply_says_whether_the_next_one_will_look_the_same(
    body: bytes, *, alike: bool, watched: bool
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    async with served(handler) as url:
        with pytest.raises(BrokenReplyError) as caught:
            await model(url).chat(REQUEST, emit=(lambda delta: None) if watched else None)
    assert caught.value.alike is alike


@pytest.mark.parametrize(("status", "said"), [(204, "an empty body"), (304, "304")])
@pytest.mark.parametrize("watched", [True, False])
async def test_a_status_that_has_no_body_is_told_as_such(status: int, said: str, watched: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with served(handler) as url:
        with pytest.raises(ModelError, match=said):
            await model(url).chat(REQUEST, emit=(lambda delta: None) if watched else None)


async def test_connections_are_kept_and_shared_by_all_models() -> None:
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.StreamResponse:
        peers.add(request.transport and request.transport.get_extra_info("peername"))
        if not (await request.json()).get("stream"):
            return web.json_response(reply())
        response = await started(request)
        await response.write(chunk("x", "stop") + b"data: [DONE]\n\n")
        return response

    async with served(handler) as url:
        for _ in range(3):
            await model(url).chat(REQUEST)
            await model(url).chat(REQUEST, emit=lambda delta: None)
    assert len(peers) == 1


async def test_a_failing_status_is_the_error_it_means() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = {"error": {"message": "slow down", "type": "tokens", "code": "rate_limit_exceeded"}}
        return web.json_response(body, status=429, headers={"Retry-After": "7.66"})

    async with served(handler) as url:
        with pytest.raises(RateLimitedError, match="slow down") as caught:
            await model(url).chat(REQUEST)
        assert caught.value.retry_after == 7.66
        with pytest.raises(RateLimitedError):
            await model(url).chat(REQUEST, emit=lambda delta: None)


async def test_a_redirect_is_not_followed_so_that_the_key_stays_here() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://127.0.0.1:1/elsewhere")

    async with served(handler) as url:
        with pytest.raises(ModelError, match="redirected to"):
            await model(url, key=Secret("k")).chat(REQUEST)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"<html>hello</html>", BrokenReplyError, "a web page"),
        (b'{"choices":[]}', BrokenReplyError, "without choices"),
        (b"", BrokenReplyError, "an empty body"),
        (b'{"error":{"message":"busy","status_code":503}}', OverloadedError, "busy"),
        (b"data: {oops\n\n", BrokenReplyError, "not a completion"),
    ],
)
async def test_a_success_without_a_completion_is_an_error(body: bytes, kind: type[ModelError], said: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    async with served(handler) as url:
        with pytest.raises(kind, match=said):
            await model(url).chat(REQUEST)


async def test_an_error_inside_a_stream_is_raised_after_what_was_shown() -> None:
    error = b'event: error\ndata: {"error":{"message":"bad key","code":"invalid_api_key","status_code":401}}\n\n'
    seen: list[Delta] = []
    async with served(streaming(chunk("half"), error)) as url:
        with pytest.raises(UnauthorizedError, match="bad key"):
            await model(url).chat(REQUEST, emit=seen.append)
    assert seen == [Delta("half")]


async def test_a_stream_that_ends_half_way_is_a_broken_reply() -> None:
    async with served(streaming(chunk("half"))) as url:
        with pytest.raises(BrokenReplyError, match="before the answer was whole"):
            await model(url).chat(REQUEST, emit=lambda delta: None)


async def test_a_last_event_without_its_blank_line_is_shown_too() -> None:
    seen: list[Delta] = []
    async with served(streaming(chunk("a"), chunk("b", "stop").rstrip())) as url:
        completion = await model(url).chat(REQUEST, emit=seen.append)
    assert (seen, completion.text) == ([Delta("a"), Delta("b")], "ab")


async def test_a_connection_cut_half_way_is_unreachable() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await started(request)
        await response.write(chunk("half"))
        assert request.transport is not None
        request.transport.abort()
        return response

    async with served(handler) as url:
        with pytest.raises(UnreachableError, match="broke before the answer was whole"):
            await model(url).chat(REQUEST, emit=lambda delta: None)
        with pytest.raises(UnreachableError, match="broke before the answer was whole"):
            await model(url).chat(REQUEST)


@pytest.mark.parametrize("watched", [True, False])
async def test_a_connection_cut_behind_the_last_word_takes_nothing_of_the_answer(watched: bool) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await started(request)
        await response.write(chunk("whole", "stop"))
        await asyncio.sleep(0.05)
        assert request.transport is not None
        request.transport.abort()
        return response

    async with served(handler) as url:
        completion = await model(url).chat(
            REQUEST if watched else UNSEEN, emit=(lambda delta: None) if watched else None
        )
    assert (completion.text, completion.finish_reason) == ("whole", "stop")


async def test_a_stream_that_stays_open_after_done_does_not_hold_its_answer_back() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await started(request)
        await response.write(chunk("x", "stop") + b"data: [DONE]\n\n")
        await asyncio.sleep(3600)
        return response

    async with served(handler) as url:
        assert (await model(url).chat(REQUEST, emit=lambda delta: None)).text == "x"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_reply_over_the_limit_is_refused(streamed: bool) -> None:
    asked = structs.replace(REQUEST, max_tokens=1024)
    async with served(streaming(*[b": " + b"x" * 65536 + b"\n\n"] * 170)) as url:
        with pytest.raises(BrokenReplyError, match=r"more than [\d.]+ MB where 1,024 tokens were allowed"):
            await model(url).chat(asked, emit=(lambda delta: None) if streamed else None)


async def test_a_compressed_reply_is_measured_unpacked() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        packed = gzip.compress(b" " * (16 << 20))
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with served(handler) as url:
        with pytest.raises(BrokenReplyError, match=r"more than 8\.12 MB"):
            await model(url).chat(structs.replace(REQUEST, max_tokens=1024))


async def test_a_line_without_end_is_a_broken_reply() -> None:
    async with served(streaming(*[b"x" * (1 << 20)] * 9)) as url:
        with pytest.raises(BrokenReplyError, match="longer than 8388608 bytes"):
            await model(url).chat(REQUEST, emit=lambda delta: None)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("answering_already", [False, True])
async def test_a_cancelled_call_closes_its_connection(watched: bool, answering_already: bool) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if answering_already:
            await (await started(request)).write(chunk("half"))
        arrived.set()
        try:
            await asyncio.sleep(3600)
        finally:
            gone.set()
        raise AssertionError

    async with served(handler) as url:
        call = asyncio.ensure_future(model(url).chat(REQUEST, emit=(lambda delta: None) if watched else None))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await gone.wait()


async def test_a_refused_connection_says_where_nothing_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError, match=rf"nothing answers at 127.0.0.1:{port} .*is it running"):
        await model(f"http://127.0.0.1:{port}/v1").chat(REQUEST)


async def test_a_name_that_cannot_be_resolved_says_so() -> None:
    with pytest.raises(UnreachableError, match=r"the name 'nowhere.invalid' could not be resolved"):
        await model("http://nowhere.invalid/v1").chat(REQUEST)


async def test_tls_with_a_plain_server_says_so() -> None:
    async with served(answering) as url:
        with pytest.raises(UnreachableError, match="https:// where http:// is meant"):
            await model(url.replace("http:", "https:")).chat(REQUEST)


async def test_a_server_that_does_not_speak_http_says_so() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-hello\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UnreachableError, match="does not answer in HTTP"):
            await model(f"http://127.0.0.1:{port}/v1").chat(REQUEST)
    await close_pool()


async def test_a_proxy_is_asked_for_the_address_behind_it() -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(str(request.url))
        return web.json_response(reply())

    async with served(handler) as url:
        await model("http://nowhere.invalid/v1", proxy=url.removesuffix("/v1")).chat(REQUEST)
    assert asked == ["http://nowhere.invalid/v1/chat/completions"]


async def test_the_provider_s_models_are_listed() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert (request.method, request.path) == ("GET", "/v1/models")
        return web.json_response({"object": "list", "data": [{"id": "a"}, {"id": "b"}]})

    async with served(handler) as url:
        rows = await list_models(Endpoint(provider="groq", url=url), FAILURES)
    assert rows == [{"id": "a"}, {"id": "b"}]


async def test_of_a_long_error_the_beginning_is_read() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        await response.prepare(request)
        for _ in range(20):
            await response.write(b"very busy " * 2000)
        return response

    async with served(handler) as url:
        with pytest.raises(OverloadedError, match="very busy very busy"):
            await model(url).chat(REQUEST)


async def test_a_whole_reply_that_is_none_is_billed_for_its_prompt_by_estimate() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text="what?")

    async with served(handler) as url:
        with pytest.raises(BrokenReplyError) as caught:
            await model(url).chat(REQUEST)
    usage = caught.value.usage
    assert usage is not None
    assert (usage.completion_tokens, usage.estimated) == (0, True)


async def test_what_a_broken_reply_says_of_its_usage_is_marked_as_estimated() -> None:
    body = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}}

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(body)

    async with served(handler) as url:
        with pytest.raises(ModelError) as caught:
            await model(url).chat(REQUEST)
    assert caught.value.usage is not None
    assert (caught.value.usage.prompt_tokens, caught.value.usage.estimated) == (9, True)


async def test_a_list_of_models_that_cannot_be_had_is_the_error_it_means() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == "Bearer good":
            return web.Response(text="what?")
        return web.json_response({"error": {"message": "Invalid API Key"}}, status=401)

    async with served(handler) as url:
        with pytest.raises(UnauthorizedError, match="Invalid API Key") as caught:
            await list_models(Endpoint(provider="groq", url=url, key=Secret("bad")), FAILURES)
        assert caught.value.model == "its list of models"
        with pytest.raises(BrokenReplyError, match="not a list of models") as broken:
            await list_models(Endpoint(provider="groq", url=url, key=Secret("good")), FAILURES)
        assert broken.value.model == "its list of models"
    with pytest.raises(UnreachableError):
        await list_models(Endpoint(provider="groq", url="http://nowhere.invalid"), FAILURES)


def test_the_http_library_is_loaded_by_the_first_call_only() -> None:
    code = """
        import sys
        import mixtura.models.registry
        mixtura.models.registry.ModelRegistry(env={"GROQ_API_KEY": "k"}).find("groq", "m")
        print("aiohttp" in sys.modules)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
