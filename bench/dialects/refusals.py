"""Prompts that are too long, and errors in a reply whose status is 200."""

from bench.dialects.row import Expected, Row, as_json, chunk, sse, whole
from mixtura.chat import JsonObject


def _long(name: str, servers: str, words: str, status: int = 400, source: str = "", **more: object) -> Row:
    reply = as_json({"error": {"message": words, **more}}, status)
    return Row(
        name=name,
        servers=tuple(servers.split(", ")),
        sends=f"{status}, {words!r}",
        becomes="the error for which drafts are shortened, after one request",
        source=source,
        whole=reply,
        stream=reply,
        expect=Expected(error="TooLargeError", requests=1),
    )


def _output(name: str, servers: str, words: str) -> Row:
    reply = as_json({"error": {"message": words, "type": "invalid_request_error"}}, 400)
    return Row(
        name=name,
        servers=tuple(servers.split(", ")),
        sends=f"400, {words!r}",
        becomes="a rejection: a shorter prompt would not help",
        whole=reply,
        expect=Expected(error="RejectedError", requests=1),
    )


_FIRST = "Trying to keep the first 5000 tokens when context the overflows. However, the model is loaded with context "
_TGI = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens and 500"
TOO_LONG = (
    _long(
        "vllm-context",
        "vLLM, DeepSeek",
        "This model's maximum context length is 4096 tokens. However, you requested 5000",
    ),
    _long("vllm-only", "vLLM", "You passed 5000 input tokens. However, the model's context length is only 4096 tokens"),
    _long("vllm-decoder", "vLLM", "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    _long(
        "llama-cpp-type",
        "llama.cpp",
        "no",
        500,
        "ggml-org/llama.cpp#15780",
        type="exceed_context_size_error",
        n_prompt_tokens=1407,
        n_ctx=256,
    ),
    _long("llama-cpp-words", "llama.cpp", "the request exceeds the available context size, try increasing it"),
    _long("llama-cpp-halfway", "llama.cpp", "Context size has been exceeded.", 500),
    _long(
        "llama-cpp-python",
        "llama-cpp-python",
        "Requested tokens (516) exceed context window of 512",
        source="abetlen/llama-cpp-python#416",
    ),
    _long("ollama-context", "Ollama", "input length exceeds the context length"),
    _long("ollama-prompt", "Ollama", "prompt too long; exceeded max context length by 123 tokens"),
    _long(
        "lm-studio-first",
        "LM Studio",
        f"{_FIRST}length of only 4096 tokens",
        source="lmstudio-ai/lmstudio-bug-tracker#546",
    ),
    _long(
        "lm-studio-keep",
        "LM Studio",
        "The number of tokens to keep from the initial prompt is greater than the context length",
        source="Gitlawb/openclaude#353",
    ),
    _long("sglang-input", "SGLang", "The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
    _long(
        "sglang-request", "SGLang", "Requested token count exceeds the model's maximum context length of 4096 tokens."
    ),
    _long("tgi-sum", "TGI, Together", _TGI, 422),
    _long("tgi-inputs", "TGI", "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000", 422),
    _long("openai-code", "OpenAI, Azure", "Please shorten it.", code="context_length_exceeded"),
    _long("openai-window", "OpenAI", "Your input exceeds the context window of this model. Please adjust your input."),
    _long(
        "anthropic-prompt",
        "Anthropic",
        "prompt is too long: 210000 tokens > 200000 maximum",
        type="invalid_request_error",
    ),
    _long("anthropic-sum", "Anthropic", "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"),
    _long(
        "gemini-count",
        "Gemini",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    _long("vertex-count", "Vertex AI", "the input token count is 40000 but model only supports up to 32768."),
    _long(
        "mistral-prompt",
        "Mistral",
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum",
    ),
    _long("fireworks-prompt", "Fireworks", "The prompt is too long: 9000, model maximum context length: 8191"),
    _long("cerebras-length", "Cerebras, Groq", "Please reduce the length of the messages or completion."),
    _long("xai-prompt", "xAI", "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
    _long(
        "cohere-tokens",
        "Cohere",
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.",
    ),
    _long("bedrock-input", "Bedrock", "Input is too long for requested model."),
    _long(
        "openrouter-endpoint",
        "OpenRouter",
        "This endpoint's maximum context length is 32768 tokens. However, you requested",
    ),
    _long("alibaba-range", "Alibaba", "Range of input length should be [1, 30720]"),
    _long("moonshot-limit", "Moonshot", "Your request exceeded model token limit: 8192 (requested: 9000)"),
    _output(
        "groq-output",
        "Groq",
        "`max_tokens` must be less than or equal to `32768`, less than the `context_window` of this",
    ),
    _output(
        "openai-output",
        "OpenAI",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
    ),
    _output("alibaba-output", "Alibaba", "Range of max_tokens should be [1, 8192]"),
    _output(
        "anthropic-output",
        "Anthropic",
        "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens",
    ),
    Row(
        name="too-many-tokens-a-minute",
        servers=("Bedrock",),
        sends="429, 'Too many tokens, please wait before trying again.'",
        becomes="a rate limit, and the answer of the second try",
        whole=[as_json({"message": "Too many tokens, please wait before trying again."}, 429), whole("Paris.")],
        expect=Expected(text="Paris.", requests=2),
    ),
)
"""Prompts that do not fit, and limits of the output, which are something else."""


def _inside(
    name: str, servers: str, body: JsonObject, error: str, says: str, requests: int | None = 1, source: str = ""
) -> Row:
    """Return the row of a success that is none: as a body, and as the only event of a stream."""
    return Row(
        name=name,
        servers=tuple(servers.split(", ")),
        sends=f"200 with {', '.join(body)}, whole or as an event",
        becomes=f"that error, a {error}",
        source=source,
        deadline=1.0,
        whole=as_json(body),
        stream=sse(body),
        expect=Expected(error=error, says=says, requests=requests, unsaid="without choices"),
    )


def _minimax(code: int, words: str) -> JsonObject:
    return {"id": "1", "choices": None, "base_resp": {"status_code": code, "status_msg": words}}


_PROMPT = "This model's maximum context length is 10 tokens."
IN_A_SUCCESS = (
    _inside(
        "base-resp-balance", "MiniMax", _minimax(1008, "insufficient balance"), "UnauthorizedError", "no budget left"
    ),
    _inside("base-resp-key", "MiniMax", _minimax(1004, "login fail"), "UnauthorizedError", "login fail"),
    _inside("base-resp-limit", "MiniMax", _minimax(1002, "rate limit"), "RateLimitedError", "rate limit", None),
    _inside("base-resp-request", "MiniMax", _minimax(2013, "invalid params"), "RejectedError", "invalid params"),
    _inside(
        "base-resp-window", "MiniMax", _minimax(2013, "context window exceeds limit"), "TooLargeError", "context window"
    ),
    _inside("code-and-msg", "gateways", {"code": 400, "msg": "no such field"}, "RejectedError", "no such field"),
    _inside(
        "code-and-message", "gateways", {"code": 401, "message": "Unauthorized"}, "UnauthorizedError", "Unauthorized"
    ),
    _inside(
        "own-code",
        "Zhipu",
        {"code": 1113, "msg": "see the console", "success": False},
        "UnauthorizedError",
        "no budget left",
    ),
    _inside(
        "code-by-name",
        "Alibaba",
        {"code": "InvalidApiKey", "message": "Invalid API-key provided."},
        "UnauthorizedError",
        "API-key",
    ),
    _inside(
        "success-false",
        "Cloudflare",
        {
            "result": None,
            "success": False,
            "errors": [{"code": 10000, "message": "Authentication error"}],
            "messages": [],
        },
        "UnauthorizedError",
        "Authentication error",
    ),
    _inside(
        "detail-alone",
        "FastAPI",
        {"detail": "Rate limit exceeded: 5 per 1 minute"},
        "RateLimitedError",
        "5 per 1 minute",
        None,
    ),
    _inside(
        "object-error",
        "vLLM, FastChat",
        {"object": "error", "message": _PROMPT, "type": "BadRequestError", "param": None, "code": 400},
        "TooLargeError",
        _PROMPT,
    ),
    _inside(
        "type-error",
        "Anthropic, MiniMax",
        {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}},
        "UnauthorizedError",
        "invalid x-api-key",
    ),
    _inside(
        "type-error-long",
        "Anthropic",
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 3 tokens > 2 maximum"},
        },
        "TooLargeError",
        "prompt is too long",
    ),
    _inside(
        "error-and-status",
        "Ollama behind a proxy",
        {"error": "model m not found", "status": 404},
        "ModelGoneError",
        "not found",
    ),
    _inside(
        "error-code-and-msg",
        "Baidu",
        {"error_code": 18, "error_msg": "Open api qps: rate limit"},
        "RateLimitedError",
        "qps",
        None,
    ),
    _inside("message-alone", "API gateways", {"message": "Invalid API key"}, "UnauthorizedError", "Invalid API key"),
    Row(
        name="wrapped-in-a-list",
        servers=("Gemini",),
        sends="200 with an error that is wrapped in a list",
        becomes="that error",
        whole=as_json([{"error": {"code": 401, "message": "API keys are not supported", "status": "UNAUTHENTICATED"}}]),
        stream=sse([{"error": {"code": 401, "message": "API keys are not supported", "status": "UNAUTHENTICATED"}}]),
        expect=Expected(error="UnauthorizedError", says="are not supported", requests=1),
    ),
    Row(
        name="error-behind-text",
        servers=("vLLM",),
        sends="`object: error` after a part of the text",
        becomes="that error",
        stream=sse(
            chunk({"content": "Pa"}), {"object": "error", "message": "the engine died", "code": 500}, done=False
        ),
        expect=Expected(error="OverloadedError", says="the engine died", requests=1),
        deadline=2.0,
    ),
    Row(
        name="an-error-told-by-the-model",
        servers=("any",),
        sends="an answer whose text is the JSON of an error",
        becomes="that answer",
        whole=whole('{"error": {"message": "insufficient balance", "code": 429}}'),
        expect=Expected(text='{"error": {"message": "insufficient balance", "code": 429}}', requests=1),
    ),
    Row(
        name="a-code-that-reports-none",
        servers=("MiniMax", "gateways"),
        sends="an answer beside `base_resp` and `code` that say all is well",
        becomes="the answer",
        whole=whole("Paris.", base_resp={"status_code": 0, "status_msg": "success"}, code=0, msg="ok"),
        expect=Expected(text="Paris.", requests=1),
    ),
)
"""Successes that report an error, in whichever field."""
