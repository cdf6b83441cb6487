"""What a provider's failed replies mean: the one place where status, headers and body become an error.

    what came                                                  becomes
    code model_decommissioned, model_not_found; 404 on a model ModelGoneError
    407, 511; a web page with 401, 403, 451                    BlockedError
    one model that the key does not get (`denials.py`)         ModelGoneError, `blocked`
    code insufficient_quota, blocked_api_access; 402           UnauthorizedError
    403 on what was asked                                      RejectedError
    401, 403; code organization_restricted                     UnauthorizedError
    code tool_use_failed, json_validate_failed                 BadGenerationError
    code context_length_exceeded; 413; 429 asking > its limit  TooLargeError
    429; code rate_limit_exceeded                              RateLimitedError
    408, 409, 425, 498, 5xx                                    OverloadedError
    other 4xx; 3xx                                             RejectedError
    a success that holds no completion                         BrokenReplyError

An error inside a stream has no status of its own: its `status_code` counts if it names one, then its code, then
its type. The first row that fits is taken.
"""

import datetime as dt
import email.utils
import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from mixtura.chat import RateLimitHeaders
from mixtura.errors import (
    BadGenerationError,
    BlockedError,
    BrokenReplyError,
    Exceeded,
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TooLargeError,
    UnauthorizedError,
    followed,
)
from mixtura.limits.window import parse_duration
from mixtura.models.catalog import Catalog, CatalogProvider
from mixtura.models.openai import denials
from mixtura.models.openai.mend import mended
from mixtura.models.openai.pages import BETWEEN, TLS_WANTED, page_in
from mixtura.models.openai.reply import WireError, as_json
from mixtura.secret import scrub

_LONGEST = 500
# As much of a text as is looked at: patterns must not be run over megabytes that a stranger sent.
_READ = 4000
_GONE_CODES = frozenset(
    {"model_decommissioned", "model_not_found", "model_not_available", "model_deprecated", "DeploymentNotFound"}
)
_MONEY_CODES = frozenset({"insufficient_quota", "blocked_api_access", "billing_hard_limit_reached"})
_KEY_CODES = frozenset({"invalid_api_key", "permissions_error"})
_KEY_TYPES = frozenset({"authentication_error", "permissions_error", "permission_error"})
_GENERATION_CODES = frozenset({"tool_use_failed", "json_validate_failed"})
# With a web page in place of JSON they are not the provider's; two of them never are.
_BY_OTHERS = frozenset({401, 403, 407, 451, 511})
_BUSY_STATUS = frozenset({408, 409, 425, 498})
_GONE_TEXT = re.compile(
    r"\bmodel\b[^.]{0,20}?\S{0,100}?[^.]{0,20}?\b(?:not found|does not exist|not exist|decommissioned)"
    r"|\b(?:unknown|invalid) model\b|\bis not a valid model\b|\bno endpoints found for\b",
    re.IGNORECASE,
)
_TOO_LONG_TEXT = re.compile(
    r"maximum context length|context (?:length|window|size)[^.]{0,40}exceed|exceeds? the (?:available )?context",
    re.IGNORECASE,
)
_ASKED = re.compile(r"\bLimit (\d+).*?\bRequested (\d+)", re.DOTALL)
_EXCEEDED = re.compile(r"\b(requests|tokens) per (minute|day)\b[^:]{0,20}: Limit (\d+)(?:, Used (\d+))?", re.IGNORECASE)
_TRY_AGAIN = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:ms|us|µs|ns|h|m|s))+)", re.IGNORECASE)


_LIMIT_HEADERS = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
)


_ABSENT = msgspec.Raw()
_NOTHING = ("", "null", "false", "0", "{}", "[]")
_STATUS = re.compile(r"[1-5]\d\d")


class _Said(NamedTuple):
    """What a failed reply says, wherever in the body it says it."""

    text: str
    code: str = ""
    type: str = ""
    status: int | None = None
    generated: str = ""
    page: bool = False


class Failures:
    """Turns the failures of one provider into errors; the catalogue lets it name what to use instead.

    Args:
        provider: its name, as recipes write it.
        catalog: where replacements, shut-down dates and the place to get a key stand.
        today: the day to judge them by.
    """

    def __init__(self, provider: str, catalog: Catalog, today: Callable[[], dt.date]) -> None:
        self.provider = provider
        self._catalog = catalog
        self._today = today

    @property
    def _row(self) -> CatalogProvider:
        return self._catalog.provider(self.provider)

    def of_reply(self, model: str, status: int, headers: Mapping[str, str], body: bytes | str) -> ModelError:
        """Return the error that a reply with a failing status means."""
        return self._error(model, status, _said(body), headers)

    def of_body(self, model: str, status: int | None, headers: Mapping[str, str], body: object) -> ModelError:
        """Return the error for a body that is already parsed (as SDKs hand it out), or an error object."""
        said = _said(body if isinstance(body, (bytes, str)) else _written(body))
        return self._error(model, said.status or 200 if status is None else status, said, headers)

    def of_wire(self, model: str, problem: WireError) -> ModelError:
        """Return the error for a success that holds no completion, or an error in place of one."""
        if problem.reported is None:
            error = BrokenReplyError(self.provider, model, f"{problem}")
            error.alike = problem.alike
            return error
        return self.of_body(model, None, {}, problem.reported)

    def _error(self, model: str, status: int, said: _Said, headers: Mapping[str, str]) -> ModelError:
        said = said._replace(text=said.text[:_READ], code=scrub(said.code[:_LONGEST]))
        text = _cut(said.text) or f"status {status} without a word"
        if status in _BY_OTHERS and (said.page or status in (407, 511)):
            return self._make(BlockedError, model, _of_others(status, text), status, said)
        code, kind = said.code, said.type
        refused = self._refused(model, status, said, text)
        if refused is not None:
            return refused
        if code in _GENERATION_CODES:
            return self._make(BadGenerationError, model, text, status, said)
        if code == "context_length_exceeded" or status == 413 or _never_fits(status, said):
            return self._make(TooLargeError, model, text, status, said)
        wait = retry_after(headers, said.text)
        if status == 429 or code == "rate_limit_exceeded":
            return self._make(RateLimitedError, model, text, status, said, wait)
        if status in _BUSY_STATUS or status >= 500:
            return self._make(OverloadedError, model, text, status, said, wait)
        if 300 <= status < 400 and status != 304:
            where = headers.get("Location", "elsewhere")
            text = f"redirected to {where!r}; set the base URL to where the API really is"
            if "://" in where:
                text += ", or log in there if that is a page of your network's"
        elif TLS_WANTED.search(said.text):
            text += "; write https:// in the base URL"
        elif code == "unknown_url":
            text += "; is the base URL right?"
        if status >= 300 or kind == "invalid_request_error":
            return self._make(RejectedError, model, text, status, said)
        return self._make(OverloadedError, model, text, status, said, wait)

    def _refused(self, model: str, status: int, said: _Said, text: str) -> ModelError | None:
        """Return the error where a model, a key or an account is refused; None where it is something else."""
        code, kind = said.code, said.type
        # A code says what it is; only without one the words are asked.
        wordless = not code or code in ("not_found", "NOT_FOUND")
        gone = code in _GONE_CODES or kind == "invalid_model" or (status == 410 and "model" in said.text.lower())
        if gone or (wordless and status in (400, 404) and _GONE_TEXT.search(said.text)):
            return self._gone(model, status, said, text)
        if code in _MONEY_CODES or status == 402:
            return self._make(UnauthorizedError, model, f"{text}; the account has no budget left for it", status, said)
        if status == 403 and denials.of_content(said.text):
            return self._make(RejectedError, model, text, status, said)
        if denials.of_model(model, status, code, kind, said.text):
            return self._gone(model, status, said, text, blocked=True)
        if status <= 403 and denials.of_account(code, said.text):
            return self._make(UnauthorizedError, model, text, status, said)
        if status in (401, 403) or code in _KEY_CODES or (status == 200 and kind in _KEY_TYPES):
            return self._make(UnauthorizedError, model, text + self._key_hint(status), status, said)
        return None

    def _make(
        self,
        kind: type[ModelError],
        model: str,
        text: str,
        status: int,
        said: _Said,
        wait: float | None = None,
    ) -> ModelError:
        error = kind(self.provider, model, text, status=status, code=said.code, retry_after=wait)
        if isinstance(error, BadGenerationError):
            error.failed_generation = scrub(said.generated)
        error.exceeded = exceeded(said.text)
        return error

    def _key_hint(self, status: int) -> str:
        row = self._row
        if status == 403:
            return "; the key may not use this" + (f", see {row.keys_at}" if row.keys_at else "")
        where = f" (keys are made at {row.keys_at})" if row.keys_at else ""
        return f"; check {row.key_env}{where}" if row.key_env else ""

    def _gone(self, model: str, status: int, said: _Said, text: str, *, blocked: bool = False) -> ModelGoneError:
        today = self._today()
        row = self._catalog.get(self.provider, model)
        replacement = self._catalog.living_replacement(self.provider, model, today)
        nearest = tuple(
            near for near in self._catalog.nearest(self.provider, model, today, 4) if near not in (model, replacement)
        )[:3]
        if blocked:
            why = followed(text, denials.next_step(self._row, model, said.code, said.text))
        elif row is not None and row.shut_down is not None and row.shut_down <= today:
            why = f"`{model}` was shut down on {row.shut_down}"
        elif row is not None and row.enterprise_since is not None and row.enterprise_since <= today:
            why = f"`{model}` is for Enterprise keys only since {row.enterprise_since}"
        else:
            why = text.rstrip(".")
        others = ", ".join(repr(near) for near in nearest)
        if replacement is not None:
            why += f"; use {replacement!r} (its replacement)" + (f" or one of {others}" if others else "")
        elif others:
            why += f"; {'others' if blocked else 'served'} are {others}"
        return ModelGoneError(
            self.provider,
            model,
            why,
            replacement=replacement,
            nearest=nearest,
            status=status,
            code=said.code,
            blocked=blocked,
        )


def exceeded(text: str) -> Exceeded | None:
    """Return the window that a refusal's words name, and how full it is; None when they name none."""
    found = _EXCEEDED.search(text)
    if found is None:
        return None
    dimension = f"{found[1][0]}p{found[2][0]}".lower()
    return Exceeded(dimension, float(found[3]), None if found[4] is None else float(found[4]))


def rate_limit_headers(headers: Mapping[str, str]) -> RateLimitHeaders | None:
    """Return what a reply's `x-ratelimit-*` headers say, None when there are none; what is no number is not said."""
    if "x-ratelimit-limit-tokens" not in headers and "x-ratelimit-limit-requests" not in headers:
        return None
    return RateLimitHeaders(*(_number(headers.get(name)) for name in _LIMIT_HEADERS))


def retry_after(headers: Mapping[str, str], text: str = "") -> float | None:
    """Return the seconds a reply asks to wait, None when it does not say.

    The headers count first (`retry-after-ms`, then `Retry-After` in seconds or as an HTTP date, measured from
    the reply's own `Date`), then the "try again in 1m7.39s" of the text.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("Retry-After") or headers.get("retry-after")
    seconds = _number(said)
    if seconds is None and said:
        seconds = _until(said, headers.get("Date") or headers.get("date"))
    if seconds is not None:
        return seconds
    found = _TRY_AGAIN.search(text)
    return parse_duration(found[1].lower()) if found else None


def _of_others(status: int, text: str) -> str:
    """Return the sentence for a refusal by something on the way to the provider."""
    if status == 407:
        return "a proxy on the way wants a user and a password (407); name it with both in HTTPS_PROXY or HTTP_PROXY"
    if status == 511:
        return f"the network wants a login first (511), {text}; open any page in a browser here"
    return f"{text} and status {status}, {BETWEEN}"


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _until(moment: str, now: str | None) -> float | None:
    try:
        then = email.utils.parsedate_to_datetime(moment)
        start = email.utils.parsedate_to_datetime(now or "")
        return max(0.0, (then - start).total_seconds())
    except (ValueError, TypeError):
        return None


def _never_fits(status: int, said: _Said) -> bool:
    if status == 429 or said.code == "rate_limit_exceeded":
        asked = _ASKED.search(said.text)
        return asked is not None and int(asked[2]) > int(asked[1])
    return status == 400 and _TOO_LONG_TEXT.search(said.text) is not None


class _Words(msgspec.Struct):
    """The fields of a failed reply, or of the error object in it, in which servers say what is wrong."""

    error: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    detail: msgspec.Raw = _ABSENT
    msg: msgspec.Raw = _ABSENT
    status_code: msgspec.Raw = _ABSENT
    status: msgspec.Raw = _ABSENT
    code: msgspec.Raw = _ABSENT
    type: msgspec.Raw = _ABSENT
    failed_generation: msgspec.Raw = _ABSENT


class _First(msgspec.Struct, array_like=True):
    """The first of a list; some servers wrap their error in one."""

    first: msgspec.Raw


def _said(body: bytes | str) -> _Said:
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    for broken in (False, True):
        try:
            return _said_in(msgspec.json.decode(mended(data) if broken else data, type=msgspec.Raw))
        except (ValueError, RecursionError):
            # No JSON, or broken in a way that can be mended.
            continue
    if (page := page_in(data)) is not None:
        return _Said(f"answered with {page}", page=True)
    return _Said(data[:_READ].decode("utf-8", "replace"))


def _said_in(body: msgspec.Raw) -> _Said:
    """Find the words in a body: OpenAI's envelope, or the ways other servers write it. Nothing else is decoded."""
    if _starts(body) == b"[":
        body = msgspec.json.decode(body, type=_First).first
    if _starts(body) != b"{":
        return _Said(_text_of(body))
    outer = msgspec.json.decode(body, type=_Words)
    if _starts(outer.error) == b'"' and (words := _text_of(outer.error)):
        return _Said(words, _text_of(outer.code), _text_of(outer.type))
    raw = outer.error if _starts(outer.error) == b"{" else body
    error = msgspec.json.decode(raw, type=_Words)
    words = _text_of(error.message) or _text_of(error.detail) or _text_of(error.msg)
    status = _text_of(error.status_code) or _text_of(error.status) or _text_of(error.code)
    return _Said(
        words or _text_of(raw),
        _text_of(error.code) if _starts(error.code) == b'"' else "",
        _text_of(error.type),
        int(status) if _STATUS.fullmatch(status) else None,
        _text_of(error.failed_generation),
    )


def _starts(raw: msgspec.Raw) -> bytes:
    """Return the sign that says what a JSON value is."""
    return bytes(memoryview(raw)[:_LONGEST]).lstrip()[:1]


def _text_of(raw: msgspec.Raw) -> str:
    """Return a text, or another value as the JSON it is written in; "" for a value that says nothing."""
    if _starts(raw) == b'"':
        return msgspec.json.decode(raw, type=str)
    text = bytes(memoryview(raw)[:_READ]).decode("utf-8", "replace").strip()
    return "" if text in _NOTHING else text


def _written(body: object) -> bytes | str:
    """Return the JSON of a body that a client's library has parsed."""
    try:
        return as_json(body)
    except (TypeError, ValueError, RecursionError):
        return type(body).__name__


def _cut(text: str) -> str:
    """Return `text` on one line and short. Scrubbed first: half a key would no longer look like one."""
    line = " ".join(scrub(text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
