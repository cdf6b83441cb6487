"""The simulated cloud without HTTP: keys, model lifetimes, limits, replies and billing."""

import datetime as dt
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mixtura.chat import JsonObject
from mixtura.errors import ConfigError
from mixtura.limits.window import Limits
from mixtura.models.catalog import Catalog, CatalogModel
from mixtura.models.recorded import RecordingIndex, count_tokens
from mixtura.sim import bodies, generation, validate
from mixtura.sim.caching import PrefixCache, prefixes
from mixtura.sim.faults import ErrorReply, Fault, FaultInjector, parse_faults, refusal
from mixtura.sim.ledger import Ledger
from mixtura.sim.options import SimOptions
from mixtura.sim.quota import LimitRefusal, ModelQuota
from mixtura.sim.replies import Reply, ReplyScript, ReplySources, last_user_text, text_of
from mixtura.sim.speech import RenderedReply, render_reply
from mixtura.sim.timing import parse_profile

PROVIDER = "groq"
_REPLICAS = 3
_MOST_REQUESTS = 10_000  # received bodies that are kept, so that a long-running cloud has bounded memory
_OWNERS = {"openai": "OpenAI", "llama": "Meta", "meta-llama": "Meta", "gemma2": "Google", "qwen": "Alibaba Cloud"}
SURROGATE_MARK = "\ue000"
"""A placeholder for a lone surrogate until the body is encoded: text with a lone surrogate cannot be encoded."""


class AdmittedCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that will be answered, with everything that its delivery needs.

    `generation_error` is the error event that ends a stream whose output fails the cloud's own checks.
    """

    head: bodies.ReplyMetadata
    rendered: RenderedReply
    usage: bodies.CallUsage
    stream: bool
    include_usage: bool
    fault: Fault | None
    generation_error: JsonObject | None = None
    headers: dict[str, str]
    org: str
    prompt_prefixes: tuple[bytes, ...] = ()


class _CheckedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that passed every check and every limit."""

    org: str
    request: JsonObject
    model: CatalogModel
    number: int
    prompt_tokens: int
    fault: Fault | None
    headers: dict[str, str]


class CloudSimulator:
    """The state and the decisions of one simulated cloud.

    Args:
        options: how the cloud behaves.
        now: returns the seconds since the cloud was started, in the cloud's own time.
        wall: returns the real date. It is used only for an HTTP date in a Retry-After header.

    Raises:
        ConfigError: a file named in `options` cannot be read, or a profile or fault in it cannot be parsed.
    """

    def __init__(
        self,
        options: SimOptions,
        now: Callable[[], float],
        wall: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        if options.speed <= 0 or (options.tokens is not None and options.tokens < 1):
            raise ConfigError(f"simulated cloud: speed {options.speed} and tokens {options.tokens} must be above 0")
        if options.slots is not None and options.slots < 1:
            raise ConfigError(f"simulated cloud: expected at least one slot, got {options.slots}")
        self.options = options
        self.now = now
        self.ledger = Ledger()
        self.requests: list[JsonObject] = []
        self._wall = wall
        self._start = dt.datetime.combine(options.as_of, dt.time(12), dt.UTC)
        self._catalog = Catalog.load()
        self._quotas: dict[tuple[str, str], ModelQuota] = {}
        self._cache = PrefixCache()
        self._ids = random.Random(f"{options.seed}/ids")
        self._profile = parse_profile(options.profile)
        faults = parse_faults(options.faults) if isinstance(options.faults, str) else options.faults
        self._faults = FaultInjector(faults, options.seed)
        recordings = RecordingIndex.load(*options.recordings) if options.recordings else None
        script = ReplyScript.load(Path(options.script)) if options.script else None
        self._replies = ReplySources(options.reply, script, recordings, options.tokens)
        extra = dict.fromkeys((*options.extra_models, *(recordings.models if recordings else ())))
        known = self._catalog.get
        self._extra = {name: known(PROVIDER, name) or CatalogModel(id=name, provider=PROVIDER) for name in extra}

    def calendar(self) -> dt.datetime:
        """Return the cloud's date: noon of `as_of`, plus the time that has passed since the start."""
        return self._start + dt.timedelta(seconds=self.now())

    def base_headers(self) -> dict[str, str]:
        """Return the headers of every reply, with a new request id."""
        request_id = bodies.request_id(self._ids, int(self.calendar().timestamp() * 1000))
        return {"vary": "Origin", "x-groq-region": "simulated", "x-request-id": request_id}

    def organisation(self, authorization: str) -> str | None:
        """Return the organisation id of an Authorization header's key, None when the key is not accepted."""
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return None
        if not self.options.keys:
            return bodies.organisation_id(key.strip())
        name = self.options.keys.get(key.strip())
        return None if name is None else bodies.organisation_id(name)

    def models(self) -> list[JsonObject]:
        """Return the rows of GET /models: the models that the plan may use on the cloud's date."""
        day, plan = self.calendar().date(), self.options.plan
        rows = [row for row in self._catalog.models(PROVIDER) if row.is_served(day, plan) and row.id not in self._extra]
        return [self._models_row(row) for row in (*rows, *self._extra.values())]

    def _models_row(self, row: CatalogModel) -> JsonObject:
        released = dt.datetime.combine(row.released or dt.date(2025, 1, 1), dt.time(), dt.UTC)
        owner = row.id.replace("/", "-").split("-")[0]
        return {
            "id": row.id,
            "object": "model",
            "created": int(released.timestamp()),
            "owned_by": _OWNERS.get(owner, _OWNERS.get(row.id.split("/")[0], "Groq")),
            "active": True,
            "context_window": row.window or 131_072,
            "public_apps": None,
            "max_completion_tokens": row.max_output or row.window or 131_072,
        }

    def refuse_model(self, name: str) -> ErrorReply | None:
        """Return the error for a model that the plan cannot use on the cloud's date, None when it can."""
        if name in self._extra:
            return None
        row, day = self._catalog.get(PROVIDER, name), self.calendar().date()
        if row is not None and row.shut_down is not None and day >= row.shut_down:
            return ErrorReply(400, bodies.json_document(bodies.decommissioned_model(name)), {})
        if row is None or not row.is_served(day, self.options.plan):
            return ErrorReply(404, bodies.json_document(bodies.unknown_model(name)), {})
        return None

    def receive(self, authorization: str, raw: bytes) -> AdmittedCall | ErrorReply:
        """Decide the outcome of one POST to /chat/completions: an error, or a call to deliver."""
        self.ledger.arrived += 1
        call = self.ledger.arrived
        headers = self.base_headers()
        reply = self._check(authorization, raw, call, headers)
        if isinstance(reply, ErrorReply):
            self.ledger.refused[reply.status] += 1
            return reply._replace(headers=headers | reply.headers)
        return reply

    def _check(self, authorization: str, raw: bytes, call: int, headers: dict[str, str]) -> AdmittedCall | ErrorReply:
        org = self.organisation(authorization)
        if org is None:
            return _error(401, bodies.error("Invalid API Key", code="invalid_api_key"))
        try:
            request: Any = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            return _error(400, bodies.error(f"could not parse the body as JSON: {error}"))
        if not isinstance(request, dict):
            return _error(400, bodies.error("the body must be a JSON object"))
        self.requests.append(request)
        if len(self.requests) > _MOST_REQUESTS:
            del self.requests[0]
        name = str(request.get("model"))
        fault = self._faults.choose(name, _safe_text(request), streaming=request.get("stream") is True)
        if fault:
            self.ledger.faults[fault.kind] += 1
            if fault.refuses:
                return refusal(fault, name, org, self._wall())
            if fault.kind == "ignore_n":
                request = {key: value for key, value in request.items() if key != "n"}
        if wrong := validate.check_shape(request):
            return _error(400, wrong)
        if gone := self.refuse_model(name):
            return gone
        model = self._extra.get(name) or self._catalog.get(PROVIDER, name)
        assert model is not None, "refuse_model has refused unknown models"
        text_tokens = _prompt_tokens(request)
        # Recorded for one message: 18 prompt tokens including the chat template, 13 charged to the limits.
        prompt_tokens = text_tokens + 4 * len(request["messages"]) + 6
        if wrong := validate.check_for_model(request, model, prompt_tokens):
            return _error(400, wrong)
        room = max((value for _, value in validate.requested_tokens(request)), default=0)
        refused = self._admit(org, model, text_tokens + 5 + room, headers)
        if refused is not None:
            return _limit_error(refused, org, name, _service_tier(request))
        return self._answer(
            _CheckedRequest(
                org=org,
                request=request,
                model=model,
                number=call,
                prompt_tokens=prompt_tokens,
                fault=fault,
                headers=headers,
            )
        )

    def _admit(self, org: str, model: CatalogModel, tokens: int, headers: dict[str, str]) -> LimitRefusal | None:
        if self.options.unlimited:
            return None
        if (org, model.id) not in self._quotas:
            own = self.options.limits.get(model.id) or self.options.limits.get("*")
            self._quotas[org, model.id] = ModelQuota(own or model.limits(self.options.plan) or self._default_limits())
        quota, now = self._quotas[org, model.id], self.now()
        refused = quota.admit(tokens, now)
        headers |= quota.headers(now, refused)
        return refused

    def _default_limits(self) -> Limits:
        """Return the limits of a model without known ones: the commonest ones of the developer plan, else none."""
        return Limits(rpm=1000, tpm=250_000) if self.options.plan == "developer" else Limits()

    def _answer(self, asked: _CheckedRequest) -> AdmittedCall | ErrorReply:
        request, model, fault, headers = asked.request, asked.model, asked.fault, asked.headers
        rng = random.Random(f"{self.options.seed}/{model.id}/{self.ledger.calls[model.id]}")
        reply = self._replies.reply(request, asked.number, rng, reasons=model.reasons)
        if reply.fault and fault is None:
            (fault,) = parse_faults(reply.fault)
            self.ledger.faults[fault.kind] += 1
            if fault.refuses:
                return refusal(fault, model.id, asked.org, self._wall())
        reply = _stopped(_apply_fault(reply, fault), request.get("stop"))
        room = max((value for _, value in validate.requested_tokens(request)), default=model.max_output)
        rendered = render_reply(reply, request, model, room, rng)
        problem = generation.generation_error(request, reply, rendered)
        if problem and not request.get("stream"):
            return _error(400, problem)
        caches = model.price is not None and model.price.cached is not None
        read = prefixes(asked.org, request) if caches else ()
        cached = self._cache.cached_tokens(read, self.now())
        others = self.ledger.answering[model.id]
        times = self._profile.draw(model, asked.prompt_tokens - cached, rendered.tokens, rng, others)
        if fault and fault.kind == "slow":
            times = msgspec.structs.replace(times, queue=times.queue + round(fault.number * 1e9))
        head = bodies.ReplyMetadata(
            id=bodies.completion_id(self._ids),
            created=int(self.calendar().timestamp()),
            model=model.id,
            fingerprint=bodies.fingerprint(model.id, rng.randrange(_REPLICAS)),
            request_id=headers["x-request-id"],
            tier=_service_tier(request),
            seed=request["seed"] if isinstance(request.get("seed"), int) else rng.getrandbits(31),
        )
        reasoned = rendered.reasoning_tokens if model.family == "gpt-oss" else None
        options = request.get("stream_options")
        wants_usage = bool(isinstance(options, dict) and options.get("include_usage"))
        return AdmittedCall(
            head=head,
            rendered=rendered,
            usage=bodies.CallUsage(
                prompt=asked.prompt_tokens,
                completion=rendered.tokens,
                cached=cached,
                reasoning=reasoned,
                times=times,
            ),
            stream=request.get("stream") is True,
            include_usage=wants_usage or bool(fault and fault.kind == "usage_last"),
            fault=fault,
            generation_error=problem,
            headers=headers,
            org=asked.org,
            prompt_prefixes=read,
        )

    def settle(self, call: AdmittedCall, tokens: int, *, whole: bool) -> None:
        """Bill a call that generated `tokens`. A call that broke off before its first token costs nothing."""
        if not (whole or tokens):
            return
        model, cached = call.head.model, call.usage.cached
        self.ledger.bill(model, call.usage.prompt, cached, tokens)
        self._cache.remember(call.prompt_prefixes, self.now())
        if (call.org, model) in self._quotas:
            self._quotas[call.org, model].credit(cached, self.now())


def _service_tier(request: JsonObject) -> str:
    asked = request.get("service_tier")
    return "on_demand" if asked in (None, "auto") else str(asked)


def _limit_error(refused: LimitRefusal, org: str, model: str, tier: str) -> ErrorReply:
    where = bodies.scope(model, org, tier, refused.dimension)
    if refused.never:
        words, status = bodies.too_large_message(where, refused.limit, refused.requested), 413
    else:
        words = bodies.limit_message(where, refused.limit, refused.used, refused.requested, refused.wait_text)
        status = 429
    return _error(status, bodies.error(words, refused.kind, "rate_limit_exceeded"))


def _error(status: int, body: JsonObject) -> ErrorReply:
    return ErrorReply(status, bodies.json_document(body), {})


def _safe_text(request: JsonObject) -> str:
    """Return the last user text of a body that has not been validated yet."""
    messages = request.get("messages")
    if not isinstance(messages, list):
        return ""
    return last_user_text({"messages": [turn for turn in messages if isinstance(turn, dict)]})


def _prompt_tokens(request: JsonObject) -> int:
    texts = [text_of(turn) for turn in request["messages"]]
    texts += [bodies.encode(turn["tool_calls"]).decode() for turn in request["messages"] if turn.get("tool_calls")]
    if request.get("tools"):
        texts.append(bodies.encode(request["tools"]).decode())
    if (request.get("response_format") or {}).get("json_schema"):
        texts.append(bodies.encode(request["response_format"]["json_schema"]).decode())
    return sum(map(count_tokens, texts))


def _stopped(reply: Reply, stop: str | list[str] | None) -> Reply:
    """Return `reply` up to the first of the texts that are to end it."""
    text = reply.text or ""
    ends = [at for mark in ([stop] if isinstance(stop, str) else stop or ()) if (at := text.find(mark)) >= 0]
    return msgspec.structs.replace(reply, text=text[: min(ends)]) if ends else reply


def _apply_fault(reply: Reply, fault: Fault | None) -> Reply:
    kind = fault.kind if fault else None
    if kind == "empty_text":
        return Reply(text="")
    if kind == "only_reasoning":
        return Reply(text="", reasoning=reply.reasoning or reply.text or "", finish_reason="length")
    if kind == "surrogate":
        return msgspec.structs.replace(reply, text=f"{reply.text or ''} {SURROGATE_MARK}")
    return reply
