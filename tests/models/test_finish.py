"""What the finish reasons of servers mean, beside the replies that `bench/dialects` asks over HTTP."""

import json
import re
from typing import Any

import groq
import msgspec
import openai
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from local_servers import FAILURES, Unseen, http_model, sdk_model, served
from mixtura import Aggregator, Layer, Mixture, Policy, Proposer, Recipe
from mixtura.chat import ChatRequest, Completion, Delta, Message, PartialReader, Timing
from mixtura.errors import (
    BadGenerationError,
    BrokenReplyError,
    LoopedError,
    ModelError,
    OverloadedError,
    RejectedError,
)
from mixtura.models.openai.finish import ending_of, word_in
from mixtura.models.openai.reply import WireError, decode_reply
from mixtura.models.openai.sse import ServerEvent
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.openai.wire import completion_from

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
USAGE = {"prompt_tokens": 9, "completion_tokens": 3}


def read(choice: dict[str, Any], **top: Any) -> Completion:
    body = {"choices": [{"message": {"content": "Two."}, **choice}], "usage": USAGE, **top}
    return completion_from(decode_reply(json.dumps(body).encode()), REQUEST, Timing())


def streamed(*choices: dict[str, Any], done: bool = True) -> Completion:
    reply = StreamedReply(REQUEST)
    for choice in choices:
        reply.take(ServerEvent("", json.dumps({"choices": [choice]}).encode()))
    if done:
        reply.take(ServerEvent("", b"[DONE]"))
    return reply.completion(Timing())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("stop eos EOS eos_token stop_sequence end_turn END_TURN COMPLETE FinishReason.STOP eosFound", "stop"),
        ("STOP_SEQUENCE stopStringFound FINISH_REASON_STOP REASON_STOP end_of_text normal", "stop"),
        ("length max_tokens MAX_TOKENS max-tokens maxTokens FINISH_REASON_MAX_TOKENS REASON_MAX_LEN limit", "length"),
        ("maxPredictedTokensReached contextLengthReached model_length ERROR_LIMIT incomplete time_limit", "length"),
        ("tool_calls function_call tool-calls tool_use TOOL_CALL toolCalls", "tool_calls"),
        ("content_filter content-filter SAFETY safety RECITATION BLOCKLIST PROHIBITED_CONTENT", "content_filter"),
        ("SPII LANGUAGE ERROR_TOXIC refusal sensitive guardrail_intervened content_filtered", "content_filter"),
        ("whatever satisfied 3 14 true", "unknown"),
    ],
)
def test_each_server_s_word_is_one_of_ours(words: str, reason: str) -> None:
    for word in words.split():
        assert (ending_of(word).reason, ending_of(word).failed) == (reason, None), word


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("error ERROR failed abort ABORT cancelled USER_CANCEL userStopped OTHER other", BrokenReplyError),
        ("insufficient_system_resource network_error load unload modelUnloaded TIMEOUT", OverloadedError),
        ("MALFORMED_FUNCTION_CALL malformed_function_call UNEXPECTED_TOOL_CALL", BadGenerationError),
        ("repetition", LoopedError),
        ("MISSING_THOUGHT_SIGNATURE", RejectedError),
    ],
)
def test_a_word_that_says_that_it_failed_is_an_error(words: str, kind: type[ModelError]) -> None:
    for word in words.split():
        with pytest.raises(WireError, match="the server ended its reply with") as caught:
            read({"finish_reason": word})
        error = FAILURES.of_wire("m", caught.value)
        assert type(error) is kind
        assert repr(word) in str(error)
        assert caught.value.usage is not None


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ({"type": "stop", "matched": "</s>"}, "stop"),
        ({"reason": "max_tokens"}, "length"),
        ({"length": {"tokens": 9}}, "length"),
        (["stop"], "stop"),
        ([], "unknown"),
        ({}, "unknown"),
        (True, "unknown"),
        ("<FinishReason.SAFETY: 3>", "content_filter"),
        ("safety (block_reason: none)", "content_filter"),
    ],
)
def test_an_object_a_list_or_a_name_in_a_sentence_is_read(word: object, reason: str) -> None:
    assert read({"finish_reason": word}).finish_reason == reason


def test_what_the_table_does_not_say_is_kept_in_the_server_s_word() -> None:
    assert "finish_reason" not in read({"finish_reason": "stop"}).extra
    assert "finish_reason" not in read({"finish_reason": None}).extra
    assert "finish_reason" not in read({"finish_reason": "null"}).extra
    assert read({"finish_reason": "SAFETY"}).extra == {"finish_reason": "SAFETY"}
    assert read({"finish_reason": 7}).extra == {"finish_reason": "7"}
    assert len(read({"finish_reason": "x" * 100_000}).extra["finish_reason"]) <= 200


def test_a_word_is_shown_short_and_without_a_secret() -> None:
    key = "sk-abcdefghijklmnopqrstuvwxyz0123456789"
    for before in ("x: ", "y" * 190 + " "):
        said = read({"finish_reason": f"{before}{key}"}).extra["finish_reason"]
        assert len(said) <= 200
        assert "abcd" not in said
    with pytest.raises(WireError) as caught:
        read({"finish_reason": {"type": "error", "message": f"{key} \x1b[31m " + "x" * 100_000}})
    assert len(str(caught.value)) < 300
    assert not re.search("abcd|\x1b", str(caught.value))


def test_of_several_words_the_one_that_says_most_counts() -> None:
    assert read({"finish_reason": "stop", "native_finish_reason": "MAX_TOKENS"}).finish_reason == "length"
    assert read({"finish_reason": "length", "native_finish_reason": "end_turn"}).finish_reason == "length"
    assert read({"finish_reason": "stop", "native_finish_reason": "made_up"}).finish_reason == "stop"
    assert read({"finish_reason": None, "stop_reason": "max_tokens"}).finish_reason == "length"
    assert read({"done_reason": "stop"}).finish_reason == "stop"
    # What the caller wrote as a stop word is no reason.
    assert read({"finish_reason": "stop", "stop_reason": "length"}).finish_reason == "stop"
    half = {"delta": {"content": "Two"}}
    assert streamed(half, {"finish_reason": "length"}, {"finish_reason": "stop"}).finish_reason == "length"
    assert streamed(half, {"finish_reason": "stop"}, {"finish_reason": "made_up"}).finish_reason == "stop"
    with pytest.raises(WireError, match="'error'"):
        streamed(half, {"finish_reason": "error"}, {"finish_reason": "stop"})


@pytest.mark.parametrize("word", [None, "", "null", "None", 0, False, {}, "FINISH_REASON_UNSPECIFIED", "not_finished"])
def test_a_word_that_says_that_nothing_has_ended_ends_nothing(word: object) -> None:
    half = {"delta": {"content": "Two"}, "finish_reason": word}
    with pytest.raises(WireError, match="before the answer was whole"):
        streamed(half, half, done=False)
    assert streamed(half, half).finish_reason == "unknown"


def test_an_error_in_the_choice_is_what_the_server_says() -> None:
    choice = {"finish_reason": "stop", "error": {"code": 429, "message": "later"}}
    with pytest.raises(WireError) as caught:
        read(choice)
    assert caught.value.reported == choice["error"]
    nothing: tuple[object, ...] = (None, {}, "")
    for empty in nothing:
        assert read({"finish_reason": "stop", "error": empty}).text == "Two."


def test_a_filtered_reply_without_a_message_is_a_filtered_one() -> None:
    assert read({"message": None, "finish_reason": "content_filter"}).finish_reason == "content_filter"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "message", "reason", "x"]), inner),
    )
)
def test_any_json_is_a_word_or_none(value: object) -> None:
    word = word_in(msgspec.Raw(msgspec.json.encode(value)))
    assert word is None or len(word) <= 2000
    assert ending_of(word).reason in ("stop", "length", "tool_calls", "content_filter", "unknown")


FAILS = 'data: {"choices":[{"delta":{},"finish_reason":"error"}]}\n\ndata: [DONE]\n\n'


async def failing(request: web.Request) -> web.StreamResponse:
    words = ({"choices": [{"delta": {"content": f"word{place} "}}]} for place in range(40))
    body = "".join(f"data: {json.dumps(word, separators=(',', ':'))}\n\n" for word in words)
    return web.Response(text=body + FAILS, content_type="text/event-stream")


async def test_what_a_failed_stream_had_written_is_there_for_who_may_use_it() -> None:
    readers: list[PartialReader] = []

    class Attaching(Unseen):
        def attach(self, reader: PartialReader) -> None:
            readers.append(reader)

    async with served(failing) as url:
        with pytest.raises(BrokenReplyError, match="'error'"):
            await http_model(url).chat(msgspec.structs.replace(REQUEST, context=Attaching()))
    text = "".join(delta.text for _, delta in readers[0].read())
    assert (text.split()[0], text.split()[-1]) == ("word0", "word39")


async def test_a_run_uses_it_as_an_incomplete_draft_where_its_rules_allow_that() -> None:
    async def sound(request: web.Request) -> web.StreamResponse:
        chunk = {"choices": [{"delta": {"content": "A sound answer."}, "finish_reason": "stop"}]}
        return web.Response(text=f"data: {json.dumps(chunk)}\n\n", content_type="text/event-stream")

    async with served(failing) as broken, served(sound) as well:
        layer = Layer(proposers=(Proposer(model="a", provider=broken), Proposer(model="b", provider=well)))
        recipe = Recipe(layers=(layer,), aggregator=Aggregator(model="c", provider=well), policy=Policy(deadline=5.0))
        answer = await Mixture(recipe, env={}).ask("Hello?", deadline=5.0)
    assert {draft.model: bool(draft.incomplete) for draft in answer.drafts} == {"a": True, "b": False}
    assert answer.text == "A sound answer."


@pytest.mark.parametrize("make", [openai.AsyncOpenAI, openai.OpenAI, groq.AsyncGroq])
async def test_the_table_holds_for_a_user_s_own_client(make: Any) -> None:
    word = "max_tokens"

    async def handler(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        text = {"role": "assistant", "content": "Two"}
        if not asked.get("stream"):
            return web.json_response({"id": "c", "choices": [{"index": 0, "message": text, "finish_reason": word}]})
        chunks = ({"index": 0, "delta": text}, {"index": 0, "delta": {}, "finish_reason": word})
        body = "".join(f"data: {json.dumps({'id': 'c', 'choices': [one]})}\n\n" for one in chunks)
        return web.Response(text=f"{body}data: [DONE]\n\n", content_type="text/event-stream")

    async with served(handler) as url, sdk_model(make(api_key="k", base_url=f"{url}/v1")) as model:
        deltas: list[Delta] = []
        assert (await model.chat(REQUEST)).finish_reason == "length"
        assert (await model.chat(REQUEST, emit=deltas.append)).finish_reason == "length"
        word = "insufficient_system_resource"
        with pytest.raises(OverloadedError, match="insufficient_system_resource"):
            await model.chat(REQUEST)
        with pytest.raises(OverloadedError, match="insufficient_system_resource"):
            await model.chat(REQUEST, emit=deltas.append)
