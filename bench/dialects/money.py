"""What servers say of tokens and dollars."""

from typing import Literal

from bench.dialects.row import USAGE, Expected, Row, chunk, closing, pieces, sse, whole
from mixtura.chat import JsonObject

_WORDS = "word " * 400


def _said(
    name: str,
    servers: tuple[str, ...],
    usage: object,
    expect: Expected,
    *,
    sends: str,
    becomes: str = "those tokens",
    source: str = "",
    text: str = "Paris.",
) -> Row:
    """Return a row whose reply has `usage`, whole and in the last chunk of a stream."""
    return Row(
        name=name,
        servers=servers,
        sends=sends,
        becomes=becomes,
        source=source,
        whole=whole(text, usage=usage),
        stream=sse(*pieces(text), closing(usage=usage)),
        expect=expect,
    )


def _told(prompt: int, completion: int, cost: float | Literal["none"] = "none") -> Expected:
    return Expected(estimated=False, prompt=prompt, completion=completion, cost=cost)


def _guessed(completion: int = 2, prompt: int = 7) -> Expected:
    return Expected(estimated=True, prompt=prompt, completion=completion)


def _usage(prompt: object, completion: object, **more: object) -> JsonObject:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def _stream(name: str, servers: tuple[str, ...], events: list[JsonObject], expect: Expected, sends: str) -> Row:
    """Return the row of a stream whose usage comes in a way of its own."""
    becomes = "the figures that count"
    return Row(name=name, servers=servers, sends=sends, becomes=becomes, stream=sse(*events), expect=expect)


_MARKED = "an estimate, marked as one"
_CHARGED = "the cost"

ROWS = (
    _said(
        "usage-zero",
        ("LM Studio", "gateways"),
        _usage(0, 0, total_tokens=0),
        _guessed(),
        sends="zeros beside an answer",
        becomes=_MARKED,
        source="MiXaiLL76/auto_ai_router#142",
    ),
    _said("usage-null", ("text-generation-webui",), {"prompt_tokens": None}, _guessed(), sends="null", becomes=_MARKED),
    _said("usage-empty", ("gateways",), {}, _guessed(), sends="an empty object", becomes=_MARKED),
    _said(
        "usage-absent",
        ("many local servers",),
        None,
        _guessed(),
        sends="no usage",
        becomes=_MARKED,
        source="microsoft/autogen#6548",
    ),
    _said("usage-no-object", ("gateways",), "9 tokens", _guessed(), sends="a text for a usage", becomes=_MARKED),
    _said(
        "usage-completion-zero",
        ("gateways",),
        _usage(9, 0, total_tokens=9),
        _guessed(prompt=9),
        sends="no tokens for an answer",
        becomes="the prompt as told, the answer estimated",
    ),
    _said(
        "usage-prompt-absent",
        ("Ollama",),
        {"completion_tokens": 3},
        _guessed(3),
        sends="the answer's tokens alone",
        becomes="the answer as told, the prompt estimated",
    ),
    _said("usage-total-alone", ("gateways",), {"total_tokens": 18}, _guessed(4, 14), sends="the total alone"),
    _said("usage-texts", ("gateways in PHP",), _usage("9", " 3 "), _told(9, 3), sends="figures as texts"),
    _said("usage-floats", ("gateways in Lua",), _usage(9.0, 3.0), _told(9, 3), sends="figures as floats"),
    _said("usage-list", ("gateways",), [USAGE], _told(9, 3), sends="a list of one usage"),
    _said(
        "usage-of-messages",
        ("Anthropic", "LiteLLM"),
        {"input_tokens": 9, "output_tokens": 3},
        _told(9, 3),
        sends="`input_tokens` and `output_tokens`",
    ),
    _said(
        "usage-of-messages-cached",
        ("Anthropic",),
        {"input_tokens": 9, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 3},
        _told(129, 3),
        sends="what the cache had beside `input_tokens`",
        becomes="all tokens of the prompt",
    ),
    _said(
        "usage-of-gemini",
        ("Gemini",),
        {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 40, "totalTokenCount": 52},
        _told(9, 43),
        sends="Gemini's own names, the thinking apart",
        becomes="the thinking is billed as a part of the answer",
    ),
    _said(
        "usage-thinking-in-the-total-alone",
        ("Gemini",),
        _usage(9, 3, total_tokens=52),
        _told(9, 43),
        sends="a total that is larger than its parts",
        becomes="the rest is thinking, and billed",
    ),
    _said(
        "usage-thinking-apart",
        ("xAI",),
        _usage(9, 3, total_tokens=52, completion_tokens_details={"reasoning_tokens": 40}),
        _told(9, 43),
        sends="thinking that is no part of `completion_tokens`",
        becomes="it is billed as a part of the answer",
    ),
    _said(
        "usage-of-ollama",
        ("Ollama",),
        {"prompt_eval_count": 9, "eval_count": 3},
        _told(9, 3),
        sends="`prompt_eval_count` and `eval_count`",
    ),
    _said(
        "usage-of-cohere",
        ("Cohere",),
        {"billed_units": {"input_tokens": 9, "output_tokens": 3}, "tokens": {"input_tokens": 70, "output_tokens": 3}},
        _told(9, 3),
        sends="`billed_units` in its usage",
        becomes="what is billed",
    ),
    Row(
        name="usage-in-the-choice",
        servers=("Moonshot",),
        sends="a usage in the last choice",
        becomes="those tokens",
        stream=sse(
            *pieces("Paris."),
            {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]},
        ),
        expect=_told(9, 3),
    ),
    _said(
        "usage-of-bedrock",
        ("Bedrock gateways",),
        {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12},
        _told(9, 3),
        sends="names in camel case",
    ),
    _said(
        "usage-cache-of-deepseek",
        ("DeepSeek",),
        _usage(9, 3, total_tokens=12, prompt_cache_hit_tokens=8, prompt_cache_miss_tokens=1),
        _told(9, 3),
        sends="`prompt_cache_hit_tokens`",
        becomes="cached tokens, a part of the prompt",
    ),
    _said("usage-negative", ("hostile servers",), _usage(-9, -3), _guessed(), sends="figures below 0", becomes=_MARKED),
    _said(
        "usage-absurd",
        ("hostile servers",),
        _usage(9, 10**15),
        _guessed(prompt=9),
        sends="a million billion tokens",
        becomes="the prompt as told, the answer estimated",
    ),
    _said("usage-true", ("hostile servers",), _usage(True, True), _guessed(), sends="true", becomes=_MARKED),
    _said(
        "usage-one-token-for-400-words",
        ("gateways",),
        _usage(9, 1, total_tokens=10),
        Expected(estimated=True, prompt=9, completion=556),
        sends="1 token for 400 words",
        becomes="the prompt as told, the answer estimated",
        text=_WORDS,
    ),
    _stream(
        "usage-wiped-by-an-empty-one",
        ("gateways",),
        [*pieces("Paris."), closing(usage=_usage(900, 50)), {"choices": [], "usage": {}}],
        _told(900, 50),
        "an empty usage after the good one",
    ),
    _stream(
        "usage-wiped-by-zeros",
        ("gateways",),
        [*pieces("Paris."), closing(usage=_usage(900, 50)), {"choices": [], "usage": _usage(0, 0, total_tokens=0)}],
        _told(900, 50),
        "zeros after the good usage",
    ),
    _stream(
        "usage-wiped-by-null",
        ("gateways",),
        [*pieces("Paris."), closing(usage=_usage(900, 50)), {"choices": [], "usage": None}],
        _told(900, 50),
        "null after the good usage",
    ),
    _stream(
        "usage-first",
        ("gateways",),
        [chunk({"content": "Paris."}, usage=_usage(9, 3)), chunk({}, "stop")],
        _told(9, 3),
        "its usage in the first chunk alone",
    ),
    _stream(
        "usage-growing",
        ("vLLM", "Moonshot"),
        [chunk({"content": text}, usage=_usage(9, place + 1)) for place, text in enumerate(("Pa", "ri", "s."))]
        + [closing(usage=None)],
        _told(9, 3),
        "a usage that grows with every chunk",
    ),
    _stream(
        "usage-in-two-parts",
        ("Anthropic gateways",),
        [
            chunk({"content": "Paris."}, usage={"input_tokens": 900, "output_tokens": 1}),
            closing(usage={"output_tokens": 50}),
        ],
        _told(900, 50),
        "the prompt's tokens in the first chunk, the answer's in the last",
    ),
    _said(
        "cost-of-openrouter",
        ("OpenRouter",),
        _usage(9, 3, total_tokens=12, cost=0.01, cost_details={"upstream_inference_cost": None}),
        _told(9, 3, 0.01),
        sends="`cost` in its usage",
        becomes=_CHARGED,
        source="amiable-dev/llm-council#360",
    ),
    _said(
        "cost-of-a-key-of-one-s-own",
        ("OpenRouter",),
        _usage(9, 3, cost=0.001, is_byok=True, cost_details={"upstream_inference_cost": 0.02}),
        _told(9, 3, 0.021),
        sends="a fee, and what the provider behind it charges",
        becomes="both are the cost",
    ),
    _said(
        "cost-of-perplexity",
        ("Perplexity",),
        _usage(9, 3, cost={"input_tokens_cost": 0.001, "request_cost": 0.005, "total_cost": 0.01}),
        _told(9, 3, 0.01),
        sends="`cost` as an object with `total_cost`",
        becomes=_CHARGED,
    ),
    _said(
        "cost-of-deepinfra",
        ("DeepInfra",),
        _usage(9, 3, total_tokens=12, estimated_cost=0.01),
        _told(9, 3, 0.01),
        sends="`estimated_cost`",
        becomes=_CHARGED,
    ),
    _said(
        "cost-as-a-text",
        ("gateways",),
        _usage(9, 3, total_cost="0.01"),
        _told(9, 3, 0.01),
        sends="`total_cost` as a text",
        becomes=_CHARGED,
    ),
    Row(
        name="cost-in-a-header",
        servers=("LiteLLM",),
        sends="`x-litellm-response-cost`",
        becomes=_CHARGED,
        source="UKGovernmentBEIS/inspect_ai#4296",
        whole=whole("Paris.")._replace(headers={"Content-Type": "application/json", "x-litellm-response-cost": "0.01"}),
        expect=_told(9, 3, 0.01),
    ),
    Row(
        name="cost-in-hidden-parameters",
        servers=("LiteLLM",),
        sends="`_hidden_params` with `response_cost`",
        becomes=_CHARGED,
        whole=whole("Paris.", _hidden_params={"response_cost": 0.01}),
        expect=_told(9, 3, 0.01),
    ),
    _said(
        "cost-in-another-currency",
        ("gateways",),
        _usage(9, 3, cost=0.07, currency="CNY"),
        _told(9, 3),
        sends="a cost in another currency",
        becomes="no cost",
    ),
    _said(
        "cost-negative",
        ("hostile servers",),
        _usage(9, 3, cost=-5),
        _told(9, 3),
        sends="a cost below 0",
        becomes="no cost",
    ),
    _said(
        "cost-absurd",
        ("hostile servers",),
        _usage(9, 3, cost=1e6),
        _told(9, 3),
        sends="a million dollars",
        becomes="no cost",
    ),
)
