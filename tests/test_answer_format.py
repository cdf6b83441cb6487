"""The form of an answer: what holds it, what is taken off, and what is said of the rest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.answer_format import AnswerFormat, answer_format, canonical
from mixtura.errors import InputError

OBJECT = AnswerFormat({"type": "json_object"})
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}, "next": {"$ref": "#/$defs/node"}},
    "required": ["colour"],
    "additionalProperties": False,
    "$defs": {"node": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}},
}
COLOUR = AnswerFormat({"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA}})
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=8,
)
# Words in which no JSON begins.
words = st.text(st.characters(codec="utf-8", exclude_characters="{[\\`"), max_size=30)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"colour": "red"}', '{"colour": "red"}'),
        ('  {"colour":"red"}\n', '  {"colour":"red"}\n'),
        ('```json\n{"colour": "red"}\n```', '{"colour": "red"}'),
        ('Sure! Here it is: {"colour": "red"} - enjoy {it}.', '{"colour": "red"}'),
        ('First {"thought": 1}, then {"colour": "red"}', '{"colour": "red"}'),
    ],
)
def test_the_json_of_an_answer_is_found(text: str, kept: str) -> None:
    assert COLOUR.read(text) == kept


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Sure! The colour is red.", "it is not JSON"),
        ("", "it is not JSON"),
        ('{"colour": "re', "it is not JSON"),
        ('{"colour": 3}', "the answer.colour must be string"),
        ("{}", "the answer must contain ['colour'] properties"),
        ('{"colour": "red", "size": 1}', "the answer must not contain {'size'} properties"),
        ('{"colour": "red", "next": {"n": -1}}', "the answer.next.n must be bigger than or equal to 0"),
        ("[" * 100_000, "it is nested too deeply"),
        ("\ud800", "it is not JSON"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(text: str, problem: str) -> None:
    assert COLOUR.problem(text).startswith(problem)


@given(words, st.dictionaries(st.text(max_size=6), values, max_size=4), words)
def test_an_object_is_found_between_any_words(before: str, value: dict[str, Any], after: str) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert OBJECT.value(before + text + after) == value
    assert OBJECT.starts(text) is True


@given(st.text(max_size=80))
def test_any_text_is_judged_and_what_is_kept_holds(text: str) -> None:
    if not OBJECT.problem(text):
        assert isinstance(json.loads(OBJECT.read(text)), dict)


@pytest.mark.parametrize(
    "text",
    [
        '{"user": {"name": "Ann"}, "note": "she said "hi""}',
        '{"a":{"b":1},}',
        '[{"a":1},{"b":2},]',
        '{"items":[{"id":1}],"error":{"code":1}, ...}',
        '{"a":1}{"b":2}',
        'Either {"a":1} or {"b":2}.',
        '{"a": {"b": 1}',
    ],
)
def test_a_part_of_something_broken_or_one_of_several_is_no_answer(text: str) -> None:
    assert OBJECT.problem(text)


def test_words_in_braces_before_the_json_do_no_harm() -> None:
    text = " ".join(f"{{word {number}}}" for number in range(40)) + ' {"colour": "red"}'
    assert COLOUR.read(text) == '{"colour": "red"}'


def test_what_is_nested_too_deeply_is_refused_before_anything_walks_through_it() -> None:
    deep = '{"a":' + "[" * 900 + "]" * 900 + "}"
    assert OBJECT.problem(deep) == "it is nested too deeply"
    assert not OBJECT.problem('{"a":[' + "[],{}," * 900 + "1]}")


def test_an_object_is_not_a_list_and_a_schema_may_ask_for_one() -> None:
    assert OBJECT.problem("[1]") == "it is JSON, but no object"
    wanted = {"type": "array", "items": {"type": "integer"}}
    numbers = AnswerFormat({"type": "json_schema", "json_schema": {"name": "n", "schema": wanted}})
    assert numbers.value("Here: [1, 2]") == [1, 2]
    assert (numbers.starts(" ["), numbers.starts("Sure"), numbers.starts("  "), OBJECT.starts("[")) == (
        True,
        False,
        None,
        False,
    )


@given(values)
def test_equal_values_have_one_form(value: Any) -> None:
    assert canonical(value) == canonical(json.loads(json.dumps(value)))
    assert canonical([value, 1]) == canonical([value, 1.0])


def test_a_schema_that_shows_its_fault_only_in_use_costs_no_crash() -> None:
    form = AnswerFormat({"type": "json_schema", "json_schema": {"name": "n", "schema": {"multipleOf": 0}}})
    assert "its schema cannot be used" in form.problem("3")


def test_text_is_no_form() -> None:
    assert answer_format(None) is None
    assert answer_format({"type": "text"}) is None
    with pytest.raises(InputError):
        answer_format({})
