"""The cloud's own checks of what a model generated: tool calls and JSON that do not match the request.

An unstreamed reply that fails them becomes a 400. A stream has already begun with status 200, so it ends in an
`error` event.
"""

from typing import Any

import msgspec

from mixtura.chat import JsonObject
from mixtura.sim import bodies
from mixtura.sim.replies import Reply, ToolCall
from mixtura.sim.schemas import schema_errors
from mixtura.sim.speech import RenderedReply

_UNFINISHED = "max completion tokens reached before generating a valid document"


def generation_error(request: JsonObject, reply: Reply, rendered: RenderedReply) -> JsonObject | None:
    """Return the error body for output that fails the cloud's checks, None when it passes."""
    return _check_tool_calls(request, reply) or _check_json(request, reply, rendered)


def _check_tool_calls(request: JsonObject, reply: Reply) -> JsonObject | None:
    if request.get("tool_choice") == "required" and not reply.tool_calls:
        return _tool_error("Tool choice is required, but model did not call a tool", "")
    if request.get("disable_tool_validation") or not request.get("tools"):
        return None
    offered = {tool["function"]["name"]: tool["function"] for tool in request.get("tools") or () if "function" in tool}
    for call in reply.tool_calls:
        wrong = _call_problem(call, offered)
        if wrong:
            words = f"Tool call validation failed: tool call validation failed: {wrong}"
            return _tool_error(words, f'{{"name": "{call.name}", "arguments": {call.arguments}}}')
    return None


def _tool_error(words: str, generated: str) -> JsonObject:
    return bodies.error(words, code="tool_use_failed", failed_generation=generated)


def _call_problem(call: ToolCall, offered: JsonObject) -> str:
    if call.name not in offered:
        return f"attempted to call tool '{call.name}' which was not in request.tools"
    try:
        given: Any = msgspec.json.decode(call.arguments)
    except msgspec.DecodeError:
        return f"parameters for tool {call.name} are not JSON"
    schema = offered[call.name].get("parameters") or {}
    errors = schema_errors(given, {"type": "object", **schema})
    return f"parameters for tool {call.name} did not match schema: errors: [{', '.join(errors)}]" if errors else ""


def _check_json(request: JsonObject, reply: Reply, rendered: RenderedReply) -> JsonObject | None:
    wants = request.get("response_format") or {}
    if wants.get("type", "text") == "text" or reply.tool_calls:
        return None
    text = str(rendered.message.get("content") or "")
    try:
        given: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return _json_error(_UNFINISHED if rendered.finish_reason == "length" else text)
    described = wants.get("json_schema") or {}
    if described.get("strict") and schema_errors(given, described.get("schema") or {}):
        return _json_error(text)
    return None


def _json_error(generated: str) -> JsonObject:
    return bodies.error(
        "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
        code="json_validate_failed",
        failed_generation=generated,
    )
