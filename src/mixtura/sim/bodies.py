"""The bodies of Groq's replies, key for key and in the recorded order; nothing here decides anything."""

import random
import uuid
from collections.abc import Iterator

import msgspec

from mixtura.chat import JsonObject

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
_BILLING = "Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing"


class Times(msgspec.Struct, frozen=True):
    """Nanoseconds a call spends waiting, reading the prompt and writing."""

    queue: int = 0
    prompt: int = 0
    completion: int = 0

    @classmethod
    def of_seconds(cls, queue: float = 0.0, prompt: float = 0.0, completion: float = 0.0) -> "Times":
        """Return times given in seconds."""
        return cls(round(queue * 1e9), round(prompt * 1e9), round(completion * 1e9))


class CallUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and times of one call; `reasoning` is None for models that do not count it."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int | None = None
    times: Times = Times()

    def body(self) -> JsonObject:
        """Return the `usage` object; its total_time leaves the queue out, to the nanosecond."""
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


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What all chunks of one reply share."""

    id: str
    created: int
    model: str
    fingerprint: str
    request_id: str
    seed: int
    tier: str = "on_demand"


def completion(head: Head, message: JsonObject, finish_reason: str, usage: CallUsage) -> JsonObject:
    """Return a whole chat.completion."""
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


def first_chunk(head: Head) -> JsonObject:
    """Return the chunk that opens a stream: the role, and the request's id and seed."""
    opening = _chunk(head, {"role": "assistant", "content": ""})
    return opening | {"x_groq": {"id": head.request_id, "seed": head.seed}}


def delta_chunk(head: Head, delta: JsonObject) -> JsonObject:
    """Return a chunk that carries one piece."""
    return _chunk(head, delta)


def last_chunks(head: Head, finish_reason: str, usage: CallUsage, *, include_usage: bool) -> Iterator[JsonObject]:
    """Yield the finish chunk, which holds the usage twice, and the usage-only chunk where it was asked for."""
    spent = usage.body()
    yield _chunk(head, {}, finish_reason) | {"x_groq": {"id": head.request_id, "usage": spent}, "usage": spent}
    if include_usage:
        yield _outer(head) | {"choices": [], "usage": spent, "service_tier": head.tier}


def error(message: str, kind: str = "invalid_request_error", code: str | None = None, **more: str | int) -> JsonObject:
    """Return an error envelope; `kind` is its `type`, and `more` follows the code."""
    return {"error": {"message": message, "type": kind} | ({"code": code} if code else {}) | more}


def scope(model: str, org: str, tier: str, dimension: str) -> str:
    """Return how a limit's refusal names whose limit it is."""
    return f"model `{model}` in organization `{org}` service tier `{tier}` on {dimension}"


def limit_text(where: str, limit: int, used: int, asked: int, wait: str) -> str:
    """Return the words of a 429 for the limit of a `scope`."""
    return (
        f"Rate limit reached for {where}: Limit {limit}, Used {used}, Requested {asked}. "
        f"Please try again in {wait}. {_BILLING}"
    )


def too_large_text(where: str, limit: int, asked: int) -> str:
    """Return the words of a 413: a request that no waiting can make fit."""
    return (
        f"Request too large for {where}: Limit {limit}, Requested {asked}, "
        f"please reduce your message size and try again. {_BILLING}"
    )


def unknown_model(model: str) -> JsonObject:
    """Return the body for a model that this key cannot see."""
    return error(f"The model `{model}` does not exist or you do not have access to it.", code="model_not_found")


def decommissioned(model: str) -> JsonObject:
    """Return the body for a model that was shut down."""
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


def document(body: object) -> bytes:
    """Return compact JSON as a whole body: with the line feed that the real cloud ends it with."""
    return encode(body) + b"\n"


def event(body: JsonObject, name: str = "") -> bytes:
    """Return one server-sent event."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + encode(body) + b"\n\n"


def completion_id(rng: random.Random) -> str:
    """Return `chatcmpl-` and a random UUID."""
    return f"chatcmpl-{uuid.UUID(int=rng.getrandbits(128), version=4)}"


def request_id(rng: random.Random, milliseconds: int) -> str:
    """Return `req_` and a lower-case ULID: 48 bits of time, 80 random ones."""
    return f"req_{_base32((milliseconds << 80) | rng.getrandbits(80), 26)}"


def organisation_id(name: str) -> str:
    """Return the id an organisation always has: `org_01` and 24 characters made from its name."""
    return f"org_01{_base32(random.Random(f'org/{name}').getrandbits(120), 24)}"


def fingerprint(model: str, replica: int) -> str:
    """Return the fingerprint of one of the replicas that serve a model."""
    return f"fp_{random.Random(f'{model}/{replica}').getrandbits(40):010x}"


def tool_call_id(rng: random.Random, family: str, name: str, index: int) -> str:
    """Return a tool call's id in the manner of the model's family."""
    if family == "gpt-oss":
        return f"fc_{uuid.UUID(int=rng.getrandbits(128), version=4)}"
    if family == "kimi-k2":
        return f"functions.{name}:{index}"
    return "".join(rng.choice(_BASE36) for _ in range(9))


def _outer(head: Head) -> JsonObject:
    return {
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "system_fingerprint": head.fingerprint,
    }


def _chunk(head: Head, delta: JsonObject, finish_reason: str | None = None) -> JsonObject:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _outer(head) | {"choices": [choice]}


def _base32(number: int, length: int) -> str:
    return "".join(_CROCKFORD[(number >> (5 * place)) & 31] for place in reversed(range(length)))
