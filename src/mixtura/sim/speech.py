"""Turns what a model says into what the wire carries: formats of reasoning, the token limit, tool calls."""

import random

import msgspec

from mixtura.chat import JsonObject
from mixtura.models.catalog import CatalogModel
from mixtura.models.recorded import count_tokens, split_tokens
from mixtura.sim import bodies
from mixtura.sim.replies import Reply


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """A reply as it is sent.

    `deltas` are a stream's pieces in order, each with the tokens generated when it is sent; `tokens` counts all
    that was generated, the hidden reasoning and the end mark too, `reasoning_tokens` is their thinking part.
    """

    message: JsonObject
    deltas: list[tuple[int, JsonObject]]
    finish_reason: str
    tokens: int
    reasoning_tokens: int


def speak(reply: Reply, request: JsonObject, model: CatalogModel, room: int | None, rng: random.Random) -> Spoken:
    """Return `reply` as `model` would send it within `room` tokens (None: no limit)."""
    thinks = reply.reasoning and request.get("reasoning_effort") != "none"
    thought = split_tokens(reply.reasoning) if thinks else []
    said = split_tokens(reply.text or "")
    calls = _calls(reply, model, rng)
    call_tokens = sum(count_tokens(call["function"]["arguments"]) + 8 for call in calls)
    cut = room is not None and len(thought) + len(said) + call_tokens >= room
    if cut and room is not None:
        thought, calls, call_tokens = thought[:room], [], 0
        said = said[: room - len(thought)]
    tokens = len(thought) + len(said) + call_tokens + (not cut)
    shown = _shown_as(request, model) if thought else "hidden"

    deltas: list[tuple[int, JsonObject]] = []
    if shown == "raw":
        deltas.append((0, {"content": "<think>\n"}))
    for place, piece in enumerate(thought, start=1):
        if shown == "raw":
            deltas.append((place, {"content": piece}))
        elif shown == "parsed":
            channel = {"channel": "analysis"} if model.family == "gpt-oss" else {}
            deltas.append((place, {"reasoning": piece} | channel))
    if shown == "raw" and not (cut and not said):
        deltas.append((len(thought), {"content": "\n</think>\n\n"}))
    deltas += [(len(thought) + place, {"content": piece}) for place, piece in enumerate(said, start=1)]
    if calls:
        indexed = [call | {"index": place} for place, call in enumerate(calls)]
        deltas.append((tokens - 1, {"tool_calls": indexed}))

    content = "".join(delta.get("content", "") for _, delta in deltas)
    message: JsonObject = {"role": "assistant"}
    if content or not calls:
        message["content"] = content
    if shown == "parsed":
        message["reasoning"] = "".join(thought)
    if calls:
        message["tool_calls"] = calls
    finish = reply.finish_reason or ("length" if cut else "tool_calls" if calls else "stop")
    return Spoken(message=message, deltas=deltas, finish_reason=finish, tokens=tokens, reasoning_tokens=len(thought))


def _shown_as(request: JsonObject, model: CatalogModel) -> str:
    if model.family == "gpt-oss":
        return "parsed" if request.get("include_reasoning", True) in (True, None) else "hidden"
    if request.get("include_reasoning") is not None:
        return "parsed" if request["include_reasoning"] else "hidden"
    structured = request.get("tools") or (request.get("response_format") or {}).get("type", "text") != "text"
    return str(request.get("reasoning_format") or ("parsed" if structured else "raw"))


def _calls(reply: Reply, model: CatalogModel, rng: random.Random) -> list[JsonObject]:
    return [
        {
            "id": bodies.tool_call_id(rng, model.family, call.name, place),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for place, call in enumerate(reply.tool_calls)
    ]
