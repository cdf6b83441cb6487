"""Why a reply ended, in the words of all servers: one table, and how a word is found in it.

A word counts whatever its case and its signs: `MAX_TOKENS`, `max-tokens`, `maxTokens` and
`FinishReason.MAX_TOKENS` are one. Of a word in parts (`function_call_filter: MALFORMED_FUNCTION_CALL`) the first
part that is known counts.
"""

import re
from typing import NamedTuple

import msgspec

from mixtura.chat import FinishReason
from mixtura.errors import BadGenerationError, BrokenReplyError, LoopedError, ModelError, OverloadedError, RejectedError
from mixtura.models.openai.kept import kept
from mixtura.secret import scrub

_LONGEST = 200
# As much of a word is read as a secret in it can be found in.
_READ = 2000
# Bytes of Python that a finish reason may take that is an object.
_ROOM = 64 * 1024


class Ending(NamedTuple):
    """What a finish reason means.

    Attributes:
        reason: the same in Mixtura's words.
        grade: how much it says: of several words of one reply the one that says most counts, -1 for one that says
            that nothing has ended.
        failed: the error that the call ends in, None where the reply is one.
    """

    reason: FinishReason
    grade: int
    failed: type[ModelError] | None = None

    @property
    def ended(self) -> bool:
        """The reply is over."""
        return self.grade >= 0


OPEN = Ending("unknown", -1)
UNKNOWN = Ending("unknown", 0)
STOP = Ending("stop", 1)
CALLS = Ending("tool_calls", 2)
LENGTH = Ending("length", 3)
FILTER = Ending("content_filter", 3)
FAILED = Ending("unknown", 4, BrokenReplyError)
OVERLOADED = Ending("unknown", 4, OverloadedError)
MALFORMED = Ending("unknown", 4, BadGenerationError)
LOOPED = Ending("unknown", 4, LoopedError)
REJECTED = Ending("unknown", 4, RejectedError)

# Each row: what the words mean, the words, and a comment that says whose they are.
_TABLE: tuple[tuple[Ending, str], ...] = (
    (STOP, "stop"),  # OpenAI and nearly all others
    (STOP, "eos eos_token eos_found end_of_sequence end_id"),  # Together, llama.cpp; TGI, watsonx; LM Studio; TensorRT
    (STOP, "stop_sequence stop_word stop_words stop_string stop_string_found stop_token word"),  # TGI, LM Studio, ...
    (STOP, "end_turn end end_of_text endoftext end_of_turn eot"),  # Anthropic, Aleph Alpha, AI21
    (STOP, "complete completed finish finished done normal success"),  # Cohere, OpenRouter, Bedrock, Baidu
    (LENGTH, "length limit max_length max_len maximum_length"),  # OpenAI; llama.cpp; xAI
    (
        LENGTH,
        "max_tokens max_new_tokens max_output_tokens max_completion_tokens maximum_tokens max_output",
    ),  # Gemini, ...
    (
        LENGTH,
        "max_predicted_tokens_reached context_length_reached token_limit token_limit_reached",
    ),  # LM Studio, watsonx
    (LENGTH, "model_length context_length context_length_exceeded max_context error_limit"),  # Mistral, xAI, Cohere
    (LENGTH, "model_context_window_exceeded context_window_exceeded incomplete"),  # Anthropic, Zhipu, OpenRouter
    (LENGTH, "time_limit pause_turn"),  # watsonx, xAI; Anthropic: not over, though not for its length
    (CALLS, "tool_calls tool_call tool_use function_call function_calls calls"),  # OpenAI, Anthropic, Cohere, LM Studio
    (FILTER, "content_filter content_filtered filtered guardrail_intervened error_toxic"),  # OpenAI, Bedrock, Cohere
    (FILTER, "safety recitation blocklist prohibited_content spii language blocked"),  # Gemini
    (FILTER, "image_safety image_prohibited_content image_recitation model_armor"),  # Gemini, Vertex
    (FILTER, "refusal refused sensitive moderation"),  # Anthropic; Zhipu, Hunyuan
    (
        FAILED,
        "error failed failure exception internal_error unexpected_error engine_error",
    ),  # Mistral, OpenRouter, vLLM
    (FAILED, "abort aborted cancel canceled cancelled interrupted user_cancel user_stopped"),  # vLLM, SGLang, LM Studio
    (FAILED, "other image_other no_image malformed_response malformed_model_output"),  # Gemini, Bedrock
    (OVERLOADED, "insufficient_system_resource network_error overloaded server_overloaded"),  # DeepSeek, Zhipu
    (OVERLOADED, "timeout timed_out load unload model_unloaded"),  # Cohere, TensorRT; Ollama, LM Studio
    (MALFORMED, "malformed_function_call unexpected_tool_call too_many_tool_calls"),  # Gemini
    (MALFORMED, "malformed_tool_use malformed_tool_call tool_call_error"),  # Bedrock
    (LOOPED, "repetition repetition_detected"),  # vLLM
    (REJECTED, "missing_thought_signature"),  # Gemini
    (OPEN, "null none nil undefined unspecified not_finished unfinished in_progress false 0"),  # Qwen, Gemini, watsonx
)
_SIGNS = re.compile(r"[\W_]+")
_BETWEEN = re.compile(r"[^\w\s-]+")
_PREFIXES = ("finishreason", "stopreason", "reason")


def _plain(word: str) -> str:
    """Return a word without its signs, its case, and what only says that it is a reason."""
    plain = _SIGNS.sub("", word).lower()
    for prefix in _PREFIXES:
        if plain.startswith(prefix) and plain != prefix:
            return plain[len(prefix) :]
    return plain


_KNOWN = {_plain(word): ending for ending, words in _TABLE for word in words.split()}
# OpenAI's own words are found at once, and need not be kept beside what they mean.
_OWN: dict[str | None, Ending] = {
    None: OPEN,
    "stop": STOP,
    "length": LENGTH,
    "tool_calls": CALLS,
    "function_call": CALLS,
    "content_filter": FILTER,
}


def ending_of(word: str | None) -> Ending:
    """Return what a server's finish reason means; `UNKNOWN` for a word that nobody agreed on."""
    return _OWN.get(word) or _found(word or "")


def _found(word: str) -> Ending:
    word = word[:_LONGEST]
    plain = _plain(word)
    if not plain:
        return OPEN
    known = _KNOWN.get(plain)
    parts = _BETWEEN.split(word) if known is None else ()
    return known or next((_KNOWN[part] for part in map(_plain, parts) if part in _KNOWN), UNKNOWN)


def kept_word(word: str | None) -> str:
    """Return a server's word as it is kept beside what it means: "" where that says all of it."""
    return "" if word in _OWN or word is None or not ending_of(word).ended else shown_word(word)


def shown_word(word: str) -> str:
    """Return a server's word as it can be shown: short and without secrets."""
    return scrub(word[:_READ])[:_LONGEST]


def graver(one: str | None, other: str | None) -> str | None:
    """Return which of two words of one reply counts: the one that says more, else the first."""
    if other is None:
        return one
    first, second = ending_of(one), ending_of(other)
    return other if second.grade > first.grade else one


def word_in(raw: msgspec.Raw) -> str | None:
    """Return the word of a finish reason that may be any JSON: a number, an object with a `type`; None for none."""
    try:
        return _word_of(kept(raw, _ROOM))
    except (ValueError, RecursionError):
        return bytes(memoryview(raw)[:_READ]).decode("utf-8", "replace")


def _word_of(value: object) -> str | None:
    if isinstance(value, str):
        return value[:_READ]
    if isinstance(value, list):
        return _word_of(value[0]) if value else None
    if not isinstance(value, dict):
        # 0 is what servers write that number their reasons and have none yet.
        return msgspec.json.encode(value).decode() if value else None
    if not value:
        return None
    found = (value.get(name) for name in ("type", "reason", "finish_reason", "name", "kind"))
    word = next((one for one in found if isinstance(one, str) and one), next(iter(value)))
    said = value.get("message")
    return (f"{word}: {said}" if isinstance(said, str) and said else word)[:_READ]
