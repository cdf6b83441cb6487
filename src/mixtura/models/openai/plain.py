"""Chunks of a stream that hold text and nothing else, as nearly all do: many are decoded at once."""

import msgspec

from mixtura.models.openai.kept import given


class PlainDelta(msgspec.Struct):
    """The delta of such a chunk."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_text: str | None = None
    thinking: str | None = None
    thinking_blocks: None = None
    reasoning_details: msgspec.Raw = msgspec.Raw()
    tool_calls: None = None
    function_call: None = None
    executed_tools: None = None
    annotations: None = None
    refusal: None = None

    def thoughts(self) -> str:
        """Return the reasoning."""
        return self.reasoning or self.reasoning_content or self.reasoning_text or self.thinking or ""


class PlainChoice(msgspec.Struct):
    """Its choice."""

    delta: PlainDelta
    finish_reason: None = None
    message: None = None
    error: None = None


class PlainChunk(msgspec.Struct):
    """A chunk of text and nothing else, as nearly every chunk of a stream is; one that holds more does not decode."""

    choices: tuple[PlainChoice]
    usage: None = None
    usage_breakdown: None = None
    x_groq: None = None
    error: None = None


PLAIN = msgspec.json.Decoder(list[PlainChunk])


def thoughts_in(deltas: list[PlainDelta]) -> list[str] | None:
    """Return the reasoning in each delta; None where one has it in a form that has to be looked into."""
    told = [delta.thoughts() for delta in deltas]
    hidden = any(not words and given(delta.reasoning_details) for delta, words in zip(deltas, told, strict=True))
    return None if hidden else told
