import json
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import JsonObject
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.sim.schemas import sample, schema_errors

OSS = "openai/gpt-oss-20b"
PERSON: JsonObject = {
    "$defs": {
        "Place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "code": {"type": "integer"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "Person": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "kind": {"enum": ["a", "b"]},
                "homes": {"type": "array", "items": {"$ref": "#/$defs/Place"}},
                "friend": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
            },
            "required": ["name", "kind"],
            "additionalProperties": False,
        },
    },
    "$ref": "#/$defs/Person",
}
ALICE: JsonObject = {"name": "Alice", "kind": "a", "homes": [{"city": "Rome", "code": 1}], "friend": None}


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        pytest.param(ALICE, [], id="fits"),
        pytest.param({**ALICE, "friend": ALICE}, [], id="fits, nested by a reference"),
        pytest.param({"name": "A"}, ["missing properties: 'kind'"], id="required"),
        pytest.param({**ALICE, "age": 3}, ["additionalProperties 'age' not allowed"], id="additional"),
        pytest.param({**ALICE, "kind": "c"}, ['`/kind`: value must be one of "a", "b"'], id="enum"),
        pytest.param(
            {**ALICE, "homes": [{"city": "Rome"}, {"code": "x"}]},
            ["`/homes/1`: missing properties: 'city'", "`/homes/1/code`: expected integer, but got string"],
            id="in an array's items",
        ),
        pytest.param({**ALICE, "homes": {}}, ["`/homes`: expected array, but got object"], id="type"),
        pytest.param({**ALICE, "friend": {"name": "B"}}, ["`/friend`: anyOf failed"], id="behind a choice"),
        pytest.param([ALICE], ["expected object, but got array"], id="the whole"),
    ],
)
def test_what_is_wrong_is_found_at_every_depth(given: object, errors: list[str]) -> None:
    assert schema_errors(given, PERSON) == errors


@pytest.mark.parametrize(
    ("given", "schema", "fits"),
    [
        (1, {"type": "number"}, True),
        (1.0, {"type": "integer"}, True),
        (1.5, {"type": "integer"}, False),
        (True, {"type": "integer"}, False),
        (True, {"enum": [1]}, False),
        (None, {"type": ["string", "null"]}, True),
        (3, {"minimum": 3, "maximum": 3}, True),
        (3, {"exclusiveMinimum": 3}, False),
        ("ab", {"maxLength": 1}, False),
        ([], {"minItems": 1}, False),
        ({"x": 1}, {"additionalProperties": {"type": "string"}}, False),
        (3, {"oneOf": [{"type": "integer"}, {"type": "number"}]}, False),
        ({"a": 1}, {"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, False),
        ({"a": {"a": {}}}, {"properties": {"a": {"$ref": "#"}}, "additionalProperties": False}, True),
        ({"a": {"b": {}}}, {"properties": {"a": {"$ref": "#"}}, "additionalProperties": False}, False),
        (1, {"$ref": "#/nowhere"}, True),
        (1, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, True),
        (1, False, False),
        (1, {"type": 3, "enum": "x", "properties": [], "required": 1, "items": 2, "anyOf": {}, "minimum": "1"}, True),
    ],
)
def test_the_commonest_keywords_are_known(given: object, schema: object, fits: bool) -> None:
    assert (not schema_errors(given, schema)) == fits


def schemas() -> st.SearchStrategy[JsonObject]:
    bound = st.integers(-3, 3)
    numbers = st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])}, optional={"minimum": bound, "exclusiveMinimum": bound}
    )
    ranges = st.tuples(bound, st.integers(1, 4)).map(
        lambda pair: {"type": "number", "exclusiveMinimum": pair[0], "maximum": pair[0] + pair[1]}
    )
    texts = st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": st.integers(0, 12)})
    plain = st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"const": 7}])
    enums = st.lists(st.sampled_from(["a", 1, None, True]), min_size=1).map(lambda values: {"enum": values})
    reference = st.sampled_from([{"$ref": "#/$defs/leaf"}, {"$ref": "#/$defs/node"}])
    names = st.sampled_from("abcd")

    def wider(inner: st.SearchStrategy[JsonObject]) -> st.SearchStrategy[JsonObject]:
        @st.composite
        def objects(draw: st.DrawFn) -> JsonObject:
            properties = draw(st.dictionaries(names, inner, max_size=3))
            return {
                "type": "object",
                "properties": properties,
                "required": draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else [],
                "additionalProperties": draw(st.sampled_from([False, True, {"type": "string"}])),
            }

        arrays = st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 3)}
        )
        choices = st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts})
        return objects() | arrays | choices | inner.map(lambda part: {"allOf": [part]})

    leaves: st.SearchStrategy[JsonObject] = st.one_of(numbers, ranges, texts, plain, enums, reference)
    return st.recursive(leaves, wider, max_leaves=8)


# `node` may hold itself, and need not; `leaf` never does.
DEFINED: JsonObject = {
    "leaf": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    "node": {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/node"}, "all": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        "additionalProperties": False,
    },
}


@given(schemas())
def test_a_sample_fits_its_schema(schema: JsonObject) -> None:
    whole = {**schema, "$defs": DEFINED}
    value = sample(whole)
    assert schema_errors(value, whole) == []
    assert json.loads(json.dumps(value)) == value


def test_the_sample_of_a_schema_without_a_finite_value_is_empty() -> None:
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert sample(endless) == {}
    two = [{"$ref": "#/$defs/b"}, {"$ref": "#/$defs/c"}]
    assert sample({"$defs": {"b": {"allOf": two}, "c": {"anyOf": two}}, "$ref": "#/$defs/b"}) == {}


async def _asked(url: str, **fields: Any) -> tuple[int, JsonObject]:
    body = {"model": OSS, "messages": [{"role": "user", "content": "As JSON."}], **fields}
    async with (
        aiohttp.ClientSession(headers={"Authorization": "Bearer gsk_x"}) as session,
        session.post(f"{url}/openai/v1/chat/completions", json=body) as response,
    ):
        text = await response.text()
    return response.status, json.loads(text) if text.startswith("{") else {}


def _as_schema(schema: JsonObject) -> JsonObject:
    return {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}}


async def test_an_unscripted_reply_fits_a_nested_schema_and_a_scripted_one_is_checked_by_it() -> None:
    async with simulated_cloud() as cloud:
        status, body = await _asked(cloud.url, response_format=_as_schema(PERSON))
    assert status == 200
    assert schema_errors(json.loads(body["choices"][0]["message"]["content"]), PERSON) == []
    wrong = json.dumps({**ALICE, "homes": [{"town": "Rome"}]})
    async with simulated_cloud(SimOptions(reply=lambda _request, _call: wrong)) as cloud:
        status, body = await _asked(cloud.url, response_format=_as_schema(PERSON))
    assert (status, body["error"]["code"], body["error"]["failed_generation"]) == (400, "json_validate_failed", wrong)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"response_format": _as_schema(PERSON), "stream": True}, "`response_format` does not support streaming"),
        (
            {"response_format": _as_schema(PERSON), "tools": [TOOL]},
            "json mode cannot be combined with tool/function calling",
        ),
        (
            {"response_format": {"type": "json_object"}, "tools": [TOOL]},
            "json mode cannot be combined with tool/function calling",
        ),
        (
            {"response_format": _as_schema(PERSON), "model": "llama-3.1-8b-instant"},
            "This model does not support response format `json_schema`.",
        ),
        ({"response_format": {"type": "json_object"}, "stream": True}, None),
        ({"response_format": {"type": "json_object"}, "model": "llama-3.1-8b-instant"}, None),
        ({"response_format": {"type": "text"}, "tools": [TOOL], "stream": True}, None),
        ({"response_format": _as_schema(PERSON), "model": "openai/gpt-oss-120b"}, None),
    ],
)
async def test_formats_are_refused_as_groq_refuses_them(fields: JsonObject, message: str | None) -> None:
    async with simulated_cloud() as cloud:
        status, body = await _asked(cloud.url, **fields)
    assert (status, body.get("error", {}).get("message")) == (200 if message is None else 400, message)
