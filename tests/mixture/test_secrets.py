"""No key, no password: neither in what is said, nor in what an error carries along."""

import asyncio
import base64
import copy
import gc
import json
import logging
import pickle
import traceback
import urllib.parse
from collections.abc import Iterator
from types import FrameType
from typing import Any

import groq
import msgspec
import openai
import pytest
from aiohttp import web

import local_servers
from local_servers import Handler
from mixtura import Layer, MixturaError, Mixture, ModelRegistry, Policy, Proposer, Recipe
from mixtura.errors import ConfigError
from mixtura.events import Event
from mixtura.secret import Secret, scrub
from mixtura.stored import write_events
from mixtura.variables import Variables

KEY = "7f3a9cfe55aa41d6b0c2e8d1a9f47c3b"
PASSWORD = "hun/ter2#x"


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error`, what it was raised from or during, and the errors that it names."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        problem = waiting.pop()
        if problem is None or id(problem) in seen:
            continue
        seen.add(id(problem))
        yield problem
        waiting += [problem.__cause__, problem.__context__, *getattr(problem, "failures", ())]


def ours(frame: FrameType) -> bool:
    return "tests" not in frame.f_code.co_filename


def parts(value: Any, depth: int) -> Iterator[Any]:
    """Yield `value` and what it refers to, a few levels deep, as tools do that show an error to somebody."""
    yield value
    if depth and not isinstance(value, (str, bytes, int, type)) and not callable(value):
        attributes = getattr(value, "__dict__", {})
        inside = [*attributes.values(), *(value.items() if isinstance(value, dict) else ())]
        if isinstance(value, (list, tuple, dict, set)):
            inside += gc.get_referents(value)
        for part in inside:
            yield from parts(part, depth - 1)


def shown(error: BaseException) -> str:
    """Return all that a tool could show of an error: texts, arguments, attributes, notes, locals of frames."""
    found: list[str] = []
    for problem in chain(error):
        found += [str(problem), repr(problem), repr(problem.args), *getattr(problem, "__notes__", ())]
        found += [repr(part) for part in parts(vars(problem), 5)]
        for frame, _ in traceback.walk_tb(problem.__traceback__):
            if ours(frame):
                found += [repr(part) for value in frame.f_locals.values() for part in parts(value, 2)]
    return "\n".join(found)


def recipe(url: str) -> Recipe:
    return Recipe(layers=(Layer(proposers=(Proposer(model="m", provider=url),)),), policy=Policy(deadline=5.0))


def saying(status: int, words: str, **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        body = {"error": {"message": words, "code": "no"}}
        return web.json_response(body, status=status, headers=headers)

    return handler


async def too_long(request: web.Request) -> web.StreamResponse:
    return web.json_response({}, headers={"x-note": "y" * 9000})


async def echoing(request: web.Request) -> web.StreamResponse:
    said = request.headers["Authorization"].removeprefix("Bearer ")
    return web.json_response({"error": {"message": f"what is {said}?", "code": said}}, status=401)


async def echoing_in_a_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    said = request.headers["Authorization"]
    await response.write(f'event: error\ndata: {{"error": {{"message": "{said}", "status_code": 401}}}}\n\n'.encode())
    return response


async def failing(handler: Handler, **given: Any) -> tuple[MixturaError, bytes]:
    """Ask a mixture that is going to fail; return the error, and the events as they are stored."""
    events: list[Event] = []
    async with local_servers.served(handler) as url:
        mixture = Mixture(recipe(f"{url}/v1"), env={"MIXTURA_API_KEY": KEY}, listeners=[events.append], **given)
        with pytest.raises(MixturaError) as caught:
            await mixture.ask("Why?", watch="calls")
    return caught.value, write_events(events)


@pytest.mark.parametrize(
    "handler",
    [
        too_long,
        echoing,
        echoing_in_a_stream,
        saying(401, f"Incorrect API key provided: {KEY}."),
        saying(401, f"the key beginning with {KEY[:20]} is unknown"),
        saying(401, f"login {base64.b64encode(f'me:{KEY}'.encode()).decode()} refused"),
        saying(400, f"see https://me:{KEY}@example.com/"),
        saying(307, "", Location=f"https://example.com/?key={KEY}"),
    ],
)
async def test_nothing_that_an_error_carries_holds_the_key(handler: Handler, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    error, events = await failing(handler)
    assert KEY not in caplog.text
    assert error.answer is not None
    said = f"{shown(error)}\n{events.decode()}\n{error.answer.to_json().decode()}"
    assert KEY not in said
    assert KEY[:20] not in said
    assert base64.b64encode(KEY.encode()).decode()[4:20] not in said


async def test_the_words_of_a_model_are_handed_on_as_they_are() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        choice = {"message": {"role": "assistant", "content": f"You told me {KEY}."}, "finish_reason": "stop"}
        return web.json_response({"choices": [choice]})

    async with local_servers.served(handler) as url:
        answer = await Mixture(recipe(f"{url}/v1"), env={"MIXTURA_API_KEY": KEY}).ask("Which key?")
    assert answer.text == f"You told me {KEY}."


async def test_the_list_of_models_fails_without_the_key() -> None:
    async with local_servers.served(too_long) as url:
        registry = ModelRegistry(env={"GROQ_BASE_URL": url, "GROQ_API_KEY": KEY})
        with pytest.raises(MixturaError) as caught:
            await registry.list_models("groq")
    assert KEY not in shown(caught.value)


@pytest.mark.parametrize("sdk", [groq.AsyncGroq, openai.AsyncOpenAI])
async def test_the_exception_of_an_sdk_comes_without_the_key(sdk: Any) -> None:
    async with local_servers.served(echoing) as url:
        client = sdk(api_key=KEY, base_url=url)
        mixture = Mixture(Recipe(layers=(Layer(proposers=(Proposer(model="m"),)),)), client=client, env={})
        with pytest.raises(MixturaError) as caught:
            await mixture.ask("Why?")
        await client.close()
    cause = next(problem for problem in chain(caught.value) if isinstance(problem, (groq.APIError, openai.APIError)))
    assert cause.request.headers["authorization"] == "***"
    assert KEY not in shown(caught.value)
    assert KEY not in cause.response.text  # type: ignore[union-attr]


async def test_a_proxy_and_its_password_are_used_and_not_shown() -> None:
    seen: list[str | None] = []

    async def proxy(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Proxy-Authorization"))
        return web.json_response({}, headers={"x-note": "y" * 9000})

    async with local_servers.served(proxy) as url:
        quoted = urllib.parse.quote(PASSWORD, safe="")
        address = url.replace("http://", f"http://me:{quoted}@")
        env = {"GROQ_BASE_URL": "http://nowhere.invalid", "GROQ_API_KEY": KEY, "HTTP_PROXY": address}
        mixture = Mixture("single", env=env)
        with pytest.raises(MixturaError) as caught:
            await mixture.ask("Why?", deadline=5.0)
        assert "ter2" not in repr(ModelRegistry(env=env).endpoint("groq"))
    assert seen[0] == "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    assert "ter2" not in shown(caught.value)
    assert base64.b64encode(f"me:{PASSWORD}".encode()).decode() not in shown(caught.value)


@pytest.mark.parametrize(
    "env",
    [
        {"GROQ_API_KEY": f"{KEY}\n{KEY}"},
        {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": f"https://me:{PASSWORD}@host/v1"},
        {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": f"https://me:{urllib.parse.quote(PASSWORD, safe='')}@host/v1"},
        {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": f"ftp://me:{PASSWORD}@host/v1"},
        {"GROQ_API_KEY": KEY, "HTTPS_PROXY": f"socks5://me:{PASSWORD}@host"},
        {"GROQ_API_KEY": KEY, "MIXTURA_REDIS_URL": f"redis://:{PASSWORD}@host:port", "MIXTURA_DAILY_BUDGET": "1"},
        {"GROQ_API_KEY": KEY, "MIXTURA_REDIS_URL": f"http://:{PASSWORD}@host"},
        {"GROQ_API_KEY": KEY, "MIXTURA_REDIS_URL": "redis://me:hunter2@127.0.0.1:9", "MIXTURA_DAILY_BUDGET": "1"},
    ],
)
async def test_a_setting_that_is_refused_is_not_shown(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        await Mixture("single", env=env).ask("Why?")
    said = shown(caught.value)
    assert KEY not in said
    assert "ter2" not in said


def test_a_mixture_and_its_registry_show_no_key_to_who_looks_at_them() -> None:
    env = {"GROQ_API_KEY": KEY, "MIXTURA_REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:9/0"}
    mixture = Mixture("single", env=env)
    registry = ModelRegistry(env=env)
    looked_at = [mixture, registry, registry.endpoint("groq"), registry.find("groq", "m")]
    said = "\n".join(repr(part) for one in looked_at for part in parts(one, 6))
    assert KEY not in said
    assert "ter2" not in said


@pytest.mark.parametrize("write", [str, repr, "{}".format, "{:>40}".format, "%s".__mod__, lambda one: f"{[one]!r}"])
def test_a_secret_shows_itself_in_no_text(write: Any) -> None:
    assert KEY not in write(Secret(KEY))
    assert Secret(KEY).reveal() == KEY
    assert "***" in write(Secret(KEY))


def test_a_secret_is_not_written_by_encoders_and_survives_copies() -> None:
    secret = Secret(KEY)
    for encode in (json.dumps, msgspec.json.encode, msgspec.msgpack.encode, pickle.dumps):
        with pytest.raises(TypeError) as caught:
            encode(secret)
        assert KEY not in str(caught.value)
    assert json.loads(json.dumps({"key": secret}, default=str)) == {"key": "***"}
    assert copy.deepcopy(secret) == copy.copy(secret) == Secret(KEY) == secret
    assert len({secret, Secret(KEY), Secret("other")}) == 2
    assert not Secret("")


def test_an_error_crosses_processes_without_the_key() -> None:
    async def main() -> MixturaError:
        return (await failing(saying(401, f"Incorrect API key provided: {KEY}.")))[0]

    assert KEY.encode() not in pickle.dumps(asyncio.run(main()).failures)  # type: ignore[attr-defined]


def test_what_providers_show_of_a_key_and_what_is_no_secret_stays() -> None:
    kept = [Secret(KEY), Secret("ollama"), Secret("k"), Secret.of_address("redis://127.0.0.1:6379/0")]
    for words in (
        f"Incorrect API key provided: {KEY[:4]}***{KEY[-4:]}",
        "ollama at http://127.0.0.1:11434/v1 is not ok",
        "redis://127.0.0.1:6379/0 cannot be used",
        "https://medium.com/@someone",
    ):
        assert scrub(words) == words
    assert len(kept) == 4


class Wrapped:
    """As pydantic's SecretStr."""

    def get_secret_value(self) -> str:
        return KEY


class Text(str):
    """A text of a caller's own."""


@pytest.mark.parametrize("key", [KEY, KEY.encode(), Text(KEY), Wrapped(), Secret(KEY)])
def test_a_key_may_be_wrapped(key: Any) -> None:
    assert ModelRegistry(env={"GROQ_API_KEY": key}).endpoint("groq").key == Secret(KEY)
    assert str(Variables({"GROQ_API_KEY": key})) == "<1 variables>"


def test_a_key_of_another_type_is_refused_in_a_sentence() -> None:
    env: Any = {"GROQ_API_KEY": 12345678}
    with pytest.raises(ConfigError, match=r"^GROQ_API_KEY: expected text, got int$"):
        ModelRegistry(env=env).endpoint("groq")
