"""The OpenAI chat wire: a `ChatRequest` to JSON bytes, and a reply that was read (`reply`) to a `Completion`.

What differs between providers is a `Dialect`, made from their catalogue row.
"""

from typing import Any, Literal

import msgspec

from mixtura.chat import NO_OPTIONS, ChatRequest, Completion, JsonObject, Timing
from mixtura.errors import BadGenerationError
from mixtura.models.catalog import CatalogModel, CatalogProvider
from mixtura.models.openai.bounds import bounds_of
from mixtura.models.openai.finish import CALLS, FILTER, STOP, Ending, ending_of, kept_word, shown_word
from mixtura.models.openai.formats import Formats
from mixtura.models.openai.kept import given, kept
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
from mixtura.models.openai.tool_calls import ToolCalls, whole_calls
from mixtura.models.openai.usage import NOTHING_TOLD, Told, charge_in, read_usage

# Groq refuses a request that holds both, so a caller's own choice replaces ours.
_REASONING: dict[str, Any] = {"reasoning_format": "parsed", "include_reasoning": True}
_OPTIONS = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "stop", "service_tier", "user")


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


def completion_from(
    reply: WireReply,
    request: ChatRequest,
    timing: Timing,
    *,
    told: Told | None = None,
    gathered: ToolCalls | None = None,
) -> Completion:
    """Return the completion that a whole reply holds; `timing.queue` is filled in from the reply.

    Args:
        reply: the reply.
        request: what it answers.
        timing: the seconds that it took.
        told: what a stream has told of its usage; None for what stands in the reply.
        gathered: the tool calls of a stream; None for those in the reply.

    Raises:
        WireError: it holds an error, or no message; or its finish reason says that it failed.
    """
    if reply.error and (reported := reported_in(reply.error)):
        raise WireError("an error in place of a completion", reported)
    choice = None if reply.choices is None else reply.choices.first
    if choice is None and (choice := choice_of(reply)) is None:
        raise WireError("a reply without choices", usage=(told or told_in(reply)).usage, alike=True)
    told = told or told_in(reply)
    if choice.error and (reported := reported_in(choice.error)):
        raise WireError("an error in place of a completion", reported, told.usage)
    word = choice.word
    ending = ending_of(word)
    message = _message_in(choice, ending, told)
    text = message.content or ""
    reasoning = message.thoughts(bounds_of(request))
    calls: list[JsonObject] | None = None
    if gathered or message.tool_calls or message.function_call or ending.reason == "tool_calls":
        cut = ending.reason == "length"
        calls = gathered.calls(cut=cut) if gathered else whole_calls(message, request, reply.id or "", cut=cut)
        ending = _ending_with(calls, message, ending, told)
    usage = told.booked(request, text, reasoning, calls)
    if usage.queue_time:
        timing = Timing(total=timing.total, queue=usage.queue_time, first_token=timing.first_token)
    groq = reply.x_groq
    return Completion(
        model=request.model,
        text=text,
        reasoning=reasoning,
        finish_reason=ending.reason,
        tool_calls=calls,
        usage=usage,
        cost=told.charged,
        charged=told.charged,
        timing=timing,
        id=reply.id or "",
        seed=groq.seed if groq is not None else None,
        service_tier=reply.service_tier,
        system_fingerprint=reply.system_fingerprint,
        extra=_extra(reply, request, message, word),
        odd_fields=_odd_fields(reply, message) if message.tool_calls or reply.__class__ is OddReply else (),
    )


def _message_in(choice: WireChoice, ending: Ending, told: Told) -> WireMessage:
    """Return the message of a choice that ended as `ending` says.

    Raises:
        WireError: its generation failed, or there is none.
    """
    if ending.failed is not None:
        said = f"the server ended its reply with {shown_word(choice.word or '')!r}"
        raise WireError(said, usage=told.usage, kind=ending.failed)
    message = choice.message
    if message is None or not message.content:
        message = _message_of(choice)
    if message is None:
        if ending is not FILTER:
            raise WireError("a choice without a message", usage=told.usage, alike=True)
        message = WireMessage()
    return message


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


def _ending_with(calls: list[JsonObject] | None, message: WireMessage, ending: Ending, told: Told) -> Ending:
    """Return how a reply ended that has `calls` of tools or says so: many servers end calls with `stop`.

    Raises:
        WireError: it ended with calls, and there are none, and no text.
    """
    if calls:
        return CALLS if ending.grade < CALLS.grade else ending
    if ending is not CALLS:
        return ending
    if not message.content:
        said = "its finish reason says that it calls a tool, and no call came"
        raise WireError(said, usage=told.usage, kind=BadGenerationError)
    return STOP


def _extra(reply: WireReply, request: ChatRequest, message: WireMessage, word: str | None) -> JsonObject:
    extra: JsonObject = {}
    if word is not None and (said := kept_word(word)):
        extra["finish_reason"] = said
    groq = reply.x_groq
    if groq is not None:
        if groq.id:
            extra["request_id"] = groq.id
        if given(groq.usage_breakdown):
            _keep(extra, "usage_breakdown", groq.usage_breakdown, request)
    if reply.model is not None and reply.model != request.model:
        extra["model"] = reply.model
    if reply.usage_breakdown and given(reply.usage_breakdown):
        _keep(extra, "usage_breakdown", reply.usage_breakdown, request)
    if message.executed_tools and given(message.executed_tools):
        _keep(extra, "executed_tools", message.executed_tools, request)
    if message.annotations and given(message.annotations):
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


def told_in(reply: WireReply) -> Told:
    """Return what a reply or chunk tells of its usage, wherever in it that stands."""
    told = read_usage(reply.usage)
    if told is None and reply.x_groq is not None:
        told = read_usage(reply.x_groq.usage)
    if told is None and reply.choices is not None and (choice := reply.choices.first) is not None:
        told = read_usage(choice.usage)
    if reply.usage_metadata or reply.hidden_params:
        told = _told_elsewhere(reply, told)
    return told or NOTHING_TOLD


def _told_elsewhere(reply: WireReply, told: Told | None) -> Told | None:
    if told is None or not (told.prompt or told.completion):
        told = (read_usage(reply.usage_metadata) or NOTHING_TOLD).after(told)
    if told.charged is None and (charged := charge_in(reply.hidden_params)) is not None:
        told = msgspec.structs.replace(told, charged=charged)
    return told
