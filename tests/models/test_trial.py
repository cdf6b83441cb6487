"""The six calls that show how a server answers, asked of servers on sockets that each answer in a way of their own."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from bench.dialects.row import Reply, as_json, chunk, closing, pieces, sse, whole

from mixtura.models.base import ChatModel
from mixtura.models.card import Price
from mixtura.models.place import Patience, Place
from mixtura.models.registry import ModelRegistry
from mixtura.models.trial.advice import advice
from mixtura.models.trial.calls import CALLS, most_dollars, most_tokens, planned_calls
from mixtura.models.trial.findings import Finding
from mixtura.models.trial.run import DialectTrial
from replying_servers import Answer, replying_server

WINDOW = 1000
CALL = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
TOO_LONG = "This model's maximum context length is 1000 tokens"


def refusal(message: str, status: int = 400, **fields: Any) -> Reply:
    return as_json({"error": {"message": message, **fields}}, status)


def kind(body: dict[str, Any]) -> str:
    """Return which of the calls a request is."""
    if len(body["messages"][-1]["content"]) > WINDOW:
        return "overflow"
    if body.get("tools"):
        return "tools"
    if any("JSON" in str(said["content"]) for said in body["messages"]):
        return "JSON"
    if "Think first" in body["messages"][-1]["content"]:
        return "reasoning"
    return "streamed" if body.get("stream") else "whole"


def sound(body: dict[str, Any]) -> Reply:
    """Answer as a server that takes everything."""
    match kind(body):
        case "overflow":
            return refusal(TOO_LONG, code="context_length_exceeded")
        case "tools":
            return whole(None, "tool_calls", message={"tool_calls": [CALL]})
        case "JSON":
            return whole('{"apples": 42}')
        case "reasoning":
            return sse(*pieces("12 + 30.", field="reasoning_content"), *pieces("42", "."), closing())
    return sse(*pieces("Forty", "-two", "."), closing()) if body.get("stream") else whole("Forty-two.")


def but(**others: Callable[[dict[str, Any]], Reply]) -> Answer:
    """Return a sound server that answers some calls otherwise."""
    return lambda body: others.get(kind(body), sound)(body)


async def tried(
    url: str, window: int | None = WINDOW, place: Place | None = None, model: str = "m"
) -> dict[str, Finding]:
    registry = ModelRegistry(env={})
    at = place or registry.find(url, model).place
    trial = DialectTrial(url, registry.unwrapped(url, model), at, planned_calls(model, window))
    return {finding.name: finding async for finding in trial.findings()}


async def shown(answer: Answer, window: int | None = WINDOW) -> dict[str, Finding]:
    async with replying_server(answer) as server:
        return await tried(server.url, window)


def advised(found: dict[str, Finding], **given: Any) -> str:
    return advice([*found.values()], **{"key": "", "models": (), "elsewhere": "", **given})


async def test_a_server_that_takes_everything_is_asked_six_times_and_nothing_is_to_be_set() -> None:
    async with replying_server(sound) as server:
        found = await tried(server.url)
        assert [kind(body) for body in server.bodies] == list(CALLS)
    assert tuple(found) == CALLS
    assert [one.outcome for one in found.values()] == ["works", "works", "called", "json_schema", "field", "known"]
    assert all(one.works for one in found.values())
    assert found["whole"].said.startswith("works: 3 tokens in ")
    assert "3 chunks; usage comes in the last chunk" in found["streamed"].said
    assert TOO_LONG in found["overflow"].said
    assert advised(found) == "All that a mixture needs works here; there is nothing to set."


@pytest.mark.parametrize(
    ("call", "reply", "outcome", "works", "said"),
    [
        pytest.param("whole", whole(""), "empty", False, 'finish reason "stop"', id="an empty answer"),
        pytest.param("whole", whole("42", usage=None), "works", True, "its usage, which is estimated", id="no usage"),
        pytest.param(
            "whole",
            whole("", "length", message={"reasoning": "Hm."}, usage={"prompt_tokens": 9, "completion_tokens": 200}),
            *(
                "works",
                True,
                "200 tokens in",
            ),
            id="reasoning alone",
        ),
        pytest.param("whole", refusal("stream must be true"), "refused", False, "HTTP 400", id="streams only"),
        pytest.param(
            "whole",
            Reply(b"<html><title>Hi</title>", 200, {"Content-Type": "text/html", "Content-Length": "23"}),
            "failed",
            False,
            "a web page ('Hi')",
            id="a page",
        ),
        pytest.param("streamed", whole("42"), "comes_whole", None, "nothing can be shown before", id="not streamed"),
        pytest.param("streamed", sse(*pieces("42."), closing()), "one_piece", True, "1 chunk;", id="one chunk"),
        pytest.param(
            "streamed",
            sse(*pieces("a", "b"), closing(usage=None)),
            "works",
            True,
            "usage is not told",
            id="usage untold",
        ),
        pytest.param(
            "streamed", refusal("streaming is off", 400), "refused", False, "streaming is off", id="no streams"
        ),
        pytest.param("streamed", refusal("boom", 500), "failed", False, 'fails: HTTP 500 "boom"', id="a stream breaks"),
        pytest.param(
            "streamed", sse(chunk({"content": "a"}), done=False), "failed", False, "stopped before", id="a stream stops"
        ),
        pytest.param(
            "tools",
            refusal('"auto" tool choice requires a parser'),
            "refused",
            False,
            'not taken: HTTP 400 ""auto"',
            id="no tools",
        ),
        pytest.param(
            "tools",
            refusal("No endpoints found that support tool use", 404),
            "refused",
            False,
            "tool use",
            id="404 of tools",
        ),
        pytest.param("tools", whole("It is sunny."), "not_called", None, '"It is sunny."', id="not called"),
        pytest.param(
            "tools",
            whole(
                None, message={"tool_calls": [{**CALL, "function": {"name": "get_weather", "arguments": "{'city'"}}]}
            ),
            *("broken_call", False, "arguments are no JSON"),
            id="broken arguments",
        ),
        pytest.param(
            "tools", whole("", "length"), "cut_off", None, "cut off after 3 tokens, before a call", id="no room"
        ),
        pytest.param(
            *("tools", refusal("slow down", 429), "failed", None, "not known, since a limit is reached: HTTP 429"),
            id="a limit of tools",
        ),
        pytest.param(
            *("overflow", refusal("slow down", 429), "failed", None, "not known, since a limit is reached"),
            id="a limit of length",
        ),
        pytest.param("overflow", refusal("pay first", 402), "failed", False, "HTTP 402", id="no money for length"),
        pytest.param("tools", refusal("upstream", 502), "failed", False, "fails: HTTP 502", id="tools break it"),
        pytest.param("JSON", whole('```json\n{"apples": 42}\n```'), "json_schema", True, "works", id="a fence"),
        pytest.param("JSON", whole("42 apples"), "not_kept", False, 'does not keep to it: "42 apples"', id="ignored"),
        pytest.param("JSON", whole('{"apples": "many"}'), "not_kept", False, "not keep", id="another type"),
        pytest.param("JSON", whole('{"app', "length"), "cut_off", None, "cut off after 3 tokens", id="cut off"),
        pytest.param(
            "reasoning",
            sse(*pieces("<thi", "nk>12 + 30</think>", "42"), closing()),
            *("text", True, "in <think> (kept apart"),
            id="in the text",
        ),
        pytest.param(
            "reasoning", sse(*pieces("x", "</think>42"), closing()), "text", True, "<think>", id="only closed"
        ),
        pytest.param("reasoning", sse(*pieces("4", "2"), closing()), "none", None, "none", id="no reasoning"),
        pytest.param(
            "reasoning",
            sse(
                *pieces("4", "2"),
                closing(
                    usage={
                        "prompt_tokens": 9,
                        "completion_tokens": 60,
                        "completion_tokens_details": {"reasoning_tokens": 55},
                    }
                ),
            ),
            *("hidden", True, "counted and not shown (55 tokens)"),
            id="hidden",
        ),
        pytest.param(
            "overflow",
            refusal("out of memory", 500),
            "unknown_words",
            False,
            'HTTP 500 "out of memory"',
            id="500 of length",
        ),
        pytest.param("overflow", refusal("bad prompt"), "unknown_words", False, "not known as", id="odd words"),
        pytest.param("overflow", refusal("", 413), "known", True, "Mixtura knows", id="413"),
        pytest.param(
            "overflow",
            whole("a", "length", usage={"prompt_tokens": 512, "completion_tokens": 1}),
            *("cut_silently", False, "of 1,084 tokens 512 were read"),
            id="cut without a word",
        ),
        pytest.param(
            "overflow",
            whole("a", "length", usage={"prompt_tokens": 1090, "completion_tokens": 1}),
            *("taken", None, "longer than known"),
            id="a longer context",
        ),
        pytest.param("overflow", whole("a", usage=None), "taken", None, "is not told", id="read untold"),
    ],
)
async def test_what_a_server_does_is_said(call: str, reply: Reply, outcome: str, works: bool | None, said: str) -> None:
    found = await shown(but(**{call: lambda _body: reply}))
    one = found.pop(call)
    assert (one.outcome, one.works) == (outcome, works)
    assert said in one.said
    if call not in ("whole", "streamed"):
        assert [other.outcome for other in found.values()] == [
            outcome
            for name, outcome in zip(CALLS, ["works", "works", "called", "json_schema", "field", "known"], strict=True)
            if name != call
        ]


@pytest.mark.parametrize("refused", [("json_schema",), ("json_schema", "json_object")])
async def test_a_format_that_is_refused_is_asked_for_less_and_the_finding_says_what_is_left(
    refused: tuple[str, ...],
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        asked = body.get("response_format", {}).get("type", "")
        return refusal(f"response_format {asked} is not supported") if asked in refused else sound(body)

    found = (await shown(answer))["JSON"]
    assert found.outcome == ("json_object" if len(refused) == 1 else "words")
    assert found.works is True
    assert "json_object only" in found.said or "taken as words" in found.said


async def test_fields_that_a_server_refuses_are_named() -> None:
    def answer(body: dict[str, Any]) -> Reply:
        for field in ("stream_options", "max_tokens"):
            if field in body:
                return refusal(f"Unrecognized request argument: {field}")
        return sound(body)

    found = await shown(answer)
    assert "does without max_tokens (max_completion_tokens in place of max_tokens)" in found["whole"].said
    assert "does without stream_options" in found["streamed"].said


async def test_only_streamed_replies_are_enough_to_try_the_rest() -> None:
    def answer(body: dict[str, Any]) -> Reply:
        if not body.get("stream"):
            return refusal("stream must be true")
        return sse(*pieces("4", "2"), closing()) if kind(body) != "overflow" else refusal(TOO_LONG)

    found = await shown(answer)
    assert [one.works for one in found.values()] == [False, True, None, False, None, True]
    assert advised(found).startswith("Only streamed replies come")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (refusal("Invalid API key", 401), "set MY_KEY."),
        (refusal("Not Found", 404), "Nothing is served at this address"),
        (as_json({"detail": "Method Not Allowed"}, 405), "Nothing is served at this address"),
        (
            refusal("The model `m` does not exist", 404, code="model_not_found"),
            "name another one with --model. It lists a, b.",
        ),
    ],
)
async def test_what_ends_every_call_ends_the_trial_after_one(reply: Reply, said: str) -> None:
    async with replying_server(lambda _body: reply) as server:
        found = await tried(server.url)
        assert len(server.bodies) == 1
    assert [one.outcome for one in found.values()][1:] == ["not_tried"] * 5
    models = ("a", "b") if "It lists" in said else ()
    assert said in advised(found, key="MY_KEY", models=models)


async def test_an_address_where_nothing_answers_is_said_once() -> None:
    found = await tried("http://127.0.0.1:9/v1")
    assert found["whole"].error == "unreachable"
    assert [one.outcome for one in found.values()][1:] == ["not_tried"] * 5
    assert advised(found).startswith("Nothing answers at this address")


async def test_a_server_that_fails_whole_and_streamed_is_asked_no_further() -> None:
    async with replying_server(lambda _body: refusal("boom", 500)) as server:
        found = await tried(server.url)
        assert len(server.bodies) == 2
    assert [one.works for one in found.values()] == [False, False, None, None, None, None]
    assert "look at its log" in advised(found)


async def test_a_server_that_loads_its_model_is_waited_for() -> None:
    loading = [True]

    def answer(body: dict[str, Any]) -> Reply:
        return (
            as_json({"error": {"message": "Loading model"}}, 503, Retry_After="0.01")
            if loading and loading.pop()
            else sound(body)
        )

    found = await shown(answer)
    assert found["whole"].works
    assert found["whole"].seconds < 1


async def test_a_limit_that_refills_in_time_is_waited_for_and_another_is_not() -> None:
    waits = ["0.01"]

    def answer(body: dict[str, Any]) -> Reply:
        return as_json({"error": {"message": "slow down"}}, 429, Retry_After=waits.pop()) if waits else sound(body)

    assert (await shown(answer))["whole"].works
    waits.append("3600")
    found = await shown(answer)
    assert found["whole"].error == "rate_limited"
    assert "try again later" in advised(found)


class Silent:
    """A model that never answers, after as many pieces as it is told."""

    async def chat(self, request: Any, *, emit: Any = None, deadline: float | None = None) -> Any:
        await asyncio.sleep(3600)


async def test_a_call_has_the_patience_that_its_server_has() -> None:
    place = Place(patience=Patience(first_token=0.02, between_tokens=0.01))
    silent: ChatModel = Silent()
    trial = DialectTrial("here", silent, place, planned_calls("m", WINDOW))
    found: dict[str, Finding] = {finding.name: finding async for finding in trial.findings()}
    assert found["whole"].said == 'fails: "nothing came within 0 s"'
    assert found["streamed"].error == "timed_out"
    assert found["tools"].outcome == "not_tried"
    assert "hangs" in advised(found)


@pytest.mark.parametrize(("window", "said"), [(None, "does not say how long"), (200_001, "200,001 tokens is too long")])
async def test_a_prompt_that_is_too_long_is_only_sent_where_the_context_is_known_and_small(
    window: int | None, said: str
) -> None:
    async with replying_server(sound) as server:
        found = await tried(server.url, window)
        assert len(server.bodies) == 5
    assert found["overflow"].outcome == "not_tried"
    assert said in found["overflow"].said


@pytest.mark.parametrize("window", [1, 512, 131_072, 200_000])
def test_a_prompt_that_is_too_long_is_so_in_every_vocabulary_and_not_much_longer(window: int) -> None:
    request = planned_calls("m", window)[-1].request
    assert request is not None
    words = len(request.messages[0].text.split())
    assert window < words <= window * 1.02 + 64
    assert len(msgspec.json.encode(request.messages)) < 2.1 * words + 100


def test_what_the_calls_cost_at_most_is_known_before() -> None:
    calls = planned_calls("m", 1000)
    assert most_tokens(calls, overflow=False).completion_tokens == 5 * 200
    assert most_tokens(calls, overflow=True).prompt_tokens >= 1084
    sure, more = most_dollars(calls, Price(input=1.0, output=2.0))
    assert 0.002 < sure < 0.003
    assert 0.001 < more < 0.0012
    assert most_dollars(planned_calls("m", None), Price(input=1.0, output=2.0))[1] == 0.0


async def test_no_secret_and_no_long_text_of_a_server_is_said() -> None:
    registry = ModelRegistry(env={"MIXTURA_API_KEY": "sk-very-secret-key-1"})
    reply = refusal("no such key sk-very-secret-key-1 " + "x" * 5000, 400)
    async with replying_server(lambda _body: reply) as server:
        model = registry.unwrapped(server.url, "m")
        trial = DialectTrial(server.url, model, registry.find(server.url, "m").place, planned_calls("m", None))
        said = json.dumps([finding.said async for finding in trial.findings()])
    assert "very-secret" not in said
    assert len(said) < 1500
