"""The OpenAI chat wire: a `ChatRequest` to JSON bytes, a reply's bytes to a `Completion`.

What differs between providers is a `Dialect`, made from their catalogue row. Replies are read leniently: a
field that is null, missing or of an odd type never loses an answer that is there.
"""

import json
from typing import Any, Literal, cast

import msgspec

from mixtura.chat import NO_OPTIONS, ChatRequest, Completion, FinishReason, JsonObject, Timing, Usage
from mixtura.models.catalog import CatalogModel, CatalogProvider
from mixtura.models.openai.formats import Formats
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


class WireError(ValueError):
    """A reply that is not a completion.

    `reported` is the provider's own error object and `usage` what it says the reply took, when it sent them.
    """

    def __init__(self, problem: str, reported: object = None, usage: Usage | None = None) -> None:
        self.reported = reported
        self.usage = usage
        super().__init__(problem)


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
        return _ENCODER.encode(_without_surrogates(msgspec.to_builtins(body)))


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | float | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | float | None = None


class WireUsage(msgspec.Struct):
    """`usage` as providers send it, Groq's times included."""

    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    queue_time: float | None = None
    prompt_time: float | None = None
    completion_time: float | None = None

    def usage(self) -> Usage:
        """The same in Mixtura's words."""
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            prompt_tokens=int(_figure(self.prompt_tokens)),
            completion_tokens=int(_figure(self.completion_tokens)),
            cached_tokens=int(_figure(prompt.cached_tokens)) if prompt is not None else 0,
            reasoning_tokens=int(_figure(completion.reasoning_tokens)) if completion is not None else 0,
            queue_time=_figure(self.queue_time),
            prompt_time=_figure(self.prompt_time),
            completion_time=_figure(self.completion_time),
        )


def _figure(value: float | None) -> float:
    """Return a number of a reply, 0 for what cannot be one (missing, negative, not finite)."""
    return value if value is not None and 0 <= value < 1e15 else 0


class GroqPart(msgspec.Struct):
    """Groq's own part of a reply: its request id, the seed it used, and in older streams the usage."""

    id: str | None = None
    seed: int | None = None
    usage: WireUsage | None = None
    usage_breakdown: Any = None
    error: Any = None


class WireMessage(msgspec.Struct):
    """A reply's message, or a stream's delta of one."""

    content: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    tool_calls: list[JsonObject] | None = None
    executed_tools: list[Any] | None = None
    annotations: list[Any] | None = None
    refusal: str | None = None


class WireChoice(msgspec.Struct):
    """One choice: `message` in a whole reply, `delta` in a stream."""

    message: WireMessage | None = None
    delta: WireMessage | None = None
    finish_reason: str | None = None


class WireReply(msgspec.Struct):
    """A whole reply, or one chunk of a stream."""

    id: str | None = None
    model: str | None = None
    choices: list[WireChoice] | None = None
    usage: WireUsage | None = None
    x_groq: GroqPart | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage_breakdown: Any = None
    error: Any = None


_DECODER = msgspec.json.Decoder(WireReply)


def decode_reply(data: bytes) -> WireReply:
    """Read a reply or a chunk.

    Raises:
        WireError: it is not JSON, or no completion's shape.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Lone surrogates and broken UTF-8 are refused by msgspec; the standard library takes the first, and the
        # second is mended here. Only then is the reply given up.
        try:
            return reply_from(_without_surrogates(json.loads(data.decode("utf-8", "replace"))))
        except (ValueError, RecursionError):
            raise WireError(f"not a completion: {_glimpse(data)}") from None


def reply_from(data: object) -> WireReply:
    """Read a reply that is already parsed into dictionaries.

    Raises:
        WireError: it has not the shape of a completion.
    """
    try:
        return msgspec.convert(data, WireReply, strict=False)
    except msgspec.ValidationError:
        pass
    # Some field has an odd type. What counts may be sound nevertheless.
    core = {key: data[key] for key in ("choices", "error") if key in data} if isinstance(data, dict) else data
    try:
        return msgspec.convert(core, WireReply, strict=False)
    except msgspec.ValidationError as error:
        raise WireError(f"not a completion: {error}") from None


def completion_from(reply: WireReply, request: ChatRequest, timing: Timing) -> Completion:
    """Return the completion that a whole reply holds; `timing.queue` is filled in from the reply.

    Raises:
        WireError: it holds an error, or no message.
    """
    if reply.error:
        raise WireError("an error in place of a completion", reply.error)
    if not reply.choices:
        raise WireError("a reply without choices", usage=usage_of(reply))
    choice = reply.choices[0]
    message = choice.message
    if message is None:
        raise WireError("a choice without a message", usage=usage_of(reply))
    content = message.content
    text = content if type(content) is str else text_of(content)
    reasoning = text_of(message.reasoning or message.reasoning_content)
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
        tool_calls=[_call_of(call) for call in message.tool_calls] if message.tool_calls else None,
        usage=usage,
        timing=timing,
        id=reply.id or "",
        seed=groq.seed if groq is not None else None,
        service_tier=reply.service_tier,
        system_fingerprint=reply.system_fingerprint,
        extra=_extra(reply, request, message),
    )


def _call_of(call: JsonObject) -> JsonObject:
    """Return a tool call whose arguments are the text that they should be, also where a server sends an object."""
    function = call.get("function")
    if not isinstance(function, dict) or isinstance(function.get("arguments"), str | None):
        return call
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"])}}


def _extra(reply: WireReply, request: ChatRequest, message: WireMessage) -> JsonObject:
    extra: JsonObject = {}
    groq = reply.x_groq
    if groq is not None:
        if groq.id:
            extra["request_id"] = groq.id
        if groq.usage_breakdown:
            extra["usage_breakdown"] = groq.usage_breakdown
    if reply.model is not None and reply.model != request.model:
        extra["model"] = reply.model
    if reply.usage_breakdown:
        extra["usage_breakdown"] = reply.usage_breakdown
    if message.executed_tools:
        extra["executed_tools"] = message.executed_tools
    if message.annotations:
        extra["annotations"] = message.annotations
    if message.refusal:
        extra["refusal"] = message.refusal
    return extra


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


def text_of(content: object) -> str:
    """Return the text of a content that is a string, a list of parts, or nothing."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content)
    return _part_text(content)


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        text = part.get("text") or part.get("content")
        return text if isinstance(text, str) else ""
    return ""


def estimated_usage(request: ChatRequest, text: str, reasoning: str) -> Usage:
    """Guess the usage of a reply that came without one, and say that it is a guess."""
    thought = estimate_tokens(reasoning)
    return Usage(
        prompt_tokens=estimate_messages(request.messages),
        completion_tokens=estimate_tokens(text) + thought,
        reasoning_tokens=thought,
        estimated=True,
    )


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {cast("str", _without_surrogates(key)): _without_surrogates(item) for key, item in value.items()}
    return value


def _glimpse(data: bytes) -> str:
    text = " ".join(data[:400].decode("utf-8", "replace").split())
    if text[:15].lower().startswith(("<!doctype", "<html", "<head")):
        return "a web page"
    return repr(text[:100]) if text else "an empty body"
