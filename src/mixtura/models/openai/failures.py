"""What a provider's failed replies mean: the one place where status, headers and body become an error.

    what came                                                  becomes
    code model_decommissioned, model_not_found; 404 on a model ModelGoneError
    407, 511; a web page with 401, 403, 451                    BlockedError
    an account without money (`money.py`); 402                 UnauthorizedError, `unpaid`
    one model that the key does not get (`denials.py`)         ModelGoneError, `blocked`
    403 on what was asked                                      RejectedError
    401, 403; code organization_restricted                     UnauthorizedError
    code tool_use_failed, json_validate_failed                 BadGenerationError
    a prompt too long (`overflow.py`); 413; 429 asking > limit TooLargeError
    a model that is still loaded (`waits.py`)                  OverloadedError, `loading`
    429; code rate_limit_exceeded                              RateLimitedError
    408, 409, 425, 498, 5xx                                    OverloadedError
    other 4xx; 3xx                                             RejectedError
    a success that holds no completion                         BrokenReplyError
    a finish reason that says that it failed                   what `finish.py` says of the word

An error inside a success or a stream has no status of its own: the one in its body counts if it names one, then its
code, its type, its words. The first row that fits is taken. `said.py` finds the words, `waits.py` when to come back.
"""

import datetime as dt
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

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
from mixtura.models.catalog import Catalog, CatalogProvider
from mixtura.models.openai import denials, money, overflow, waits
from mixtura.models.openai.pages import BETWEEN, TLS_WANTED
from mixtura.models.openai.reply import WireError, as_json
from mixtura.models.openai.said import READ, Said, said_in
from mixtura.models.openai.waits import retry_after
from mixtura.secret import scrub

__all__ = ["Failures", "exceeded", "rate_limit_headers", "retry_after"]

_LONGEST = 500
_GONE_CODES = frozenset(
    {"model_decommissioned", "model_not_found", "model_not_available", "model_deprecated", "DeploymentNotFound"}
)
_KEY_CODES = frozenset({"invalid_api_key", "permissions_error", "InvalidApiKey"})
_KEY_TYPES = frozenset({"authentication_error", "permissions_error", "permission_error", "UNAUTHENTICATED"})
_GENERATION_CODES = frozenset({"tool_use_failed", "json_validate_failed"})
# With a web page in place of JSON they are not the provider's; two of them never are.
_BY_OTHERS = frozenset({401, 403, 407, 451, 511})
_BUSY_STATUS = frozenset({408, 409, 425, 498})
_REQUEST_TYPES = frozenset({"invalid_request_error", "not_found_error", "INVALID_ARGUMENT", "BadRequestError"})
_GONE_TEXT = re.compile(
    r"\bmodel\b[^.]{0,20}?\S{0,100}?[^.]{0,20}?\b(?:not found|does not exist|not exist|decommissioned)"
    r"|\b(?:unknown|invalid) model\b|\bis not a valid model\b|\bno endpoints found for\b",
    re.IGNORECASE,
)
_LIMIT_CODES = frozenset(
    {
        *("ratelimitexceeded", "ratelimiterror", "ratelimitreached", "ratelimited", "toomanyrequests"),
        *("resourceexhausted", "requestlimitexceeded", "throttlingexception"),
    }
)
# In a success there is no status to say it.
_LIMIT_TEXT = re.compile(
    r"rate[- _]?limit|too many (?:concurrent )?requests|\bthrottl|quota (?:\w+ )?exceeded|exceeded (?:\w+ ){0,3}quota"
    r"|\b[rt]p[md] limit|\bdaily (?:\w+ )?(?:limit|quota|allocation|allowance)|请求过于频繁|请求频率|限流|并发数",
    re.IGNORECASE,
)
_ASKED = re.compile(r"\bLimit (\d+).*?\bRequested (\d+)", re.DOTALL)
_EXCEEDED = re.compile(r"\b(requests|tokens) per (minute|day)\b[^:]{0,20}: Limit (\d+)(?:, Used (\d+))?", re.IGNORECASE)

_NO_MONEY = "the account has no budget left for it"
_Kind = TypeVar("_Kind", bound=ModelError)

_LIMIT_HEADERS = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
)


class Failures:
    """Turns the failures of one provider into errors; the catalogue lets it name what to use instead.

    Args:
        provider: its name, as recipes write it.
        catalog: where replacements, shut-down dates and the place to get a key stand.
        today: the day to judge them by.
        clock: seconds since 1970, by which moments are read in a reply that does not say when it was sent.
        advice: what is said of the base URL where its server knows no such path, as the end of a sentence.
    """

    def __init__(
        self,
        provider: str,
        catalog: Catalog,
        today: Callable[[], dt.date],
        *,
        clock: Callable[[], float] = time.time,
        advice: str = "",
    ) -> None:
        self.provider = provider
        self._catalog = catalog
        self._today = today
        self._clock = clock
        self._advice = advice or "; is the base URL right?"

    @property
    def _row(self) -> CatalogProvider:
        return self._catalog.provider(self.provider)

    def of_reply(self, model: str, status: int, headers: Mapping[str, str], body: bytes | str) -> ModelError:
        """Return the error that a reply with a failing status means."""
        return self._error(model, status, said_in(body), headers)

    def of_body(self, model: str, status: int | None, headers: Mapping[str, str], body: object) -> ModelError:
        """Return the error for a body that is already parsed (as SDKs hand it out), or an error object."""
        said = said_in(body if isinstance(body, (bytes, str)) else _written(body))
        return self._error(model, said.status or 200 if status is None else status, said, headers)

    def of_wire(self, model: str, problem: WireError) -> ModelError:
        """Return the error for a success that holds no completion, or an error in place of one."""
        if problem.reported is None:
            error = problem.kind(self.provider, model, f"{problem}")
            if isinstance(error, BrokenReplyError):
                error.alike = problem.alike
            return error
        return self.of_body(model, None, {}, problem.reported)

    def _error(self, model: str, status: int, said: Said, headers: Mapping[str, str]) -> ModelError:
        said = said._replace(text=said.text[:READ], code=scrub(said.code[:_LONGEST]))
        text = _cut(said.text) or f"status {status} without a word"
        if status in _BY_OTHERS and (said.page or status in (407, 511)):
            return self._make(BlockedError, model, _of_others(status, text), status, said)
        code = said.code
        refused = self._refused(model, status, said, text, headers)
        if refused is not None:
            return refused
        if code in _GENERATION_CODES:
            return self._make(BadGenerationError, model, text, status, said)
        if status == 413 or _never_fits(status, said):
            return self._make(TooLargeError, model, text, status, said)
        if waits.loading(status, said):
            return self._loading(model, text, status, said, headers)
        if _is_limit(status, said):
            wait = waits.of_limit(headers, said, self._clock())
            text = followed(text, wait.note) if wait.note else text
            return self._make(RateLimitedError, model, text, status, said, wait.seconds)
        if status in _BUSY_STATUS or status >= 500:
            return self._make(OverloadedError, model, text, status, said, self._stated(headers, said))
        if 300 <= status < 400 and status != 304:
            where = headers.get("Location", "elsewhere")
            text = f"redirected to {where!r}; set the base URL to where the API really is"
            if "://" in where:
                text += ", or log in there if that is a page of your network's"
        elif TLS_WANTED.search(said.text):
            text += "; write https:// in the base URL"
        elif code == "unknown_url" or status in (404, 405):
            text += self._advice
        if status >= 300 or said.type in _REQUEST_TYPES:
            return self._make(RejectedError, model, text, status, said)
        return self._make(OverloadedError, model, text, status, said, self._stated(headers, said))

    def _stated(self, headers: Mapping[str, str], said: Said) -> float | None:
        return waits.stated(headers, said, self._clock())

    def _loading(self, model: str, text: str, status: int, said: Said, headers: Mapping[str, str]) -> OverloadedError:
        wait = self._stated(headers, said)
        error = self._make(OverloadedError, model, text, status, said, waits.estimated(said) if wait is None else wait)
        error.loading = True
        return error

    def _refused(self, model: str, status: int, said: Said, text: str, headers: Mapping[str, str]) -> ModelError | None:
        """Return the error where a model, a key or an account is refused; None where it is something else."""
        code, kind = said.code, said.type
        # A code says what it is; only without one the words are asked.
        wordless = not code or code in ("not_found", "NOT_FOUND")
        gone = code in _GONE_CODES or kind == "invalid_model" or (status == 410 and "model" in said.text.lower())
        if gone or (wordless and status in (400, 404) and _GONE_TEXT.search(said.text)):
            return self._gone(model, status, said, text)
        if status == 402 or (status not in (404, 413) and self._is_unpaid(status, said, headers)):
            unpaid = self._make(UnauthorizedError, model, followed(text, _NO_MONEY), status, said)
            unpaid.unpaid = True
            return unpaid
        if status == 403 and denials.of_content(said.text):
            return self._make(RejectedError, model, text, status, said)
        if denials.of_model(model, status, code, kind, said.text):
            return self._gone(model, status, said, text, blocked=True)
        if status <= 403 and denials.of_account(code, said.text):
            return self._make(UnauthorizedError, model, text, status, said)
        keyless = code in _KEY_CODES or (status == 200 and (kind in _KEY_TYPES or denials.of_key(said.text)))
        keyless = keyless or (status == 400 and "api key" in said.text.lower() and denials.of_key(said.text))
        if keyless or (status in (401, 403) and not _is_limit(status, said)):
            return self._make(UnauthorizedError, model, text + self._key_hint(status), status, said)
        return None

    def _is_unpaid(self, status: int, said: Said, headers: Mapping[str, str]) -> bool:
        passes = said.status == 429 or status == 429
        passes = passes and (waits.by_google(said) or self._stated(headers, said) is not None)
        return money.is_gone(said.code, said.type, said.text, passes=passes)

    def _make(
        self,
        kind: type[_Kind],
        model: str,
        text: str,
        status: int,
        said: Said,
        wait: float | None = None,
    ) -> _Kind:
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

    def _gone(self, model: str, status: int, said: Said, text: str, *, blocked: bool = False) -> ModelGoneError:
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


def _is_limit(status: int, said: Said) -> bool:
    """Say whether a refusal is for a limit that refills."""
    code, kind = money.plain(said.code), money.plain(said.type)
    if status == 429 or code in _LIMIT_CODES or kind in _LIMIT_CODES or code.startswith("throttling"):
        return True
    if status >= 500:
        # A proxy in front of another server passes its refusal on as its own failure.
        return said.status == 429
    return status == 200 and _LIMIT_TEXT.search(said.text) is not None


def _never_fits(status: int, said: Said) -> bool:
    if overflow.is_code(said.code, said.type):
        return True
    if _is_limit(status, said):
        asked = _ASKED.search(said.text)
        return asked is not None and int(asked[2]) > int(asked[1])
    return overflow.is_said(status, said.text)


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
