"""Fields of another form than documented: none loses the text beside it, and what it holds is kept where it can be."""

import json
from typing import Any

import pytest

from mixtura.chat import ChatRequest, Completion, JsonObject, Message, Timing
from mixtura.models.openai.reply import WireError, decode_reply, reports_nothing
from mixtura.models.openai.sse import ServerEvent
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import completion_from

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))


def read(body: object) -> Completion:
    return completion_from(decode_reply(json.dumps(body).encode()), REQUEST, Timing())


def reply(message: object, **fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], **fields}


ODD: list[object] = [
    None,
    False,
    True,
    0,
    1,
    1.5,
    -7,
    "",
    "odd",
    [],
    [None],
    ["odd"],
    {},
    {"a": 1},
    {"type": "odd"},
    [[[]]],
]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("streamed", [True, False])
def test_no_field_beside_the_text_loses_it_whatever_it_holds(value: object, *, streamed: bool) -> None:
    message: JsonObject = {"role": "assistant", "content": "x"}
    beside = ("tool_calls", "refusal", "annotations", "executed_tools", "reasoning", "role", "name", "audio")
    top = ("id", "object", "created", "model", "usage", "x_groq", "service_tier", "system_fingerprint", "choice")
    bodies = [reply({**message, field: value}) for field in (*beside, "function_call")]
    bodies += [reply(message, **{field: value}) for field in top]
    for field in ("index", "finish_reason", "logprobs", "delta", "text", "stop_reason"):
        body = reply(message)
        body["choices"][0][field] = value
        bodies.append(body)
    for body in bodies:
        if streamed:
            body["choices"][0]["delta"] = body["choices"][0].pop("message")
            gathered = StreamedReply(REQUEST)
            assert gathered.take(ServerEvent("", json.dumps(body).encode())) is not None
            gathered.take(ServerEvent("", b"[DONE]"))
            assert gathered.completion(Timing()).text == "x", body
        else:
            assert read(body).text == "x", body


@pytest.mark.parametrize(
    ("choices", "odd"),
    [
        ({"message": {"content": "x"}}, ("choices",)),
        ({"0": {"message": {"content": "x"}}}, ("choices",)),
        (["x"], ("choices",)),
        ([{"message": "x"}], ("message",)),
        ([{"message": [{"type": "text", "text": "x"}]}], ("message",)),
        ([{"message": {"content": "x"}, "finish_reason": 1}], ()),
        ([{"message": {"content": "x"}, "finish_reason": ["stop"]}], ()),
        ([{"message": {"content": "x", "tool_calls": "call f"}}], ("tool_calls",)),
        ([{"message": {"content": "x", "tool_calls": {}}}], ()),
        ([{"message": {"content": "x", "refusal": False}}], ()),
        ([{"message": {"content": ["x"]}}], ()),
        ([{"message": {}, "delta": {"content": "x"}}], ()),
        ([{"text": "x"}], ()),
    ],
)
def test_a_field_whose_form_had_to_be_guessed_is_named_and_a_harmless_one_is_not(
    choices: object, odd: tuple[str, ...]
) -> None:
    completion = read({"choices": choices})
    assert (completion.text, completion.odd_fields) == ("x", odd)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (42, "42"),
        (0, "0"),
        (-1.5, "-1.5"),
        (True, "true"),
        ({"city": "Paris"}, '{"city": "Paris"}'),
        (False, ""),
        ({}, ""),
        ([], ""),
        ({"type": "image_url"}, ""),
    ],
)
def test_a_content_that_a_server_parsed_is_the_json_of_it(content: object, text: str) -> None:
    assert read(reply({"content": content})).text == text


@pytest.mark.parametrize(
    "body",
    [
        {"code": 1001, "message": "your quota is used up"},
        {"message": {"content": "your quota is used up"}},
        {"message": "your quota is used up", "done": "no"},
        {"detail": "not found", "choices": None},
    ],
)
def test_what_a_gateway_says_of_its_own_is_no_answer(body: object) -> None:
    with pytest.raises(WireError, match=r"without choices|an error in place of"):
        read(body)


def test_what_a_gateway_says_beside_the_answer_is_passed_over() -> None:
    completion = read({**reply({"content": "x"}), "code": 0, "message": "success", "done": "yes", "done_reason": 7})
    assert (completion.text, completion.odd_fields) == ("x", ())


def test_a_reply_in_ollama_s_own_form_is_read() -> None:
    said = {"model": "m", "message": {"role": "assistant", "content": "x"}, "done": True, "done_reason": "length"}
    assert (read(said).text, read(said).finish_reason) == ("x", "length")
    assert read({**said, "done_reason": None}).finish_reason == "stop"
    with pytest.raises(WireError, match=r"without choices|an error in place of"):
        read({**said, "message": "x"})


def test_a_tool_call_without_the_list_round_it_is_read() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    completion = read(reply({"content": None, "tool_calls": call}))
    assert (completion.tool_calls, completion.odd_fields) == ([call], ("tool_calls",))


NOTHING: list[object] = [None, False, 0, "", [], {}, "none", "OK", "Success", [None], [{}], 200, "0"]
SOMETHING: list[object] = [True, 1, "x", [1], {"message": "x"}, {"code": 503}, {"code": 0, "message": "x"}]


@pytest.mark.parametrize(
    ("error", "nothing"),
    [
        *((value, True) for value in NOTHING),
        *(({"code": code, "message": said}, True) for code, said in ((0, "success"), ("", ""), (200, "OK"))),
        ({"code": None, "message": "", "details": [], "inner": {"code": 0}}, True),
        *((value, False) for value in SOMETHING),
        ({"a": {"b": {"c": {"d": {"e": 1}}}}}, False),
    ],
)
def test_an_error_that_reports_none_is_none(error: object, *, nothing: bool) -> None:
    assert reports_nothing(error) is nothing
    body = {**reply({"content": "x"}), "error": error}
    if nothing:
        assert read(body).text == "x"
    else:
        with pytest.raises(WireError, match="in place of a completion"):
            read(body)
