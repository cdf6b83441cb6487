"""What a reply says of the tokens that it took and the dollars that they cost, in whichever words a server has for it.

The words of OpenAI and Groq are decoded as a struct. Only where those are missing, zero or not alone are others looked
for. A figure that cannot be is passed over, and what nobody told is estimated, and marked as estimated.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from mixtura.chat import ChatRequest, Completion, JsonObject, Usage
from mixtura.models.openai.kept import given, kept
from mixtura.models.openai.reply import as_json
from mixtura.tokens import estimate_messages, estimate_tokens

# Counts and times above this are no measurement.
_MOST_FIGURE = 1e9
# No single call costs so much: a full window and the longest reply of the dearest model are a quarter of it.
_MOST_DOLLARS = 1000.0
# Bytes of Python that a usage may take, and how many entries of a list of them are looked at.
_ROOM, _MOST_ENTRIES = 16 * 1024, 64
_LONGEST_NUMBER = 24
_DIGITS = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", re.ASCII)

_PROMPT = (
    *("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count", "prompt_eval_count"),
    *("inputTokens", "promptTokens", "inputTokenCount", "input_token_count"),
)
_COMPLETION = (
    *("completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count", "eval_count"),
    *("outputTokens", "completionTokens", "outputTokenCount", "output_token_count", "generated_tokens"),
)
_TOTAL = ("total_tokens", "totalTokenCount", "total_token_count", "totalTokens")
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_COMPLETION_DETAILS = ("completion_tokens_details", "output_tokens_details")
_READ_FROM_CACHE = ("cache_read_input_tokens", "cacheReadInputTokens")
_WRITTEN_TO_CACHE = ("cache_creation_input_tokens", "cacheWriteInputTokens")
_CACHED = (
    *("prompt_cache_hit_tokens", *_READ_FROM_CACHE, "num_cached_tokens", "cached_tokens"),
    *("cachedContentTokenCount", "cached_content_token_count"),
)
# Of these the thinking is no part of the completion.
_THOUGHT_APART = ("thoughtsTokenCount", "thoughts_token_count")
_REASONING = ("reasoning_tokens", *_THOUGHT_APART)

# A text this short for its tokens is not doubted: prose has 4 to 5 characters a token.
_SURE_CHARACTERS = 16
# Vocabularies whose tokens span words reach 2 words a token, and the longest tokens of other scripts 16 characters.
_MOST_WORDS, _MOST_LETTERS, _FEW_WORDS = 8, 24, 32


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int = 0


class _PlainUsage(msgspec.Struct, forbid_unknown_fields=True):
    """`usage` as OpenAI and Groq send it. With a field of another name it does not decode."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    queue_time: float = 0.0
    prompt_time: float = 0.0
    completion_time: float = 0.0
    total_time: float = 0.0


_PLAIN = msgspec.json.Decoder(_PlainUsage)


class Told(msgspec.Struct, frozen=True):
    """What a server has told of a call; 0 where it told nothing. `charged` is dollars, None where it told none."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    total: int = 0
    queue_time: float = 0.0
    prompt_time: float = 0.0
    completion_time: float = 0.0
    charged: float | None = None

    @property
    def usage(self) -> Usage | None:
        """The tokens as they were told; None where none were."""
        return self._usage(self.prompt, self.completion) if self.prompt or self.completion else None

    def _usage(self, prompt: int, completion: int, *, estimated: bool = False) -> Usage:
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            cached_tokens=min(self.cached, prompt),
            reasoning_tokens=min(self.reasoning, completion),
            queue_time=self.queue_time,
            prompt_time=self.prompt_time,
            completion_time=self.completion_time,
            estimated=estimated,
        )

    def after(self, earlier: "Told | None") -> "Told":
        """Return what was told in all, where `earlier` was told before: a later figure counts, where there is one."""
        if earlier is None or earlier is NOTHING_TOLD:
            return self
        if self is NOTHING_TOLD:
            return earlier
        charged = earlier.charged if self.charged is None else self.charged
        said = {name: getattr(self, name) or getattr(earlier, name) for name in self.__struct_fields__[:-1]}
        return Told(**said, charged=charged)

    def booked(
        self, request: ChatRequest, text: str, reasoning: str = "", calls: list[JsonObject] | None = None
    ) -> Usage:
        """Return the usage of a reply; what was not told, or cannot be, is estimated and the usage marked.

        Args:
            request: what was asked.
            text: the reply's text.
            reasoning: what it thought.
            calls: its calls of tools.
        """
        sound = self.completion > 0 and (len(text) <= _SURE_CHARACTERS * self.completion or not self._is_doubted(text))
        if sound and self.prompt:
            return self._usage(self.prompt, self.completion)
        written = bool(text or reasoning or calls)
        if self.prompt and not sound and not written:
            return self._usage(self.prompt, 0)
        thought = estimate_tokens(reasoning)
        prompt = self.prompt or estimate_messages(request.messages)
        completion = self.completion
        if not sound:
            completion = estimate_tokens(text) + thought
            completion += estimate_tokens(as_json(calls).decode()) if calls else 0
        if self.total and not (self.prompt or self.completion):
            prompt = round(self.total * prompt / (prompt + completion)) if written else self.total
            completion = self.total - prompt
        elif self.total > self.prompt and self.prompt and not sound and not self.completion:
            completion = self.total - self.prompt
        usage = self._usage(prompt, completion, estimated=True)
        if usage.reasoning_tokens or not thought:
            return usage
        return msgspec.structs.replace(usage, reasoning_tokens=min(thought, completion))

    def _is_doubted(self, text: str) -> bool:
        """Say whether no tokenizer makes so few tokens of a text: 1 token for 400 words."""
        words = sum(any(map(str.isalnum, word)) for word in text.split())
        if words > _MOST_WORDS * self.completion + _FEW_WORDS:
            return True
        others = 0 if text.isascii() else sum(letter > "\u02ff" and letter.isalpha() for letter in text)
        return others > _MOST_LETTERS * self.completion + _FEW_WORDS * _MOST_LETTERS


NOTHING_TOLD = Told()


def read_usage(raw: msgspec.Raw) -> Told | None:
    """Return what a `usage` tells, None where it tells nothing. It never fails."""
    if not raw:
        return None
    try:
        plain = _PLAIN.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _of_any(raw) if given(raw) else None
    prompt, completion = plain.prompt_tokens, plain.completion_tokens
    read, thought = plain.prompt_tokens_details, plain.completion_tokens_details
    cached = 0 if read is None else read.cached_tokens
    reasoning = 0 if thought is None else thought.reasoning_tokens
    times = plain.queue_time, plain.prompt_time, plain.completion_time
    # The total tells whether there is more to it.
    if (
        0 < prompt < _MOST_FIGURE
        and 0 < completion < _MOST_FIGURE
        and plain.total_tokens == prompt + completion
        and 0 <= cached <= prompt
        and 0 <= reasoning <= completion
        and 0 <= min(times) <= max(times) < _MOST_FIGURE
    ):
        return Told(prompt, completion, cached, reasoning, plain.total_tokens, *times)
    return _of_any(raw)


def _told(
    prompt: int, completion: int, cached: int, reasoning: int, total: int, times: tuple[float, float, float]
) -> Told:
    rest = total - prompt - completion
    if rest > 0 and prompt and completion and (rest == reasoning or not reasoning):
        # Some count what was thought in the total alone, and bill it.
        completion, reasoning = completion + rest, rest
    elif reasoning > completion > 0 and not total:
        completion += reasoning
    return Told(prompt, completion, cached, reasoning, total, *times)


def _of_any(raw: msgspec.Raw) -> Told | None:
    try:
        found = kept(raw, _ROOM)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        return _of_fields(found)
    if isinstance(found, list):
        told = None
        for entry in found[:_MOST_ENTRIES]:
            later = _of_fields(entry) if isinstance(entry, dict) else None
            told = told if later is None else later.after(told)
        return told
    return None


def _of_fields(said: Mapping[str, Any]) -> Told | None:
    prompt = _first(said, _PROMPT)
    completion = _first(said, _COMPLETION)
    reasoning = _first(said, _REASONING) or _first(_inner(said, _COMPLETION_DETAILS), ("reasoning_tokens",))
    cached = _first(said, _CACHED) or _first(_inner(said, _PROMPT_DETAILS), ("cached_tokens",))
    if not _first(said, _PROMPT[:1]) and not _inner(said, _PROMPT_DETAILS):
        # Anthropic and Bedrock count apart what the cache had, and what it took.
        prompt += _first(said, _READ_FROM_CACHE) + _first(said, _WRITTEN_TO_CACHE)
    if not _first(said, _COMPLETION[:1]):
        completion += _first(said, _THOUGHT_APART)
    times = _figure(said.get("queue_time")), _figure(said.get("prompt_time")), _figure(said.get("completion_time"))
    told = _told(prompt, completion, cached, reasoning, _first(said, _TOTAL), times)
    charged = _charge(said)
    if charged is not None:
        told = msgspec.structs.replace(told, charged=charged)
    if told != NOTHING_TOLD:
        return told
    # Cohere has what was billed, and what was read, one level below.
    below = _inner(said, ("billed_units", "tokens", "usage"))
    return _of_fields(below) if below else None


def _first(said: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """Return the first count above zero that stands under one of `names`, 0 for none."""
    for name in names:
        if count := int(_figure(said.get(name))):
            return count
    return 0


def _inner(said: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    return next((said[name] for name in names if isinstance(said.get(name), dict)), {})


def _figure(value: object) -> float:
    """Return a number of tokens or seconds, 0 for what cannot be one: missing, negative, beyond all that is made."""
    number = _number(value)
    return number if number is not None and 0 <= number < _MOST_FIGURE else 0


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _DIGITS.fullmatch(value.strip()):
        return float(value)
    return None


def dollars_in(value: object) -> float | None:
    """Return an amount that a provider may have charged for one call; None for what cannot be one."""
    number = _number(value)
    return float(number) if number is not None and math.isfinite(number) and 0 <= number <= _MOST_DOLLARS else None


def charge_in(hidden: msgspec.Raw) -> float | None:
    """Return what LiteLLM's `_hidden_params` say that a call cost, None where they say nothing."""
    try:
        found = kept(hidden, _ROOM) if given(hidden) else None
    except (ValueError, RecursionError):
        return None
    return (dollars_in(found.get("response_cost")) or None) if isinstance(found, dict) else None


def _charge(said: Mapping[str, Any]) -> float | None:
    """Return the dollars that a usage says were charged: OpenRouter's and Perplexity's `cost`, DeepInfra's and others'.

    With a key of one's own behind OpenRouter, `cost` is its fee, and the model's provider charges for the tokens.
    """
    cost = said.get("cost")
    inside = cost if isinstance(cost, dict) else said
    currency = inside.get("currency", said.get("currency", "USD"))
    if not isinstance(currency, str) or currency.upper() not in ("USD", "$"):
        return None
    names = ("total_cost", "total") if inside is cost else ("cost", "total_cost", "estimated_cost", "response_cost")
    found = next((each for each in (dollars_in(inside.get(name)) for name in names) if each is not None), None)
    upstream = dollars_in(_inner(said, ("cost_details",)).get("upstream_inference_cost"))
    if found is not None and upstream and (said.get("is_byok") is True or not found):
        found += upstream
    return found


def with_charge(completion: Completion, said: str) -> Completion:
    """Return `completion` with what LiteLLM's header says that it cost: 0 is said there of what has no price."""
    dollars = dollars_in(said)
    return completion if not dollars else msgspec.structs.replace(completion, cost=dollars, charged=dollars)
