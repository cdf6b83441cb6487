import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import ChatOptions, ChatRequest, Completion, JsonObject, Message, Timing
from mixtura.models.catalog import Catalog
from mixtura.models.openai.reply import WireError, decode_reply
from mixtura.models.openai.wire import Dialect, completion_from, encode_request
from resources import recorded_data

GROQ_DIALECT = Dialect(max_tokens="max_completion_tokens", usage_option=True)


def asked(text: str = "hi", **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=(Message(role="user", content=text),), **fields)


def sent(request: ChatRequest, dialect: Dialect = GROQ_DIALECT, *, stream: bool = False) -> dict[str, Any]:
    body = json.loads(encode_request(request, dialect, stream=stream))
    assert isinstance(body, dict)
    return body


def read(body: object, request: ChatRequest | None = None) -> Completion:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return completion_from(decode_reply(data), request or asked(), Timing(total=1.0))


def reply(message: object, **fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **fields}


def test_a_request_holds_what_was_given_and_nothing_else() -> None:
    assert sent(asked()) == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    request = asked(temperature=0.0, top_p=0.5, max_tokens=7, seed=3, reasoning_effort="low")
    assert sent(request) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "top_p": 0.5,
        "max_completion_tokens": 7,
        "seed": 3,
        "reasoning_effort": "low",
    }


def test_the_dialect_names_the_output_limit_and_asks_a_stream_for_its_usage() -> None:
    body = sent(asked(max_tokens=7), Dialect(max_tokens="max_tokens"), stream=True)
    assert body["max_tokens"] == 7
    assert body["stream"] is True
    assert "stream_options" not in body
    assert sent(asked(), stream=True)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        ("openai/gpt-oss-120b", "include_reasoning", True),
        ("qwen/qwen3.8-27b", "reasoning_format", "parsed"),
        ("llama-3.1-8b-instant", None, None),
        ("somebody/unknown", None, None),
    ],
)
def test_groq_is_asked_to_keep_thinking_apart_in_each_family_s_way(
    model: str, field: str | None, value: object
) -> None:
    catalog = Catalog.load()
    body = sent(asked(), Dialect.of(catalog.provider("groq"), catalog.get("groq", model)))
    fields = {name: body[name] for name in ("include_reasoning", "reasoning_format") if name in body}
    assert fields == ({} if field is None else {field: value})


def test_a_caller_s_own_choice_about_reasoning_replaces_ours() -> None:
    request = asked(options=ChatOptions(extra={"reasoning_format": "hidden"}))
    body = sent(request, Dialect(reasoning="include_reasoning"))
    assert body["reasoning_format"] == "hidden"
    assert "include_reasoning" not in body


def test_options_are_sent_as_given_and_extra_has_the_last_word() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    options = ChatOptions(
        tools=tools,
        tool_choice="auto",
        response_format={"type": "json_object"},
        stop=["x"],
        service_tier="flex",
        user="u",
        extra={"user": "v", "new_field": [1]},
    )
    body = sent(asked(options=options))
    assert body["tools"] == tools
    assert (body["tool_choice"], body["stop"], body["service_tier"]) == ("auto", ["x"], "flex")
    assert body["response_format"] == {"type": "json_object"}
    assert (body["user"], body["new_field"]) == ("v", [1])


def test_image_parts_and_tool_turns_travel_untouched() -> None:
    parts: list[JsonObject] = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "data:x"}}]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = (
        Message(role="user", content=parts),
        Message(role="assistant", tool_calls=[call]),
        Message(role="tool", content="40", tool_call_id="1"),
    )
    assert sent(ChatRequest(model="m", messages=messages))["messages"] == [
        {"role": "user", "content": parts},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "40", "tool_call_id": "1"},
    ]


def test_a_lone_surrogate_in_a_message_is_sent_as_the_replacement_character() -> None:
    assert sent(asked("a\ud800b"))["messages"][0]["content"] == "a\ufffdb"


def test_a_whole_groq_reply_is_read() -> None:
    completion = read(
        {
            "id": "chatcmpl-1",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Olá!", "reasoning": "easy"},
                    "logprobs": None,
                    "finish_reason": "length",
                }
            ],
            "usage": {
                "queue_time": 0.25,
                "prompt_tokens": 20,
                "prompt_time": 0.01,
                "completion_tokens": 4,
                "completion_time": 0.02,
                "total_time": 0.03,
                "prompt_tokens_details": {"cached_tokens": 16},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            "usage_breakdown": {"models": [{"model": "x"}]},
            "system_fingerprint": "fp_1",
            "x_groq": {"id": "req_1", "seed": 42},
            "service_tier": "on_demand",
        }
    )
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("Olá!", "easy", "length")
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens) == (20, 4, 16, 3)
    assert (usage.queue_time, usage.prompt_time, usage.completion_time) == (0.25, 0.01, 0.02)
    assert not usage.estimated
    assert completion.timing == Timing(total=1.0, queue=0.25)
    assert (completion.id, completion.seed) == ("chatcmpl-1", 42)
    assert (completion.service_tier, completion.system_fingerprint) == ("on_demand", "fp_1")
    assert completion.extra == {"request_id": "req_1", "usage_breakdown": {"models": [{"model": "x"}]}}


def test_executed_tools_and_another_model_s_name_are_kept() -> None:
    body = reply({"content": "x", "executed_tools": [{"type": "search"}]}, model="m-2026")
    assert read(body).extra == {"executed_tools": [{"type": "search"}], "model": "m-2026"}


def test_reasoning_content_is_reasoning() -> None:
    assert read(reply({"content": "x", "reasoning_content": "hm"})).reasoning == "hm"


def test_tool_calls_without_content_are_a_completion() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    completion = read({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]})
    assert (completion.text, completion.tool_calls, completion.finish_reason) == ("", calls, "tool_calls")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}, "c"], "abc"),
        ({"text": "a"}, "a"),
    ],
)
def test_content_that_is_no_string_is_read_as_its_text(content: object, text: str) -> None:
    assert read(reply({"content": content})).text == text


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("function_call", "stop"),
        ("content_filter", "content_filter"),
        ("odd", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_finish_reason_nobody_agreed_on_is_unknown(word: str | None, reason: str) -> None:
    assert read({"choices": [{"message": {"content": "x"}, "finish_reason": word}]}).finish_reason == reason


def test_usage_is_taken_from_groq_s_own_part_when_the_top_has_none() -> None:
    body = reply({"content": "x"}, x_groq={"usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    assert (read(body).usage.prompt_tokens, read(body).usage.estimated) == (5, False)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}])
def test_a_missing_usage_is_estimated_and_says_so(usage: object) -> None:
    usage_read = read(reply({"content": "x" * 400}, usage=usage), asked("y" * 4000)).usage
    assert usage_read.estimated
    assert 50 <= usage_read.completion_tokens <= 200
    assert 500 <= usage_read.prompt_tokens <= 2000


def test_lone_surrogates_and_broken_utf8_become_the_replacement_character() -> None:
    assert read(rb'{"choices":[{"message":{"content":"a\ud800b \ud83d\ude00"}}]}').text == "a\ufffdb 😀"
    assert read(b'{"choices":[{"message":{"content":"a\xffb"}}]}').text == "a\ufffdb"


def test_a_field_of_an_odd_type_does_not_lose_the_answer() -> None:
    body = reply({"content": "x"}, id=7, service_tier={"name": "?"}, usage=[1], system_fingerprint=3)
    assert read(body).text == "x"
    body = reply({"content": "x"}, usage={"prompt_tokens": 5.0, "completion_tokens": "2"})
    assert (read(body).usage.prompt_tokens, read(body).usage.completion_tokens) == (5, 2)


def test_figures_that_are_none_are_estimated() -> None:
    usage = read(
        b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":1e999,"completion_tokens":-4}}'
    ).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (6, 1, True)
    body = b'{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":NaN,"queue_time":-Infinity}}'
    assert (read(body).usage.prompt_tokens, read(body).usage.queue_time) == (6, 0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "an empty body"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"not json", "'not json'"),
        (b"[1]", "not a completion"),
        (b'{"choices":[]}', "without choices"),
        (b'{"choices":null}', "without choices"),
        (b'{"choices":[{"finish_reason":"stop"}]}', "without a message"),
        (b'{"choices":"x"}', "without choices"),
        (b"[" * 100_000, "not a completion"),
    ],
)
def test_what_is_no_completion_is_refused_in_a_sentence(body: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said):
        read(body)


def test_an_error_in_place_of_a_completion_is_handed_on() -> None:
    with pytest.raises(WireError, match="an error in place of a completion") as caught:
        read({"error": {"message": "no", "code": 503}})
    assert caught.value.reported == {"message": "no", "code": 503}


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "content", "error", "usage", "x_groq", "prompt_tokens"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused_but_never_breaks_the_reader(value: object) -> None:
    try:
        read(json.dumps(value).encode())
    except WireError:
        pass


@given(st.text())
def test_any_text_comes_back_as_it_was_sent(text: str) -> None:
    clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert read(json.dumps(reply({"content": text})).encode()).text == clean
    assert (
        msgspec.json.decode(encode_request(asked(text), GROQ_DIALECT, stream=False))["messages"][0]["content"] == clean
    )


def test_recorded_replies_are_read() -> None:
    texts = [
        read(found[1].encode()).text
        for name in ("fantasy_kimi_k2_simple", "fantasy_kimi_k2_tool")
        for found in re.finditer(
            r'^ +(\{"id":.*\})$', recorded_data(f"wire/{name}.yaml").read_text("utf-8"), re.MULTILINE
        )
    ]
    assert texts == [
        "Olá!",
        "I'll check the weather in Florence, Italy for you.",
        "The current temperature in Florence, Italy is 40°C.",
    ]
