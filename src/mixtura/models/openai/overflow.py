"""A prompt that does not fit its model's window, in every server's words.

What only the output is too long for ("max_tokens must be less than or equal to 8192") is another matter: a shorter
prompt would not help.
"""

import re

from mixtura.models.openai.money import plain

_CODES = frozenset(
    {
        *("contextlengthexceeded", "exceedcontextsizeerror", "contextwindowexceeded", "contextwindowexceedederror"),
        *("requesttoolarge", "tokenslimitreached", "modelmaxprompttokensexceeded", "stringabovemaxlength"),
        *("prompttoolong", "inputtoolong", "contexttoolong", "1261"),
    }
)
_WINDOW = r"(?:context|prompt|input|sequence)(?:[- ](?:window|length|size|limit))"
# A field that a server calls invalid (422) can be said to be too long in the same words.
_OF_FIELDS_TOO = re.compile(
    r"\b" + _WINDOW + r" (?:\w+ ){0,3}?(?:exceed(?:s|ed)?|overflow(?:s|ed)?|too long)\b", re.IGNORECASE
)
_TEXT = re.compile(
    # OpenAI, Azure, DeepSeek, OpenRouter, vLLM, xAI, Mistral, Fireworks, Together.
    r"\bmax(?:imum)? (?:\w+ )?(?:context|prompt|input|model|sequence)[- ]?(?:length|window|size)\b"
    # SGLang, vLLM, Ollama, llama.cpp, LiteLLM, MiniMax.
    r"|\b(?:longer|larger|greater|more) than (?:the |its |this )?(?:\w+ )?(?:model'?s? )?(?:maximum )?(?:allowed )?"
    + _WINDOW
    + r""
    r"|\b(?:exceed(?:s|ed|ing)?|over(?:flows?|flowed)?) (?:the |its |this |your )?(?:[\w-]+ )?(?:model['’]?s? )?"
    r"(?:maximum |max |available |allowed ){0,2}" + _WINDOW + r""
    r"|\bcontext (?:window )?(?:the )?overflow|\bcontext (?:length|window|size) (?:of|is) only\b|\bmodel token limit\b"
    # TGI, and Together before it spoke as OpenAI does.
    r"|`?inputs`? tokens \+ `?max_new_tokens`? must be <=|`inputs` must have (?:less|fewer) than"
    # Anthropic, Bedrock, Fireworks, Zhipu.
    r"|\b(?:prompt|input|request|conversation|messages?) (?:\w+ ){0,3}?(?:is|are|was) too (?:long|large)\b(?! to)"
    r"|\b(?:prompt|input|context|messages?|conversation)(?: \([^)]{1,60}\)(?: is)?)? too long\b"
    r"|\b(?:prompt|input) exceeds max(?:imum)? length"
    # Gemini, Copilot, watsonx.
    r"|\b(?:input|prompt) token(?:s| count)\b.{0,40}?\b(?:exceeds?|cannot exceed|but (?:the )?model only supports)"
    r"|\binput tokens exceed\b|\bnumber of input tokens\b.{0,60}?\b(?:exceed|greater|more than)"
    # Mistral; Cohere; Cerebras and Groq; Alibaba; Volcengine; tabbyAPI; llama-cpp-python; GitHub Models.
    r"|\btoo large for (?:\w+ )?model\b|\btoo many tokens:"
    r"|\breduce the length of (?:the |your )(?:messages?|prompt|input)"
    r"|\brange of input length\b|\btokens? of .{0,40}? exceeds? max message tokens"
    r"|\b(?:prompt|input) length \(?[0-9]+(?: tokens?)?\)? (?:is )?(?:greater|longer|larger|exceeds|more)"
    r"|\brequested tokens? (?:\([0-9]+\) |count )?exceeds?\b|\brequest body too large for\b"
    r"|输入长度超|上下文长度超|超出(?:最大|模型)?(?:的)?(?:上下文|输入|长度)|prompt ?超长",
    re.IGNORECASE,
)


def is_code(code: str, kind: str) -> bool:
    """Say whether a code or a type says that the prompt is too long."""
    return plain(code) in _CODES or plain(kind) in _CODES


def is_said(status: int, text: str) -> bool:
    """Say whether the words of a refusal say that the prompt is too long.

    Of a limit that refills (429) and of a key they say something else ("too many tokens").
    """
    if status in (401, 402, 403, 404, 429):
        return False
    return _TEXT.search(text) is not None or (status != 422 and _OF_FIELDS_TOO.search(text) is not None)
