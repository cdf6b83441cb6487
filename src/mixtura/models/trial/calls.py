"""The six calls of a trial: what each asks, and what they may take."""

from typing import Literal, get_args

import msgspec

from mixtura.chat import ChatOptions, ChatRequest, JsonObject, Message, Usage
from mixtura.models.card import Price
from mixtura.tokens import PROMPT_HEAD, PROMPT_MARGIN, estimate_messages, estimate_tokens

CallName = Literal["whole", "streamed", "tools", "JSON", "reasoning", "overflow"]
CALLS: tuple[CallName, ...] = get_args(CallName)
"""The calls in the order in which they are made."""

LONGEST_WINDOW = 200_000
"""Tokens. A prompt that is longer than a larger window is not sent: it is megabytes, and may be billed."""

_MOST_TOKENS = 200
# In words that the toy models know as well.
_PROBLEM = "Ada has 12 apples. Then she buys 30 more. How many apples does Ada have now?"
_WEATHER = "What is the weather in Paris now? Call the tool get_weather, then say nothing else."
_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FIELD = "apples"
"""The only field of the object that is asked for in JSON, a whole number."""
_SCHEMA: JsonObject = {
    "type": "json_schema",
    "json_schema": {
        "name": "count",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {FIELD: {"type": "integer"}},
            "required": [FIELD],
            "additionalProperties": False,
        },
    },
}
# Every word of one letter is at least one token, in whichever vocabulary.
_WORD = "a "
_BEYOND = 1.02
_MORE = 64


class PlannedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a trial.

    Attributes:
        name: what is tried.
        request: what is sent; None where the call is not made.
        prompt_tokens: an estimate of the prompt, rather too high.
        least: the tokens that the prompt has at least, in whichever vocabulary; 0 where that does not matter.
        skipped: why it is not made, "" where it is.
    """

    name: CallName
    request: ChatRequest | None
    prompt_tokens: int = 0
    least: int = 0
    skipped: str = ""


def planned_calls(model: str, window: int | None) -> tuple[PlannedCall, ...]:
    """Return the six calls for a model whose window is `window` tokens, None where that is not known."""
    asked = {
        "whole": (_PROBLEM, ChatOptions()),
        "streamed": (_PROBLEM, ChatOptions()),
        "tools": (_WEATHER, ChatOptions(tools=[_TOOL])),
        "JSON": (f"{_PROBLEM} Answer in JSON.", ChatOptions(response_format=_SCHEMA)),
        "reasoning": (f"{_PROBLEM} Think first, then answer.", ChatOptions()),
    }
    return tuple(_overflow(model, window) if name == "overflow" else _call(name, model, *asked[name]) for name in CALLS)


def _call(name: CallName, model: str, question: str, options: ChatOptions) -> PlannedCall:
    request = ChatRequest(
        model=model,
        messages=(Message(role="user", content=question),),
        max_tokens=_MOST_TOKENS,
        options=options,
    )
    further = msgspec.json.encode((options.tools, options.response_format)).decode()
    tokens = estimate_messages(request.messages) + estimate_tokens(further)
    return PlannedCall(name=name, request=request, prompt_tokens=int(tokens * PROMPT_MARGIN) + PROMPT_HEAD)


def _overflow(model: str, window: int | None) -> PlannedCall:
    """Return the call whose prompt is too long: the server has to refuse it, which costs nothing."""
    if window is None:
        skipped = "the server does not say how long its context is"
        return PlannedCall(name="overflow", request=None, skipped=skipped)
    if window > LONGEST_WINDOW:
        skipped = f"its context of {window:,} tokens is too long to be sent for a trial"
        return PlannedCall(name="overflow", request=None, skipped=skipped)
    words = int(window * _BEYOND) + _MORE
    message = Message(role="user", content=_WORD * words)
    request = ChatRequest(model=model, messages=(message,), max_tokens=1)
    return PlannedCall(name="overflow", request=request, prompt_tokens=words + _MORE, least=words)


def most_tokens(calls: tuple[PlannedCall, ...], *, overflow: bool) -> Usage:
    """Return the most that the calls can take: those that are answered, or (`overflow`) the one to be refused."""
    made = [call for call in calls if call.request is not None and (call.name == "overflow") == overflow]
    return Usage(
        prompt_tokens=sum(call.prompt_tokens for call in made),
        completion_tokens=sum(call.request.max_tokens or 0 for call in made if call.request is not None),
        estimated=True,
    )


def most_dollars(calls: tuple[PlannedCall, ...], price: Price) -> tuple[float, float]:
    """Return the dollars that the calls cost at most, and those that are added if the server takes the long prompt."""
    answered = most_tokens(calls, overflow=False)
    return price.cost(answered), price.cost(most_tokens(calls, overflow=True))
