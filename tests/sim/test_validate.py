"""The simulated cloud's validation of requests, which comes before any limit. Tested without HTTP."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.sim import CloudSimulator, SimOptions
from mixtura.sim.faults import ErrorReply

LLAMA, OSS, QWEN = "llama-3.1-8b-instant", "openai/gpt-oss-20b", "qwen/qwen3-32b"
TOOL_WITHOUT_NAME = "'tools.0.function' : object missing required field `name`"
MAX_TOKENS = (
    "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the "
    "`context_window` for this model"
)


def _refusal(raw: bytes) -> tuple[int, Any]:
    """Return the status and the error object of a new cloud's refusal of a body."""
    response = CloudSimulator(SimOptions(unlimited=True), now=lambda: 0.0).receive("Bearer gsk_test", raw)
    assert isinstance(response, ErrorReply)
    return response.status, json.loads(response.body)["error"]


def _refusal_of_fields(text: str = "Say hi", **fields: Any) -> tuple[int, Any]:
    body = {"model": LLAMA, "messages": [{"role": "user", "content": text}]} | fields
    return _refusal(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 2}, "'n' : number must be at most 1"),
        ({"temperature": 2.1}, "'temperature' : number must be at most 2"),
        ({"temperature": -1}, "'temperature' : number must be at least 0"),
        ({"temperature": "hot"}, "'temperature' : value must be a number"),
        ({"top_p": 1.5}, "'top_p' : number must be at most 1"),
        ({"max_tokens": 0}, "'max_tokens' : number must be at least 1"),
        ({"max_completion_tokens": 1.5}, "'max_completion_tokens' : value must be an integer"),
        ({"logprobs": True}, "`logprobs` is not supported with this model"),
        ({"messages": []}, "'messages' : minimum number of items is 1"),
        ({"messages": "hi"}, "'messages' : value must be an array"),
        ({"messages": ["hi"]}, "'messages.0' : value must be an object"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "boss", "content": "b"}]},
            "'messages.1' : discriminator property 'role' has invalid value",
        ),
        (
            {"messages": [{"role": "user", "content": "a", "name": "Ann"}]},
            "'messages.0' : property 'name' is unsupported",
        ),
        ({"messages": [{"role": "user"}]}, "'messages.0' : property 'content' is missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'messages.0' : property 'tool_call_id' is missing"),
        ({"stream": 1}, "'stream' : expected `bool | null`, got `int`"),
        ({"tools": [{"type": "function", "function": {}}]}, TOOL_WITHOUT_NAME),
        ({"stop": ["a"] * 5}, "'stop' : maximum number of items is 4"),
        ({"nonsense": 1}, "property 'nonsense' is unsupported"),
        ({"reasoning_effort": "low"}, "`reasoning_effort` is not supported with this model"),
        ({"model": OSS, "reasoning_effort": "none"}, "`reasoning_effort` must be one of `low`, `medium`, `high`"),
        ({"model": OSS, "reasoning_format": "raw"}, "`reasoning_format` is not supported with this model"),
        (
            {"model": QWEN, "reasoning_format": "raw", "include_reasoning": True},
            "cannot specify both `reasoning_format` and `include_reasoning`",
        ),
        (
            {"model": "gemma2-9b-it", "max_tokens": 8193},
            MAX_TOKENS,
        ),
        (
            {"model": "gemma2-9b-it", "max_tokens": 8192},
            "Please reduce the length of the messages or completion.",
        ),
    ],
)
def test_a_wrong_request_is_refused_with_its_reason(fields: dict[str, Any], message: str) -> None:
    status, error = _refusal_of_fields(**fields)
    assert (status, error["message"], error["type"]) == (400, message, "invalid_request_error")


def test_the_reply_names_the_field_and_the_code_where_the_real_one_does() -> None:
    _, large = _refusal_of_fields(model="gemma2-9b-it", max_completion_tokens=9000)
    _, long = _refusal_of_fields("word " * 9000, model="gemma2-9b-it")
    assert large["param"] == "max_completion_tokens"
    assert long["code"] == "context_length_exceeded"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"text"', b"\xff"])
def test_a_body_that_is_not_a_json_object_is_refused(data: bytes) -> None:
    status, error = _refusal(data)
    assert (status, error["type"]) == (400, "invalid_request_error")


def test_missing_fields_are_named() -> None:
    assert _refusal(b"{}")[1]["message"] == "property 'messages' is missing"
    assert _refusal(b'{"messages": []}')[1]["message"] == "property 'model' is missing"
    assert _refusal(b'{"messages": [], "model": 3}')[1]["message"] == "'model' : value must be a string"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = (
    "messages model temperature top_p max_completion_tokens max_tokens n stop seed stream stream_options user "
    "response_format tools tool_choice reasoning_format include_reasoning reasoning_effort service_tier"
)
fields_of_requests = st.sampled_from(sorted(FIELDS.split()))
parts = st.fixed_dictionaries(
    {},
    optional={
        "tools": st.lists(
            st.fixed_dictionaries(
                {"type": st.just("function")},
                optional={"function": st.fixed_dictionaries({"name": st.text()}, optional={"parameters": json_values})},
            ),
            max_size=2,
        ),
        "tool_choice": st.sampled_from(["auto", "none", "required"])
        | st.just({"function": {"name": "f"}})
        | json_values,
        "response_format": st.fixed_dictionaries(
            {"type": st.sampled_from(["text", "json_object", "json_schema"])},
            optional={"json_schema": st.fixed_dictionaries({}, optional={"schema": json_values})},
        ),
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
                optional={"content": st.text() | json_values, "tool_calls": json_values, "tool_call_id": json_values},
            ),
            max_size=3,
        ),
    },
)


@given(parts, st.dictionaries(fields_of_requests, json_values, max_size=3), st.sampled_from([LLAMA, OSS, QWEN]))
def test_no_body_crashes_the_cloud(good: dict[str, Any], fields: dict[str, Any], model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]} | good | fields
    response = CloudSimulator(SimOptions(), now=lambda: 0.0).receive("Bearer gsk_test", json.dumps(body).encode())
    assert not isinstance(response, ErrorReply) or response.status in (400, 404, 413)
