"""How large a reply may be, by what was asked for.

A reply is a stranger's data: its size is bounded before it is read, and the Python objects made of it before they are
made. A limit is a fixed part and a part for each token that the request allows. The table is generous: real models
write 3 to 5 bytes a token, and no reply that does what was asked comes near its limit.

    limit     fixed    a token   holds for
    text      1 MiB    128 B     the answer, and the reasoning, as JSON: the longest tokens are 128 bytes (white space),
                                 and six bytes for one (an escape) stay below that. Servers that do not count reasoning
                                 as output have the fixed part.
    whole     8 MiB    128 B     a body: what tools found (`executed_tools`), citations, filter results beside the text
    event     8 MiB    0         one event of a stream
    stream    8 MiB    2 KiB     a stream: every token comes in an event of its own, with its envelope
    objects   2 MiB    64 B      Python objects of what is kept as such (tool calls, citations): or as much as the JSON
                                 they stand in, where that is more

A request without a limit of its own counts as `_MOST_TOKENS`. Asking for log-probabilities adds `_LOGPROB` for each
token and alternative; a field of `ChatOptions.extra` that is not known to make replies no larger (images, sound,
searches) adds `_ANYTHING`.
"""

import functools
from typing import NamedTuple

from mixtura.chat import ChatRequest

INLINE = 1024 * 1024
"""Bytes of a body that are decoded on the event loop: about a millisecond, five where it is hostile."""
ERROR_BYTES = 256 * 1024
"""Bytes of the body of an error that are read. Its status says what it means; the rest would be words."""
LIST_BYTES = 16 * 1024 * 1024
LIST_OBJECTS = 16 * 1024 * 1024
"""A provider's list of models: 400 rows with descriptions and prices take about 1.5 MB."""
DEPTH = 64
"""How deep values may be nested that are kept as Python objects."""

_KIB, _MIB = 1024, 1024 * 1024
_MOST_TOKENS = 131_072  # the largest output of a model in the catalogue
_LOGPROB = 256
_ANYTHING = 56 * _MIB
_NO_LARGER = frozenset(
    ("frequency_penalty", "presence_penalty", "logit_bias", "min_p", "top_k", "top_a", "typical_p", "repeat_penalty")
) | {
    *("repetition_penalty", "disable_tool_validation", "reasoning_format", "include_reasoning", "reasoning"),
    *("logprobs", "top_logprobs", "verbosity", "store", "prompt_cache_key", "safety_identifier", "thinking"),
    *("chat_template_kwargs", "ignore_eos", "min_tokens", "length_penalty", "mirostat", "cache_prompt", "n"),
}


class Bounds(NamedTuple):
    """The most bytes of one reply; see the table above."""

    text: int
    whole: int
    event: int
    stream: int
    objects: int
    tokens: int


def bounds_of(request: ChatRequest) -> Bounds:
    """Return how large the reply to `request` may be."""
    tokens = request.max_tokens or _MOST_TOKENS
    extra = request.options.extra
    if not extra:
        return _bounds(tokens, 0, 0)
    more = _ANYTHING * (not _NO_LARGER.issuperset(extra))
    return _bounds(tokens, more, _LOGPROB * _logprobs(extra.get("logprobs"), extra.get("top_logprobs")))


@functools.lru_cache(maxsize=64)
def _bounds(tokens: int, more: int, more_a_token: int) -> Bounds:
    return Bounds(
        text=_MIB + 128 * tokens + more,
        whole=8 * _MIB + (128 + more_a_token) * tokens + more,
        event=8 * _MIB + more,
        stream=8 * _MIB + (2 * _KIB + more_a_token) * tokens + more,
        objects=2 * _MIB + 64 * tokens,
        tokens=tokens,
    )


def _logprobs(asked: object, top: object) -> int:
    """Return how many log-probabilities a token has; older servers take their number in `logprobs` itself."""
    if not asked:
        return 0
    counts = [number for number in (asked, top) if isinstance(number, int) and 0 < number <= 1000]
    return 1 + max(counts, default=0)


def megabytes(size: int) -> str:
    """Return a size as the sentences about replies write it."""
    return f"{size / _MIB:.3g} MB"
