"""Validates requests before any limit is checked, with Groq's error messages where they are known.

The messages for `n`, `logprobs`, `max_tokens` and the context window are recorded. The others have the form of
recorded ones (`'field' : what is wrong`), and their wording may differ from the real cloud's.
"""

import re
from typing import Any, Literal

import msgspec

from mixtura.chat import JsonObject
from mixtura.models.catalog import CatalogModel
from mixtura.sim import bodies

_FIELDS = (
    "messages model temperature top_p max_completion_tokens max_tokens n stop seed stream stream_options "
    "response_format tools tool_choice parallel_tool_calls reasoning_format include_reasoning reasoning_effort "
    "service_tier search_settings include_domains exclude_domains compound_custom documents citation_options "
    "disable_tool_validation user debug logprobs top_logprobs logit_bias frequency_penalty presence_penalty "
    "metadata store functions function_call"
)
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_RANGES = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
_CHOICES = {
    "service_tier": ("auto", "on_demand", "flex", "performance"),
    "reasoning_format": ("hidden", "raw", "parsed"),
}


class _FunctionSpec(msgspec.Struct):
    name: str
    parameters: JsonObject | None = None


class _ToolSpec(msgspec.Struct):
    type: str
    function: _FunctionSpec | None = None


class _ToolChoice(msgspec.Struct):
    function: _FunctionSpec


class _JsonSchema(msgspec.Struct):
    schema: JsonObject = {}


class _ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None


class _MessageShape(msgspec.Struct):
    content: str | list[JsonObject] | None = None
    tool_calls: list[JsonObject] | None = None


class _RequestShape(msgspec.Struct):
    """The fields with structured values. Only their types are checked here."""

    messages: list[_MessageShape]
    tools: list[_ToolSpec] | None = None
    tool_choice: str | _ToolChoice | None = None
    response_format: _ResponseFormat | None = None
    stream_options: JsonObject | None = None
    stream: bool | None = None
    stop: str | list[str] | None = None


def check_shape(request: JsonObject) -> JsonObject | None:
    """Return the 400 body for a request that no model accepts, None when there is nothing wrong with it."""
    problem = (
        _check_fields(request)
        or _check_messages(request.get("messages"))
        or _check_numbers(request)
        or _check_objects(request)
    )
    return bodies.error(problem) if problem else None


def check_for_model(request: JsonObject, model: CatalogModel, prompt_tokens: int) -> JsonObject | None:
    """Return the 400 body for a request that this model does not accept, else None. Call `check_shape` first."""
    for field, value in requested_tokens(request):
        if model.max_output is not None and value > model.max_output:
            return bodies.error(
                f"`{field}` must be less than or equal to `{model.max_output}`, the maximum value for `{field}` "
                "is less than the `context_window` for this model",
                param=field,
            )
    room = max((value for _, value in requested_tokens(request)), default=0)
    if model.window is not None and prompt_tokens + room > model.window:
        return bodies.error("Please reduce the length of the messages or completion.", code="context_length_exceeded")
    problem = _check_reasoning(request, model) or _check_format(request, model)
    return bodies.error(problem) if problem else None


def requested_tokens(request: JsonObject) -> list[tuple[str, int]]:
    """Return the output limits in the request, each with the name of its field."""
    return [(name, request[name]) for name in ("max_completion_tokens", "max_tokens") if request.get(name)]


def _check_fields(request: JsonObject) -> str:
    for name in ("messages", "model"):
        if name not in request:
            return f"property '{name}' is missing"
    if unknown := [name for name in request if name not in _FIELDS.split()]:
        return f"property '{unknown[0]}' is unsupported"
    if not isinstance(request["model"], str):
        return "'model' : value must be a string"
    for name in ("logprobs", "top_logprobs", "logit_bias"):
        if request.get(name):
            return f"`{name}` is not supported with this model"
    for name, allowed in _CHOICES.items():
        if request.get(name) is not None and request[name] not in allowed:
            return f"'{name}' : value must be one of {', '.join(allowed)}"
    if request.get("reasoning_format") is not None and request.get("include_reasoning") is not None:
        return "cannot specify both `reasoning_format` and `include_reasoning`"
    if isinstance(request.get("stop"), list) and len(request["stop"]) > 4:
        return "'stop' : maximum number of items is 4"
    return ""


def _check_messages(messages: Any) -> str:
    if not isinstance(messages, list):
        return "'messages' : value must be an array"
    if not messages:
        return "'messages' : minimum number of items is 1"
    for place, turn in enumerate(messages):
        where = f"'messages.{place}'"
        if not isinstance(turn, dict):
            return f"{where} : value must be an object"
        if not isinstance(turn.get("role"), str) or turn["role"] not in _ROLES:
            return f"{where} : discriminator property 'role' has invalid value"
        if "name" in turn and turn["role"] not in ("tool", "function"):
            return f"{where} : property 'name' is unsupported"
        if turn["role"] == "tool" and "tool_call_id" not in turn:
            return f"{where} : property 'tool_call_id' is missing"
        if not isinstance(turn.get("content"), str | list) and turn["role"] != "assistant":
            return f"{where} : property 'content' is missing"
    return ""


def _check_numbers(request: JsonObject) -> str:
    for name, (low, high) in _RANGES.items():
        value = request.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"'{name}' : value must be a number"
        if value > high:
            return f"'{name}' : number must be at most {high}"
        if value < low:
            return f"'{name}' : number must be at least {low}"
    for name, least in (("max_completion_tokens", 1), ("max_tokens", 1), ("n", 1), ("seed", None)):
        value = request.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            return f"'{name}' : value must be an integer"
        if least is not None and value < least:
            return f"'{name}' : number must be at least {least}"
        if name == "n" and value > 1:
            return "'n' : number must be at most 1"
    return ""


def _check_objects(request: JsonObject) -> str:
    try:
        msgspec.convert(request, _RequestShape)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        path = re.sub(r"\[(\d+)\]", r".\1", where.strip(".`")) or "body"
        return f"'{path}' : {problem[:1].lower()}{problem[1:]}"
    return ""


def _check_reasoning(request: JsonObject, model: CatalogModel) -> str:
    for name in ("reasoning_format", "include_reasoning"):
        other_way = model.family == "gpt-oss" and name == "reasoning_format"
        if request.get(name) is not None and (other_way or not model.reasons):
            return f"`{name}` is not supported with this model"
    effort = request.get("reasoning_effort")
    if effort is None or effort in model.efforts:
        return ""
    if not model.efforts:
        return "`reasoning_effort` is not supported with this model"
    return f"`reasoning_effort` must be one of {', '.join(f'`{known}`' for known in model.efforts)}"


def _check_format(request: JsonObject, model: CatalogModel) -> str:
    """Refuse a format of JSON beside tools, and a schema in a stream or of a model that takes none."""
    kind = (request.get("response_format") or {}).get("type", "text")
    if kind != "text" and request.get("tools"):
        return "json mode cannot be combined with tool/function calling"
    if kind != "json_schema":
        return ""
    if model.schemas == "none":
        return "This model does not support response format `json_schema`."
    return "`response_format` does not support streaming" if request.get("stream") else ""
