"""The simulated cloud's bodies, chunks, ids and refusals, key for key as recorded from the real one."""

import asyncio
import datetime as dt
import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mixtura.models.catalog import Tier
from mixtura.sim import Reply, SimOptions, SimulatedCloud, ToolCall, serve, simulated_cloud

LLAMA, OSS, QWEN, KIMI = (
    "llama-3.1-8b-instant",
    "openai/gpt-oss-20b",
    "qwen/qwen3-32b",
    "moonshotai/kimi-k2-instruct-0905",
)
USAGE_KEYS = [
    "queue_time",
    "prompt_tokens",
    "prompt_time",
    "completion_tokens",
    "completion_time",
    "total_tokens",
    "total_time",
]
COMPLETION_KEYS = [
    "id",
    "object",
    "created",
    "model",
    "choices",
    "usage",
    "usage_breakdown",
    "system_fingerprint",
    "x_groq",
    "service_tier",
]
CHUNK_KEYS = ["id", "object", "created", "model", "system_fingerprint", "choices"]
CHOICE_KEYS = ["index", "delta", "logprobs", "finish_reason"]


Body = bytes | io.BytesIO | None


class WireReply:
    """A raw HTTP reply."""

    def __init__(self, status: int, headers: Any, raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def error(self) -> Any:
        return self.body["error"]

    @property
    def events(self) -> list[str]:
        return [part for part in self.raw.decode().split("\n\n") if part]

    @property
    def chunks(self) -> list[Any]:
        return [json.loads(event.removeprefix("data: ")) for event in self.events if event != "data: [DONE]"]


class Client:
    """A client of one running cloud."""

    def __init__(self, cloud: SimulatedCloud, session: aiohttp.ClientSession) -> None:
        self.cloud = cloud
        self._session = session

    async def ask(self, text: str = "Say hi", *, key: str = "gsk_test", **fields: Any) -> WireReply:
        body = {"model": LLAMA, "messages": [{"role": "user", "content": text}]} | fields
        return await self.send("POST", "/openai/v1/chat/completions", json.dumps(body).encode(), key=key)

    async def send(self, method: str, path: str, data: Body = None, *, key: str = "gsk_test") -> WireReply:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with self._session.request(method, self.cloud.url + path, data=data, headers=headers) as response:
            return WireReply(response.status, response.headers, await response.read())


@asynccontextmanager
async def client_of(**options: Any) -> AsyncIterator[Client]:
    async with simulated_cloud(SimOptions(**options)) as cloud, aiohttp.ClientSession() as session:
        yield Client(cloud, session)


async def test_a_whole_reply_has_the_recorded_keys_in_the_recorded_order() -> None:
    async with client_of(profile="lpu") as client:
        response = await client.ask("Tell me a joke about opentelemetry")
    body = response.body
    assert list(body) == COMPLETION_KEYS
    assert list(body["choices"][0]) == ["index", "message", "logprobs", "finish_reason"]
    assert list(body["choices"][0]["message"]) == ["role", "content"]
    assert list(body["usage"]) == USAGE_KEYS
    assert list(body["x_groq"]) == ["id", "seed"]
    assert (body["object"], body["usage_breakdown"], body["service_tier"]) == ("chat.completion", None, "on_demand")
    assert body["choices"][0]["finish_reason"] == "stop"
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", body["id"])
    assert re.fullmatch(r"req_0[0-9a-hjkmnp-tv-z]{25}", body["x_groq"]["id"])
    assert re.fullmatch(r"fp_[0-9a-f]{10}", body["system_fingerprint"])
    assert response.headers["x-request-id"] == body["x_groq"]["id"]
    assert response.headers["content-type"] == "application/json"
    assert body["usage"]["prompt_tokens"] == 18
    assert response.headers["x-ratelimit-remaining-tokens"] == "5987"


async def test_total_time_is_prompt_and_completion_time_to_the_nanosecond() -> None:
    async with client_of(profile="lpu", tokens=30, speed=100, unlimited=True) as client:
        for _ in range(5):
            usage = (await client.ask()).body["usage"]
            parts = [round(usage[name] * 1e9) for name in ("prompt_time", "completion_time", "total_time")]
            assert parts[0] + parts[1] == parts[2] > 0
            assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
            assert all(len(f"{usage[name]!r}".split(".")[-1]) <= 9 for name in USAGE_KEYS if "time" in name)


async def test_a_stream_has_the_recorded_chunks() -> None:
    async with client_of(reply=lambda request, call: "Olá!") as client:
        response = await client.ask(stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.raw.endswith(b"data: [DONE]\n\n")
    first, *middle, finish, usage = response.chunks
    assert list(first) == [*CHUNK_KEYS, "x_groq"]
    assert list(first["x_groq"]) == ["id", "seed"]
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert [chunk["choices"][0]["delta"] for chunk in middle] == [{"content": "Olá"}, {"content": "!"}]
    assert all(list(chunk) == CHUNK_KEYS and list(chunk["choices"][0]) == CHOICE_KEYS for chunk in middle)
    assert list(finish) == [*CHUNK_KEYS, "x_groq", "usage"]
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert list(finish["x_groq"]) == ["id", "usage"]
    assert finish["x_groq"]["usage"] == finish["usage"]
    assert list(usage) == [*CHUNK_KEYS, "usage", "service_tier"]
    assert (usage["choices"], usage["usage"]) == ([], finish["usage"])
    assert finish["usage"]["completion_tokens"] == 3, "the end mark counts as a token"
    assert len({chunk["id"] for chunk in response.chunks}) == 1


async def test_without_include_usage_the_finish_chunk_is_the_last() -> None:
    async with client_of() as client:
        response = await client.ask(stream=True)
    assert list(response.chunks[-1]) == [*CHUNK_KEYS, "x_groq", "usage"]


async def test_gpt_oss_streams_its_reasoning_on_a_channel_and_counts_it() -> None:
    async with client_of(reply=lambda request, call: Reply(text="Hi", reasoning="We greet")) as client:
        streamed = await client.ask(model=OSS, stream=True)
        whole = await client.ask(model=OSS)
        hidden = await client.ask(model=OSS, include_reasoning=False)
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed.chunks[1:-1]]
    assert deltas == [
        {"reasoning": "We", "channel": "analysis"},
        {"reasoning": " greet", "channel": "analysis"},
        {"content": "Hi"},
    ]
    message = whole.body["choices"][0]["message"]
    assert list(message.items()) == [("role", "assistant"), ("content", "Hi"), ("reasoning", "We greet")]
    for usage in (streamed.chunks[-1]["usage"], whole.body["usage"], hidden.body["usage"]):
        assert list(usage) == [*USAGE_KEYS, "completion_tokens_details"]
        assert usage["completion_tokens_details"] == {"reasoning_tokens": 2}
        assert usage["completion_tokens"] == 4
    assert hidden.body["choices"][0]["message"] == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reasoning_format": "raw"}, {"content": "<think>\nWe greet\n</think>\n\nHi"}),
        ({}, {"content": "<think>\nWe greet\n</think>\n\nHi"}),
        ({"reasoning_format": "parsed"}, {"content": "Hi", "reasoning": "We greet"}),
        ({"reasoning_format": "hidden"}, {"content": "Hi"}),
        ({"include_reasoning": False}, {"content": "Hi"}),
        ({"reasoning_effort": "none"}, {"content": "Hi"}),
    ],
)
async def test_reasoning_comes_in_the_format_asked_for(fields: dict[str, Any], message: dict[str, str]) -> None:
    async with client_of(reply=lambda request, call: Reply(text="Hi", reasoning="We greet")) as client:
        whole = await client.ask(model=QWEN, **fields)
        streamed = await client.ask(model=QWEN, stream=True, **fields)
    assert whole.body["choices"][0]["message"] == {"role": "assistant"} | message
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed.chunks]
    joined = {
        name: "".join(delta.get(name, "") for delta in deltas) for name in ("content", "reasoning") if name in message
    }
    assert joined == message


@pytest.mark.parametrize(
    ("model", "form"),
    [(OSS, r"fc_[0-9a-f-]{36}"), (KIMI, r"functions\.weather:0"), (LLAMA, r"[0-9a-z]{9}")],
)
async def test_a_tool_call_is_one_delta_with_an_id_of_the_models_family(model: str, form: str) -> None:
    arguments = '{"city":"Florence"}'
    reply = Reply(text=None, tool_calls=(ToolCall(name="weather", arguments=arguments),))
    async with client_of(reply=lambda request, call: reply) as client:
        whole = await client.ask(model=model)
        streamed = await client.ask(model=model, stream=True)
    choice = whole.body["choices"][0]
    assert list(choice["message"]) == ["role", "tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    (response,) = choice["message"]["tool_calls"]
    assert list(response) == ["id", "type", "function"]
    assert re.fullmatch(form, response["id"])
    assert response["function"] == {"name": "weather", "arguments": arguments}
    _, delta, finish = streamed.chunks
    (call,) = delta["choices"][0]["delta"]["tool_calls"]
    assert list(call) == ["id", "type", "function", "index"]
    assert call["function"]["arguments"] == arguments
    assert finish["choices"][0]["finish_reason"] == "tool_calls"


async def test_the_token_limit_cuts_and_says_so() -> None:
    async with client_of(tokens=50) as client:
        cut = (await client.ask(max_completion_tokens=7)).body
        whole = (await client.ask(max_tokens=51)).body
        thought = (await client.ask(model=OSS, max_tokens=3)).body
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 7)
    assert (whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]) == ("stop", 51)
    assert thought["choices"][0]["message"]["content"] == "", "reasoning used up the limit"
    assert thought["choices"][0]["finish_reason"] == "length"
    assert thought["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3


async def test_the_given_seed_comes_back_and_the_same_seed_of_a_cloud_gives_the_same_replies() -> None:
    raws = []
    for _ in range(2):
        async with client_of(tokens=20, seed=5) as client:
            raws.append((await client.ask()).body["choices"])
            assert (await client.ask(seed=42)).body["x_groq"]["seed"] == 42
    assert raws[0] == raws[1]


@pytest.mark.parametrize(
    ("model", "day", "plan", "status", "code"),
    [
        ("gemma2-9b-it", dt.date(2025, 10, 7), "free", 200, None),
        ("gemma2-9b-it", dt.date(2025, 10, 8), "free", 400, "model_decommissioned"),
        (LLAMA, dt.date(2026, 8, 15), "free", 200, None),
        (LLAMA, dt.date(2026, 8, 16), "free", 404, "model_not_found"),
        (LLAMA, dt.date(2026, 8, 16), "enterprise", 200, None),
        (OSS, dt.date(2025, 8, 4), "free", 404, "model_not_found"),
        ("non-existent", dt.date(2026, 1, 1), "enterprise", 404, "model_not_found"),
    ],
)
async def test_the_date_decides_which_models_are_served(
    model: str, day: dt.date, plan: Tier, status: int, code: str | None
) -> None:
    async with client_of(as_of=day, plan=plan) as client:
        response = await client.ask(model=model)
        listed = [row["id"] for row in (await client.send("GET", "/openai/v1/models")).body["data"]]
    assert response.status == status
    assert (model in listed) == (status == 200)
    if code:
        assert response.error["code"] == code


async def test_refusals_of_models_carry_the_recorded_words() -> None:
    async with client_of() as client:
        unknown = await client.ask(model="non-existent")
        gone = await client.ask(model="llama3-8b-8192")
    assert len(unknown.raw) == 153  # as recorded: the line feed counts
    assert unknown.raw == (
        b'{"error":{"message":"The model `non-existent` does not exist or you do not have access to it.",'
        b'"type":"invalid_request_error","code":"model_not_found"}}\n'
    )
    assert unknown.headers["cache-control"] == "private, max-age=0, no-store, no-cache, must-revalidate"
    assert gone.error["message"] == (
        "The model `llama3-8b-8192` has been decommissioned and is no longer supported. Please refer to "
        "https://console.groq.com/docs/deprecations for a recommendation on which model to use instead."
    )


async def test_declared_models_are_served_beside_the_catalogue() -> None:
    async with client_of(extra_models=("mine/model",)) as client:
        assert (await client.ask(model="mine/model")).status == 200
        row = (await client.send("GET", "/openai/v1/models/mine/model")).body
    assert list(row) == [
        "id",
        "object",
        "created",
        "owned_by",
        "active",
        "context_window",
        "public_apps",
        "max_completion_tokens",
    ]


async def test_only_accepted_keys_are_admitted() -> None:
    async with client_of(keys={"gsk_good": "ours"}) as client:
        assert (await client.ask(key="gsk_good")).status == 200
        bad = await client.ask(key="gsk_bad")
        none = await client.send("GET", "/openai/v1/models", key="")
    assert bad.status == none.status == 401
    assert bad.raw == (
        b'{"error":{"message":"Invalid API Key","type":"invalid_request_error","code":"invalid_api_key"}}\n'
    )


async def test_every_base_path_serves_and_unknown_ones_say_so() -> None:
    async with client_of() as client:
        body = json.dumps({"model": LLAMA, "messages": [{"role": "user", "content": "x"}]}).encode()
        for prefix in ("/openai/v1", "/v1", ""):
            assert (await client.send("POST", f"{prefix}/chat/completions", body)).status == 200
            assert (await client.send("GET", f"{prefix}/models/{OSS}")).body["owned_by"] == "OpenAI"
        response = await client.send("POST", "/openai/v1/chat", b"{}")
        embedding = await client.send("POST", "/openai/v1/embeddings", b'{"model":"e5","input":"x"}')
        garbled = await client.send("POST", "/openai/v1/embeddings", b"{")
        locked = [await client.send("POST", "/v1/embeddings", key=""), await client.send("GET", "/v1/models/x", key="")]
        missing = await client.send("GET", "/openai/v1/models/nope")
    assert (response.status, response.error["code"]) == (404, "unknown_url")
    assert response.error["message"].startswith("Unknown request URL: POST /openai/v1/chat. Please check the URL")
    assert (embedding.status, embedding.error["code"]) == (404, "model_not_found")
    assert missing.status == garbled.status == 404
    assert [response.status for response in locked] == [401, 401]


async def test_a_body_of_many_megabytes_is_too_large() -> None:
    async with client_of() as client:
        response = await client.send("POST", "/openai/v1/chat/completions", io.BytesIO(bytes(65 * 1024 * 1024)))
    assert (response.status, response.error["code"]) == (413, "request_too_large")


async def test_serving_says_where_and_lasts_until_it_is_cancelled() -> None:
    started: asyncio.Future[SimulatedCloud] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group, aiohttp.ClientSession() as session:
        serving = group.create_task(serve(SimOptions(), port=0, ready=started.set_result))
        cloud = await started
        assert cloud.url.startswith("http://127.0.0.1:")
        assert (await Client(cloud, session).ask()).status == 200
        serving.cancel()


async def test_received_bodies_can_be_read_back() -> None:
    async with client_of() as client:
        await client.ask("first")
        await client.ask("second", temperature=0.5)
        assert [body["messages"][-1]["content"] for body in client.cloud.requests] == ["first", "second"]
        assert client.cloud.requests[1]["temperature"] == 0.5


async def test_required_tools_and_json_modes_are_served_and_their_failures_are_errors() -> None:
    tool = {"type": "function", "function": {"name": "w", "parameters": {"properties": {"n": {"type": "integer"}}}}}
    schema = {"type": "object", "properties": {"tags": {"type": "array", "items": {"enum": ["a", "b"]}}}}
    as_schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    async with client_of() as client:
        called = await client.ask(tools=[tool], tool_choice="required")
        shaped = await client.ask(model=OSS, response_format=as_schema)
    assert called.body["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "w", "arguments": '{"n":1}'}
    assert json.loads(shaped.body["choices"][0]["message"]["content"]) == {"tags": ["a"]}
    async with client_of(reply=lambda request, call: "plain words") as client:
        refused = await client.ask(tools=[tool], tool_choice="required")
        broken = await client.ask(response_format={"type": "json_object"})
    assert (refused.status, refused.error["code"], refused.error["failed_generation"]) == (400, "tool_use_failed", "")
    assert (broken.error["code"], broken.error["failed_generation"]) == ("json_validate_failed", "plain words")


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
MISMATCH = (
    "Tool call validation failed: tool call validation failed: parameters for tool weather did not match schema: "
    "errors: [missing properties: 'city', additionalProperties 'town' not allowed]"
)


async def test_a_tool_call_that_does_not_match_is_refused_whole_and_ends_a_stream() -> None:
    def reply(_request: object, _call: int) -> Reply:
        return Reply(text=None, tool_calls=(ToolCall(name="weather", arguments='{"town": "Rome"}'),))

    async with client_of(reply=reply) as client:
        whole = await client.ask(tools=[WEATHER])
        stream = await client.ask(tools=[WEATHER], stream=True)
        unchecked = await client.ask(tools=[WEATHER], disable_tool_validation=True)
    assert (whole.status, whole.error["code"], whole.error["message"]) == (400, "tool_use_failed", MISMATCH)
    assert stream.status == 200
    assert b"[DONE]" not in stream.raw
    last = stream.raw.decode().strip().split("\n\n")[-1]
    assert last.startswith('event: error\ndata: {"error":')
    response = json.loads(last.partition("data: ")[2])["error"]
    assert list(response) == ["message", "type", "code", "failed_generation", "status_code"]
    assert (response["message"], response["status_code"]) == (MISMATCH, 400)
    assert unchecked.status == 200


async def test_json_that_is_cut_off_or_not_as_asked_is_a_failed_generation() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"required": ["a"]}}}
    async with client_of(reply=lambda _request, _call: '{"b": 1, "c": "two three four"}') as client:
        cut = await client.ask(response_format={"type": "json_object"}, max_tokens=3)
        other = await client.ask(model=OSS, response_format=schema)
        stream = await client.ask(response_format={"type": "json_object"}, stream=True, max_tokens=3)
        fine = await client.ask(response_format={"type": "json_object"})
    assert (cut.status, cut.error["code"]) == (400, "json_validate_failed")
    assert cut.error["failed_generation"] == "max completion tokens reached before generating a valid document"
    assert other.error["failed_generation"] == '{"b": 1, "c": "two three four"}'
    assert b"json_validate_failed" in stream.raw
    assert b"three" not in stream.raw.split(b"event: error")[0]
    assert fine.status == 200
