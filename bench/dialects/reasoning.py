"""Reasoning that servers leave in the text, put between its parts, or name by fields of their own."""

from typing import Any

from bench.dialects.row import Expected, Row, chunk, closing, pieces, sse, whole
from mixtura.chat import ChatOptions, JsonObject

_SECRET = "SECRET"
_ANSWER = Expected(text="4", reasoning=_SECRET)
_ONLY = Expected(text="", error="NoAnswerError", says="only reasoning")
_APART = "the answer, its reasoning apart"
_TOOL: JsonObject = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
_CALL = '{"city":"Paris"}'
_CALLED = Expected(text="", finish="tool_calls", tool_calls=(("get_weather", _CALL),))
_ASKED: JsonObject = {"options": ChatOptions(tools=[_TOOL])}
_FINAL = "<|start|>assistant<|channel|>final<|message|>4"
_ANALYSIS = "<|channel|>analysis<|message|>SECRET<|end|>"


def _cut(text: str) -> list[str]:
    """Return a text in pieces as short as tokens, so that every mark is cut somewhere."""
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def _text(name: str, servers: tuple[str, ...], sends: str, text: str, expect: Expected = _ANSWER, **more: Any) -> Row:
    """Return a row of a server that leaves marks in the text."""
    finish = more.pop("finish", "stop")
    return Row(
        name=name,
        servers=servers,
        sends=sends,
        becomes=more.pop("becomes", _APART),
        whole=whole(text, finish),
        stream=sse(*pieces(*_cut(text)), closing(finish)),
        expect=expect,
        **more,
    )


def _message(
    name: str, servers: tuple[str, ...], sends: str, message: JsonObject, deltas: list[JsonObject], **more: Any
) -> Row:
    """Return a row of a server that says by the JSON what is reasoning."""
    return Row(
        name=name,
        servers=servers,
        sends=sends,
        becomes=more.pop("becomes", _APART),
        whole=whole(message=message),
        stream=sse(*map(chunk, deltas), closing()),
        expect=more.pop("expect", _ANSWER),
        **more,
    )


_HARMONY = (
    _text(
        "harmony",
        ("llama.cpp", "vLLM", "LM Studio"),
        "gpt-oss's channels, nothing of them parsed",
        _ANALYSIS + _FINAL,
        source="ggml-org/llama.cpp#15181",
    ),
    _text(
        "harmony-with-first-header",
        ("Hugging Face transformers",),
        "the channels with `<|start|>assistant` and `<|return|>`",
        f"<|start|>assistant{_ANALYSIS}{_FINAL}<|return|>",
        source="huggingface/transformers#40620",
    ),
    _text(
        "harmony-without-final-header",
        ("vLLM",),
        "the analysis with its marks, the answer without",
        f"{_ANALYSIS}4",
        source="vllm-project/vllm#32633",
    ),
    _text(
        "harmony-without-end",
        ("mlx-lm",),
        "channels without `<|end|>` between them",
        "<|channel|>analysis<|message|>SECRET<|start|>assistant<|channel|>final<|message|>4",
        source="ml-explore/mlx-lm#875",
    ),
    _text(
        "harmony-analysis-not-announced",
        ("SGLang",),
        "a stream that begins inside the analysis, whose header is missing",
        f"SECRET{_FINAL}",
        source="sgl-project/sglang#10576",
    ),
    _text(
        "harmony-preamble",
        ("vLLM",),
        "a message on the commentary channel in front of the answer",
        f"{_ANALYSIS}<|start|>assistant<|channel|>commentary<|message|>SECRET<|end|>{_FINAL}<|return|>",
        Expected(text="4", reasoning=f"{_SECRET}\n\n{_SECRET}"),
        becomes="the answer; analysis and commentary apart",
        source="vllm-project/vllm#23167",
    ),
    _text(
        "harmony-analysis-only",
        ("llama.cpp",),
        "the analysis and nothing in the final channel",
        _ANALYSIS,
        _ONLY,
        becomes="no answer",
        source="ggml-org/llama.cpp#15789",
    ),
    _text(
        "harmony-analysis-cut-off",
        ("llama.cpp",),
        "an analysis that the limit of tokens ends",
        "<|channel|>analysis<|message|>SECRET and",
        _ONLY,
        finish="length",
        becomes="no answer",
        source="ggml-org/llama.cpp#15789",
    ),
    _text(
        "harmony-tool-call",
        ("mlxcel", "llama.cpp"),
        "a tool call on the commentary channel",
        f"{_ANALYSIS}<|start|>assistant<|channel|>commentary to=functions.get_weather "
        f"<|constrain|>json<|message|>{_CALL}<|call|>",
        _CALLED,
        options=_ASKED,
        becomes="a tool call",
        source="lablup/mlxcel#654",
    ),
    _text(
        "harmony-tool-call-in-the-role",
        ("llama.cpp",),
        "a tool call whose receiver stands before the channel",
        f"{_ANALYSIS}<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{_CALL}<|call|>",
        _CALLED,
        options=_ASKED,
        becomes="a tool call",
        source="ggml-org/llama.cpp#15158",
    ),
    _text(
        "harmony-tool-call-glued-type",
        ("llama.cpp",),
        "a tool call with `json` glued to the name",
        f"<|channel|>commentary to=functions.get_weatherjson<|message|>{_CALL}<|call|>",
        _CALLED,
        options=_ASKED,
        becomes="a tool call by the tool's name",
        source="ggml-org/llama.cpp#15158",
    ),
    _text(
        "harmony-tool-call-returned",
        ("SGLang",),
        "a tool call that `<|return|>` ends",
        f"<|channel|>commentary to=functions.get_weather json<|message|>{_CALL}<|return|>",
        _CALLED,
        options=_ASKED,
        becomes="a tool call",
        source="sgl-project/sglang#10576",
    ),
    _text(
        "harmony-tool-call-nobody-asked-for",
        ("vLLM",),
        "a tool call where no tools were sent",
        f"<|channel|>commentary to=functions.get_weather json<|message|>{_CALL}<|call|>{_FINAL}",
        Expected(text="4", tool_calls=(), reasoning=f"functions.get_weather {_CALL}"),
        becomes="the answer; the call is kept with the reasoning",
        source="vllm-project/vllm#23167",
    ),
    _text(
        "harmony-words",
        ("text-generation-webui", "llama.cpp"),
        "the channels without their special tokens: `analysis...assistantfinal...`",
        "analysisSECRETassistantfinal4",
        source="oobabooga/textgen#7374",
    ),
    _text(
        "harmony-words-tool-call",
        ("text-generation-webui",),
        "a tool call without the special tokens",
        f"analysisSECRETassistantcommentary to=functions.get_weather json{_CALL}",
        _CALLED,
        options=_ASKED,
        becomes="a tool call",
        source="oobabooga/textgen#7374",
    ),
)
_FAMILIES = (
    _text("think", ("Ollama", "vLLM", "Groq (raw)"), "`<think>`", "<think>\nSECRET\n</think>\n\n4"),
    _text(
        "think-not-opened",
        ("vLLM", "qwisp"),
        "a text that begins inside the reasoning: the prompt opened it",
        "SECRET\n</think>\n\n4",
        source="penta2himajin/qwisp#25",
    ),
    _text("think-opened-twice", ("llama.cpp",), "two opening tags and one closing", "<think>\n<think>SECRET</think>4"),
    _text(
        "think-cut-off",
        ("Ollama", "exo"),
        "`<think>` without an end",
        "<think>SECRET",
        _ONLY,
        finish="length",
        becomes="no answer",
        source="exo-explore/exo#2001",
    ),
    _text(
        "think-speaks-of-tags",
        ("LM Studio",),
        "reasoning that speaks of closing tags",
        "<think>The `</think>` tag, or </reasoning> perhaps. SECRET</think>4",
        Expected(text="4"),
        source="lmstudio-ai/lmstudio-bug-tracker#1592",
    ),
    _text("thinking-tag", ("prompted Claude models",), "`<thinking>`", "<thinking>SECRET</thinking>4"),
    _text("thought-tag", ("Gemini", "EXAONE Deep"), "`<thought>`", "<thought>SECRET</thought>4"),
    _text("reasoning-tag", ("Reka Flash",), "`<reasoning>`", "<reasoning>SECRET</reasoning>4"),
    _text(
        "minimax-tag",
        ("MiniMax",),
        "`<mm:think>`",
        "<mm:think>SECRET</mm:think>4",
        source="getkimchi/kimchi#598",
    ),
    _text(
        "scratchpad-tag",
        ("Hermes",),
        "`<REASONING_SCRATCHPAD>`",
        "<REASONING_SCRATCHPAD>SECRET</REASONING_SCRATCHPAD>4",
        source="NousResearch/hermes-agent#43950",
    ),
    _text(
        "seed-oss",
        ("LM Studio", "llama.cpp"),
        "`<seed:think>` with `<seed:cot_budget_reflect>` in it",
        "<seed:think>\n<seed:cot_budget_reflect>SECRET</seed:cot_budget_reflect>\nSECRET</seed:think>4",
        Expected(text="4"),
        source="open-webui/open-webui#16880",
    ),
    _text(
        "magistral",
        ("llama.cpp",),
        "`[THINK]`",
        "[THINK]SECRET[/THINK]4",
        source="ggml-org/llama.cpp#16158",
    ),
    _text("kimi-vl", ("Kimi-VL on vLLM",), "triangles", "◁think▷SECRET◁/think▷4"),
    _text(
        "command-a",
        ("vLLM", "Rapid-MLX"),
        "Cohere's tokens round reasoning and answer",
        "<|START_THINKING|>SECRET<|END_THINKING|><|START_RESPONSE|>4<|END_RESPONSE|>",
        source="raullenchai/Rapid-MLX#2171",
    ),
    _text(
        "cohere-not-opened",
        ("Rapid-MLX",),
        "the same, begun inside the reasoning",
        "SECRET<|END_THINKING|><|START_TEXT|>4<|END_TEXT|>",
        source="raullenchai/Rapid-MLX#2171",
    ),
    _text(
        "begin-of-thought",
        ("OpenThinker", "Sky-T1"),
        "thought and solution between tokens",
        "<|begin_of_thought|>SECRET<|end_of_thought|><|begin_of_solution|>4<|end_of_solution|>",
    ),
    _text(
        "gemma-4",
        ("LM Studio", "llama.cpp"),
        "`<|channel>thought`",
        "<|channel>thought\nSECRET\n<channel|>4",
        source="lmstudio-ai/lmstudio-bug-tracker#2013",
    ),
    _text(
        "medgemma",
        ("Ollama",),
        "`<unused94>`",
        "<unused94>thought\nSECRET<unused95>4",
        Expected(text="4"),
        source="ollama/ollama#15754",
    ),
    _text(
        "granite",
        ("Granite 3.2 on vLLM",),
        "phrases in place of marks",
        "Here is my thought process: SECRET Here is my response: 4",
        source="https://docs.nvidia.com/dynamo/dev/user-guides/reasoning.md",
    ),
    _text(
        "prose-of-tags",
        ("any",),
        "an answer that speaks of such tags",
        "The <think> and </think> tags, `<|channel|>` too:\n```\n<think>x</think>\n```\n",
        Expected(text="The <think> and </think> tags, `<|channel|>` too:\n```\n<think>x</think>\n```\n", reasoning=""),
        becomes="the answer, whole",
    ),
)
_THINKING: JsonObject = {"type": "thinking", "thinking": [{"type": "text", "text": _SECRET}]}
_FOUR: JsonObject = {"type": "text", "text": "4"}
_TWICE: JsonObject = {
    "reasoning": _SECRET,
    "reasoning_details": [{"type": "reasoning.text", "text": _SECRET, "index": 0}],
}
_BLOCK: JsonObject = {"type": "thinking", "thinking": _SECRET, "signature": "s"}


def _parts(name: str, servers: tuple[str, ...], sends: str, *parts: JsonObject, source: str = "") -> Row:
    """Return a row of a server whose content is a list of parts."""
    deltas: list[JsonObject] = [{"content": [part]} for part in parts]
    return _message(name, servers, sends, {"content": list(parts)}, deltas, source=source)


def _field(name: str, servers: tuple[str, ...], value: object, source: str = "", **more: object) -> Row:
    """Return a row of a server with a field for reasoning."""
    field = name.removesuffix("-field").replace("-", "_")
    message = {"content": "4", field: value, **more}
    deltas: list[JsonObject] = [{"content": "", field: value, **more}, *({"content": one} for one in ("", "4"))]
    return _message(name, servers, f"`{field}` beside the content", message, deltas, source=source)


_STRUCTURE = (
    _parts(
        "mistral-parts",
        ("Mistral",),
        "a part `thinking` that holds a list of parts",
        _THINKING,
        _FOUR,
        source="microsoft/agent-framework#6978",
    ),
    _parts("anthropic-parts", ("Claude behind gateways",), "a part `thinking`", _BLOCK, _FOUR),
    _parts(
        "redacted-parts",
        ("Claude behind gateways",),
        "a part `redacted_thinking` that cannot be read",
        {"type": "redacted_thinking", "data": "AAAA"},
        _BLOCK,
        _FOUR,
    ),
    _parts("reasoning-parts", ("gateways",), "a part `reasoning`", {"type": "reasoning", "text": _SECRET}, _FOUR),
    _parts(
        "responses-parts",
        ("gateways to OpenAI's Responses",),
        "a `reasoning` item with parts `reasoning_text`",
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": _SECRET}], "summary": []},
        {"type": "output_text", "text": "4"},
    ),
    _parts(
        "gemini-parts",
        ("Gemini behind gateways",),
        "a part with `thought: true`",
        {"text": _SECRET, "thought": True},
        {"text": "4"},
        source="UKGovernmentBEIS/inspect_ai#2093",
    ),
    _parts(
        "bedrock-parts",
        ("Bedrock behind gateways",),
        "a part that holds `reasoningContent`",
        {"reasoningContent": {"reasoningText": {"text": _SECRET, "signature": "s"}}},
        {"text": "4"},
    ),
    _field("reasoning-field", ("Groq", "OpenRouter", "vLLM"), _SECRET),
    _field("reasoning-content-field", ("DeepSeek", "llama.cpp", "SGLang"), _SECRET),
    _field("reasoning-text-field", ("gateways",), _SECRET),
    _field("thinking-field", ("Ollama's own wire behind gateways",), _SECRET),
    _field(
        "reasoning-details-field",
        ("OpenRouter",),
        [{"type": "reasoning.text", "text": _SECRET, "index": 0}, {"type": "reasoning.encrypted", "data": "AAAA"}],
        "braintrustdata/braintrust-sdk-javascript#1883",
    ),
    _message(
        "reasoning-told-twice",
        ("OpenRouter",),
        "`reasoning`, and the same in `reasoning_details`",
        {"content": "4", **_TWICE},
        [{"content": "", **_TWICE}, {"content": "4"}],
        source="braintrustdata/braintrust-sdk-javascript#1883",
    ),
    _field(
        "thinking-blocks-field",
        ("LiteLLM",),
        [_BLOCK],
        "https://docs.litellm.ai/docs/reasoning_content.md",
        reasoning_content=_SECRET,
    ),
)
ROWS = (*_HARMONY, *_FAMILIES, *_STRUCTURE)
