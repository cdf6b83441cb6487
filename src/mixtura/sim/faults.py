"""What goes wrong, as data: which calls fail, and how.

In the compact form faults are separated by commas, and each reads `kind[=value][@calls][:model][%share]`:

    429@2                              the second call gets a 429
    429=61@1-3                         the first three, with Retry-After: 61
    reset@4:llama-3.1-8b-instant       that model's fourth call is cut off before any header
    stall%5                            five in a hundred streams stop half-way and stay open
    error_event@2-                     every stream from the second on ends in an error

Calls count from 1, over those calls only that fit the fault's model (and, in a file, its `streaming` and
`contains`). In a TOML file each fault is a `[[faults]]` table with the fields of `Fault`.
"""

import datetime as dt
import email.utils
import random
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from mixtura.errors import ConfigError
from mixtura.limits.window import go_duration
from mixtura.sim import bodies

Refusal = Literal[
    "400", "401", "403", "404", "409", "413", "422", "429", "498", "500", "502", "503",
    "context", "decommissioned", "json_validate",
]  # fmt: skip
"""An error status: before anything is generated, and never billed."""

Broken = Literal[
    "cut", "drip", "error_event", "flood", "reset", "reset_headers", "silent", "slow", "stall", "truncated"
]
"""The connection or the stream goes wrong."""

Odd = Literal[
    "empty_choices", "empty_text", "ignore_n", "not_completion", "not_json", "null_content", "only_reasoning",
    "surrogate", "usage_last",
]  # fmt: skip
"""A 200 whose body is not what a client hopes for."""

_VALUES = {
    "cut": 3.0, "drip": 1.0, "error_event": 3.0, "flood": 8.0, "reset_headers": 0.0, "slow": 5.0, "stall": 3.0,
    "truncated": 3.0,
}  # fmt: skip
_COMPACT = re.compile(
    r"(?P<kind>\w+)(?:=(?P<value>[^@:%]*))?(?:@(?P<first>\d+)(?P<range>-(?P<last>\d+)?)?)?"
    r"(?::(?P<model>[^%]+))?(?:%(?P<share>\d+\.?\d*))?"
)


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong.

    Attributes:
        kind: what; see `Refusal`, `Broken` and `Odd`.
        value: of "429" its Retry-After: "0.5", "61", "none" for no header, "date+30" for an HTTP date 30 seconds
            ahead; of another refusal its message; of "drip" the seconds between two bytes; of "slow" the seconds
            added; of "flood" the megabytes of one line; of the other broken streams how many pieces come before.
        first: the first call that fails, counting from 1.
        last: the last one; None for only `first` where that is given, 0 for all that follow.
        model: fail calls of this model only.
        streaming: fail only streamed (true) or only whole (false) replies.
        contains: fail only where the last user message contains this text.
        share: of the calls that fit, the share that fails, thrown with the plan's seed.
    """

    kind: Refusal | Broken | Odd
    value: str = ""
    first: int | None = None
    last: int | None = None
    model: str = ""
    streaming: bool | None = None
    contains: str = ""
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.kind in _VALUES and self.value:
            try:
                float(self.value)
            except ValueError:
                raise ValueError(f"fault {self.kind!r} takes a number, not {self.value!r}") from None
        if self.kind == "429" and not re.fullmatch(r"(?:none|date(?:\+\d+\.?\d*)?|\d+\.?\d*)?", self.value):
            raise ValueError(f"fault '429' takes seconds, none or date+SECONDS, not {self.value!r}")
        if self.first is not None and (self.first < 1 or (self.last or self.first) < self.first):
            raise ValueError(f"calls count from 1 and ranges upwards, not {self.first}-{self.last or ''}")
        if not 0 < self.share <= 1:
            raise ValueError(f"a share is above 0 and up to 100 %, not {self.share:.0%}")

    @property
    def number(self) -> float:
        """The value as a number, or the kind's usual one."""
        return float(self.value) if self.value else _VALUES.get(self.kind, 0.0)

    @property
    def refuses(self) -> bool:
        """Whether the call gets an error status."""
        return self.kind in get_args(Refusal)

    def due(self, call: int) -> bool:
        """Say whether the fault's `call`-th fitting call is one of those that fail."""
        if self.first is None:
            return True
        if self.last == 0:
            return call >= self.first
        return self.first <= call <= (self.last or self.first)


class FaultPlan:
    """Which fault, if any, befalls each call; the first fault that fits wins."""

    def __init__(self, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self._faults = tuple(faults)
        self._seen = [0] * len(self._faults)
        self._dice = [random.Random(f"{seed}/fault/{place}") for place in range(len(self._faults))]

    def choose(self, model: str, text: str, *, streaming: bool) -> Fault | None:
        """Count one call of `model`, whose last user message is `text`, and return its fault."""
        chosen = None
        for place, fault in enumerate(self._faults):
            if fault.model not in ("", model) or fault.streaming not in (None, streaming) or fault.contains not in text:
                continue
            self._seen[place] += 1
            unlucky = fault.share >= 1 or self._dice[place].random() < fault.share
            if chosen is None and unlucky and fault.due(self._seen[place]):
                chosen = fault
        return chosen


def parse_faults(text: str) -> tuple[Fault, ...]:
    """Read the compact form, or the TOML file that `text` names.

    Raises:
        ConfigError: it cannot be read; the text says where and what was expected.
    """
    if text.endswith(".toml"):
        return _read_file(Path(text))
    return tuple(_parse_one(part.strip()) for part in text.split(",") if part.strip())


def _parse_one(text: str) -> Fault:
    found = _COMPACT.fullmatch(text)
    if not found:
        raise ConfigError(f"fault {text!r}: expected kind[=value][@calls][:model][%share], as in 429=61@2")
    last = None
    if found["range"]:
        last = int(found["last"] or 0)
    row = {
        "kind": found["kind"],
        "value": found["value"] or "",
        "first": int(found["first"]) if found["first"] else None,
        "last": last,
        "model": found["model"] or "",
        "share": float(found["share"]) / 100 if found["share"] else 1.0,
    }
    return _fault(row, f"fault {text!r}")


def _read_file(path: Path) -> tuple[Fault, ...]:
    try:
        rows = tomllib.loads(path.read_text("utf-8"))["faults"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ConfigError(f"{path}: cannot be read as faults: {error!r}") from error
    return tuple(_fault(row, f"{path}, fault {number}") for number, row in enumerate(rows, start=1))


def _fault(row: object, where: str) -> Fault:
    try:
        return msgspec.convert(row, Fault)
    except msgspec.ValidationError as error:
        known = ", ".join(sorted((*get_args(Refusal), *get_args(Broken), *get_args(Odd))))
        raise ConfigError(f"{where}: {error}; kinds are {known}") from error


_BUSY = (
    "Please try again and back off exponentially. Visit https://groqstatus.com to see if there is an active incident."
)


class ErrorReply(NamedTuple):
    """An error status ready to be sent."""

    status: int
    body: bytes
    headers: dict[str, str]
    content_type: str = "application/json"


def refusal(fault: Fault, model: str, org: str, now: dt.datetime) -> ErrorReply:
    """Return what a refusing fault sends; `now` is what an HTTP date counts from."""
    kind, said = fault.kind, fault.value
    if kind == "502":
        page = (
            f"<html><head><title>502 Bad Gateway</title></head><body><h1>{said or '502 Bad Gateway'}</h1></body></html>"
        )
        return ErrorReply(502, page.encode(), {}, "text/html")
    if kind == "429":
        wait = go_duration(float(said)) if re.fullmatch(r"\d+\.?\d*", said) else "2s"
        words = bodies.limit_text(bodies.scope(model, org, "on_demand", "requests per minute (RPM)"), 30, 30, 1, wait)
        body = bodies.error(words, "requests", "rate_limit_exceeded")
        return ErrorReply(429, bodies.document(body), _retry_after(said, now))
    if kind == "413":
        words = said or bodies.too_large_text(
            bodies.scope(model, org, "on_demand", "tokens per minute (TPM)"), 8000, 66536
        )
        return ErrorReply(413, bodies.document(bodies.error(words, "tokens", "rate_limit_exceeded")), {})
    if kind in ("404", "decommissioned"):
        body = bodies.unknown_model(model) if kind == "404" else bodies.decommissioned(model)
        return ErrorReply(404 if kind == "404" else 400, bodies.document(body), {})
    status, words, type_, code = {
        "400": (400, "'messages' : this request was refused by a simulated fault", "invalid_request_error", None),
        "401": (401, "Invalid API Key", "invalid_request_error", "invalid_api_key"),
        "403": (403, "Access denied. Please check your network settings.", "permissions_error", None),
        "409": (409, "The request conflicts with another one.", "invalid_request_error", None),
        "422": (422, "The request was well-formed but could not be processed.", "invalid_request_error", None),
        "498": (498, "Flex Tier Capacity Exceeded", "internal_server_error", "capacity_exceeded"),
        "500": (500, "Internal Server Error", "internal_server_error", None),
        "503": (
            503,
            f"{model} is currently over capacity. {_BUSY}",
            "internal_server_error",
            None,
        ),
        "context": (
            400,
            "Please reduce the length of the messages or completion.",
            "invalid_request_error",
            "context_length_exceeded",
        ),
        "json_validate": (
            400,
            "Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
            "invalid_request_error",
            "json_validate_failed",
        ),
    }[kind]
    more = {"failed_generation": ""} if kind == "json_validate" else {}
    return ErrorReply(status, bodies.document(bodies.error(said or words, type_, code, **more)), {})


def _retry_after(said: str, now: dt.datetime) -> dict[str, str]:
    if said == "none":
        return {}
    if said.startswith("date"):
        moment = now + dt.timedelta(seconds=float(said.removeprefix("date") or 30))
        return {"retry-after": email.utils.format_datetime(moment, usegmt=True)}
    return {"retry-after": said or "2"}
