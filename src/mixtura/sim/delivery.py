"""What an admitted call puts on the wire: a whole body or a stream's events, whole or spoiled by a fault."""

from collections.abc import Iterator
from typing import NamedTuple

from mixtura.chat import JsonObject
from mixtura.sim import bodies
from mixtura.sim.cloud import SURROGATE_MARK, Admitted

_NOT_JSON = b"upstream connect error or disconnect/reset before headers"
_NOT_A_COMPLETION: JsonObject = {"object": "list", "data": []}
_TOOL_ERROR = bodies.error(
    "Tool call validation failed: tool call validation failed: parameters for tool look_up did not match schema: "
    "errors: [missing properties: 'name']",
    code="tool_use_failed",
    failed_generation='{"name": "look_up", "arguments": {}}',
    status_code=400,
)


class Event(NamedTuple):
    """Bytes of a stream and how many tokens are generated when they leave."""

    tokens: int
    data: bytes


def whole(call: Admitted) -> bytes:
    """Return the body of a reply that is not streamed."""
    kind = call.fault.kind if call.fault else ""
    if kind == "not_json":
        return _NOT_JSON
    if kind == "not_completion":
        return bodies.document(_NOT_A_COMPLETION)
    message = dict(call.spoken.message)
    if kind == "null_content":
        message["content"] = None
    if kind == "flood":
        message["content"] = _flood(call)
    body = bodies.completion(call.head, message, call.spoken.finish_reason, call.usage)
    if kind == "empty_choices":
        body["choices"] = []
    return _with_surrogates(bodies.document(body))


def failed_whole() -> bytes:
    """Return the body of a 400 for a generation that failed half-way."""
    return bodies.document(_TOOL_ERROR)


def events(call: Admitted) -> Iterator[Event]:
    """Yield a stream's events in order; the caller decides when each leaves and whether the rest follows.

    A fault that breaks the stream after so many pieces is the caller's part, but for the event that an
    `error_event` ends in and the overlong line of a `flood`.
    """
    kind = call.fault.kind if call.fault else ""
    if kind == "not_json":
        yield Event(0, b"data: {" + _NOT_JSON + b"\n\n")
    elif kind == "not_completion":
        yield Event(0, bodies.event(_NOT_A_COMPLETION))
    else:
        yield from _chunks(call, kind)
    if kind != "error_event" and call.failed is None:
        yield Event(call.spoken.tokens, b"data: [DONE]\n\n")


def _chunks(call: Admitted, kind: str) -> Iterator[Event]:
    yield Event(0, bodies.event(_bare(bodies.first_chunk(call.head), kind)))
    pieces = [] if kind in ("null_content", "empty_choices") else call.spoken.deltas
    stop_after = int(call.fault.number) if call.fault and kind == "error_event" else None
    if kind == "flood":
        yield Event(0, bodies.event(bodies.delta_chunk(call.head, {"content": _flood(call)})))
    if call.failed is not None:
        # What fails the checks is not sent as an answer: only the thinking before it.
        pieces = [(tokens, delta) for tokens, delta in pieces if "reasoning" in delta]
    for tokens, delta in pieces[:stop_after]:
        yield Event(tokens, _with_surrogates(bodies.event(bodies.delta_chunk(call.head, delta))))
    if kind == "error_event" or call.failed is not None:
        error = _TOOL_ERROR if call.failed is None else {"error": call.failed["error"] | {"status_code": 400}}
        yield Event(call.spoken.tokens, bodies.event(error, "error"))
        return
    last = bodies.last_chunks(call.head, call.spoken.finish_reason, call.usage, include_usage=call.include_usage)
    for chunk in last:
        yield Event(call.spoken.tokens, bodies.event(_bare(chunk, kind)))


def _bare(chunk: JsonObject, kind: str) -> JsonObject:
    if kind == "empty_choices":
        return chunk | {"choices": []}
    if kind == "null_content" and chunk["choices"] and "content" in chunk["choices"][0]["delta"]:
        chunk["choices"][0]["delta"]["content"] = None
    return chunk


def _flood(call: Admitted) -> str:
    return "x" * int((call.fault.number if call.fault else 0) * 1_000_000)


def _with_surrogates(data: bytes) -> bytes:
    return data.replace(SURROGATE_MARK.encode(), rb"\ud83d")
