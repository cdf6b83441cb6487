"""Reasoning that a reply's JSON tells apart: parts of a content, fields of a message."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import ChatRequest, Completion, Timing
from mixtura.models.openai.parts import Said, said_in, words_in
from mixtura.models.openai.reply import decode_reply
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import completion_from

REQUEST = ChatRequest(model="m", messages=())
SECRET = "SECRET"


def whole(**message: Any) -> Completion:
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    return completion_from(decode_reply(json.dumps(body).encode()), REQUEST, Timing())


def streamed(*deltas: dict[str, Any], at_once: bool) -> Completion:
    """Return what a stream of `deltas` says, its text read piece by piece or as a whole body."""
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in ({}, *deltas)]
    closing = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    gathered = StreamedReply(REQUEST)
    if at_once:
        body = b"".join(b"data: %b\n\n" % json.dumps(one, separators=(",", ":")).encode() for one in chunks)
        if gathered.take_body(body) is not None:
            chunks = []
    for one in (*chunks, closing):
        gathered.add(decode_reply(json.dumps(one).encode()))
    return gathered.completion(Timing())


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": SECRET, "signature": "s"},
        {"type": "thinking", "thinking": [{"type": "text", "text": SECRET}]},
        {"type": "thinking", "content": [SECRET]},
        {"type": "reasoning", "text": SECRET},
        {"type": "reasoning", "reasoning": SECRET},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": SECRET}]},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": SECRET}], "summary": []},
        {"type": "reasoning_text", "text": SECRET},
        {"type": "reasoning_content", "reasoning_content": {"text": SECRET}},
        {"type": "reasoning.text", "text": SECRET},
        {"type": "thought", "text": SECRET},
        {"type": "Thinking", "text": {"value": SECRET}},
        {"type": "text", "text": SECRET, "thought": True},
        {"type": "text", "text": SECRET, "channel": "analysis"},
        {"thinking": SECRET},
        {"reasoningContent": {"reasoningText": {"text": SECRET, "signature": "s"}}},
    ],
)
def test_a_part_that_is_reasoning_is_apart_from_the_text(part: dict[str, Any]) -> None:
    answer = {"type": "text", "text": "4"}
    for content in ([part, answer], [answer, part], [part, "4"]):
        assert said_in(content) == Said("4", SECRET)
        said = whole(content=content)
        assert (said.text, said.reasoning) == ("4", SECRET)
    for at_once in (False, True):
        said = streamed({"content": [part]}, {"content": [answer]}, at_once=at_once)
        assert (said.text, said.reasoning) == ("4", SECRET)
    assert (whole(content=[part]).text, whole(content=part).text) == ("", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"type": "redacted_thinking", "data": "AAAA"}, {"type": "text", "text": "4"}], Said("4", "")),
        ([{"type": "reasoning.encrypted", "data": "AAAA"}], Said()),
        ([{"type": "text", "text": "4", "thought": False}], Said("4", "")),
        ([{"type": "text", "text": "4", "reasoning": SECRET}], Said("4", SECRET)),
        ([{"type": "text", "text": {"value": "4", "annotations": []}}], Said("4", "")),
        ([{"type": "message", "content": [{"type": "output_text", "text": "4"}]}], Said("4", "")),
        ([{"type": "tool_use", "input": {}}, None, 7, "4"], Said("4", "")),
        ({"type": "text", "text": "4"}, Said("4", "")),
        ({"parts": [{"text": SECRET, "thought": True}, {"text": "4"}]}, Said("4", SECRET)),
        ("4", Said("4", "")),
        (None, Said()),
    ],
)
def test_other_parts_are_the_answer_or_nothing(content: object, said: Said) -> None:
    assert said_in(content) == said


def test_words_that_are_nested_deeply_are_left_out() -> None:
    nested: Any = SECRET
    for _ in range(100):
        nested = [nested]
    assert words_in(nested) == ""


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": SECRET},
        {"reasoning_content": SECRET},
        {"reasoning_text": SECRET},
        {"thinking": SECRET},
        {"reasoning": {"content": SECRET}},
        {"reasoning_content": [{"type": "text", "text": SECRET}]},
        {"thinking": [{"type": "thinking", "thinking": SECRET}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": SECRET}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": SECRET}, {"type": "reasoning.encrypted"}]},
        {"reasoning": None, "reasoning_details": [{"type": "reasoning.text", "text": SECRET}]},
        {"reasoning": SECRET, "reasoning_content": SECRET},
        {"reasoning": SECRET, "reasoning_details": [{"type": "reasoning.text", "text": SECRET}]},
        {"reasoning_content": SECRET, "thinking_blocks": [{"type": "thinking", "thinking": SECRET}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": SECRET, "signature": "s"}]},
    ],
)
def test_a_field_for_reasoning_is_read_once(fields: dict[str, Any], at_once: bool) -> None:
    said = whole(content="4", **fields)
    assert (said.text, said.reasoning) == ("4", SECRET)
    empty = dict.fromkeys(fields)
    pieces = [{"content": "", **fields}, *({"content": piece, **empty} for piece in ("", "", "", "4", "", ""))]
    said = streamed(*pieces, at_once=at_once)
    assert (said.text, said.reasoning) == ("4", SECRET)


def test_details_that_cannot_be_read_lose_no_answer() -> None:
    nested = "[" * 100 + "]" * 100
    body = b'{"choices":[{"message":{"content":"4","reasoning_details":%b},"finish_reason":"stop"}]}' % nested.encode()
    said = completion_from(decode_reply(body), REQUEST, Timing())
    assert (said.text, said.reasoning) == ("4", "")


JSON = st.recursive(
    st.none() | st.booleans() | st.text(max_size=4) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "content", "thinking", "thought", "summary"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_content_says_something_or_nothing(content: object) -> None:
    said = said_in(content)
    assert isinstance(said.text, str)
    assert isinstance(said.reasoning, str)
