"""What a caller may set, as a table: which calls of a run each field of `ChatOptions` reaches.

A run makes calls of four kinds, as far as a caller's wishes go. A call *writes* if its reply becomes the answer unless
something goes wrong: the aggregator's, or that of a model that answers alone. It *answers* if its reply can become the
answer word for word: a call that writes, and each draft where one of them is returned as it is (`vote`, `select`,
`merge`, `auto`, `rank` without a chairman). It *acts* if it may call the caller's tools. All others draft, review or
select, and get what reaches all calls.
"""

from typing import Literal

import msgspec

from mixtura.chat import NO_OPTIONS, ChatOptions, JsonObject
from mixtura.errors import InputError

Reach = Literal["writes", "answers", "acts", "all", "none"]

REACH: dict[str, Reach] = {
    # Counted and compared drafts have to differ, so their sampling stays the recipe's.
    "temperature": "writes",
    "top_p": "writes",
    "max_tokens": "answers",
    "reasoning_effort": "answers",
    "stop": "answers",
    "response_format": "answers",
    "tools": "acts",
    "tool_choice": "acts",
    "parallel_tool_calls": "acts",
    "seed": "all",
    "images": "all",
    "service_tier": "all",
    "user": "all",
    "metadata": "none",
    "extra": "all",
}
"""The calls that a field of `ChatOptions` reaches."""

EXTRA_REACH: dict[str, Reach] = {
    "frequency_penalty": "writes",
    "logit_bias": "writes",
    "min_p": "writes",
    "presence_penalty": "writes",
    "repeat_penalty": "writes",
    "repetition_penalty": "writes",
    "top_k": "writes",
    "typical_p": "writes",
    "logprobs": "answers",
    "top_logprobs": "answers",
    "disable_tool_validation": "acts",
}
"""The same for fields of `ChatOptions.extra` that are known; others reach all calls."""

SET_ELSEWHERE = {
    "messages": "they are the question and the recipe's prompts",
    "model": "the recipe names its models",
    "models": "the recipe names its models (fallbacks)",
    "stream": "say what is watched (watch)",
    "stream_options": "say what is watched (watch)",
    "tools": "set ChatOptions.tools",
    "functions": "set ChatOptions.tools",
    "function_call": "set ChatOptions.tool_choice",
    "images": "set ChatOptions.images",
}
"""Fields of a request that `extra` must not hold: limits, money and drafts are counted by them."""

OUTPUT_LIMITS = ("max_completion_tokens", "max_new_tokens", "max_output_tokens", "n_predict", "num_predict")
"""What servers call the output limit besides `max_tokens`."""

COPIES = ("n", "best_of", "num_return_sequences")
"""What servers call the number of replies that they write, and bill, for one request."""

# Fields that have a name of their own, wherever a caller writes them.
_NAMED = {
    **{name: name for name in REACH if name not in ("tools", "images", "metadata", "extra")},
    **dict.fromkeys(OUTPUT_LIMITS, "max_tokens"),
}
_JSON_FORMATS = ("json_object", "json_schema")


def reaching(options: ChatOptions, *, writes: bool, answers: bool, acts: bool) -> ChatOptions:
    """Return what of a caller's `options` goes to a call that writes, answers or acts.

    `images` are in the conversation by then.
    """
    if options is NO_OPTIONS:
        return options
    reached = _reached(writes=writes, answers=answers, acts=acts)
    given = {
        name: value
        for name in REACH
        if REACH[name] in reached and name not in ("images", "extra") and (value := getattr(options, name)) is not None
    }
    extra = {name: value for name, value in options.extra.items() if EXTRA_REACH.get(name, "all") in reached}
    if not (given or extra):
        return NO_OPTIONS
    return ChatOptions(**given, extra=extra)


def _reached(*, writes: bool, answers: bool, acts: bool) -> set[Reach]:
    found: set[Reach] = {"all"}
    if writes:
        found.add("writes")
    if writes or answers:
        found.add("answers")
    if acts:
        found.add("acts")
    return found


def without_texts(options: ChatOptions) -> ChatOptions:
    """Return `options` without what can hold a text of the caller: for events that leave the conversation out."""
    kept = ("temperature", "top_p", "max_tokens", "seed", "reasoning_effort", "parallel_tool_calls", "service_tier")
    return ChatOptions(**{name: getattr(options, name) for name in kept})


def wants_json(options: ChatOptions) -> bool:
    """Say whether the answer has to be JSON."""
    form = options.response_format
    return form is not None and form.get("type") in _JSON_FORMATS


def with_named_fields(options: ChatOptions) -> ChatOptions:
    """Return `options` with what `extra` says of a field that has a name of its own moved there.

    Raises:
        InputError: a field is set in both places, or `extra` holds one that is set elsewhere.
    """
    extra = options.extra
    if not extra:
        return options
    if taken := SET_ELSEWHERE.keys() & extra.keys():
        name = min(taken)
        raise InputError(f"options.extra: {name!r} cannot be set there; {SET_ELSEWHERE[name]}")
    for name in COPIES:
        if (copies := extra.get(name, 1)) not in (1, None):
            raise InputError(
                f"options.extra: {name!r} cannot be {copies!r}; a run has one answer (see the recipe's samples)"
            )
    moved: JsonObject = {}
    rest: JsonObject = {}
    for key, value in extra.items():
        field = _NAMED.get(key)
        if field is None and key not in COPIES:
            rest[key] = value
        elif field is not None and value is not None:
            if moved.get(field, getattr(options, field)) not in (None, value):
                raise InputError(f"options: {field} is set twice, once as {key!r} in extra")
            moved[field] = value
    return msgspec.structs.replace(options, extra=rest, **moved)
