"""Tool calls: whole, in pieces, without what should hold the pieces together, and in older forms."""

import json
from typing import Any

from bench.dialects.row import Expected, Row, chunk, closing, sse, whole
from mixtura import ChatOptions

_TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": name}} for name in ("weather", "now")]
_OPTIONS = {"options": ChatOptions(tools=_TOOLS)}
_ROME, _OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'
_ONE = (("weather", _ROME),)
_TWO = (("weather", _ROME), ("weather", _OSLO))


def _call(name: str | None = "weather", arguments: Any = _ROME, **fields: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {**fields, "function": {key: value for key, value in function.items() if value is not None}}


def _more(arguments: Any, **fields: Any) -> dict[str, Any]:
    return _call(None, arguments, **fields)


def _row(
    name: str,
    servers: str,
    sends: str,
    calls: tuple[tuple[str, str], ...],
    chunks: list[Any] | None = None,
    message: list[Any] | None = None,
    source: str = "",
    finish: Any = "tool_calls",
) -> Row:
    """Return the row of tool calls: `chunks` are the lists of pieces of a stream, `message` the list of a reply."""
    stream = None if chunks is None else sse(*(chunk({"tool_calls": one}) for one in chunks), closing(finish))
    return Row(
        name=f"tools-{name}",
        servers=tuple(servers.split(", ")),
        sends=sends,
        becomes="the call" if len(calls) == 1 else f"{len(calls)} calls",
        source=source,
        whole=None if message is None else whole(None, finish, message={"tool_calls": message}),
        stream=stream,
        options=_OPTIONS,
        expect=Expected(tool_calls=calls, finish="tool_calls", requests=1),
    )


_PARTS = ('{"city"', ': "Ro', 'me"}')
_SO_FAR = ('{"city"', '{"city": "Ro', _ROME)

_FORMS = (
    _row(
        "as-documented",
        "OpenAI, Groq",
        "a call in pieces with an index, or whole",
        _ONE,
        [[_call("weather", "", index=0, id="a", type="function")], *([_more(one, index=0)] for one in _PARTS)],
        [_call(id="a", type="function")],
    ),
    _row(
        "one-chunk-no-ids",
        "Ollama, Gemini",
        "two calls without index and id in one chunk",
        _TWO,
        [[_call(), _call(arguments=_OSLO)]],
        [_call(), _call(arguments=_OSLO)],
        "SamSaffron/term-llm#314",
    ),
    _row(
        "empty-ids",
        "Gemini",
        "two calls whose ids are empty",
        _TWO,
        [[_call(id="")], [_call(arguments=_OSLO, id="")]],
        [_call(id=""), _call(arguments=_OSLO, id="")],
        "vercel/ai#19091",
    ),
    _row(
        "no-index",
        "Gemini, xinference",
        "calls with ids and without an index",
        _TWO,
        [[_call(id="a")], [_call(arguments=_OSLO, id="b")]],
        source="ollama/ollama#7881",
    ),
    _row(
        "index-null-in-pieces",
        "gateways",
        "pieces whose index is null",
        _ONE,
        [[_call("weather", "", id="a", index=None)], *([_more(one, index=None)] for one in _PARTS)],
        source="chatanywhere/GPT_API_free#254",
    ),
    _row(
        "index-always-0",
        "gateways to Gemini",
        "every call with index 0",
        _TWO,
        [[_call(index=0, id="a")], [_call(arguments=_OSLO, index=0, id="b")]],
        source="su-kaka/gcli2api#406",
    ),
    _row(
        "index-always-0-no-ids",
        "gateways to Gemini",
        "every call with index 0 and without an id",
        _TWO,
        [[_call(index=0)], [_call(arguments=_OSLO, index=0)]],
    ),
    _row(
        "index-as-string",
        "gateways",
        "an index that is a string",
        _TWO,
        [
            [_call("weather", "", index="0", id="a"), _call("weather", "", index="1", id="b")],
            [_more(_OSLO, index="1"), _more(_ROME, index="0")],
        ],
    ),
    _row(
        "index-only-at-first",
        "gateways to Gemini",
        "an index in the first piece alone",
        _ONE,
        [[_call("weather", "", index=0, id="a")], *([_more(one)] for one in _PARTS)],
        source="AstrBotDevs/AstrBot#6692",
    ),
    _row(
        "arguments-as-object",
        "llama.cpp, TGI",
        "arguments that are an object",
        _ONE,
        [[_call(arguments=json.loads(_ROME), index=0, id="a")]],
        [_call(arguments=json.loads(_ROME), id="a")],
        "ggml-org/llama.cpp#20198",
    ),
    _row(
        "objects-so-far",
        "gateways",
        "the object of the arguments as far as it has come, in each chunk",
        _ONE,
        [[_call(arguments={"city": "Ro"}, index=0, id="a")], [_call(arguments={"city": "Rome"}, index=0, id="a")]],
        source="unslothai/unsloth#10275",
    ),
    _row(
        "arguments-null",
        "Ollama, gateways",
        "a call whose arguments are null",
        (("now", "{}"),),
        [[{"index": 0, "id": "a", "function": {"name": "now", "arguments": None}}]],
        [{"id": "a", "function": {"name": "now", "arguments": None}}],
    ),
    _row(
        "arguments-missing",
        "gateways",
        "calls without arguments, ids and types",
        (("now", "{}"), ("now", "{}")),
        [[_call("now", None), _call("now", None)]],
        [_call("now", None), _call("now", None)],
    ),
    _row(
        "arguments-empty-list",
        "gateways in PHP",
        "an empty list for no arguments",
        (("now", "{}"),),
        [[_call("now", [], index=0, id="a")]],
        [_call("now", [], id="a")],
    ),
    _row(
        "arguments-written-twice",
        "gateways",
        "arguments that are JSON in a JSON string",
        _ONE,
        [[_call(arguments=json.dumps(_ROME), index=0, id="a")]],
        [_call(arguments=json.dumps(_ROME), id="a")],
    ),
    _row(
        "arguments-so-far",
        "DeepSeek behind Qianfan",
        "all arguments so far in each piece",
        _ONE,
        [[_call(arguments=one, index=0, id="a")] for one in _SO_FAR],
        source="NousResearch/hermes-agent#35718",
    ),
    _row(
        "arguments-again-at-the-end",
        "gateways",
        "all arguments once more behind their pieces",
        _ONE,
        [[_call("weather", "", index=0, id="a")], *([_more(one, index=0)] for one in (*_PARTS, _ROME))],
        source="microsoft/agent-framework#4200",
    ),
    _row(
        "arguments-nested-alike",
        "OpenAI",
        "an object in an object under the same name, cut in front of it",
        (("weather", '{"city":{"city":"Rome"}}'),),
        [[_call("weather", '{"city":', index=0, id="a")], [_more('{"city":"Rome"}', index=0)], [_more("}", index=0)]],
    ),
    _row(
        "empty-object-first",
        "gateways to Anthropic",
        "`{}` in front of the arguments",
        _ONE,
        [[_call("weather", "{}", index=0, id="a")], *([_more(one, index=0)] for one in _PARTS)],
        source="bigduu/Bamboo-agent#410",
    ),
    _row(
        "name-in-pieces",
        "OpenAI-compatible gateways",
        "a name over two chunks",
        _ONE,
        [
            [_call("wea", "", index=0, id="a")],
            [_call("ther", "", index=0)],
            *([_more(one, index=0)] for one in _PARTS),
        ],
        source="openclaw/openclaw#130532",
    ),
    _row(
        "name-in-every-chunk",
        "MiniMax behind NVIDIA NIM",
        "name and id again in each piece",
        _ONE,
        [[_call("weather", one, index=0, id="a")] for one in ("", *_PARTS)],
        source="NousResearch/hermes-agent#12230",
    ),
    _row(
        "name-empty-in-pieces",
        "LM Studio",
        "an empty name in each piece behind the first",
        _ONE,
        [[_call("weather", "", index=0, id="a")], *([_call("", one, index=0)] for one in _PARTS)],
        source="lmstudio-ai/lmstudio-bug-tracker#649",
    ),
    _row(
        "id-behind-the-name",
        "Xiaomi, gateways",
        "the id in a later piece than the name",
        _ONE,
        [[_call("weather", "", index=0)], [_more(_PARTS[0], index=0, id="a")], [_more(': "Rome"}')]],
        source="XiaomiMiMo/MiMo-Code#2421",
    ),
    _row(
        "id-of-each-piece",
        "gateways",
        "another id in each piece",
        _ONE,
        [[_call("weather", "", index=0, id="a")], *([_more(one, index=0, id=f"b{one}")] for one in _PARTS)],
    ),
    _row(
        "id-as-number",
        "gateways",
        "an id that is a number",
        _ONE,
        [[_call(index=0, id=7)]],
        [_call(id=7)],
        "AI-Shell-Team/aish#200",
    ),
    _row(
        "one-id-for-all",
        "Gemini behind OpenRouter",
        "the same id for parallel calls",
        _TWO,
        [[_call(index=0, id="a")], [_call(arguments=_OSLO, index=1, id="a")]],
        [_call(id="a"), _call(arguments=_OSLO, id="a")],
        "OpenRouterTeam/ai-sdk-provider#471",
    ),
    _row(
        "finish-stop",
        "Gemini",
        "`stop` as the finish reason of calls",
        _ONE,
        [[_call(index=0, id="a")]],
        [_call(id="a")],
        "BerriAI/litellm#10485",
        "stop",
    ),
    _row(
        "finish-end-turn",
        "Ollama behind LiteLLM",
        "`end_turn` as the finish reason of calls",
        _ONE,
        [[_call(index=0, id="a")]],
        [_call(id="a")],
        "BerriAI/litellm#12481",
        "end_turn",
    ),
    _row(
        "null-beside-a-call",
        "gateways",
        "null beside a call in the list",
        _ONE,
        [[None, _call(index=0, id="a")]],
        [None, _call(id="a")],
    ),
    _row(
        "without-function",
        "gateways",
        "name and arguments without the function round them",
        _ONE,
        [[{"name": "weather", "arguments": json.loads(_ROME)}]],
        [{"name": "weather", "parameters": json.loads(_ROME)}],
    ),
)

_LEGACY = ({"name": "weather", "arguments": ""}, *({"arguments": one} for one in _PARTS))

ROWS = (
    *_FORMS,
    Row(
        name="function-call",
        servers=("older OpenAI-compatible servers",),
        sends="a `function_call`, which came before tool calls",
        becomes="the call",
        source="spacedriveapp/spacebot#304",
        whole=whole(None, "function_call", message={"function_call": {"name": "weather", "arguments": _ROME}}),
        stream=sse(*(chunk({"function_call": one}) for one in _LEGACY), closing("function_call")),
        options=_OPTIONS,
        expect=Expected(tool_calls=_ONE, finish="tool_calls", requests=1),
    ),
    Row(
        name="function-call-beside-the-call",
        servers=("gateways",),
        sends="the same call as a `function_call` and as a tool call",
        becomes="one call",
        whole=whole(
            None,
            "tool_calls",
            message={"function_call": {"name": "weather", "arguments": _ROME}, "tool_calls": [_call(id="a")]},
        ),
        stream=sse(
            chunk({"function_call": _call()["function"], "tool_calls": [_call(index=0, id="a")]}), closing("tool_calls")
        ),
        options=_OPTIONS,
        expect=Expected(tool_calls=_ONE, finish="tool_calls", requests=1),
    ),
    Row(
        name="call-beside-text",
        servers=("Anthropic", "Kimi"),
        sends="text and a call",
        becomes="both",
        whole=whole("I look it up.", "tool_calls", message={"tool_calls": [_call(id="a")]}),
        stream=sse(
            chunk({"content": "I look "}), chunk({"content": "it up.", "tool_calls": [_call(index=0)]}), closing("stop")
        ),
        options=_OPTIONS,
        expect=Expected(text="I look it up.", tool_calls=_ONE, finish="tool_calls", requests=1),
    ),
    Row(
        name="calls-that-are-null",
        servers=("gateways",),
        sends="text and a list of calls that holds null alone",
        becomes="the text",
        whole=whole("Sunny.", "tool_calls", message={"tool_calls": [None]}),
        stream=sse(chunk({"content": "Sunny.", "tool_calls": [None]}), closing("tool_calls")),
        options=_OPTIONS,
        expect=Expected(text="Sunny.", tool_calls=(), finish="stop", requests=1),
    ),
    Row(
        name="call-that-did-not-come",
        servers=("vLLM", "Gemini"),
        sends="`tool_calls` as its finish reason, and neither text nor a call",
        becomes="an error that says so",
        whole=whole(None, "tool_calls"),
        stream=sse(chunk({"tool_calls": []}), closing("tool_calls")),
        options=_OPTIONS,
        deadline=0.3,
        expect=Expected(error="BadGenerationError", says="no call came"),
    ),
    Row(
        name="call-cut-off",
        servers=("every server",),
        sends="a call whose arguments end at the output limit",
        becomes="an error that says so",
        source="14790897/MiqroForge-Desktop#1100",
        whole=whole(None, "length", message={"tool_calls": [_call(arguments='{"city": "Ro', id="a")]}),
        stream=sse(chunk({"tool_calls": [_call(arguments='{"city": "Ro', id="a", index=0)]}), closing("length")),
        options=_OPTIONS,
        deadline=0.3,
        expect=Expected(error="BadGenerationError", says="was cut off at its output limit"),
    ),
    Row(
        name="call-cut-off-before-its-arguments",
        servers=("every server",),
        sends="a call whose output limit came before its arguments",
        becomes="an error: it is no call without arguments",
        whole=whole(None, "max_tokens", message={"tool_calls": [_call(arguments="", id="a")]}),
        stream=sse(chunk({"tool_calls": [_call(arguments="", id="a", index=0)]}), closing("max_tokens")),
        options=_OPTIONS,
        deadline=0.3,
        expect=Expected(error="BadGenerationError", says="was cut off at its output limit"),
    ),
)
