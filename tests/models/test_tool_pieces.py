"""The pieces of tool calls as a reply comes: `Delta.tool_calls`."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable
from typing import cast

import groq
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from local_servers import Unseen, http_model, sdk_model, served
from mixtura.chat import ChatRequest, Completion, Delta, JsonObject, Message, PartialReader, Timing
from mixtura.models.base import Emit
from mixtura.models.local.llama import LlamaFile
from mixtura.models.local.model import LocalModel
from mixtura.models.local.slots import SlotQueue
from mixtura.models.openai.late import LateReader
from mixtura.models.openai.sse import EventParser
from mixtura.models.openai.stream import StreamedReply
from mixtura.models.wrappers.thinking import ThinkingApart

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))


def joined(deltas: Iterable[Delta]) -> list[JsonObject]:
    """Put the pieces together as a reader would."""
    calls: list[JsonObject] = []
    for piece in (piece for delta in deltas for piece in delta.tool_calls or ()):
        if piece["index"] == len(calls):
            calls.append({"id": None, "type": None, "function": {"name": "", "arguments": ""}})
        call, function = calls[piece["index"]], piece["function"]
        call["id"] = piece.get("id", call["id"])
        call["type"] = piece.get("type", call["type"])
        call["function"]["name"] += function.get("name", "")
        call["function"]["arguments"] += function.get("arguments", "")
    return calls


def event(delta: JsonObject, finish: str | None = None) -> bytes:
    body = {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@st.composite
def wires(draw: st.DrawFn) -> tuple[list[JsonObject], bytes]:
    """A few calls, and a stream that brings them: whole or in pieces, their index right, always 0 or left out."""
    names = draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4))
    texts = st.text(st.characters(codec="utf-8", exclude_characters='{["'), max_size=9).filter(
        lambda text: text.strip() != "null"
    )
    calls: list[JsonObject] = [
        {"id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": draw(texts)}}
        for place, name in enumerate(names)
    ]
    indexed = draw(st.sampled_from(["right", "zero", "none"]))
    queues: list[list[JsonObject]] = []
    for place, call in enumerate(calls):
        arguments = call["function"]["arguments"]
        cut = draw(st.lists(st.integers(0, len(arguments)), max_size=3).map(sorted))
        parts = [arguments[start:end] for start, end in zip([0, *cut], [*cut, None], strict=True)]
        pieces: list[JsonObject] = [{"function": {"arguments": part}} for part in parts]
        pieces[0] = {"id": call["id"], "function": {"name": call["function"]["name"], "arguments": parts[0]}}
        if draw(st.booleans()):
            pieces[0]["type"] = "function"
        index = {"right": {"index": place}, "zero": {"index": 0}, "none": {}}[indexed]
        queues.append([index | piece for piece in pieces])
    if indexed == "right":
        # The first pieces come in order; from then on pieces of several calls may be mixed.
        order = draw(st.permutations([place for place, queue in enumerate(queues) for _ in queue[1:]]))
        flat = [queue.pop(0) for queue in queues] + [queues[place].pop(0) for place in order]
    else:
        flat = [piece for queue in queues for piece in queue]
    chunks = [event({"role": "assistant", "content": draw(st.sampled_from(["", "So: "]))})]
    while flat:
        size = draw(st.integers(1, 3))
        chunks.append(event({"tool_calls": flat[:size]}))
        flat = flat[size:]
    for function in (call["function"] for call in calls):
        # No text at all is a call without arguments.
        function["arguments"] += "{}" * (not function["arguments"].strip())
    return calls, b"".join([*chunks, event({}, "tool_calls"), b"data: [DONE]\n\n"])


@given(wires(), st.data())
def test_the_pieces_joined_are_the_calls_however_the_wire_is_cut(
    wire: tuple[list[JsonObject], bytes], data: st.DataObject
) -> None:
    calls, body = wire
    cuts = [0, *data.draw(st.lists(st.integers(0, len(body)), max_size=5).map(sorted)), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(cuts)]

    watched, parser = StreamedReply(REQUEST), EventParser()
    deltas = [delta for piece in pieces for told in parser.feed(piece) if (delta := watched.take(told)) is not None]
    assert joined(deltas) == calls == watched.completion(Timing()).tool_calls
    assert watched.pieces == len(deltas)

    unwatched = StreamedReply(REQUEST)
    reader = LateReader(unwatched)
    seen: list[Delta] = []
    for at, piece in enumerate(pieces):
        reader.feed(piece, float(at))
        if data.draw(st.booleans()):
            seen += [delta for _, delta in reader.read()]
    reader.finish()
    seen += [delta for _, delta in reader.read()]
    assert joined(seen) == calls == unwatched.completion(Timing()).tool_calls


CALLS: list[JsonObject] = [
    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
]
# Every call has index 0, as some servers write it.
STREAM = [
    event({"role": "assistant", "content": "Let me see. "}),
    event({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}),
    event({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}),
    event({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
    event({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}}]}),
    event({}, "tool_calls"),
    b"data: [DONE]\n\n",
]


async def streaming(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for piece in STREAM:
        await response.write(piece)
    return response


async def whole(request: web.Request) -> web.StreamResponse:
    message = {"role": "assistant", "content": None, "tool_calls": CALLS}
    return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})


async def test_a_watched_stream_over_http_shows_them() -> None:
    deltas: list[Delta] = []
    async with served(streaming) as url:
        completion = await http_model(url).chat(REQUEST, emit=deltas.append)
    assert completion.tool_calls == joined(deltas) == CALLS
    assert [bool(delta.text) for delta in deltas] == [True, False, False, False, False]
    assert [piece["index"] for delta in deltas for piece in delta.tool_calls or ()] == [0, 0, 0, 1]


async def test_the_reader_of_a_stream_that_nobody_watches_has_them() -> None:
    readers: list[PartialReader] = []

    class Attaching(Unseen):
        def attach(self, reader: PartialReader) -> None:
            readers.append(reader)

    wanted: list[Delta] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in STREAM:
            await response.write(piece)
            await asyncio.sleep(0)
            wanted.extend(delta for reader in readers for _, delta in reader.read())
        return response

    async with served(slow) as url:
        await ThinkingApart(http_model(url)).chat(structs.replace(REQUEST, context=Attaching()))
    wanted += [delta for _, delta in readers[0].read()]
    assert joined(wanted) == CALLS


@pytest.mark.parametrize("make", [groq.AsyncGroq, groq.Groq])
async def test_a_user_s_client_shows_them(make: type[groq.AsyncGroq | groq.Groq]) -> None:
    deltas: list[Delta] = []
    async with served(streaming) as url, sdk_model(make(api_key="gsk_x", base_url=url)) as model:
        completion = await model.chat(REQUEST, emit=deltas.append)
    assert completion.tool_calls == joined(deltas) == CALLS


async def test_a_reply_that_comes_whole_shows_them_in_its_one_piece() -> None:
    deltas: list[Delta] = []
    async with served(whole) as url:
        completion = await http_model(url).chat(REQUEST, emit=deltas.append)
    assert completion.tool_calls == joined(deltas) == CALLS
    assert len(deltas) == 1


async def test_arguments_that_a_server_sends_as_an_object_become_text() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]

    async def handler(request: web.Request) -> web.StreamResponse:
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})

    deltas: list[Delta] = []
    async with served(handler) as url:
        completion = await http_model(url).chat(REQUEST, emit=deltas.append)
    assert completion.tool_calls == joined(deltas)
    assert joined(deltas)[0]["function"]["arguments"] == '{"x": 1}'


class Says:
    """A model whose pieces are given."""

    def __init__(self, *pieces: Delta) -> None:
        self._pieces = pieces

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        for piece in self._pieces:
            if emit is not None:
                emit(piece)
        return Completion(model="m", text="".join(piece.text for piece in self._pieces), tool_calls=CALLS)


CALL = Delta(tool_calls=[{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}])


@pytest.mark.parametrize("held", ["is 1 <th", "the <think> tag"])
async def test_text_that_is_held_back_comes_before_the_tool_calls(held: str) -> None:
    deltas: list[Delta] = []
    await ThinkingApart(Says(Delta(held), CALL, Delta(" end"))).chat(REQUEST, emit=deltas.append)
    so_far = ""
    for delta in deltas:
        so_far += delta.text
        if delta.tool_calls:
            break
    assert so_far == held
    assert "".join(delta.text for delta in deltas) == f"{held} end"
    assert joined(deltas) == [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


async def test_thinking_in_the_text_of_a_piece_with_tool_calls_is_taken_apart() -> None:
    deltas: list[Delta] = []
    both = Delta("<think>hm</think>now", "first. ", CALL.tool_calls)
    await ThinkingApart(Says(both)).chat(REQUEST, emit=deltas.append)
    assert deltas == [Delta("now", "first. hm", CALL.tool_calls)]


class WritesChunks:
    """Stands for a model file in this process: hands over chunks as llama.cpp's server does."""

    is_closing = False

    def __init__(self) -> None:
        self.slot_queue = SlotQueue(1)

    def generate(self, body: bytes, on_chunk: Callable[[bytes], bool]) -> None:
        for piece in STREAM[:-1]:
            if on_chunk(piece.removeprefix(b"data: ")):
                return


async def test_a_model_in_this_process_shows_them() -> None:
    deltas: list[Delta] = []
    model = LocalModel(cast("LlamaFile", WritesChunks()), "m")
    completion = await model.chat(REQUEST, emit=deltas.append)
    assert completion.tool_calls == joined(deltas) == CALLS
