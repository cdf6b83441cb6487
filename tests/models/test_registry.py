import datetime as dt
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiohttp import web

from mixtura.chat import ChatRequest, JsonObject, Message
from mixtura.errors import ConfigError, MissingKeyError, ModelGoneError, UnreachableError
from mixtura.models.card import ModelCard
from mixtura.models.catalog import Catalog, CatalogModel, CatalogProvider
from mixtura.models.openai.pool import close_pool
from mixtura.models.registry import ModelRegistry
from mixtura.models.wrappers.retry import RetryPolicy
from mixtura.secret import NO_SECRET, Secret

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
QUICK = RetryPolicy(base=0.001)


def asked(model: str) -> ChatRequest:
    return ChatRequest(model=model, messages=(Message(role="user", content="hi"),))


def reply(text: str = "hello", model: str = "m") -> JsonObject:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 200}}
    return {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage, "model": model}


@asynccontextmanager
async def served(handler: Handler) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await close_pool()
        await runner.cleanup()


async def test_a_model_found_is_called_with_its_key_priced_and_its_thinking_apart() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.path == "/openai/v1/chat/completions"
        assert request.headers["Authorization"] == "Bearer gsk_x"
        assert (await request.json())["include_reasoning"] is True
        return web.json_response(reply("<think>hm</think>hello"))

    async with served(handler) as url:
        registry = ModelRegistry(env={"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": url})
        served_model = registry.find("groq", "openai/gpt-oss-120b")
        completion = await served_model.chat.chat(asked("openai/gpt-oss-120b"))
    assert (completion.text, completion.reasoning) == ("hello", "hm")
    assert completion.cost == pytest.approx((800 * 0.15 + 200 * 0.075 + 100 * 0.60) / 1e6)
    assert (served_model.card.window, served_model.card.reasons) == (131072, True)


async def test_a_model_without_a_price_has_no_cost() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(reply())

    async with served(handler) as url:
        found = ModelRegistry(env={}).find(f"{url}/v1", "whatever")
        assert (await found.chat.chat(asked("whatever"))).cost is None
        assert (found.card.id, found.card.provider, found.card.price) == ("whatever", f"{url}/v1", None)


async def test_any_base_url_is_a_provider_its_key_in_mixtura_api_key() -> None:
    paths: list[tuple[str, str | None]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        paths.append((request.path, request.headers.get("Authorization")))
        return web.json_response(reply())

    async with served(handler) as url:
        await ModelRegistry(env={}).find(f"{url}/v1/", "m").chat.chat(asked("m"))
        await ModelRegistry(env={"MIXTURA_API_KEY": "k"}).find(url, "m").chat.chat(asked("m"))
    # An address alone is where a server listens: its API is below that.
    assert paths == [("/v1/chat/completions", None), ("/v1/chat/completions", "Bearer k")]


async def test_a_passing_failure_is_tried_again_and_counted() -> None:
    calls = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal calls
        calls += 1
        if calls < 3:
            return web.json_response({"error": {"message": "over capacity"}}, status=503)
        return web.json_response(reply())

    async with served(handler) as url:
        registry = ModelRegistry(env={}, policy=QUICK, rng=random.Random(1))
        completion = await registry.find(url, "m").chat.chat(asked("m"))
    assert (completion.attempts, calls) == (3, 3)
    assert completion.timing.waited > 0


async def test_a_dead_model_s_error_knows_the_day() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = {"error": {"message": "gone", "code": "model_decommissioned"}}
        return web.json_response(body, status=400)

    async with served(handler) as url:
        registry = ModelRegistry(env={"GROQ_API_KEY": "k", "GROQ_BASE_URL": url}, today=lambda: dt.date(2026, 3, 1))
        with pytest.raises(ModelGoneError) as caught:
            await registry.find("groq", "gemma2-9b-it").chat.chat(asked("gemma2-9b-it"))
    assert caught.value.replacement == "llama-3.1-8b-instant"


def test_a_card_needs_neither_key_nor_provider() -> None:
    registry = ModelRegistry(env={})
    assert registry.card("groq", "openai/gpt-oss-20b").window == 131072
    assert registry.card("nobody", "x") == ModelCard(id="x", provider="nobody")


def test_each_model_is_made_once() -> None:
    registry = ModelRegistry(env={"GROQ_API_KEY": "k"})
    assert registry.find("groq", "a") is registry.find("groq", "a")
    assert registry.find("groq", "a") is not registry.find("groq", "b")


def test_a_missing_key_names_the_variable_where_keys_are_made_and_the_simulator() -> None:
    with pytest.raises(MissingKeyError) as caught:
        ModelRegistry(env={"GROQ_API_KEY": ""}).find("groq", "m")
    assert (caught.value.provider, caught.value.env) == ("groq", "GROQ_API_KEY")
    said = str(caught.value)
    assert "https://console.groq.com/keys" in said
    assert "mixtura ask --sim" in said


@pytest.mark.parametrize("key", ["gsk_x\n", " gsk_x", "gsk x", "gsk_é", "gsk\x00x", "gsk_\u200b"])
def test_a_key_that_can_be_none_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="GROQ_API_KEY") as caught:
        ModelRegistry(env={"GROQ_API_KEY": key}).find("groq", "m")
    assert "gsk" not in str(caught.value)


def test_a_local_server_needs_no_key() -> None:
    endpoint = ModelRegistry(env={}).endpoint("ollama")
    assert (endpoint.url, endpoint.key) == ("http://127.0.0.1:11434/v1", NO_SECRET)
    assert ModelRegistry(env={}).endpoint("vllm").key == NO_SECRET
    assert ModelRegistry(env={"VLLM_API_KEY": "k"}).endpoint("vllm").key == Secret("k")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "https://api.groq.com/openai/v1"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/openai/v1"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/openai/v1"),
        ("http://127.0.0.1:9/openai/v1", "http://127.0.0.1:9/openai/v1"),
        ("http://127.0.0.1:9/openai/v1/", "http://127.0.0.1:9/openai/v1"),
    ],
)
def test_a_base_url_may_be_overridden_with_and_without_its_path(given: str, url: str) -> None:
    registry = ModelRegistry(env={"GROQ_API_KEY": "k", "GROQ_BASE_URL": given})
    assert registry.endpoint("groq").url == url


def test_a_provider_without_a_suffix_takes_its_override_as_it_is() -> None:
    env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://localhost:1/api/"}
    assert ModelRegistry(env=env).endpoint("openai").url == "http://localhost:1/api"


@pytest.mark.parametrize("given", ["localhost:9", "ftp://x", "http://", "http://x:99999", "http://[x"])
def test_a_base_url_that_is_none_is_refused_by_its_variable(given: str) -> None:
    with pytest.raises(ConfigError, match=r"GROQ_BASE_URL: .*is not a base URL"):
        ModelRegistry(env={"GROQ_API_KEY": "k", "GROQ_BASE_URL": given}).endpoint("groq")


def test_a_base_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        ModelRegistry(env={}).endpoint("http://me:hunter2@localhost:1/v1")
    assert "hunter2" not in str(caught.value)
    assert "MIXTURA_API_KEY" in str(caught.value)


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'groq'"):
        ModelRegistry(env={}).find("groqq", "m")


@pytest.mark.parametrize(
    ("env", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128", "HTTPS_PROXY": "http://other"}, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy"}, None),
        ({"ALL_PROXY": "http://proxy"}, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "localhost, .groq.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "no_proxy": "api.groq.com"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "roq.com,,"}, "http://proxy"),
    ],
)
def test_the_environment_s_proxy_is_used_unless_it_exempts_the_host(env: dict[str, str], proxy: str | None) -> None:
    found = ModelRegistry(env={"GROQ_API_KEY": "k", **env}).endpoint("groq").proxy
    assert found == (None if proxy is None else Secret(proxy))


def test_a_proxy_that_does_not_speak_http_is_refused_without_showing_its_password() -> None:
    with pytest.raises(ConfigError, match="NO_PROXY") as caught:
        ModelRegistry(env={"GROQ_API_KEY": "k", "ALL_PROXY": "socks5://me:hunter2@proxy"}).endpoint("groq")
    assert "hunter2" not in str(caught.value)


def test_a_replacement_that_is_gone_is_followed_to_one_that_lives() -> None:
    def on(day: dt.date) -> str | None:
        return ModelRegistry(env={}, today=lambda: day).replacement("groq", "gemma2-9b-it")

    assert on(dt.date(2026, 3, 1)) == "llama-3.1-8b-instant"
    assert on(dt.date(2026, 11, 21)) == "openai/gpt-oss-20b"


async def test_a_user_s_client_makes_every_call_and_needs_no_key() -> None:
    models: list[str] = []

    def create(**arguments: object) -> JsonObject:
        models.append(str(arguments["model"]))
        return reply("<think>hm</think>hello")

    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    registry = ModelRegistry(env={}, client=client)
    completion = await registry.find("groq", "openai/gpt-oss-20b").chat.chat(asked("openai/gpt-oss-20b"))
    await registry.find("openai", "other").chat.chat(asked("other"))
    assert (completion.text, models) == ("hello", ["openai/gpt-oss-20b", "other"])
    assert completion.cost is not None


async def test_a_catalogue_of_one_s_own_is_used() -> None:
    catalog = Catalog(
        {"mine": CatalogProvider(title="Mine", base_url="http://127.0.0.1:1/v1")},
        [CatalogModel(id="a", provider="mine", window=7)],
    )
    registry = ModelRegistry(catalog, env={})
    assert registry.find("mine", "a").card.window == 7
    with pytest.raises(ConfigError):
        registry.find("groq", "m")


async def test_a_provider_s_own_list_of_models_is_read() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.path == "/openai/v1/models"
        return web.json_response({"data": [{"id": "a", "active": True}]})

    async with served(handler) as url:
        registry = ModelRegistry(env={"GROQ_API_KEY": "k", "GROQ_BASE_URL": url})
        assert await registry.list_models("groq") == [{"id": "a", "active": True}]


@pytest.mark.parametrize("proxy", ["http://user:secret@127.0.0.1:1", "http://nowhere.invalid:3128"])
async def test_a_proxy_that_cannot_be_reached_is_named_without_its_password(proxy: str) -> None:
    env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": "http://127.0.0.1:9", "HTTP_PROXY": proxy}
    registry = ModelRegistry(env=env, policy=RetryPolicy(attempts=1))
    request = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
    with pytest.raises(UnreachableError) as caught:
        await registry.find("groq", "m").chat.chat(request)
    assert f"the proxy {proxy.rpartition('@')[2].removeprefix('http://')} cannot be reached" in str(caught.value)
    assert "secret" not in str(caught.value)
