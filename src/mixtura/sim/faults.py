"""Faults as data: which calls fail, and how.

In the compact form faults are separated by commas. Each one is written `kind[=value][@calls][:model][%share]`:

    429@2                              the second call gets a 429
    429=61@1-3                         the first three, with Retry-After: 61
    reset@4:llama-3.1-8b-instant       that model's fourth call is reset before any header is sent
    stall%5                            five in a hundred streams stop half-way and stay open
    error_event@2-                     every stream from the second on ends in an error

Calls are numbered from 1. A fault counts only the calls that match its model (and, in a file, its `streaming` and
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
from mixtura.input_files import cause_of, read_input, shown_name, utf8_text
from mixtura.limits.window import go_duration
from mixtura.sim import bodies

RefusalKind = Literal[
    "400", "401", "403", "404", "409", "413", "422", "429", "498", "500", "502", "503",
    "context", "decommissioned", "json_validate",
]  # fmt: skip
"""The cloud answers with an error status. Nothing is generated and nothing is billed."""

BrokenTransferKind = Literal[
    "comments", "cut", "drip", "error_event", "flood", "reset", "reset_headers", "silent", "slow", "stall", "truncated"
]
"""The connection or the stream breaks, stalls or slows down."""

OddReplyKind = Literal[
    "bloat", "empty_choices", "empty_text", "ignore_n", "nested", "not_completion", "not_json", "null_content",
    "only_reasoning", "surrogate", "usage_last",
]  # fmt: skip
"""The cloud answers with status 200 and an unusual body."""

_VALUES = {
    "bloat": 4.0, "comments": 32.0, "cut": 3.0, "drip": 1.0, "error_event": 3.0, "flood": 8.0, "nested": 100_000.0,
    "reset_headers": 0.0, "slow": 5.0, "stall": 3.0, "truncated": 3.0,
}  # fmt: skip
_COMPACT = re.compile(
    r"(?P<kind>\w+)(?:=(?P<value>[^@:%]*))?(?:@(?P<first>\d+)(?P<range>-(?P<last>\d+)?)?)?"
    r"(?::(?P<model>[^%]+))?(?:%(?P<share>\d+\.?\d*))?"
)


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault to inject.

    Attributes:
        kind: the kind of fault; see `RefusalKind`, `BrokenTransferKind` and `OddReplyKind`.
        value: depends on the kind. "429": the Retry-After ("0.5", "61", "none" for no header, "date+30" for an HTTP
            date 30 seconds ahead). Other refusals: the message. "drip": seconds between two bytes. "slow": seconds
            added to the queue time. "flood": megabytes of text in one line. "bloat": megabytes of empty lists in an
            unknown field. "comments": megabytes of comments, or of blanks before a whole reply. "nested": the depth of
            a list in lists. Other broken streams: pieces sent before the break.
        first: the first matching call that fails, counting from 1; None for every matching call.
        last: the last call that fails. None means only `first`, 0 means all calls from `first` on.
        model: only calls of this model match; empty for any model.
        streaming: only streamed (true) or only unstreamed (false) calls match; None for both.
        contains: only calls match whose last user message contains this text.
        share: the share of the matching calls that fails (0 to 1), drawn with the injector's seed.
    """

    kind: RefusalKind | BrokenTransferKind | OddReplyKind
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
            raise ValueError(f"calls are numbered from 1 and a range goes upwards, not {self.first}-{self.last or ''}")
        if not 0 < self.share <= 1:
            raise ValueError(f"a share must be above 0 and at most 100 %, not {self.share:.0%}")

    @property
    def number(self) -> float:
        """The value as a number, or the kind's default when none is given."""
        return float(self.value) if self.value else _VALUES.get(self.kind, 0.0)

    @property
    def refuses(self) -> bool:
        """Whether the fault answers the call with an error status."""
        return self.kind in get_args(RefusalKind)

    def due(self, call: int) -> bool:
        """Return whether the `call`-th matching call (from 1) is in the fault's range."""
        if self.first is None:
            return True
        if self.last == 0:
            return call >= self.first
        return self.first <= call <= (self.last or self.first)


class FaultInjector:
    """Chooses the fault, if any, that hits each call. The first matching fault wins; all of them count the call."""

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
    """Parse the compact form, or read the TOML file that `text` names.

    Raises:
        ConfigError: a fault or the file cannot be read. The message says which one and what was expected.
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
        rows = tomllib.loads(utf8_text(read_input(path))).get("faults")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{shown_name(path)}: cannot be read as faults: {cause_of(error)}") from error
    if not isinstance(rows, list):
        raise ConfigError(f"{shown_name(path)}: expected at least one [[faults]] table")
    return tuple(_fault(row, f"{path}, fault {number}") for number, row in enumerate(rows, start=1))


def _fault(row: object, where: str) -> Fault:
    try:
        return msgspec.convert(row, Fault)
    except msgspec.ValidationError as error:
        known = ", ".join(sorted((*get_args(RefusalKind), *get_args(BrokenTransferKind), *get_args(OddReplyKind))))
        raise ConfigError(f"{where}: {error}; kinds are {known}") from error


_BUSY = (
    "Please try again and back off exponentially. Visit https://groqstatus.com to see if there is an active incident."
)


class ErrorReply(NamedTuple):
    """An error response, ready to be sent."""

    status: int
    body: bytes
    headers: dict[str, str]
    content_type: str = "application/json"


def refusal(fault: Fault, model: str, org: str, now: dt.datetime) -> ErrorReply:
    """Return the response of a fault that refuses the call. An HTTP date in Retry-After counts from `now`."""
    kind, value = fault.kind, fault.value
    if kind == "502":
        page = (
            "<html><head><title>502 Bad Gateway</title></head>"
            f"<body><h1>{value or '502 Bad Gateway'}</h1></body></html>"
        )
        return ErrorReply(502, page.encode(), {}, "text/html")
    if kind == "429":
        wait = go_duration(float(value)) if re.fullmatch(r"\d+\.?\d*", value) else "2s"
        words = bodies.limit_message(
            bodies.scope(model, org, "on_demand", "requests per minute (RPM)"), 30, 30, 1, wait
        )
        body = bodies.error(words, "requests", "rate_limit_exceeded")
        return ErrorReply(429, bodies.json_document(body), _retry_after(value, now))
    if kind == "413":
        words = value or bodies.too_large_message(
            bodies.scope(model, org, "on_demand", "tokens per minute (TPM)"), 8000, 66536
        )
        return ErrorReply(413, bodies.json_document(bodies.error(words, "tokens", "rate_limit_exceeded")), {})
    if kind in ("404", "decommissioned"):
        body = bodies.unknown_model(model) if kind == "404" else bodies.decommissioned_model(model)
        return ErrorReply(404 if kind == "404" else 400, bodies.json_document(body), {})
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
    return ErrorReply(status, bodies.json_document(bodies.error(value or words, type_, code, **more)), {})


def _retry_after(value: str, now: dt.datetime) -> dict[str, str]:
    if value == "none":
        return {}
    if value.startswith("date"):
        moment = now + dt.timedelta(seconds=float(value.removeprefix("date") or 30))
        return {"retry-after": email.utils.format_datetime(moment, usegmt=True)}
    return {"retry-after": value or "2"}
