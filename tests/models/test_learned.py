"""What a server refuses is not sent again, and a client's server decides what is sent at first."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import openai
import pytest
from aiohttp import web

from mixtura import ChatOptions, Mixture, Recipe
from mixtura.chat import JsonObject
from mixtura.errors import BadGenerationError, ConfigError, NoAnswerError, RejectedError
from mixtura.models.openai.learned import without_refused
from mixtura.models.openai.wire import Dialect

GROQ = Dialect(max_tokens="max_completion_tokens", usage_option=True, reasoning="include_reasoning")
ONE = Recipe.from_toml('[[proposers]]\nmodel = "openai/gpt-oss-20b"\nmax_tokens = 50\nreasoning_effort = "low"\n')


def completion(text: str = "hello") -> JsonObject:
    message = {"role": "assistant", "content": text}
    return {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


@asynccontextmanager
async def server(
    refused: tuple[str, ...], words: str, status: int = 400
) -> AsyncIterator[tuple[str, list[JsonObject]]]:
    """Serve completions to requests that hold none of `refused`; give the address and the bodies."""
    bodies: list[JsonObject] = []

    async def answer(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        wrong = [name for name in refused if name in bodies[-1]]
        if wrong:
            return web.json_response({"error": {"message": words.format(wrong[0], ", ".join(wrong))}}, status=400)
        return web.json_response(completion())

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", bodies
    finally:
        await runner.cleanup()


WORDS = [
    "Unsupported parameter: '{0}' is not supported with this model.",
    "Unrecognized request argument supplied: {0}",
    "Unrecognized request arguments supplied: {1}",
    "Unknown parameter: '{0}'.",
    "[{{'type': 'extra_forbidden', 'loc': ['body', '{0}'], 'msg': 'Extra inputs are not permitted'}}]",
]


@pytest.mark.parametrize("words", WORDS)
async def test_fields_that_nobody_asked_for_are_given_up_when_a_server_refuses_them(words: str) -> None:
    refused = ("include_reasoning", "reasoning_effort", "max_completion_tokens")
    async with server(refused, words) as (url, bodies):
        mixture = Mixture(ONE, env={"GROQ_BASE_URL": url, "GROQ_API_KEY": "gsk_x"})
        assert (await mixture.ask("Why?")).status == "ok"
        first = len(bodies)
        assert (await mixture.ask("Why?")).status == "ok"
    assert first <= 4
    assert len(bodies) == first + 1
    assert bodies[-1]["max_tokens"] == 50
    assert not bodies[-1].keys() & set(refused)


async def test_what_the_caller_asked_for_is_not_given_up() -> None:
    async with server(("temperature",), WORDS[1]) as (url, bodies):
        recipe = Recipe.from_toml('[[proposers]]\nmodel = "m"\ntemperature = 0.5\n')
        with pytest.raises(NoAnswerError, match="Unrecognized request argument supplied: temperature"):
            await Mixture(recipe, env={"GROQ_BASE_URL": url, "GROQ_API_KEY": "gsk_x"}).ask("Why?")
    assert len(bodies) == 1


@pytest.mark.parametrize(
    ("said", "lesser"),
    [
        ("'max_completion_tokens' is not supported; use 'max_tokens'", {"max_tokens": "max_tokens"}),
        ("'max_tokens' is not supported; use 'max_completion_tokens'", None),
        ("Unknown parameters: stream_options, include_reasoning", {"usage_option": False, "reasoning": ""}),
        ("max_completion_tokens must be at most 4096", None),
        ("Unknown parameter: logit_bias", None),
    ],
)
def test_a_refusal_is_read_by_the_first_limit_it_names(said: str, lesser: dict[str, Any] | None) -> None:
    found = without_refused(GROQ, RejectedError("groq", "m", said, status=400))
    assert (found is None) is (lesser is None)
    for name, value in (lesser or {}).items():
        assert getattr(found, name) == value


@pytest.mark.parametrize(("version", "limit"), [("2024-02-01", "max_tokens"), ("2024-10-21", "max_completion_tokens")])
async def test_azure_is_sent_no_field_that_it_refuses(version: str, limit: str) -> None:
    async with server((), "") as (url, bodies):
        client = openai.AsyncAzureOpenAI(api_key="k", azure_endpoint=url, api_version=version)
        answer = await Mixture(ONE, client=client).ask("Why?")
        await client.close()
    assert answer.status == "ok"
    assert bodies[0].keys() == {"model", "messages", limit, "reasoning_effort"}


async def test_a_create_of_keywords_gets_stream_by_its_name() -> None:
    calls: list[JsonObject] = []

    class Completions:
        async def create(self, messages: object, model: str | None = None, **kwargs: Any) -> object:
            calls.append(kwargs)
            if not kwargs.get("stream"):
                return completion()

            async def chunks() -> AsyncIterator[JsonObject]:
                choice = {"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}
                yield {"id": "c", "choices": [choice]}

            return chunks()

    client = SimpleNamespace(chat=SimpleNamespace(completions=Completions()))
    async with Mixture(ONE, client=client).stream("Why?") as events:
        async for _ in events:
            pass
    assert calls[0]["stream"] is True
    assert "stream" not in calls[0].get("extra_body", {})
    assert calls[0]["max_completion_tokens"] == 50


class ChatOpenAI:
    """As LangChain's: it keeps its SDK client, and the resource of its completions."""

    def __init__(self) -> None:
        self.root_async_client = openai.AsyncOpenAI(api_key="k")
        self.async_client = self.root_async_client.chat.completions


class OpenAIChatModel:
    """As pydantic-ai's."""

    def __init__(self) -> None:
        self.client = openai.AsyncOpenAI(api_key="k")


class Agent:
    def __init__(self) -> None:
        self.model = OpenAIChatModel()


ChatGroq = type("ChatGroq", (), {"__module__": "langchain_groq.chat_models"})


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (ChatOpenAI(), r"its `\.root_async_client`, which is a AsyncOpenAI"),
        (OpenAIChatModel(), r"its `\.client`"),
        (Agent(), r"its `\.model\.client`"),
        (ChatOpenAI().async_client, r"its `\._client`"),
        (ChatGroq(), r"client=groq\.AsyncGroq"),
        (ModuleType("litellm"), r"LiteLLM is asked through its proxy"),
        (object(), r"client=openai\.AsyncOpenAI.*docs/library\.md"),
    ],
)
def test_an_object_of_another_library_is_told_what_works(thing: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Mixture(ONE, client=thing)
    with pytest.raises(ConfigError, match="hand in an object with `find`"):
        Mixture(ONE, models=thing)  # type: ignore[arg-type]


def test_the_client_that_an_error_names_works() -> None:
    Mixture(ONE, client=ChatOpenAI().root_async_client)


async def test_what_a_model_had_generated_is_kept_by_the_error() -> None:
    """Words in place of a call that is required are no answer."""
    written = '<function=look_up>{"city": "Par'
    error = {"message": "Failed to call a function.", "code": "tool_use_failed", "failed_generation": written}

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": error}, status=400)

    app = web.Application()
    app.router.add_post("/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    env = {"GROQ_BASE_URL": f"http://127.0.0.1:{runner.addresses[0][1]}", "GROQ_API_KEY": "gsk_x"}
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}

    with pytest.raises(NoAnswerError) as failed:
        await Mixture(ONE, env=env).ask("Why?", options=ChatOptions(tools=[tool], tool_choice="required"))
    await runner.cleanup()
    cause: BaseException | None = failed.value
    while cause is not None and not isinstance(cause, BadGenerationError):
        cause = cause.__cause__
    assert isinstance(cause, BadGenerationError)
    assert cause.failed_generation == written
    assert failed.value.answer is not None
    assert failed.value.answer.text == ""
