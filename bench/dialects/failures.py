"""Refusals by their status: when to come back, and an account or a key that is refused for good."""

from bench.dialects.row import Expected, Replies, Row, as_json, whole
from mixtura.chat import JsonObject

_SENT = "Fri, 27 Nov 2026 12:00:00 GMT"
_SENT_AT = 1795780800
_OK = whole("Paris.")
_BUSY: JsonObject = {"error": {"message": "Too many requests"}}


def _wait(name: str, servers: str, sends: str, reply: Replies, wait: float, says: str = "", source: str = "") -> Row:
    """Return the row of a refusal that asks to wait for longer than its run has."""
    return Row(
        name=name,
        servers=tuple(servers.split(", ")),
        sends=sends,
        becomes="one request, and an error that names the wait",
        source=source,
        whole=reply,
        stream=reply,
        expect=Expected(
            error="RateLimitedError", wait=wait, says=says or f"would have to wait {wait:.4g} s, only", requests=1
        ),
    )


def _unread(name: str, sends: str, **headers: str) -> Row:
    """Return the row of a wait that nobody can mean."""
    return Row(
        name=name,
        servers=("none; made up",),
        sends=sends,
        becomes="no wait: the call is tried again as one that names none",
        whole=[as_json(_BUSY, 429, **headers), _OK],
        expect=Expected(text="Paris.", requests=2),
    )


def _said(words: str, status: int = 429, **more: object) -> Replies:
    return as_json({"error": {"message": words, **more}}, status)


def _google(quotas: tuple[str, ...], delay: str = "39s") -> JsonObject:
    kind = "type.googleapis.com/google.rpc."
    details = [
        {"@type": f"{kind}QuotaFailure", "violations": [{"quotaId": quota} for quota in quotas]},
        {"@type": f"{kind}RetryInfo", "retryDelay": delay},
    ]
    words = "You exceeded your current quota, please check your plan and billing details."
    return {"error": {"code": 429, "message": words, "status": "RESOURCE_EXHAUSTED", "details": details}}


_MINUTE, _DAY = ("GenerateRequests" + part + "PerProjectPerModel-FreeTier" for part in ("PerMinute", "PerDay"))
_PER_DAY = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
_DAYS_END = "comes back at 00:00 UTC"


def _openrouter(**headers: str) -> Replies:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"message": _PER_DAY, "code": 429, "metadata": {"headers": named}}}
    return as_json(body, 429, Date=_SENT)


WAITS = (
    _wait("after-seconds", "Groq, OpenAI", "`Retry-After: 39`", as_json(_BUSY, 429, Retry_After="39"), 39),
    _wait("after-a-fraction", "Groq", "`Retry-After: 39.5`", as_json(_BUSY, 429, Retry_After="39.5"), 39.5),
    _wait("after-with-a-unit", "gateways", "`Retry-After: 39s`", as_json(_BUSY, 429, Retry_After="39s"), 39),
    _wait(
        "after-milliseconds",
        "OpenAI, Azure",
        "`retry-after-ms: 39500`, and seconds beside it",
        as_json(_BUSY, 429, retry_after_ms="39500", Retry_After="40"),
        39.5,
    ),
    _wait(
        "after-a-date",
        "gateways",
        "`Retry-After` as a date of HTTP, by the reply's own `Date`",
        as_json(_BUSY, 429, Retry_After="Fri, 27 Nov 2026 12:01:01 GMT", Date=_SENT),
        61,
    ),
    _wait(
        "after-since-1970",
        "gateways",
        "`Retry-After` in seconds since 1970",
        as_json(_BUSY, 429, Retry_After=str(_SENT_AT + 50), Date=_SENT),
        50,
    ),
    _wait(
        "retry-info",
        "Gemini",
        "`RetryInfo` in an error that is wrapped in a list",
        as_json([_google((_MINUTE,))], 429),
        39,
        source="vercel/ai#18627",
    ),
    _wait("retry-info-unwrapped", "Vertex AI", "`RetryInfo`, no list", as_json(_google((_MINUTE,)), 429), 39),
    _wait(
        "retry-info-in-a-message",
        "gateways to Gemini",
        "Gemini's whole error as JSON in the message of another",
        as_json({"error": {"message": str(_google((_MINUTE,))).replace("'", '"'), "code": 429}}, 429),
        39,
        source="google-gemini/gemini-cli#14811",
    ),
    _wait("retry-in", "Gemini", "'Please retry in 39.5s.'", _said("Please retry in 39.5s."), 39.5),
    _wait("try-again-in", "Groq", "'try again in 1m7.39s'", _said("Please try again in 1m7.39s."), 67.4, "67.39 s"),
    _wait(
        "retry-after-26-seconds",
        "Azure",
        "'Please retry after 26 seconds', and a link about quotas",
        _said(
            "They have exceeded the token rate limit of your pricing tier. Please retry after 26 seconds.", code="429"
        ),
        26,
    ),
    _wait("try-again-after", "Moonshot", "'try again after 7 seconds'", _said("please try again after 7 seconds"), 7),
    _wait("wait-minutes", "gateways", "'wait 5 minutes'", _said("Please wait 5 minutes, then ask again."), 300),
    _wait(
        "wait-before-retrying",
        "GitHub Models",
        "'Please wait 7326 seconds before retrying', of a day",
        _said("Rate limit of 50 per 86400s exceeded for UserByModelByDay. Please wait 7326 seconds before retrying."),
        7326,
        "wait 2 h 3 min",
    ),
    _wait("chinese-seconds", "gateways in China", "'请在30秒后重试'", _said("请求过于频繁，请在30秒后重试"), 30),
    _wait(
        "gateway-status-code",
        "Azure API Management",
        "`{statusCode, message}`, the wait in its words",
        as_json({"statusCode": 429, "message": "Rate limit is exceeded. Try again in 12 seconds."}, 429),
        12,
    ),
    _wait(
        "field-retry-after",
        "gateways",
        "`retry_after` in the body",
        as_json({"message": "x", "retry_after": 9.5}, 429),
        9.5,
    ),
    _wait(
        "resets-at-a-moment",
        "LiteLLM",
        "'Limit resets at: 2026-11-27 12:05:00 UTC'",
        as_json({"error": {"message": "Limit resets at: 2026-11-27 12:05:00 UTC"}}, 429, Date=_SENT),
        300,
    ),
    _wait(
        "reset-of-the-empty-window",
        "OpenAI, Groq",
        "6 minutes for the window that is empty, 10 hours for another",
        as_json(
            _BUSY,
            429,
            x_ratelimit_remaining_requests="0",
            x_ratelimit_reset_requests="6m0s",
            x_ratelimit_remaining_tokens="9000",
            x_ratelimit_reset_tokens="10h0m0s",
        ),
        360,
        source="vectorize-io/hindsight#3508",
    ),
    _wait(
        "longest-reset",
        "OpenAI",
        "resets of two windows, neither said to be empty",
        as_json(_BUSY, 429, x_ratelimit_reset_requests="2s", x_ratelimit_reset_tokens="1m6s"),
        66,
    ),
    _wait(
        "anthropic-resets",
        "Anthropic",
        "`anthropic-ratelimit-tokens-reset` as an ISO date",
        as_json(
            _BUSY,
            429,
            anthropic_ratelimit_tokens_remaining="0",
            anthropic_ratelimit_tokens_reset="2026-11-27T12:00:44Z",
            anthropic_ratelimit_requests_remaining="9",
            anthropic_ratelimit_requests_reset="2026-11-27T12:59:00Z",
            Date=_SENT,
        ),
        44,
    ),
    _wait("ietf-reset", "gateways", "`ratelimit-reset: 17`", as_json(_BUSY, 429, ratelimit_reset="17"), 17),
    _wait(
        "ietf-ratelimit",
        "Hugging Face",
        "`ratelimit` with r and t",
        as_json(_BUSY, 429, ratelimit='"api";r=0;t=30'),
        30,
    ),
    _wait(
        "reset-in-seconds-since-1970",
        "GitHub Models, SambaNova",
        "`x-ratelimit-reset` in seconds since 1970",
        as_json(_BUSY, 429, x_ratelimit_remaining="0", x_ratelimit_reset=str(_SENT_AT + 50), Date=_SENT),
        50,
    ),
    _wait(
        "per-day-and-minute",
        "Cerebras",
        "resets of the day and of the minute, the day's window empty",
        as_json(
            _BUSY,
            429,
            x_ratelimit_remaining_requests_day="0",
            x_ratelimit_reset_requests_day="33011.38",
            x_ratelimit_remaining_tokens_minute="100",
            x_ratelimit_reset_tokens_minute="11.38",
        ),
        33011.4,
        "wait 9 h 11 min",
    ),
    _wait(
        "headers-in-metadata",
        "OpenRouter",
        "`X-RateLimit-Reset` in milliseconds since 1970, in `error.metadata.headers`",
        _openrouter(X_RateLimit_Remaining="0", X_RateLimit_Reset=str((_SENT_AT + 40_000) * 1000)),
        40_000,
        "wait 11 h 7 min",
        source="dirge-code/dirge#719",
    ),
    _wait(
        "quota-of-the-day",
        "Gemini",
        "quotas of the minute and of the day, and a delay of the minute",
        as_json([_google((_MINUTE, _DAY))], 429, Date=_SENT),
        20 * 3600,
        "comes back at 08:00 UTC",
        source="google-gemini/gemini-cli#8437",
    ),
    _wait(
        "free-models-per-day",
        "OpenRouter",
        "a limit of the day, no moment",
        as_json(
            {"error": {"message": "Rate limit exceeded: free-models-per-day-high-balance.", "code": "429"}},
            429,
            Date=_SENT,
        ),
        12 * 3600,
        _DAYS_END,
        source="Gitlawb/openclaude#1549",
    ),
    _wait(
        "again-tomorrow",
        "ModelScope",
        "'try again tomorrow'",
        as_json({"errors": {"message": "You have exceeded today's quota, please try again tomorrow"}}, 429, Date=_SENT),
        12 * 3600,
        _DAYS_END,
    ),
    _unread("a-wait-of-a-year", "`Retry-After: 31536000`", Retry_After="31536000"),
    _unread("a-negative-wait", "`Retry-After: -5`, a reset of -3", Retry_After="-5", x_ratelimit_reset="-3"),
    _unread("no-number", "`Retry-After: nan`, a reset of 1e999", Retry_After="nan", x_ratelimit_reset="1e999"),
    _unread("a-moment-long-gone", "a reset in 2001", x_ratelimit_reset="1000000001", Date=_SENT),
)
"""Refusals that name a wait."""


def _loading(name: str, servers: str, words: object, status: int = 503, source: str = "") -> Row:
    return Row(
        name=name,
        servers=tuple(servers.split(", ")),
        sends=f"{status} while the model is loaded",
        becomes="the answer, as soon as the model is there",
        source=source,
        whole=[as_json(words, status), as_json(words, status), _OK],
        expect=Expected(text="Paris.", requests=3),
    )


LOADING = (
    _loading(
        "loading-model",
        "llama.cpp",
        {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
        source="earendil-works/pi#1887",
    ),
    _loading("model-is-loading", "Ollama, LM Studio", {"error": "model is loading"}),
    _loading(
        "currently-loading",
        "Hugging Face",
        {"error": "Model m is currently loading", "estimated_time": 20.0},
        source="huggingface/transformers#23793",
    ),
    _loading("proxy-of-a-loading-server", "ramalama", {"error": "Bad Gateway"}, 502, "containers/ramalama#2343"),
    _loading("engine-not-ready", "vLLM", {"detail": "The engine is not ready"}),
    _loading("server-is-starting", "SGLang", {"message": "Server is starting"}),
)
"""Servers that will be there in a moment."""


def _unpaid(name: str, servers: str, status: int, body: object, source: str = "") -> Row:
    reply = as_json(body, status)
    return Row(
        name=name,
        servers=tuple(servers.split(", ")),
        sends=f"{status} for an account without money",
        becomes="one request, and an error that says so",
        source=source,
        whole=reply,
        stream=reply,
        expect=Expected(error="UnauthorizedError", says="the account has no budget left", requests=1),
    )


def _error(message: str, **more: object) -> JsonObject:
    return {"error": {"message": message, **more}}


_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_LOW = "Your credit balance is too low to access the API. Please go to Plans & Billing to purchase credits."
_MINIMAX: JsonObject = {"type": "error", "error": {"type": "api_error", "message": "insufficient balance (1008)"}}
ACCOUNTS = (
    _unpaid("quota-by-its-code", "OpenAI", 429, _error(_QUOTA, code="insufficient_quota")),
    _unpaid("quota-by-its-type", "OpenAI, Azure", 429, _error(_QUOTA, type="insufficient_quota", code=None)),
    _unpaid("quota-by-its-words", "gateways to OpenAI", 429, _error(_QUOTA)),
    _unpaid("quota-with-401", "Perplexity", 401, _error(_QUOTA, type="insufficient_quota")),
    _unpaid("insufficient-balance-402", "DeepSeek", 402, _error("Insufficient Balance")),
    _unpaid("insufficient-balance-500", "MiniMax", 500, _MINIMAX, "MiniMax-AI/MiniMax-M2#62"),
    _unpaid(
        "insufficient-balance-429",
        "MiniMax, ModelScope",
        429,
        _error("insufficient balance (1008)", http_code="429", type="insufficient_balance_error"),
        "modelscope/modelscope#1691",
    ),
    _unpaid(
        "insufficient-balance-403",
        "sub2api",
        403,
        {"code": "INSUFFICIENT_BALANCE", "message": "no"},
        "Wei-Shaw/sub2api#890",
    ),
    _unpaid(
        "balance-as-a-number", "SiliconFlow", 403, {"code": 30001, "message": "Sorry, it is insufficient", "data": None}
    ),
    _unpaid(
        "code-1113",
        "Zhipu",
        429,
        _error("余额不足或无可用资源包,请充值。", code="1113"),
        "NousResearch/hermes-agent#16680",
    ),
    _unpaid("code-1113-as-a-number", "Zhipu", 429, _error("see the console", code=1113)),
    _unpaid(
        "credit-balance-too-low", "Anthropic", 400, {"type": "error", **_error(_LOW, type="invalid_request_error")}
    ),
    _unpaid("billing-not-active", "OpenAI", 429, _error("Your account is not active.", code="billing_not_active")),
    _unpaid(
        "more-credits", "OpenRouter", 402, _error("This request requires more credits, or fewer max_tokens.", code=402)
    ),
    _unpaid("out-of-credits", "gateways", 429, _error("You have run out of credits")),
    _unpaid(
        "please-recharge",
        "Moonshot",
        429,
        _error("Your account is empty, please recharge", type="exceeded_current_quota_error"),
    ),
    _unpaid(
        "account-overdue", "Volcengine", 403, _error("The account has an overdue balance", code="AccountOverdueError")
    ),
    _unpaid("arrears-in-chinese", "gateways in China", 403, _error("账户已欠费")),
    _unpaid(
        "arrearage",
        "Alibaba",
        400,
        _error("Access denied, please make sure your account is in good standing.", code="Arrearage"),
    ),
    _unpaid(
        "all-credits-used", "xAI", 429, {"code": "Some resource", "error": "Your team has used all available credits."}
    ),
    _unpaid(
        "included-credits-used", "Hugging Face", 402, {"error": "You have depleted your monthly included credits."}
    ),
    _unpaid(
        "budget-of-a-proxy",
        "LiteLLM",
        400,
        _error("Budget has been exceeded! Current cost: 1.0", type="budget_exceeded"),
    ),
    Row(
        name="google-bad-key",
        servers=("Gemini",),
        sends="400 in a list: API key not valid",
        becomes="a refused key, not asked again",
        whole=as_json(
            [{"error": {"code": 400, "message": "API key not valid. Pass one.", "status": "INVALID_ARGUMENT"}}],
            400,
        ),
        expect=Expected(error="UnauthorizedError", requests=1),
    ),
    Row(
        name="a-minutes-quota",
        servers=("Gemini",),
        sends="the words of an empty account for a quota of the minute",
        becomes="the answer, after the delay that Gemini names",
        source="AtomicBot-ai/atomic-agent#106",
        whole=[as_json([_google((_MINUTE,), "0.2s")], 429), _OK],
        expect=Expected(text="Paris.", requests=2),
    ),
)
"""Accounts without money, and what only sounds like one."""
