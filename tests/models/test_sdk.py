import asyncio
import datetime as dt
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import groq
import openai
import pytest
from aiohttp import web

from mixtura.chat import ChatOptions, ChatRequest, Delta, JsonObject, Message
from mixtura.errors import (
    BadGenerationError,
    BrokenReplyError,
    ConfigError,
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    UnauthorizedError,
    UnreachableError,
)
from mixtura.models.catalog import Catalog
from mixtura.models.openai.failures import Failures
from mixtura.models.openai.sdk import SdkClient, SdkModel
from mixtura.models.openai.wire import Dialect
from mixtura.models.threads import DaemonThreads

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),), max_tokens=9)
FAILURES = Failures("groq", Catalog.load(), lambda: dt.date(2026, 11, 21))
DIALECT = Dialect(max_tokens="max_completion_tokens", usage_option=True, reasoning="include_reasoning")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Make = Callable[[str], Any]


def async_groq(url: str) -> Any:
    return groq.AsyncGroq(api_key="gsk_x", base_url=url)


def sync_groq(url: str) -> Any:
    return groq.Groq(api_key="gsk_x", base_url=url)


def async_openai(url: str) -> Any:
    return openai.AsyncOpenAI(api_key="sk-x", base_url=f"{url}/openai/v1")


def sync_openai(url: str) -> Any:
    return openai.OpenAI(api_key="sk-x", base_url=f"{url}/openai/v1")


CLIENTS = pytest.mark.parametrize("make", [async_groq, sync_groq, async_openai, sync_openai])


@asynccontextmanager
async def served(handler: Handler, make: Make) -> AsyncGenerator[SdkModel]:
    """Serve chat completions with `handler`; the value is a model that calls it through the client of `make`."""
    app = web.Application()
    app.router.add_post("/openai/v1/chat/completions", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = make(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield SdkClient(client).model(DIALECT, FAILURES)
    finally:
        closing = client.close()
        if closing is not None:
            await closing
        await runner.cleanup()


def reply(text: str = "hello") -> JsonObject:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "reasoning": "hm"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "queue_time": 0.25},
        "x_groq": {"id": "req_1", "seed": 42},
    }


def chunk(text: str, finish: str | None = None, **fields: object) -> bytes:
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
        **fields,
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


async def started(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


@CLIENTS
async def test_any_of_the_usual_clients_answers(make: Make) -> None:
    bodies: list[JsonObject] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        bodies.append(await request.json())
        return web.json_response(reply())

    async with served(handler, make) as model:
        completion = await model.chat(REQUEST)
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("hello", "hm", "stop")
    assert (completion.usage.prompt_tokens, completion.usage.queue_time, completion.timing.queue) == (3, 0.25, 0.25)
    assert (completion.seed, completion.extra) == (42, {"request_id": "req_1"})
    assert completion.timing.total > 0
    assert bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hi"}],
            "max_completion_tokens": 9,
            "include_reasoning": True,
        }
    ]


@CLIENTS
async def test_any_of_the_usual_clients_streams(make: Make) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
        response = await started(request)
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        await response.write(chunk("Hel") + chunk("lo", "stop", usage=usage) + b"data: [DONE]\n\n")
        return response

    seen: list[Delta] = []
    async with served(handler, make) as model:
        completion = await model.chat(REQUEST, emit=seen.append)
    assert seen == [Delta("Hel"), Delta("lo")]
    assert (completion.text, completion.usage.completion_tokens, completion.usage.estimated) == ("Hello", 2, False)
    assert completion.timing.first_token is not None


@CLIENTS
@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"message": "Invalid API Key", "code": "invalid_api_key"}, UnauthorizedError),
        (404, {"message": "no such model", "code": "model_not_found"}, ModelGoneError),
        (429, {"message": "slow down", "code": "rate_limit_exceeded"}, RateLimitedError),
    ],
)
async def test_an_sdk_s_exception_is_the_error_it_means(
    make: Make, status: int, error: JsonObject, kind: type[ModelError]
) -> None:
    calls = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        return web.json_response({"error": error}, status=status, headers={"Retry-After": "61"})

    async with served(handler, make) as model:
        with pytest.raises(kind) as caught:
            await model.chat(REQUEST)
    assert (caught.value.status, caught.value.code, calls) == (status, error["code"], 1)
    assert caught.value.retry_after == (61.0 if status == 429 else None)


@CLIENTS
async def test_an_error_inside_a_stream_is_the_error_it_means(make: Make) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await started(request)
        error = {"error": {"message": "bad arguments", "code": "tool_use_failed", "status_code": 400}}
        await response.write(chunk("half") + b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n")
        return response

    async with served(handler, make) as model:
        with pytest.raises(BadGenerationError, match="bad arguments"):
            await model.chat(REQUEST, emit=lambda delta: None)


@CLIENTS
async def test_a_stream_cut_half_way_is_an_error_to_try_again(make: Make) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await started(request)
        await response.write(chunk("half"))
        assert request.transport is not None
        request.transport.abort()
        return response

    async with served(handler, make) as model:
        with pytest.raises(UnreachableError):
            await model.chat(REQUEST, emit=lambda delta: None)


@CLIENTS
async def test_a_server_that_is_not_there_is_unreachable(make: Make) -> None:
    client = make("http://127.0.0.1:9")
    with pytest.raises(UnreachableError):
        await SdkClient(client).model(DIALECT, FAILURES).chat(REQUEST)
    closing = client.close()
    if closing is not None:
        await closing


@CLIENTS
async def test_a_cancelled_stream_closes_its_connection(make: Make) -> None:
    gone = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await started(request)
        try:
            while True:
                await response.write(chunk("x"))
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            gone.set()
        return response

    async with served(handler, make) as model:
        first = asyncio.Event()
        call = asyncio.ensure_future(model.chat(REQUEST, emit=lambda delta: first.set()))
        await first.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await gone.wait()


async def test_calls_of_a_synchronous_client_run_at_the_same_time() -> None:
    arrived = 0
    all_here = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal arrived
        arrived += 1
        if arrived == 12:
            all_here.set()
        await all_here.wait()
        return web.json_response(reply())

    async with served(handler, sync_groq) as model:
        async with asyncio.timeout(30):
            completions = await asyncio.gather(*(model.chat(REQUEST) for _ in range(12)))
    assert [completion.text for completion in completions] == ["hello"] * 12


class Completions:
    """Has the signature of groq 0.13, which knows neither max_completion_tokens nor reasoning."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[JsonObject] = []

    def create(
        self,
        *,
        messages: list[JsonObject],
        model: str,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stream: bool = False,
        extra_body: JsonObject | None = None,
    ) -> object:
        given = {"max_tokens": max_tokens, "temperature": temperature, "extra_body": extra_body}
        self.asked.append({name: value for name, value in given.items() if value is not None})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def old_client(answer: object) -> tuple[Any, Completions]:
    completions = Completions(answer)
    return SimpleNamespace(chat=SimpleNamespace(completions=completions)), completions


async def test_fields_an_old_sdk_does_not_know_travel_in_the_extra_body() -> None:
    client, completions = old_client(reply())
    options = ChatOptions(extra={"service_tier": "flex"})
    request = ChatRequest(model="m", messages=REQUEST.messages, temperature=0.5, max_tokens=9, options=options)
    assert (await SdkClient(client).model(DIALECT, FAILURES).chat(request)).text == "hello"
    assert completions.asked == [
        {
            "temperature": 0.5,
            "extra_body": {"max_completion_tokens": 9, "include_reasoning": True, "service_tier": "flex"},
        }
    ]


async def test_a_reply_that_is_no_completion_is_a_broken_reply() -> None:
    for answer in (None, {"choices": []}, "text", object()):
        with pytest.raises(BrokenReplyError):
            await SdkClient(old_client(answer)[0]).model(DIALECT, FAILURES).chat(REQUEST)


async def test_a_stream_that_an_sdk_cannot_read_is_a_broken_reply() -> None:
    client, _ = old_client(json.JSONDecodeError("Expecting value", "x", 0))
    with pytest.raises(BrokenReplyError, match="could not read the reply"):
        await SdkClient(client).model(DIALECT, FAILURES).chat(REQUEST)


async def test_a_mistake_in_the_client_is_not_taken_for_a_failing_model() -> None:
    client, _ = old_client(KeyError("bug"))
    with pytest.raises(KeyError):
        await SdkClient(client).model(DIALECT, FAILURES).chat(REQUEST)


async def test_a_synchronous_stream_is_read_off_the_loop_and_closed() -> None:
    class Stream:
        def __init__(self) -> None:
            self.threads: set[int] = set()
            self.closed = False

        def __iter__(self) -> Iterator[JsonObject]:
            for text in ("a", "b"):
                self.threads.add(threading.get_ident())
                yield {"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]}

        def close(self) -> None:
            self.closed = True

    stream = Stream()
    client, _ = old_client(stream)
    seen: list[int] = []
    completion = (
        await SdkClient(client)
        .model(DIALECT, FAILURES)
        .chat(REQUEST, emit=lambda delta: seen.append(threading.get_ident()))
    )
    assert completion.text == "ab"
    assert seen == [threading.get_ident()] * 2
    assert stream.threads.isdisjoint(seen)
    assert stream.closed


async def test_an_asynchronous_stream_is_closed_even_when_it_breaks() -> None:
    class Stream:
        closed = False

        async def __aiter__(self) -> AsyncGenerator[JsonObject]:
            yield {"choices": [{"delta": {"content": "a"}}]}
            yield {"error": {"message": "over capacity", "status_code": 503}}

        async def close(self) -> None:
            self.closed = True

    async def create(**arguments: object) -> Stream:
        return stream

    stream = Stream()
    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    with pytest.raises(OverloadedError):
        await SdkClient(client).model(DIALECT, FAILURES).chat(REQUEST, emit=lambda delta: None)
    assert stream.closed


def test_an_object_that_is_no_client_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"a dict cannot be used as a client: it has no chat.completions.create"):
        SdkClient({})


def test_an_sdk_s_own_retries_are_switched_off_without_touching_the_user_s_client() -> None:
    client = groq.AsyncGroq(api_key="gsk_x")
    assert SdkClient(client).create.__self__._client.max_retries == 0  # type: ignore[attr-defined]
    assert client.max_retries == 2


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_client_that_hands_out_a_promise_or_a_plain_list_streams(awaited: bool) -> None:
    chunks = [{"choices": [{"delta": {"content": text}, "finish_reason": "stop"}]} for text in "ab"]

    async def promised(**arguments: object) -> list[JsonObject]:
        return chunks

    def create(**arguments: object) -> object:
        return promised() if awaited else chunks

    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create if awaited else promised)))
    seen: list[str] = []
    completion = (
        await SdkClient(client).model(DIALECT, FAILURES).chat(REQUEST, emit=lambda delta: seen.append(delta.text))
    )
    assert (completion.text, seen) == ("ab", ["a", "b"])


def test_a_client_that_stops_an_iteration_does_not_hang_its_caller() -> None:
    def stop() -> None:
        raise StopIteration(5)

    with pytest.raises(RuntimeError, match="StopIteration: 5"):
        DaemonThreads("test").submit(stop).result(5)
