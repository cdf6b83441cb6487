"""Builds the bodies of Groq's replies, key for key and in the recorded order. Decisions are made elsewhere."""

import random
import uuid
from collections.abc import Iterator

import msgspec

from mixtura.chat import JsonObject

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BILLING = "Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"


class CallTimes(msgspec.Struct, frozen=True):
    """The nanoseconds that a call spends in the queue, on its prompt and on its completion."""

    queue: int = 0
    prompt: int = 0
    completion: int = 0

    @classmethod
    def from_seconds(cls, queue: float = 0.0, prompt: float = 0.0, completion: float = 0.0) -> "CallTimes":
        """Build from seconds, rounded to whole nanoseconds."""
        return cls(round(queue * 1e9), round(prompt * 1e9), round(completion * 1e9))


class CallUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and times of one call. `reasoning` is None for models that do not report reasoning tokens."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int | None = None
    times: CallTimes = CallTimes()

    def body(self) -> JsonObject:
        """Return the `usage` object. As on the real cloud, `total_time` excludes the queue time."""
        times = self.times
        usage: JsonObject = {
            "queue_time": times.queue / 1e9,
            "prompt_tokens": self.prompt,
            "prompt_time": times.prompt / 1e9,
            "completion_tokens": self.completion,
            "completion_time": times.completion / 1e9,
            "total_tokens": self.prompt + self.completion,
            "total_time": (times.prompt + times.completion) / 1e9,
        }
        if self.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached}
        if self.reasoning is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage


class ReplyMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that all chunks of one reply have in common."""

    id: str
    created: int
    model: str
    fingerprint: str
    request_id: str
    seed: int
    tier: str = "on_demand"


def completion(head: ReplyMetadata, message: JsonObject, finish_reason: str, usage: CallUsage) -> JsonObject:
    """Return the `chat.completion` body of an unstreamed reply."""
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [choice],
        "usage": usage.body(),
        "usage_breakdown": None,
        "system_fingerprint": head.fingerprint,
        "x_groq": {"id": head.request_id, "seed": head.seed},
        "service_tier": head.tier,
    }


def first_chunk(head: ReplyMetadata) -> JsonObject:
    """Return the chunk that opens a stream. It carries the role, the request id and the seed."""
    opening = _chunk(head, {"role": "assistant", "content": ""})
    return opening | {"x_groq": {"id": head.request_id, "seed": head.seed}}


def delta_chunk(head: ReplyMetadata, delta: JsonObject) -> JsonObject:
    """Return a chunk that carries one delta."""
    return _chunk(head, delta)


def last_chunks(
    head: ReplyMetadata, finish_reason: str, usage: CallUsage, *, include_usage: bool
) -> Iterator[JsonObject]:
    """Yield the finish chunk, which holds the usage twice, then the usage-only chunk if `include_usage` is set."""
    body = usage.body()
    yield _chunk(head, {}, finish_reason) | {"x_groq": {"id": head.request_id, "usage": body}, "usage": body}
    if include_usage:
        yield _chunk_envelope(head) | {"choices": [], "usage": body, "service_tier": head.tier}


def error(message: str, kind: str = "invalid_request_error", code: str | None = None, **more: str | int) -> JsonObject:
    """Return an error envelope. `kind` becomes its `type`; the fields of `more` follow the code."""
    return {"error": {"message": message, "type": kind} | ({"code": code} if code else {}) | more}


def scope(model: str, org: str, tier: str, dimension: str) -> str:
    """Return the phrase by which a refusal names the limit that was hit."""
    return f"model `{model}` in organization `{org}` service tier `{tier}` on {dimension}"


def limit_message(where: str, limit: int, used: int, requested: int, wait: str) -> str:
    """Return the message of a 429; `where` comes from `scope`."""
    return (
        f"Rate limit reached for {where}: Limit {limit}, Used {used}, Requested {requested}. "
        f"Please try again in {wait}. {_BILLING}"
    )


def too_large_message(where: str, limit: int, requested: int) -> str:
    """Return the message of a 413, for a request that exceeds the limit itself, so that waiting cannot help."""
    return (
        f"Request too large for {where}: Limit {limit}, Requested {requested}, "
        f"please reduce your message size and try again. {_BILLING}"
    )


def unknown_model(model: str) -> JsonObject:
    """Return the body for a model that the key has no access to."""
    return error(f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found")


def decommissioned_model(model: str) -> JsonObject:
    """Return the body for a model that has been shut down."""
    return error(
        f"The model `{model}` has been decommissioned and is no longer supported. Please refer to "
        "https://console.groq.com/docs/deprecations for a recommendation on which model to use instead.",
        code="model_decommissioned",
    )


def unknown_url(method: str, path: str) -> JsonObject:
    """Return the body for a path that does not exist."""
    return error(
        f"Unknown request URL: {method} {path}. Please check the URL for typos, or see the docs at "
        "https://console.groq.com/docs/",
        code="unknown_url",
    )


def encode(body: object) -> bytes:
    """Return compact JSON."""
    return msgspec.json.encode(body)


def json_document(body: object) -> bytes:
    """Return a whole response body: compact JSON and the line feed that the real cloud appends."""
    return encode(body) + b"\n"


def sse_event(body: JsonObject, name: str = "") -> bytes:
    """Return one server-sent event."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + encode(body) + b"\n\n"


def completion_id(rng: random.Random) -> str:
    """Return `chatcmpl-` and a random UUID."""
    return f"chatcmpl-{uuid.UUID(int=rng.getrandbits(128), version=4)}"


def request_id(rng: random.Random, milliseconds: int) -> str:
    """Return `req_` and a lower-case ULID: 48 bits of time and 80 random bits."""
    return f"req_{_base32((milliseconds << 80) | rng.getrandbits(80), 26)}"


def organisation_id(name: str) -> str:
    """Return an organisation's id: `org_01` and 24 characters derived from its name, the same each time."""
    return f"org_01{_base32(random.Random(f'org/{name}').getrandbits(120), 24)}"


def fingerprint(model: str, replica: int) -> str:
    """Return the system fingerprint of one replica of a model."""
    return f"fp_{random.Random(f'{model}/{replica}').getrandbits(40):010x}"


def tool_call_id(rng: random.Random, family: str, name: str, index: int) -> str:
    """Return a tool call's id in the format of the model's family."""
    if family == "gpt-oss":
        return f"fc_{uuid.UUID(int=rng.getrandbits(128), version=4)}"
    if family == "kimi-k2":
        return f"functions.{name}:{index}"
    return "".join(rng.choice(_BASE36) for _ in range(9))


def _chunk_envelope(head: ReplyMetadata) -> JsonObject:
    return {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint,
    }


def _chunk(head: ReplyMetadata, delta: JsonObject, finish_reason: str | None = None) -> JsonObject:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _chunk_envelope(head) | {"choices": [choice]}


def _base32(number: int, length: int) -> str:
    return "".join(_CROCKFORD[(number >> (5 * place)) & 31] for place in reversed(range(length)))
