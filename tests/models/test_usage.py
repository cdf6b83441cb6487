"""What replies say of tokens and dollars: whatever it is, what is booked can be, and what was estimated is marked."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import ChatRequest, Message, Usage
from mixtura.models.openai.usage import NOTHING_TOLD, Told, dollars_in, read_usage

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="Hello?"),))
PROMPT = 7


def told(said: object) -> Told | None:
    return read_usage(msgspec.Raw(json.dumps(said).encode()))


def booked(said: object, text: str = "Paris.", **more: Any) -> Usage:
    return (told(said) or NOTHING_TOLD).booked(REQUEST, text, **more)


def plain(prompt: object, completion: object, **more: object) -> dict[str, object]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


FIGURES: list[tuple[object, tuple[int, int, int, int]]] = [
    # prompt, completion, cached, reasoning
    (plain(9, 3), (9, 3, 0, 0)),
    (plain(9, 3, total_tokens=12, prompt_tokens_details=None), (9, 3, 0, 0)),
    (plain(9, 3, total_tokens=12, prompt_tokens_details={"cached_tokens": 4}), (9, 3, 4, 0)),
    (plain(9, 3, prompt_tokens_details={"cached_tokens": 90}), (9, 3, 9, 0)),
    (plain(9, 30, completion_tokens_details={"reasoning_tokens": 20}), (9, 30, 0, 20)),
    (plain(9, 30, reasoning_tokens=20), (9, 30, 0, 20)),
    (plain(9, 3, reasoning_tokens=20), (9, 23, 0, 20)),
    (plain(9, 3, total_tokens=32, reasoning_tokens=20), (9, 23, 0, 20)),
    (plain(9, 3, total_tokens=12, reasoning_tokens=20), (9, 3, 0, 3)),
    (plain(9, 3, total_tokens=32), (9, 23, 0, 20)),
    (plain(9, 3, total_tokens=5), (9, 3, 0, 0)),
    (plain(9, 3, prompt_cache_hit_tokens=8), (9, 3, 8, 0)),
    (plain(9, 3, num_cached_tokens=8), (9, 3, 8, 0)),
    (plain(9, 3, cached_tokens=8), (9, 3, 8, 0)),
    (plain(9, 3, cache_read_input_tokens=8), (9, 3, 8, 0)),
    (plain("9", "3.0"), (9, 3, 0, 0)),
    ({"input_tokens": 9, "output_tokens": 3}, (9, 3, 0, 0)),
    ({"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}, (9, 3, 4, 0)),
    ({"input_tokens": 9, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}}, (9, 3, 0, 2)),
    ({"input_tokens": 9, "cache_read_input_tokens": 100, "output_tokens": 3}, (109, 3, 100, 0)),
    ({"input_tokens": 9, "cache_creation_input_tokens": 5, "output_tokens": 3}, (14, 3, 0, 0)),
    ({"promptTokenCount": 9, "candidatesTokenCount": 3, "cachedContentTokenCount": 2}, (9, 3, 2, 0)),
    ({"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 5}, (9, 8, 0, 5)),
    ({"prompt_eval_count": 9, "eval_count": 3}, (9, 3, 0, 0)),
    ({"inputTokens": 9, "outputTokens": 3, "cacheReadInputTokens": 6}, (15, 3, 6, 0)),
    ({"prompt_tokens": 0, "input_tokens": 9, "completion_tokens": None, "output_tokens": 3}, (9, 3, 0, 0)),
    ({"billed_units": {"input_tokens": 9, "output_tokens": 3}, "tokens": {"input_tokens": 70}}, (9, 3, 0, 0)),
    ({"usage": plain(9, 3)}, (9, 3, 0, 0)),
    ([plain(9, 3)], (9, 3, 0, 0)),
    ([plain(9, 1), {}, None, plain(9, 3)], (9, 3, 0, 0)),
]


@pytest.mark.parametrize(("said", "figures"), FIGURES)
def test_tokens_are_read_in_every_spelling(said: object, figures: tuple[int, int, int, int]) -> None:
    usage = booked(said)
    found = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens)
    assert (found, usage.estimated) == (figures, False)


GUESSES: list[tuple[object, int, int]] = [
    (None, PROMPT, 2),
    ({}, PROMPT, 2),
    ([], PROMPT, 2),
    ("12", PROMPT, 2),
    (12, PROMPT, 2),
    (plain(0, 0), PROMPT, 2),
    (plain(None, None), PROMPT, 2),
    (plain(-1, -1), PROMPT, 2),
    (plain(1e15, 1e15), PROMPT, 2),
    (plain("9 tokens", "three"), PROMPT, 2),
    (plain("1_0", "٣"), PROMPT, 2),
    (plain([9], {"text": 3}), PROMPT, 2),
    (plain(True, True), PROMPT, 2),
    (plain("9" * 40, "3"), PROMPT, 3),
    (plain(9, 0), 9, 2),
    (plain(9, -3, total_tokens=12), 9, 3),
    (plain(0, 3), PROMPT, 3),
    ({"total_tokens": 18}, 14, 4),
]


@pytest.mark.parametrize(("said", "prompt", "completion"), GUESSES)
def test_what_is_not_told_or_cannot_be_is_estimated_and_marked(said: object, prompt: int, completion: int) -> None:
    usage = booked(said)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (prompt, completion, True)


def test_an_answer_of_nothing_took_no_tokens() -> None:
    assert booked(plain(9, 0), "") == Usage(prompt_tokens=9)
    assert booked({"total_tokens": 9}, "") == Usage(prompt_tokens=9, estimated=True)


def test_calls_of_tools_and_thinking_are_part_of_an_estimate() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "search", "arguments": '{"words": "a b c d e f"}'}}]
    assert booked(None, "", calls=calls).completion_tokens > 20
    usage = booked(None, "Paris.", reasoning="word " * 100)
    assert usage.reasoning_tokens > 100
    assert usage.completion_tokens == usage.reasoning_tokens + 2


PROSE = "The quick brown fox jumps over the lazy dog, again and again. " * 60
UNDOUBTED = [
    (PROSE, 720),
    (PROSE, 150),
    ("internationalization " * 100, 100),
    ("=" * 4000, 40),
    ("-" * 80 + "\n" + "| a | b |\n" * 4, 16),
    (" " * 4000 + "x", 20),
    ("A" * 4000, 60),
    ("word " * 40, 1),
    ("今天天气很好我们去公园散步吧" * 50, 100),
    ("給主人留下些什麼吧" * 20, 20),
]


@pytest.mark.parametrize(("text", "tokens"), UNDOUBTED)
def test_what_a_tokenizer_may_say_is_not_doubted(text: str, tokens: int) -> None:
    usage = booked(plain(9, tokens), text)
    assert (usage.completion_tokens, usage.estimated) == (tokens, False)


@pytest.mark.parametrize(("text", "tokens"), [(PROSE, 1), (PROSE, 80), ("今天天气很好我们去公园散步吧" * 100, 10)])
def test_fewer_tokens_than_a_text_can_have_are_doubted(text: str, tokens: int) -> None:
    usage = booked(plain(9, tokens), text)
    assert (usage.prompt_tokens, usage.estimated) == (9, True)
    assert usage.completion_tokens > 200


def test_a_later_figure_counts_where_there_is_one() -> None:
    first = Told(prompt=900, completion=1, cached=800, charged=0.1)
    assert Told().after(first) == first
    assert Told(completion=50).after(first) == Told(prompt=900, completion=50, cached=800, charged=0.1)
    assert Told(completion=50, charged=0.0).after(first).charged == 0.0
    assert first.after(None) is first


CHARGES: list[tuple[dict[str, object], float | None]] = [
    ({"cost": 0.01}, 0.01),
    ({"cost": 0}, 0.0),
    ({"cost": "0.01"}, 0.01),
    ({"cost": "1e-2"}, 0.01),
    ({"total_cost": 0.01}, 0.01),
    ({"estimated_cost": 0.01}, 0.01),
    ({"cost": None, "estimated_cost": 0.01}, 0.01),
    ({"cost": {"total_cost": 0.01, "request_cost": 0.005}}, 0.01),
    ({"cost": {"total_cost": 0.01, "currency": "USD"}}, 0.01),
    ({"cost": {"total_cost": 0.01, "currency": "EUR"}}, None),
    ({"cost": 0.01, "currency": "usd"}, 0.01),
    ({"cost": 0.01, "currency": "CNY"}, None),
    ({"cost": 0.01, "currency": 7}, None),
    ({"cost": {}}, None),
    ({"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}, 0.021),
    ({"cost": 0, "cost_details": {"upstream_inference_cost": 0.02}}, 0.02),
    ({"cost": 0.02, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.02}}, 0.02),
    ({"cost": 0.02, "cost_details": {"upstream_inference_cost": None}}, 0.02),
    ({"cost": 0.02, "is_byok": True, "cost_details": {"upstream_inference_cost": -1}}, 0.02),
    ({"cost": -0.01}, None),
    ({"cost": 1e6}, None),
    ({"cost": True}, None),
    ({"cost": "free"}, None),
    ({"cost": [0.01]}, None),
]


@pytest.mark.parametrize(("said", "dollars"), CHARGES)
def test_what_a_provider_charged_is_read_where_it_can_be(said: dict[str, object], dollars: float | None) -> None:
    found = told(plain(9, 3, **said))
    assert found is not None
    assert found.charged == (None if dollars is None else pytest.approx(dollars))


@pytest.mark.parametrize("said", [math.nan, math.inf, -math.inf, "nan", "inf", "-1", "1e400", "", None, 1001, {}])
def test_what_can_be_no_price_of_a_call_is_none(said: object) -> None:
    assert dollars_in(said) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cost", "is_byok"),
        *("prompt_tokens_details", "completion_tokens_details", "reasoning_tokens", "cached_tokens", "cost_details"),
        *("cache_read_input_tokens", "thoughtsTokenCount", "candidatesTokenCount", "queue_time", "currency"),
    ]
)


@given(st.dictionaries(NAMES, JSON | st.integers(0, 10**6)) | JSON, st.text(max_size=400))
def test_whatever_is_said_what_is_booked_can_be(said: object, text: str) -> None:
    found = told(said)
    usage = (found or NOTHING_TOLD).booked(REQUEST, text)
    assert usage.prompt_tokens > 0
    assert 0 <= usage.cached_tokens <= usage.prompt_tokens
    assert 0 <= usage.reasoning_tokens <= usage.completion_tokens
    assert usage.completion_tokens > 0 or not text.strip()
    assert usage.queue_time >= 0
    assert found is None or found.charged is None or 0 <= found.charged <= 2000


@pytest.mark.parametrize(
    "raw", [b"", b"nul", b"{", b'{"prompt_tokens":}', b"[" * 5000, b'"\xff"', b"{" + b'"a":{' * 900]
)
def test_a_usage_that_is_no_json_tells_nothing(raw: bytes) -> None:
    assert read_usage(msgspec.Raw(raw)) is None
