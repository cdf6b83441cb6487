"""One row of the table: what a server sends, and what has to become of it."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from mixtura.chat import JsonObject

USAGE: JsonObject = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


class Reply(NamedTuple):
    """A reply over HTTP, byte by byte. `breaks` ends the connection before the body is whole."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = {"Content-Type": "application/json"}
    breaks: bool = False


Replies = Reply | list[Reply] | Callable[[JsonObject], Reply]
"""The reply to every request; several for one after the other (the last for all others); or made from the request."""


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What has to become of it; what is None is not looked at.

    Attributes:
        text: the answer's text.
        reasoning: the reasoning beside it.
        finish: its finish reason.
        tool_calls: name and arguments of each tool call, the arguments as a text.
        prompt, completion: tokens that are booked.
        estimated: whether they are a guess.
        cost: dollars that the provider says it charges; "none" where none are known.
        error: the class of the error that the call ends in; "" where it must end in none.
        says: a part of the error's text, or of a warning of the answer.
        warned: whether the answer has a warning.
        wait: seconds that the error asks to wait.
        requests: how many requests were sent.
        sent: the request line's path, as the server saw it.
        unsaid: what must stand nowhere: not in the answer, its warnings, or the error.
    """

    text: str | None = None
    reasoning: str | None = None
    finish: str | None = None
    tool_calls: tuple[tuple[str, str], ...] | None = None
    prompt: int | None = None
    completion: int | None = None
    estimated: bool | None = None
    cost: float | Literal["none"] | None = None
    error: str = ""
    says: str = ""
    warned: bool | None = None
    wait: float | None = None
    requests: int | None = None
    sent: str | None = None
    unsaid: str = ""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one or several servers send.

    Attributes:
        name: in words with dashes, unlike any other.
        servers: those it is known from.
        sends: what they send, in a phrase.
        becomes: what Mixtura makes of it, in a phrase.
        source: an issue (`owner/name#1`) or a page of documentation; "" for what we saw ourselves.
        whole, stream: the replies to a question asked whole, and streamed; None where a server does this in the other
            form alone.
        options: what the caller asks with, as `Mixture.ask` takes it.
        deadline: seconds that a run has.
        path: of the base URL; "{}" stands for the server's address.
    """

    name: str
    servers: tuple[str, ...]
    sends: str
    becomes: str
    expect: Expected
    source: str = ""
    whole: Replies | None = None
    stream: Replies | None = None
    options: JsonObject = {}
    deadline: float = 5.0
    path: str = "{}/v1"


def whole(
    text: str | None = "ok", finish: Any = "stop", *, message: Any = None, usage: Any = USAGE, **top: Any
) -> Reply:
    """Return a whole reply; `message` and `top` hold fields beside the usual ones, or in their place."""
    said = {"role": "assistant", "content": text, **(message or {})}
    choice = {"index": 0, "message": said, "finish_reason": finish}
    body: JsonObject = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return as_json({**body, **({} if usage is None else {"usage": usage}), **top})


def as_json(body: object, status: int = 200, **headers: str) -> Reply:
    """Return a reply that holds `body` as JSON; headers are written with underscores for dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(json.dumps(body).encode(), status, {"Content-Type": "application/json", **named})


def chunk(delta: Any = None, finish: Any = None, **top: Any) -> JsonObject:
    """Return one chunk of a stream."""
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    body: JsonObject = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return {**body, **top}


def pieces(*texts: str, field: str = "content") -> list[JsonObject]:
    """Return a chunk for each text."""
    return [chunk({field: text}) for text in texts]


def sse(*events: object, done: bool = True, kind: str = "text/event-stream", breaks: bool = False) -> Reply:
    """Return a stream: each event is a chunk, or bytes that are sent as they are."""
    sent = b"".join(one if isinstance(one, bytes) else b"data: " + json.dumps(one).encode() + b"\n\n" for one in events)
    headers = {"Content-Type": kind} if kind else {}
    return Reply(sent + (b"data: [DONE]\n\n" if done else b""), 200, headers, breaks)


def closing(finish: Any = "stop", usage: Any = USAGE) -> JsonObject:
    """Return the last chunk of a stream, with its usage."""
    return chunk({}, finish, **({} if usage is None else {"usage": usage}))
