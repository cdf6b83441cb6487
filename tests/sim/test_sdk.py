"""The official groq and openai clients, unmodified, against the simulated cloud."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import groq
import openai
import pytest

from mixtura.limits.window import Limits
from mixtura.sim import Reply, SimOptions, SimulatedCloud, ToolCall, simulated_cloud
from mixtura.sim.replies import SIMULATED

LLAMA, OSS = "llama-3.1-8b-instant", "openai/gpt-oss-20b"
USER: list[Any] = [{"role": "user", "content": "Say hi"}]


@asynccontextmanager
async def _groq(timeout: float = 20, **options: Any) -> AsyncIterator[tuple[groq.AsyncGroq, SimulatedCloud]]:
    async with simulated_cloud(SimOptions(**options)) as cloud:
        client = groq.AsyncGroq(api_key="gsk_test", base_url=cloud.url, max_retries=0, timeout=timeout)
        async with client:
            yield client, cloud


@asynccontextmanager
async def _openai(**options: Any) -> AsyncIterator[tuple[openai.AsyncOpenAI, SimulatedCloud]]:
    async with simulated_cloud(SimOptions(**options)) as cloud:
        client = openai.AsyncOpenAI(api_key="gsk_test", base_url=cloud.base_url, max_retries=0, timeout=20)
        async with client:
            yield client, cloud


@contextmanager
def _sync_groq(url: str, **more: Any) -> Iterator[groq.Groq]:
    with groq.Groq(api_key="gsk_test", base_url=url, timeout=20, **more) as client:
        yield client


async def test_groq_reads_a_whole_reply() -> None:
    async with _groq() as (client, cloud):
        completion = await client.chat.completions.create(model=LLAMA, messages=USER, max_completion_tokens=100)
    assert completion.choices[0].message.content == f"{SIMULATED} (Call 1.)"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.total_tokens == cloud.ledger.total_tokens
    assert completion.x_groq is not None
    assert completion.x_groq.id.startswith("req_")


async def test_groq_reads_a_stream_and_its_usage() -> None:
    async with _groq() as (client, _):
        stream = await client.chat.completions.create(model=LLAMA, messages=USER, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == f"{SIMULATED} (Call 1.)"
    assert chunks[-1].x_groq is not None
    assert chunks[-1].x_groq.usage is not None
    assert chunks[-1].x_groq.usage.completion_tokens == len(chunks) - 1


async def test_groq_reads_raw_headers() -> None:
    async with _groq() as (client, _):
        raw = await client.chat.completions.with_raw_response.create(model=LLAMA, messages=USER)
        completion = await raw.parse()
        assert raw.headers["x-ratelimit-limit-requests"] == "14400"
        assert completion.x_groq is not None
        assert raw.headers["x-request-id"] == completion.x_groq.id


async def test_groq_reads_reasoning_and_tool_calls() -> None:
    reply = Reply(text=None, reasoning="Look it up", tool_calls=(ToolCall(name="w", arguments='{"a":1}'),))
    async with _groq(reply=lambda request, call: reply) as (client, _):
        completion = await client.chat.completions.create(model=OSS, messages=USER, reasoning_effort="low")
        stream = await client.chat.completions.create(model=OSS, messages=USER, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]
    message = completion.choices[0].message
    assert message.reasoning == "Look it up"
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"a":1}'
    assert "".join(delta.reasoning or "" for delta in deltas) == "Look it up"
    assert [str(delta.tool_calls[0].id)[:3] for delta in deltas if delta.tool_calls] == ["fc_"]


async def test_groq_lists_models_and_finds_one() -> None:
    async with _groq() as (client, _):
        listed = await client.models.list()
        one = await client.models.retrieve(OSS)
        with pytest.raises(groq.NotFoundError):
            await client.models.retrieve("nope")
    assert LLAMA in [row.id for row in listed.data]
    assert one.owned_by == "OpenAI"


async def test_the_synchronous_groq_client_works_too() -> None:
    def ask(url: str) -> tuple[str | None, str]:
        with _sync_groq(url) as client:
            whole = client.chat.completions.create(model=LLAMA, messages=USER)
            stream = client.chat.completions.create(model=LLAMA, messages=USER, stream=True)
            return whole.choices[0].message.content, "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    async with simulated_cloud() as cloud:
        assert await asyncio.to_thread(ask, cloud.url) == (f"{SIMULATED} (Call 1.)", f"{SIMULATED} (Call 2.)")


async def test_groqs_environment_variable_is_enough_to_point_a_program_here(monkeypatch: pytest.MonkeyPatch) -> None:
    async with simulated_cloud() as cloud:
        monkeypatch.setenv("GROQ_BASE_URL", cloud.url)
        monkeypatch.setenv("GROQ_API_KEY", "gsk_env")
        async with groq.AsyncGroq() as client:
            assert (await client.chat.completions.create(model=LLAMA, messages=USER)).choices
        assert cloud.ledger.calls == {LLAMA: 1}


async def test_groq_retries_a_rate_limit_as_the_header_says() -> None:
    async with simulated_cloud(SimOptions(faults="429=0.01@1,503@2")) as cloud:
        async with groq.AsyncGroq(api_key="k", base_url=cloud.url, max_retries=2) as client:
            await client.chat.completions.create(model=LLAMA, messages=USER)
        assert cloud.ledger.refused == {429: 1, 503: 1}


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("400", groq.BadRequestError, 400),
        ("decommissioned", groq.BadRequestError, 400),
        ("401", groq.AuthenticationError, 401),
        ("403", groq.PermissionDeniedError, 403),
        ("404", groq.NotFoundError, 404),
        ("413", groq.APIStatusError, 413),
        ("429=61", groq.RateLimitError, 429),
        ("498", groq.APIStatusError, 498),
        ("409", groq.ConflictError, 409),
        ("422", groq.UnprocessableEntityError, 422),
        ("500", groq.InternalServerError, 500),
        ("502", groq.InternalServerError, 502),
        ("503", groq.InternalServerError, 503),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_each_status_becomes_groqs_own_error(
    fault: str, error: type[groq.APIStatusError], status: int, stream: bool
) -> None:
    async with _groq(faults=fault) as (client, _):
        with pytest.raises(groq.APIStatusError) as caught:
            await client.chat.completions.create(model=LLAMA, messages=USER, stream=stream)
    assert type(caught.value) is error
    assert caught.value.status_code == status
    if status != 502:
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["error"]["message"]


async def test_real_refusals_become_groqs_own_errors() -> None:
    async with _groq(limits={"*": Limits(rpm=1)}, keys={"gsk_test": "us"}) as (client, _):
        create = client.chat.completions.create
        with pytest.raises(groq.BadRequestError, match="model_decommissioned"):
            await create(model="llama3-8b-8192", messages=USER)
        with pytest.raises(groq.NotFoundError, match="model_not_found"):
            await create(model="none", messages=USER)
        with pytest.raises(groq.BadRequestError, match="'n' : number must be at most 1"):
            await create(model=LLAMA, messages=USER, n=2)
        await create(model=LLAMA, messages=USER)
        with pytest.raises(groq.RateLimitError, match="Please try again in 1m0s") as limited:
            await create(model=LLAMA, messages=USER, max_tokens=5)
        assert limited.value.response.headers["retry-after"] == "60"
        with pytest.raises(groq.AuthenticationError, match="Invalid API Key"):
            await client.with_options(api_key="gsk_wrong").chat.completions.create(model=LLAMA, messages=USER)
    async with _groq() as (client, _):
        with pytest.raises(groq.APIStatusError, match="Request too large for model") as large:
            await client.chat.completions.create(model=OSS, messages=USER, max_tokens=9000)
    assert large.value.status_code == 413


@pytest.mark.parametrize("fault", ["reset", "reset_headers", "cut"])
async def test_a_broken_connection_becomes_groqs_connection_error(fault: str) -> None:
    async with _groq(faults=fault) as (client, _):
        with pytest.raises(groq.APIConnectionError):
            await client.chat.completions.create(model=LLAMA, messages=USER)


@pytest.mark.parametrize("fault", ["silent", "stall"])
async def test_a_silent_cloud_becomes_groqs_timeout(fault: str) -> None:
    async with _groq(timeout=0.2, faults=fault) as (client, cloud):
        with pytest.raises(groq.APITimeoutError):
            await client.chat.completions.create(model=LLAMA, messages=USER)
        await cloud.ledger.wait_idle()
    assert cloud.ledger.aborted == 1


async def test_an_error_in_a_stream_becomes_groqs_api_error() -> None:
    async with _groq(faults="error_event=2") as (client, _):
        stream = await client.chat.completions.create(model=LLAMA, messages=USER, stream=True)
        with pytest.raises(groq.APIError, match="tool call validation failed") as caught:
            await _read_all(stream)
    assert type(caught.value) is groq.APIError


async def test_a_stream_left_early_is_counted_and_billed_for_what_was_sent() -> None:
    async with _groq(profile="fixed:30", tokens=3000) as (client, cloud):
        stream = await client.chat.completions.create(model=LLAMA, messages=USER, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await cloud.ledger.wait_idle()
    assert cloud.ledger.aborted == 1
    assert cloud.ledger.completion_tokens[LLAMA] < 1500


async def test_openai_reads_a_whole_reply_and_a_stream() -> None:
    async with _openai() as (client, cloud):
        whole = await client.chat.completions.create(model=LLAMA, messages=USER)
        stream = await client.chat.completions.create(
            model=LLAMA, messages=USER, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        raw = await client.chat.completions.with_raw_response.create(model=LLAMA, messages=USER)
    assert whole.choices[0].message.content == f"{SIMULATED} (Call 1.)"
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == f"{SIMULATED} (Call 2.)"
    )
    assert chunks[-1].usage == whole.usage
    assert raw.headers["x-ratelimit-remaining-requests"] == "14397"
    assert cloud.ledger.calls == {LLAMA: 3}


async def test_the_synchronous_openai_client_works_too() -> None:
    def ask(url: str) -> str | None:
        with openai.OpenAI(api_key="k", base_url=url, timeout=20) as client:
            return client.chat.completions.create(model=LLAMA, messages=USER).choices[0].message.content

    async with simulated_cloud() as cloud:
        assert await asyncio.to_thread(ask, f"{cloud.url}/v1") == f"{SIMULATED} (Call 1.)"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400", openai.BadRequestError),
        ("401", openai.AuthenticationError),
        ("403", openai.PermissionDeniedError),
        ("404", openai.NotFoundError),
        ("413", openai.APIStatusError),
        ("429", openai.RateLimitError),
        ("498", openai.APIStatusError),
        ("409", openai.ConflictError),
        ("422", openai.UnprocessableEntityError),
        ("503", openai.InternalServerError),
        ("reset", openai.APIConnectionError),
    ],
)
async def test_failures_become_openais_own_errors(fault: str, error: type[openai.APIError]) -> None:
    async with _openai(faults=fault) as (client, _):
        with pytest.raises(openai.APIError) as caught:
            await client.chat.completions.create(model=LLAMA, messages=USER)
    assert type(caught.value) is error


async def test_openai_meets_an_error_in_a_stream_and_a_timeout() -> None:
    async with _openai(faults="error_event=2@1,silent@2") as (client, _):
        stream = await client.chat.completions.create(model=LLAMA, messages=USER, stream=True)

        with pytest.raises(openai.APIError, match="tool call validation failed"):
            await _read_all(stream)
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.2).chat.completions.create(model=LLAMA, messages=USER)


async def _read_all(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


async def test_openai_cannot_embed_here() -> None:
    async with _openai() as (client, _):
        with pytest.raises(openai.NotFoundError, match="text-embedding-3-small` does not exist"):
            await client.embeddings.create(model="text-embedding-3-small", input="x")
