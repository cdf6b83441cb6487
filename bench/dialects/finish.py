"""How replies end: the words of each server, and generations that failed or were cut."""

from typing import Any

from bench.dialects.row import USAGE, Expected, Replies, Row, as_json, chunk, closing, pieces, sse, whole

_TEXT = "The three steps are: boil the water, wait, pour."
_HALF = "The three steps are: 1. boil the water. 2."
# Long enough for one attempt and its error, too short for all that may be made.
_SHORT = 0.3


def _cut(text: str) -> list[Any]:
    return pieces(*(f"{word} " for word in text.split(" ")[:-1]), text.split(" ")[-1])


def _streamed(text: str, finish: Any, **choice: Any) -> Replies:
    last = chunk({}, finish, usage=USAGE)
    last["choices"][0].update(choice)
    return sse(*_cut(text), last)


def _whole(text: str, finish: Any, **choice: Any) -> Replies:
    message = {"role": "assistant", "content": text}
    return as_json({"id": "c1", "choices": [{"message": message, "finish_reason": finish, **choice}], "usage": USAGE})


def _ended(name: str, servers: str, word: Any, finish: str, source: str = "", **choice: Any) -> Row:
    """Return the row of an answer that ends with `word`."""
    meant = {"stop": "a whole answer", "length": "a cut-off answer", "content_filter": "a filtered answer"}
    return Row(
        name=f"ends-{name}",
        servers=tuple(servers.split(", ")),
        sends=f"`{word}` as its finish reason",
        becomes=meant.get(finish, f"an answer that ended for `{finish}`"),
        source=source,
        whole=_whole(_TEXT, word, **choice),
        stream=_streamed(_TEXT, word, **choice),
        expect=Expected(text=_TEXT, finish=finish, prompt=9, completion=3, requests=1),
    )


def _failed(name: str, servers: str, word: Any, kind: str, says: str, source: str = "", **choice: Any) -> Row:
    """Return the row of half an answer whose finish reason says that it failed."""
    return Row(
        name=f"fails-{name}",
        servers=tuple(servers.split(", ")),
        sends=f"half an answer and `{word}` as its finish reason",
        becomes=f"{kind}, never an answer",
        source=source,
        whole=_whole(_HALF, word, **choice),
        stream=_streamed(_HALF, word, **choice),
        deadline=_SHORT,
        expect=Expected(error=kind, says=says),
    )


_GONE = {"code": 502, "message": "upstream provider went away"}
_LONG = {"code": 400, "message": "the prompt holds what this model does not take"}

_WORDS = (
    _ended("eos", "Together", "eos", "stop", "openai/openai-dotnet#267"),
    _ended("eos-token", "TGI", "eos_token", "stop", "huggingface/text-generation-inference#2344"),
    _ended("stop-sequence", "TGI, Anthropic", "stop_sequence", "stop"),
    _ended("end-turn", "Anthropic behind OpenRouter", "end_turn", "stop", "microsoft/autogen#5020"),
    _ended("upper-case", "Gemini", "STOP", "stop"),
    _ended("complete", "Cohere", "COMPLETE", "stop"),
    _ended("end", "gateways", "end", "stop", "earendil-works/pi#2106"),
    _ended("camel-case", "LM Studio", "eosFound", "stop"),
    _ended("enum-name", "gateways to Gemini", "FinishReason.STOP", "stop"),
    _ended("object", "SGLang", {"type": "stop", "matched": 128009}, "stop", "sgl-project/sglang#1407"),
    _ended("with-the-stop-word", "vLLM", "stop", "stop", "vllm-project/vllm#2976", stop_reason="error"),
    _ended("filters-that-did-not-run", "Azure", "stop", "stop", content_filter_results={"error": {"code": "x"}}),
    _ended("null-error", "OpenRouter", "stop", "stop", error=None, native_finish_reason="completed"),
    _ended("length-object", "SGLang", {"type": "length", "length": 16}, "length"),
    _ended("max-tokens", "Anthropic", "max_tokens", "length"),
    _ended("max-tokens-upper", "Gemini", "MAX_TOKENS", "length"),
    _ended("max-predicted", "LM Studio", "maxPredictedTokensReached", "length"),
    _ended("context-length", "LM Studio", "contextLengthReached", "length"),
    _ended("model-length", "Mistral", "model_length", "length"),
    _ended("limit", "llama.cpp", "limit", "length"),
    _ended("window-exceeded", "Anthropic", "model_context_window_exceeded", "length"),
    _ended("native-alone", "OpenRouter", None, "length", native_finish_reason="MAX_TOKENS"),
    _ended("stop-reason-alone", "Anthropic behind gateways", None, "length", stop_reason="max_tokens"),
    _ended("content-filter", "Azure", "content_filter", "content_filter"),
    _ended("safety", "Gemini", "SAFETY", "content_filter"),
    _ended("safety-lower-case", "Gemini", "safety", "content_filter"),
    _ended("recitation", "Gemini", "RECITATION", "content_filter"),
    _ended("refusal", "Anthropic", "refusal", "content_filter"),
    _ended("sensitive", "Zhipu", "sensitive", "content_filter", "earendil-works/pi#1509"),
    _ended("toxic", "Cohere", "ERROR_TOXIC", "content_filter"),
)

_FAILURES = (
    _failed(
        "error-in-the-choice",
        "OpenRouter",
        "error",
        "OverloadedError",
        "upstream provider went away",
        "nodetool-ai/nodetool#5755",
        error=_GONE,
    ),
    _failed("error-that-repeats", "OpenRouter", "error", "RejectedError", "does not take", error=_LONG),
    _failed("error-beside-stop", "OpenRouter", "stop", "OverloadedError", "went away", error=_GONE),
    _failed("error", "OpenRouter, Mistral", "error", "BrokenReplyError", "'error'", "gethouston/houston#1211"),
    _failed("abort", "vLLM, Zhipu", "abort", "BrokenReplyError", "'abort'", "earendil-works/pi#1509"),
    _failed(
        "abort-object",
        "SGLang",
        {"type": "abort", "message": "the worker was lost", "status_code": 500},
        "BrokenReplyError",
        "the worker was lost",
        "sgl-project/sglang#6693",
    ),
    _failed("user-stopped", "LM Studio", "userStopped", "BrokenReplyError", "'userStopped'"),
    _failed("other", "Gemini", "OTHER", "BrokenReplyError", "'OTHER'"),
    _failed("resources", "DeepSeek", "insufficient_system_resource", "OverloadedError", "insufficient_system"),
    _failed("network", "Zhipu", "network_error", "OverloadedError", "network_error", "earendil-works/pi#1509"),
    _failed("load", "Ollama", "load", "OverloadedError", "'load'"),
    _failed("repetition", "vLLM", "repetition", "LoopedError", "'repetition'"),
    _failed(
        "malformed-call",
        "Gemini",
        "MALFORMED_FUNCTION_CALL",
        "BadGenerationError",
        "MALFORMED_FUNCTION_CALL",
        "googleapis/python-genai#1836",
    ),
    _failed(
        "malformed-call-filter",
        "Gemini",
        "function_call_filter: MALFORMED_FUNCTION_CALL",
        "BadGenerationError",
        "MALFORMED_FUNCTION_CALL",
    ),
    _failed(
        "native-malformed-call",
        "Gemini behind OpenRouter",
        "stop",
        "BadGenerationError",
        "MALFORMED_FUNCTION_CALL",
        native_finish_reason="MALFORMED_FUNCTION_CALL",
    ),
)

ROWS = (
    *_WORDS,
    *_FAILURES,
    Row(
        name="error-then-sound",
        servers=("OpenRouter",),
        sends="half an answer that ends with `error`, and a whole one when it is asked again",
        becomes="the whole one",
        source="damianvtran/local-operator#223",
        whole=[whole(_HALF, "error"), whole(_TEXT)],
        stream=[sse(closing("error")), sse(*_cut(_TEXT), closing())],
        expect=Expected(text=_TEXT, finish="stop", requests=2),
    ),
    Row(
        name="unknown-word",
        servers=("gateways",),
        sends="a finish reason that nobody agreed on",
        becomes="the answer, with a warning that names the word",
        whole=whole(_TEXT, "satisfied"),
        stream=sse(*_cut(_TEXT), closing("satisfied")),
        expect=Expected(text=_TEXT, finish="unknown", says="'satisfied'", requests=1),
    ),
    Row(
        name="number-as-reason",
        servers=("gateways to Gemini",),
        sends="the number of a reason",
        becomes="the answer, with a warning: servers number them differently",
        whole=whole(_TEXT, 3),
        stream=sse(*_cut(_TEXT), closing(3)),
        expect=Expected(text=_TEXT, finish="unknown", says="'3'", requests=1),
    ),
    Row(
        name="null-reason",
        servers=("SGLang", "gateways"),
        sends="no finish reason, and `[DONE]` in a stream",
        becomes="the answer",
        source="sgl-project/sglang#4550",
        whole=whole(_TEXT, None),
        stream=sse(*_cut(_TEXT), closing(None)),
        expect=Expected(text=_TEXT, finish="unknown", requests=1),
    ),
    Row(
        name="empty-reason-in-every-chunk",
        servers=("SGLang", "TGI"),
        sends='`""` as the finish reason of every chunk, and breaks off',
        becomes="an error: nothing said that the answer was over",
        source="dstackai/dstack#2229",
        stream=sse(*(chunk({"content": f"{word} "}, "") for word in _HALF.split()), done=False),
        deadline=_SHORT,
        expect=Expected(error="BrokenReplyError", says="before the answer was whole"),
    ),
    Row(
        name="stop-behind-length",
        servers=("gateways",),
        sends="`length`, and `stop` in a closing chunk of the gateway's own",
        becomes="a cut-off answer",
        stream=sse(*_cut(_TEXT), closing("length"), closing("stop")),
        expect=Expected(text=_TEXT, finish="length", requests=1),
    ),
)
