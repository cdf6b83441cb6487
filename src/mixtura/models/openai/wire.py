"""The OpenAI chat wire: a `ChatRequest` to JSON bytes, and a reply that was read (`reply`) to a `Completion`.

What differs between providers is a `Dialect`, made from their catalogue row.
"""

import json
from typing import Any, Literal

import msgspec

from mixtura.chat import NO_OPTIONS, ChatRequest, Completion, FinishReason, JsonObject, Timing, Usage
from mixtura.models.catalog import CatalogModel, CatalogProvider
from mixtura.models.openai.bounds import Bounds, bounds_of
from mixtura.models.openai.formats import Formats
from mixtura.models.openai.kept import TooMuchError, given, kept
from mixtura.models.openai.reply import (
    OddReply,
    WireChoice,
    WireError,
    WireMessage,
    WireReply,
    choice_of,
    reported_in,
    without_surrogates,
)
from mixtura.tokens import estimate_messages, estimate_tokens

# Groq refuses a request that holds both, so a caller's own choice replaces ours.
_REASONING: dict[str, Any] = {"reasoning_format": "parsed", "include_reasoning": True}
_OPTIONS = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "stop", "service_tier", "user")
_FINISH: dict[str | None, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one model of one provider wants to be asked.

    `max_tokens` is the field of the output limit, `usage_option` whether a stream is asked for its usage,
    `reasoning` the field (if any) that keeps thinking apart from the answer, `formats` what it takes of answers in
    JSON, `left_out` the fields that its server has refused.
    """

    max_tokens: str = "max_tokens"
    usage_option: bool = False
    reasoning: Literal["", "reasoning_format", "include_reasoning"] = ""
    formats: Formats = Formats()
    left_out: frozenset[str] = frozenset()

    @classmethod
    def of(cls, provider: CatalogProvider, row: CatalogModel | None) -> "Dialect":
        """Return the dialect of a model; `row` is its catalogue row, None when it has none."""
        reasoning: Literal["", "reasoning_format", "include_reasoning"] = ""
        if provider.reasoning == "groq" and row is not None and row.reasons:
            reasoning = "include_reasoning" if row.family == "gpt-oss" else "reasoning_format"
        formats = Formats(
            schemas=None if row is None else row.schemas,
            streamed=not provider.formats_alone,
            beside_tools=not provider.formats_alone,
        )
        return cls(
            max_tokens=provider.max_tokens, usage_option=provider.usage_option, reasoning=reasoning, formats=formats
        )


def request_body(request: ChatRequest, dialect: Dialect, *, stream: bool) -> JsonObject:
    """Return the body of a request: what is None is absent, and the caller's `extra` has the last word."""
    options = request.options
    body: JsonObject = {"model": request.model, "messages": request.messages}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.max_tokens is not None:
        body[dialect.max_tokens] = request.max_tokens
    if request.seed is not None:
        body["seed"] = request.seed
    if request.reasoning_effort is not None and "reasoning_effort" not in dialect.left_out:
        body["reasoning_effort"] = request.reasoning_effort
    if dialect.reasoning and not (options.extra and _REASONING.keys() & options.extra.keys()):
        body[dialect.reasoning] = _REASONING[dialect.reasoning]
    if stream:
        body["stream"] = True
        if dialect.usage_option:
            body["stream_options"] = {"include_usage": True}
    if options is not NO_OPTIONS:
        for name in _OPTIONS:
            value = getattr(options, name)
            if value is not None:
                body[name] = value
        if options.response_format is not None:
            dialect.formats.write(body, options)
        body.update(options.extra)
    return body


_ENCODER = msgspec.json.Encoder()


def encode_request(request: ChatRequest, dialect: Dialect, *, stream: bool) -> bytes:
    """Return the JSON of a request. Text that no UTF-8 can hold (lone surrogates) becomes U+FFFD."""
    return encode_body(request_body(request, dialect, stream=stream))


def encode_body(body: JsonObject) -> bytes:
    """Return the JSON of a request's body, as `encode_request` does."""
    try:
        return _ENCODER.encode(body)
    except UnicodeEncodeError:
        return _ENCODER.encode(without_surrogates(msgspec.to_builtins(body)))


def completion_from(reply: WireReply, request: ChatRequest, timing: Timing) -> Completion:
    """Return the completion that a whole reply holds; `timing.queue` is filled in from the reply.

    Raises:
        WireError: it holds an error, or no message.
    """
    if reply.error and (reported := reported_in(reply.error)):
        raise WireError("an error in place of a completion", reported)
    choice = None if reply.choices is None else reply.choices.first
    if choice is None and (choice := choice_of(reply)) is None:
        raise WireError("a reply without choices", usage=usage_of(reply), alike=True)
    message = choice.message
    if message is None or not message.content:
        message = _message_of(choice)
    if message is None:
        raise WireError("a choice without a message", usage=usage_of(reply), alike=True)
    text = message.content or ""
    reasoning = message.reasoning or message.reasoning_content or ""
    usage = usage_of(reply)
    if usage is None:
        usage = estimated_usage(request, text, reasoning)
    if usage.queue_time:
        timing = Timing(total=timing.total, queue=usage.queue_time, first_token=timing.first_token)
    groq = reply.x_groq
    return Completion(
        model=request.model,
        text=text,
        reasoning=reasoning,
        finish_reason=finish_reason(choice.finish_reason),
        tool_calls=_calls_of(message, request) if given(message.tool_calls) else None,
        usage=usage,
        timing=timing,
        id=reply.id or "",
        seed=groq.seed if groq is not None else None,
        service_tier=reply.service_tier,
        system_fingerprint=reply.system_fingerprint,
        extra=_extra(reply, request, message),
        odd_fields=_odd_fields(reply, message) if message.tool_calls or reply.__class__ is OddReply else (),
    )


def _message_of(choice: WireChoice) -> WireMessage | None:
    """Return the message of a choice that stands under another name, or has its text elsewhere."""
    message, delta = choice.message, choice.delta
    if delta is None and choice.text is not None:
        delta = WireMessage(content=choice.text)
    if message is None or delta is None or not delta.content:
        return message or delta
    return msgspec.structs.replace(message, content=delta.content)


def _odd_fields(reply: WireReply, message: WireMessage) -> tuple[str, ...]:
    odd = reply.odd if isinstance(reply, OddReply) else ()
    if given(message.tool_calls) and bytes(memoryview(message.tool_calls)[:1]) != b"[":
        odd = (*odd, "tool_calls")
    return odd


def _calls_of(message: WireMessage, request: ChatRequest) -> list[JsonObject] | None:
    return [_call_of(call) for call in calls_in(message.tool_calls, bounds_of(request))] or None


def _call_of(call: JsonObject) -> JsonObject:
    """Return a tool call whose arguments are the text that they should be, also where a server sends an object."""
    function = call.get("function")
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str | None):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"])}}


def calls_in(raw: msgspec.Raw, bounds: Bounds) -> list[JsonObject]:
    """Return the tool calls of a message, or their pieces in a stream; what is none is left out.

    Raises:
        WireError: they would take more memory than `bounds` allow.
    """
    try:
        found = kept(raw, bounds.objects)
    except TooMuchError as problem:
        raise WireError(f"a reply whose tool calls hold {problem}") from None
    except ValueError:
        raise WireError("a reply whose tool calls cannot be read") from None
    if isinstance(found, dict):
        # One call, without the list round it.
        found = [found]
    return [call for call in found if isinstance(call, dict)] if isinstance(found, list) else []


def _extra(reply: WireReply, request: ChatRequest, message: WireMessage) -> JsonObject:
    extra: JsonObject = {}
    groq = reply.x_groq
    if groq is not None:
        if groq.id:
            extra["request_id"] = groq.id
        if given(groq.usage_breakdown):
            _keep(extra, "usage_breakdown", groq.usage_breakdown, request)
    if reply.model is not None and reply.model != request.model:
        extra["model"] = reply.model
    if given(reply.usage_breakdown):
        _keep(extra, "usage_breakdown", reply.usage_breakdown, request)
    if given(message.executed_tools):
        _keep(extra, "executed_tools", message.executed_tools, request)
    if given(message.annotations):
        _keep(extra, "annotations", message.annotations, request)
    if message.refusal:
        extra["refusal"] = message.refusal
    return extra


def _keep(extra: JsonObject, name: str, raw: msgspec.Raw, request: ChatRequest) -> None:
    """Keep a field that is not the answer. One that takes too much memory is left out, which is said."""
    try:
        value = kept(raw, bounds_of(request).objects)
    except ValueError:
        extra.setdefault("left_out", []).append(name)
        return
    if value:
        extra[name] = value


def finish_reason(word: str | None) -> FinishReason:
    """Return the finish reason in Mixtura's words; a word nobody agreed on is "unknown"."""
    return _FINISH.get(word, "unknown")


def usage_of(reply: WireReply) -> Usage | None:
    """Return the usage a reply or chunk carries, at its top or in Groq's part."""
    groq = reply.x_groq
    usage = reply.usage if reply.usage is not None or groq is None else groq.usage
    if usage is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
        return None
    return usage.usage()


def estimated_usage(request: ChatRequest, text: str, reasoning: str) -> Usage:
    """Guess the usage of a reply that came without one, and say that it is a guess."""
    thought = estimate_tokens(reasoning)
    return Usage(
        prompt_tokens=estimate_messages(request.messages),
        completion_tokens=estimate_tokens(text) + thought,
        reasoning_tokens=thought,
        estimated=True,
    )
