"""Chunks of a stream that hold text and nothing else, as nearly all do: many are decoded at once."""

import msgspec


class PlainDelta(msgspec.Struct):
    """The delta of such a chunk."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: None = None
    executed_tools: None = None
    annotations: None = None
    refusal: None = None


class PlainChoice(msgspec.Struct):
    """Its choice."""

    delta: PlainDelta
    finish_reason: None = None
    message: None = None


class PlainChunk(msgspec.Struct):
    """A chunk of text and nothing else, as nearly every chunk of a stream is; one that holds more does not decode."""

    choices: tuple[PlainChoice]
    usage: None = None
    usage_breakdown: None = None
    x_groq: None = None
    error: None = None


PLAIN = msgspec.json.Decoder(list[PlainChunk])
