"""The canned replies of the benchmark's server, in Groq's shape: whole, or as the chunks of a stream.

Both hold the same text. The number at its end makes the drafts of a run differ, as real ones do.
"""

import functools
import json
from typing import Any

NUMBERS = 97
_TEXT = "A B-tree keeps its keys sorted in pages, so a lookup touches few of them. " * 8
_ID = "chatcmpl-6a0f3262-12b3-44b8-8253-8c1cad4415d5"
_REQUEST = "req_01kkht589efqdsj9kpsy67f2sk"
_CREATED = 1773345612
_FINGERPRINT = "fp_00c37775b7"
_USAGE = {
    "queue_time": 0.019,
    "prompt_tokens": 60,
    "prompt_time": 0.003,
    "completion_tokens": 150,
    "completion_time": 0.15,
    "total_tokens": 210,
    "total_time": 0.153,
}


def text(number: int) -> str:
    """Return the text of reply `number`."""
    return f"{_TEXT}Point {number}."


@functools.cache
def whole(model: str, number: int) -> bytes:
    """Return one whole completion as an HTTP/1.1 response; its body has about 1.2 kB."""
    message = {"role": "assistant", "content": text(number)}
    body = json.dumps(
        {
            "id": _ID,
            "object": "chat.completion",
            "created": _CREATED,
            "model": model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
            "usage_breakdown": None,
            "system_fingerprint": _FINGERPRINT,
            "x_groq": {"id": _REQUEST, "seed": 1322261444},
            "service_tier": "on_demand",
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@functools.cache
def streamed(model: str, number: int, chunks: int) -> tuple[bytes, ...]:
    """Return one streamed completion as pieces of an HTTP/1.1 response.

    The first piece is the head with the chunk that opens the message; `chunks` pieces with text follow, and one that
    ends the message, the stream and the response.
    """
    said = text(number)
    pieces = [said[len(said) * at // chunks : len(said) * (at + 1) // chunks] for at in range(chunks)]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    first = _event(_chunk(model, {"role": "assistant", "content": ""}, x_groq={"id": _REQUEST, "seed": 1322261444}))
    last = _event(_chunk(model, {}, "stop", x_groq={"id": _REQUEST, "usage": _USAGE}))
    return (
        head + first,
        *(_event(_chunk(model, {"content": piece})) for piece in pieces),
        last + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n",
    )


def _chunk(model: str, delta: dict[str, str], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": model,
        "system_fingerprint": _FINGERPRINT,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        **more,
    }


def _event(chunk: dict[str, Any]) -> bytes:
    return _framed(b"data: %s\n\n" % json.dumps(chunk, separators=(",", ":")).encode())


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
