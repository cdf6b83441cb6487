"""Answers in JSON (`response_format`) asked of servers that take less than was asked for."""

import asyncio
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import groq
import pytest
from aiohttp import web
from msgspec import structs

from asking import World
from local_servers import Unseen, http_model, sdk_model, served
from mixtura import Layer, Mixture, Policy, Proposer, Recipe, fold
from mixtura.chat import ChatOptions, ChatRequest, Delta, JsonObject, Message, PartialReader
from mixtura.errors import BadGenerationError, RejectedError, TooLargeError
from mixtura.limits.limiter import Limiter
from mixtura.models.base import ChatModel
from mixtura.models.catalog import Catalog
from mixtura.models.openai.wire import Dialect, encode_request
from mixtura.models.registry import ModelRegistry
from mixtura.sim import SimOptions

STRICT, HELPED, PLAIN = "openai/gpt-oss-20b", "openai/gpt-oss-safeguard-20b", "llama-3.3-70b-versatile"
SCHEMA: JsonObject = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
AS_SCHEMA: JsonObject = {
    "type": "json_schema",
    "json_schema": {"name": "colour", "description": "a colour", "strict": True, "schema": SCHEMA},
}
AS_OBJECT: JsonObject = {"type": "json_object"}
TOOLS: list[JsonObject] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
SYSTEM, USER = Message(role="system", content="Be brief."), Message(role="user", content="Name a colour.")
REQUEST = ChatRequest(model="m", messages=(SYSTEM, USER), options=ChatOptions(response_format=AS_SCHEMA))
NO_STREAM = "`response_format` does not support streaming"
NO_SCHEMA = "This model does not support response format `json_schema`."
NO_TOOLS = "json mode cannot be combined with tool/function calling"


def dialect_of(provider: str, model: str) -> Dialect:
    catalog = Catalog.load()
    return Dialect.of(catalog.provider(provider), catalog.get(provider, model))


def sent(model: str, request: ChatRequest = REQUEST, **options: Any) -> JsonObject:
    """Return the body of `request` as a model of Groq gets it."""
    asked = structs.replace(request, options=ChatOptions(**options)) if options else request
    body: JsonObject = json.loads(encode_request(asked, dialect_of("groq", model), stream=False))
    return body


def test_every_row_of_groq_says_what_becomes_of_a_schema() -> None:
    rows = Catalog.load().models("groq")
    assert all(row.schemas is not None for row in rows)
    assert {row.id for row in rows if row.schemas == "strict"} == {
        "openai/gpt-oss-20b",
        "openai/gpt-oss-120b",
        "qwen/qwen3.8-27b",
    }


def test_a_schema_is_sent_as_given_where_it_is_kept_to_or_nothing_is_known() -> None:
    for model in (STRICT, "somebody/unknown"):
        body = sent(model)
        assert body["response_format"] == AS_SCHEMA
        assert [turn["content"] for turn in body["messages"]] == ["Be brief.", "Name a colour."]


def test_a_schema_is_sent_without_strict_where_it_is_only_a_help() -> None:
    body = sent(HELPED)
    assert "strict" not in body["response_format"]["json_schema"]
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert AS_SCHEMA["json_schema"]["strict"] is True


@pytest.mark.parametrize(
    ("messages", "first"),
    [
        ((SYSTEM, USER), "Be brief.\n\n"),
        ((USER,), ""),
        ((Message(role="developer", content="Be kind."), USER), "Be kind.\n\n"),
        ((Message(role="system", content=[{"type": "text", "text": "Part."}]), USER), None),
    ],
)
def test_where_no_schema_is_taken_it_stands_in_words_at_the_end_of_the_system_message(
    messages: tuple[Message, ...], first: str | None
) -> None:
    body = sent(PLAIN, structs.replace(REQUEST, messages=messages))
    assert body["response_format"] == AS_OBJECT
    said = body["messages"][0]["content"]
    if first is None:
        assert said[0] == {"type": "text", "text": "Part."}
        said = said[1]["text"]
    else:
        assert said.startswith(first)
    assert "JSON" in said
    assert "a colour" in said
    assert json.loads(said.partition(":\n")[2]) == SCHEMA
    assert body["messages"][-1] == {"role": "user", "content": "Name a colour."}
    assert len(body["messages"]) == 2


@pytest.mark.parametrize("form", [AS_SCHEMA, AS_OBJECT])
def test_beside_tools_groq_gets_every_json_format_in_words(form: JsonObject) -> None:
    body = sent(STRICT, response_format=form, tools=TOOLS)
    assert "response_format" not in body
    assert "JSON" in body["messages"][0]["content"]
    assert (json.dumps(SCHEMA, separators=(",", ":")) in body["messages"][0]["content"]) == (form is AS_SCHEMA)


def test_what_is_no_json_or_stands_in_extra_is_sent_as_given() -> None:
    forms: list[JsonObject] = [
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "grammar", "value": "x"}},
    ]
    for options in forms:
        body = sent(PLAIN, **options)
        assert body["response_format"] == options["response_format"]
        assert body["messages"][0]["content"] == "Be brief."
    # Servers refuse a json_object of which no message speaks.
    body = sent(PLAIN, response_format=AS_OBJECT)
    assert body["response_format"] == AS_OBJECT
    assert "one JSON object" in body["messages"][0]["content"]
    body = sent(PLAIN, extra={"response_format": AS_SCHEMA})
    assert body["response_format"] == AS_SCHEMA


class Server:
    """Answers in one piece or streamed, and refuses what `refuses` names; `asked` has the bodies."""

    def __init__(self, refuses: Callable[[JsonObject], str] = lambda body: "", status: int = 400) -> None:
        self.refuses, self.status = refuses, status
        self.asked: list[JsonObject] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if why := self.refuses(body):
            error = {"message": why, "type": "invalid_request_error"}
            return web.json_response({"error": error}, status=self.status)
        text = '{"colour": "red"}'
        if not body.get("stream"):
            message = {"role": "assistant", "content": text, "reasoning": "hm"}
            return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in (*text, ""):
            delta = {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None if piece else "stop"}]}
            await response.write(b"data: " + json.dumps(delta).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    @property
    def streams(self) -> list[bool]:
        return [bool(body.get("stream")) for body in self.asked]

    @property
    def formats(self) -> list[str | None]:
        return [body.get("response_format", {}).get("type") for body in self.asked]


def groq_refuses(body: JsonObject) -> str:
    kind = body.get("response_format", {}).get("type", "text")
    if kind != "text" and body.get("tools"):
        return NO_TOOLS
    return NO_STREAM if kind != "text" and body.get("stream") else ""


class Attaching(Unseen):
    def __init__(self) -> None:
        self.readers: list[PartialReader] = []

    def attach(self, reader: PartialReader) -> None:
        self.readers.append(reader)


@pytest.mark.parametrize("form", [AS_SCHEMA, AS_OBJECT])
async def test_a_reply_of_groq_in_json_is_not_streamed_whoever_watches(form: JsonObject) -> None:
    server, context, deltas = Server(groq_refuses), Attaching(), list[Delta]()
    request = structs.replace(REQUEST, options=ChatOptions(response_format=form))
    async with served(server.answer) as url:
        model = http_model(url, dialect_of("groq", STRICT))
        watched = await model.chat(request, emit=deltas.append)
        await model.chat(structs.replace(request, context=context))
        async with sdk_model(groq.AsyncGroq(api_key="gsk_x", base_url=url), dialect_of("groq", STRICT)) as own:
            await own.chat(request, emit=deltas.append)
    assert deltas == [Delta('{"colour": "red"}', "hm")] * 2
    assert (watched.text, watched.timing.first_token) == ('{"colour": "red"}', None)
    assert context.readers == []
    assert server.streams == [False] * 3


async def test_a_format_in_extra_is_not_streamed_either_and_one_in_words_is() -> None:
    server = Server(groq_refuses)
    async with served(server.answer) as url:
        model = http_model(url, dialect_of("groq", STRICT))
        for options in (
            ChatOptions(extra={"response_format": AS_OBJECT}),
            ChatOptions(response_format=AS_SCHEMA, tools=TOOLS),
            ChatOptions(response_format={"type": "text"}),
            ChatOptions(),
        ):
            await model.chat(structs.replace(REQUEST, options=options), emit=lambda _: None)
    assert server.streams == [False, True, True, True]


async def _twice(model: ChatModel, options: ChatOptions) -> list[Delta]:
    deltas: list[Delta] = []
    request = structs.replace(REQUEST, options=options)
    for _ in range(2):
        completion = await model.chat(request, emit=deltas.append)
        assert completion.text == '{"colour": "red"}'
    return deltas


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("sdk", [False, True])
async def test_a_server_that_streams_no_json_is_asked_once_more_and_then_at_once(status: int, sdk: bool) -> None:
    server = Server(lambda body: NO_STREAM if body.get("stream") else "", status)
    async with served(server.answer) as url, sdk_model(groq.AsyncGroq(api_key="gsk_x", base_url=url)) as own:
        model = own if sdk else http_model(url)
        deltas = await _twice(model, ChatOptions(response_format=AS_SCHEMA))
    assert server.streams == [True, False, False]
    assert server.formats == ["json_schema"] * 3
    assert len(deltas) == 2


@pytest.mark.parametrize(
    "words",
    [
        NO_SCHEMA,
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        "This response_format type is unavailable now",
        "body.response_format.type: Input should be 'text' or 'json_object'",
    ],
)
async def test_a_server_that_takes_no_schema_is_asked_for_a_json_object(words: str) -> None:
    server = Server(lambda body: words if body.get("response_format", {}).get("type") == "json_schema" else "")
    async with served(server.answer) as url:
        await _twice(http_model(url), ChatOptions(response_format=AS_SCHEMA))
    assert server.formats == ["json_schema", "json_object", "json_object"]
    assert server.streams == [True] * 3
    assert "JSON" not in server.asked[0]["messages"][0]["content"]
    assert all("JSON" in body["messages"][0]["content"] for body in server.asked[1:])


async def test_a_server_that_takes_none_of_it_is_asked_three_times_more_and_then_at_once() -> None:
    def refuses(body: JsonObject) -> str:
        kind = body.get("response_format", {}).get("type")
        if kind and body.get("stream"):
            return NO_STREAM
        if kind and body.get("tools"):
            return NO_TOOLS
        return NO_SCHEMA if kind == "json_schema" else ""

    server = Server(refuses)
    async with served(server.answer) as url:
        model = http_model(url)
        await _twice(model, ChatOptions(response_format=AS_SCHEMA, tools=TOOLS))
        assert server.formats == ["json_schema", "json_schema", None, None]
        await _twice(model, ChatOptions(response_format=AS_SCHEMA))
    assert server.formats[4:] == ["json_schema", "json_object", "json_object"]


@pytest.mark.parametrize(
    ("words", "most"),
    [
        pytest.param(f"{NO_STREAM} {NO_SCHEMA}", 4, id="says no to everything"),
        pytest.param("Invalid schema for response_format 'colour': 'oneOf' is not supported.", 1, id="a bad schema"),
        pytest.param("`temperature` is not supported with this model", 1, id="something else"),
    ],
)
async def test_a_refusal_that_stays_or_has_another_reason_ends_the_call(words: str, most: int) -> None:
    server = Server(lambda _: words)
    async with served(server.answer) as url:
        with pytest.raises(RejectedError) as caught:
            await http_model(url).chat(REQUEST, emit=lambda _: None)
    assert caught.value.attempts == 1
    assert len(server.asked) == most


async def test_calls_that_run_at_the_same_time_each_ask_once_more_at_most() -> None:
    server = Server(lambda body: NO_STREAM if body.get("stream") else "")
    async with served(server.answer) as url:
        model = http_model(url)
        await asyncio.gather(*(model.chat(REQUEST, emit=lambda _: None) for _ in range(5)))
        assert len(server.asked) <= 10
        await model.chat(REQUEST, emit=lambda _: None)
    assert server.streams[-1] is False


async def test_a_refusal_is_no_failed_attempt_and_a_failed_generation_no_refusal() -> None:
    server = Server(lambda body: NO_STREAM if body.get("stream") else "")
    async with served(server.answer) as url:
        chat = ModelRegistry(env={}).find(f"{url}/v1", "m").chat
        completion = await chat.chat(REQUEST, emit=lambda _: None)
    assert (completion.attempts, completion.wasted) == (1, None)

    async def failing(request: web.Request) -> web.StreamResponse:
        said = "Failed to generate JSON with this json_schema, which is not supported in a stream."
        return web.json_response({"error": {"message": said, "code": "json_validate_failed"}}, status=400)

    async with served(failing) as url:
        with pytest.raises(BadGenerationError):
            await http_model(url).chat(REQUEST, emit=lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("learned", [False, True], ids=["groq", "learned"])
async def test_a_reply_that_comes_whole_is_not_called_silent(watched: bool, learned: bool) -> None:
    seen: list[bool] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        seen.append(bool(body.get("stream")))
        if body.get("stream"):
            said = "`response_format` does not support streaming"
            return web.json_response({"error": {"message": said, "type": "invalid_request_error"}}, status=400)
        await asyncio.sleep(0.4)
        message = {"role": "assistant", "content": '{"colour": "red"}'}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})

    async with served(slow) as url:
        slot = Proposer(model=STRICT, provider=url if learned else "groq")
        recipe = Recipe(layers=(Layer(proposers=(slot,)),), policy=Policy(first_token=0.1, between_tokens=0.1))
        mixture = Mixture(recipe, env={"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": url})
        options = ChatOptions(response_format=AS_SCHEMA)
        for _ in range(2):
            if watched:
                async with mixture.stream("Name a colour.", options=options) as run:
                    answer = fold([event async for event in run])
            else:
                answer = await mixture.ask("Name a colour.", options=options)
            assert (answer.text, answer.failures) == ('{"colour": "red"}', [])
    assert seen == ([True, False, False] if learned else [False, False])


@pytest.mark.parametrize("options", [ChatOptions(response_format=AS_SCHEMA), ChatOptions(tools=TOOLS)])
async def test_a_schema_counts_against_the_limits_as_tools_do(options: ChatOptions) -> None:
    server = Server()
    # 40,000 characters are more than the 8,000 tokens a minute of the free plan.
    long = json.loads(json.dumps(SCHEMA).replace("colour", "red " * 10_000))
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": long}}
    big = ChatOptions(response_format=form)
    async with served(server.answer) as url:
        env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": url}
        chat = ModelRegistry(env=env, plan="free", limiter=Limiter()).find("groq", STRICT).chat
        await chat.chat(structs.replace(REQUEST, model=STRICT, options=options))
        with pytest.raises(TooLargeError):
            await chat.chat(structs.replace(REQUEST, model=STRICT, options=big))
    assert len(server.asked) == 1


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(
    ("recipe", "day"),
    [
        ("classic", dt.date(2025, 9, 1)),
        *((name, dt.date(2026, 11, 21)) for name in ("single", "balanced", "fast", "vote", "cascade")),
    ],
)
def test_every_built_in_recipe_answers_by_a_schema_at_groq(
    world: World, recipe: str, day: dt.date, watched: bool
) -> None:
    sim = SimOptions(as_of=day, unlimited=True, reply=lambda _request, _call: '{"colour": "red"}')
    options = ChatOptions(response_format=AS_SCHEMA)
    ran = world(recipe, "Name a colour.", sim=sim, watched=watched, options=options)
    assert ran.error is None
    assert not ran.cloud.ledger.refused
    assert json.loads(ran.answer.text) == {"colour": "red"}
    assert not ran.answer.warnings or recipe == "classic"
    assert not any(body.get("stream") for body in ran.cloud.requests if "response_format" in body)


def test_words_in_place_of_a_format_describe_it_and_leave_tools_their_turn() -> None:
    both = sent(STRICT, response_format=AS_SCHEMA, tools=TOOLS)
    alone = sent(PLAIN, response_format=AS_SCHEMA)
    assert "response_format" not in both
    said, plain = both["messages"][0]["content"], alone["messages"][0]["content"]
    assert said.startswith("Be brief.\n\nIf you call no tool, answer with ")
    assert plain.startswith("Be brief.\n\nAnswer with ")
    for words in (said, plain):
        assert f" (a colour):\n{json.dumps(SCHEMA, separators=(',', ':'))}" in words
    bare = {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA}}
    undescribed = sent(PLAIN, response_format=bare)["messages"][0]["content"]
    assert undescribed == plain.replace(" (a colour)", "")
    odd = {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA, "description": 7}}
    assert sent(PLAIN, response_format=odd)["messages"][0]["content"] == undescribed
