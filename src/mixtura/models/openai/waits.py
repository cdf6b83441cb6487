"""When a server says that it may be asked again.

    where                                             how it is written
    `retry-after-ms`                                  milliseconds
    `Retry-After`                                     seconds, "39s", "6m0s", a date, seconds since 1970
    the error's own fields                            Gemini's `RetryInfo`, `retry_after`, `resets_in_seconds`, ...
    its words                                         "try again in 1m7.39s", "retry after 26 seconds", "wait 5 minutes"
    `x-ratelimit-reset-*`, `anthropic-ratelimit-*`,   as `Retry-After`, and milliseconds since 1970: of a window with
    `ratelimit-reset`, `ratelimit`; the same in       nothing left, else the longest. Only a refusal for a rate limit
    OpenRouter's `metadata.headers`                   is read so: every reply states when its windows are full again
    a quota of the day, without any of these          until the next day, of Google in California, else of UTC

The first that can be read counts. A moment is measured from the reply's own `Date`, or else from this machine's clock.
What is negative, no number, or more than a month is not read at all.
"""

import contextlib
import datetime as dt
import email.utils
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from mixtura.models.openai.said import READ, Said, text_of, value_of

LONGEST = 31 * 86_400.0
"""Seconds; whoever asks to wait for longer is not believed."""

# From this number on seconds are since 1970 (2001), and from this one on thousandths, twice over (1973).
_SINCE_1970, _THOUSANDTHS = 1e9, 1e11
_MOST_READ = 64
_MOST_NUMBER = 10**30
_MOST_LEADS = 40
_UNREADABLE = (ValueError, TypeError, OverflowError, IndexError, OSError)
_UNITS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(
    r"[\s,]{0,3}(?:and\s{1,3})?([0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})\s{0,3}"
    r"(milliseconds?|millis|msecs?|ms|us|µs|μs|ns|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-zµμ])",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[+]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})")
_LEAD = re.compile(
    r"\b(?:(?:try|trying|ask|retry|retrying|request|come back|available|back) again|re-?try(?:ing)?"
    r"(?: (?:your|the|this) (?:request|call))?"
    r"|wait(?:ing)?|resets?|available|allowed|(?:another|next) request|retry[-_ ]?(?:after|delay))\b"
    r"""["'\s:=]{0,4}(?:in|after|for|at|on|until)?["'\s:=]{0,4}"""
    r"(?:about |around |approximately |at least |another |~ ?){0,2}",
    re.IGNORECASE,
)
_BARE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?!\s?[0-9a-z:/-])", re.IGNORECASE)
_CHINESE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s{0,3}(毫秒|秒|分钟|小时|天)\s{0,3}(?:后|之后|以后)")
_CHINESE_UNITS = {"毫秒": 1e-3, "秒": 1.0, "分钟": 60.0, "小时": 3600.0, "天": 86_400.0}
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)[0-9]{0,3}"
    r" ?(Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?"
)
_STRUCTURED = re.compile(r"\b(?:t|reset)=([0-9]{1,12})\b")
_NOTHING_LEFT = re.compile(r"\b(?:r|remaining)=0\b")
_FIELDS = {
    *("retrydelay", "retryafter", "retryafterseconds", "retryafterms", "quotaresetdelay", "quotaresettimestamp"),
    *("resetsinseconds", "resetsat", "resetat"),
}
_QUOTA_NAMES = ("quotaid", "quotametric", "limitsource")
_MOST_FIELDS = 200
_DAY = re.compile(
    r"per[-_ ]?day\b|perday|\bdaily\b|_daily\b|\b(?:rpd|tpd)\b|today['’]s? (?:quota|limit|allowance)"
    r"|(?:quota|limit) (?:for|of) today|again tomorrow|back tomorrow|每日|每天|今日|当日",
    re.IGNORECASE,
)
_SHORTER = re.compile(
    r"per[-_ ]?(?:minute|second|hour|min|sec)\b|perminute|\b(?:rpm|tpm|rps)\b|每分钟|每秒|每小时", re.IGNORECASE
)
_GOOGLE = re.compile(r"generativelanguage|ai\.google\.dev|aiplatform\.googleapis", re.IGNORECASE)
# A quota of Google's day is refused with the delay of another window. One so long is its own.
_OF_A_DAY = 600.0
_LOADING = re.compile(
    r"\bloading (?:the |a |your )?(?:\S{1,120} )?(?:model|weights|checkpoint)"
    r"|\b(?:is|are|still|currently) (?:currently |still |now )?(?:loading|warming up|starting|initiali[sz]ing)\b"
    r"|\bbeing (?:loaded|initiali[sz]ed|started|warmed up)\b|\bmodel\S{0,120} (?:loading|warming up)\b"
    r"|\b(?:model|server|engine|worker|service|backend|endpoint|instance)\b[^.]{0,40}\bnot (?:yet |been )?"
    r"(?:ready|initiali[sz]ed|started)\b|\bnot (?:yet loaded|ready yet|loaded yet)\b"
    r"|\bcold start(?:ing)?\b|\bwaking up\b|模型正在加载|模型加载中|正在启动",
    re.IGNORECASE,
)
_NOT_LOADING = re.compile(
    r"\b(?:fail(?:ed|ure)?|errors?|unable|could not|couldn['’]t|cannot|can['’]t)\b[^.]{0,40}\b(?:load|start|initiali)",
    re.IGNORECASE,
)


class Wait(NamedTuple):
    """How long a refusal for a rate limit asks to wait, None for not said, and what is to be said about it."""

    seconds: float | None
    note: str = ""


def seconds_in(text: str, now: float | None = None) -> float | None:
    """Return the seconds that a header or a field asks to wait; None for what cannot be read, or be meant.

    Args:
        text: seconds ("39", "0.5"), a duration ("39s", "6m0s", "26 seconds"), a date (of HTTP or ISO 8601), or
            seconds or milliseconds since 1970.
        now: seconds since 1970, None where no clock is to be trusted: moments are not read then.

    Returns:
        0 to `LONGEST`; a moment that is over is 0.
    """
    text = text[:_MOST_READ].strip().strip("\"'")
    if _PLAIN.fullmatch(text):
        return _span(float(text), now)
    if not text or text[0] == "-":
        return None
    found, end = _duration_at(text, 0)
    if found is not None and not text[end:].strip():
        return _believed(found)
    return _until(text, now)


def _span(number: float, now: float | None) -> float | None:
    """Return the seconds that a number without a unit means: a span, or a moment since 1970."""
    for _ in range(3):
        if number < _THOUSANDTHS:
            break
        number /= 1000
    if number < _SINCE_1970:
        return _believed(number)
    return None if now is None or number >= _THOUSANDTHS else _believed(max(0.0, number - now))


def _believed(seconds: float) -> float | None:
    return seconds if 0.0 <= seconds <= LONGEST else None


def _duration_at(text: str, at: int) -> tuple[float | None, int]:
    """Return the duration that begins at a place of a text, None for none, and where it ends."""
    total: float | None = None
    for _ in range(6):
        part = _PART.match(text, at)
        if part is None:
            break
        total = (total or 0.0) + float(part[1]) * _unit(part[2].lower())
        at = part.end()
    return total, at


def _unit(word: str) -> float:
    if word.startswith(("milli", "msec")):
        return 1e-3
    return _UNITS.get(word) or _UNITS[word[0]]


def _until(text: str, now: float | None) -> float | None:
    """Return the seconds until a moment, None where it is none."""
    if now is None:
        return None
    try:
        iso = _MOMENT.fullmatch(text)
        if iso is not None:
            zone = (iso[2] or "").replace("UTC", "").replace("GMT", "").replace("Z", "")
            then = dt.datetime.fromisoformat(f"{iso[1]}{zone}")
        else:
            then = email.utils.parsedate_to_datetime(text)
        return _believed(max(0.0, _since_1970(then) - now))
    except _UNREADABLE:
        return None


def _since_1970(moment: dt.datetime) -> float:
    """Return a moment in seconds; one that names no zone is meant in UTC."""
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)).timestamp()


def retry_after(headers: Mapping[str, str], text: str = "", clock: float | None = None) -> float | None:
    """Return the seconds that a reply asks to wait by its headers `retry-after-ms` and `Retry-After`, or by `text`.

    Args:
        headers: of the reply.
        text: its words.
        clock: seconds since 1970, for a reply that has no `Date`; None where moments in such a one are not read.
    """
    return stated(headers, Said(text), clock)


def stated(headers: Mapping[str, str], said: Said, clock: float | None = None) -> float | None:
    """Return the seconds that a reply asks to wait, None where it does not say; see the head of this file."""
    lowered = _lowered(headers)
    now = _sent(lowered, clock)
    found = _in_headers(lowered, now)
    if found is None and said.beside:
        found = _in_fields(said, now)
    return _in_words(said.text, now) if found is None else found


def of_limit(headers: Mapping[str, str], said: Said, clock: float) -> Wait:
    """Return the seconds that a refusal for a rate limit asks to wait.

    Args:
        headers: of the reply.
        said: what its body says.
        clock: seconds since 1970, for a reply that has no `Date`.
    """
    found, today = stated(headers, said, clock), _is_of_day(said)
    lowered = _lowered(headers)
    now = _sent(lowered, clock)
    if found is None:
        found = _refilled(lowered, now)
    if found is None and said.beside:
        found = _refilled(_carried(said), now)
    google = by_google(said)
    if today and (found is None or (google and found < _OF_A_DAY)):
        return _next_day(now if now is not None else clock, google=google)
    return Wait(found)


def loading(status: int, said: Said) -> bool:
    """Say whether a server refuses only because it still loads its model, or starts."""
    if status in (401, 403, 429) or said.page:
        return False
    if said.beside and "estimated_time" in said.beside:
        return True
    return _LOADING.search(said.text) is not None and _NOT_LOADING.search(said.text) is None


def estimated(said: Said) -> float | None:
    """Return the seconds that a server guesses its model takes to load, None where it does not."""
    raw = (said.beside or {}).get("estimated_time")
    return None if raw is None else seconds_in(text_of(raw))


def by_google(said: Said) -> bool:
    """Say whether an error is Google's, which says of a minute's quota what others say of an empty account."""
    return said.type == "RESOURCE_EXHAUSTED" or _GOOGLE.search(said.text[:READ]) is not None or bool(_quotas(said))


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        found.setdefault(str(name).lower(), str(value))
    return found


def _sent(headers: Mapping[str, str], clock: float | None) -> float | None:
    """Return when a reply was sent, in seconds since 1970: by its own `Date`, else by `clock`."""
    try:
        return _since_1970(email.utils.parsedate_to_datetime(headers["date"]))
    except (KeyError, *_UNREADABLE):
        return clock


def _in_headers(headers: Mapping[str, str], now: float | None) -> float | None:
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _PLAIN.fullmatch(milliseconds) and (found := _believed(float(milliseconds) / 1000)) is not None:
        return found
    said = headers.get("retry-after")
    return seconds_in(said, now) if said else None


def _in_fields(said: Said, now: float | None) -> float | None:
    """Return the wait that stands in the fields of an error, or in the headers that it carries of another reply."""
    for name, value in _walked(said):
        if name in _FIELDS:
            found = seconds_in(value, now)
            if found is not None:
                return found / 1000 if name == "retryafterms" else found
    return _in_headers(_carried(said), now)


def _carried(said: Said) -> dict[str, str]:
    """Return the headers of a provider that OpenRouter puts into its error."""
    metadata = value_of((said.beside or {}).get("metadata", msgspec.Raw(b"null")))
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    return _lowered(headers) if isinstance(headers, dict) else {}


def _walked(said: Said) -> Iterator[tuple[str, str]]:
    """Yield the fields beside an error, those inside of them too, by their names without case and signs."""
    waiting: list[tuple[str, object]] = [(name, value_of(raw)) for name, raw in (said.beside or {}).items()]
    for _ in range(_MOST_FIELDS):
        if not waiting:
            return
        name, value = waiting.pop(0)
        name = "".join(sign for sign in name[:_MOST_READ].lower() if sign.isalnum())
        if isinstance(value, (str, int, float)):
            yield name, str(value) if isinstance(value, (str, float)) or abs(value) < _MOST_NUMBER else ""
        elif isinstance(value, dict):
            if name == "retrydelay" and "seconds" in value:
                yield name, str(value["seconds"])[:_MOST_READ]
            waiting += [(str(key), inner) for key, inner in itertools.islice(value.items(), _MOST_FIELDS)]
        elif isinstance(value, list):
            waiting += [(name, inner) for inner in value[:_MOST_FIELDS]]


def _in_words(text: str, now: float | None) -> float | None:
    text = text[:READ]
    for lead in itertools.islice(_LEAD.finditer(text), _MOST_LEADS):
        found, _ = _duration_at(text, lead.end())
        if found is None and lead[0][:2].lower() in ("re", "wa") and (bare := _BARE.match(text, lead.end())):
            found = _span(float(bare[1]), now)
        if found is None and (moment := _MOMENT.match(text, lead.end())):
            found = _until(moment[0].strip(), now)
        if found is not None and _believed(found) is not None:
            return found
    if (chinese := _CHINESE.search(text)) is not None:
        return _believed(float(chinese[1]) * _CHINESE_UNITS[chinese[2]])
    return None


def _refilled(headers: Mapping[str, str], now: float | None) -> float | None:
    """Return the seconds until the window is full again that is empty, else until all are."""
    longest: float | None = None
    empty: float | None = None
    for name, value in headers.items():
        if "limit" not in name:
            continue
        if "reset" in name:
            wait = seconds_in(value, now)
            left = headers.get(name.removesuffix("-after").replace("reset", "remaining"), "").strip()
            none_left = left in ("0", "0.0", "0.00")
        elif name == "ratelimit" and (structured := _STRUCTURED.search(value[:READ])):
            wait, none_left = seconds_in(structured[1], now), _NOTHING_LEFT.search(value[:READ]) is not None
        else:
            continue
        if wait is not None:
            longest = max(longest or 0.0, wait)
            empty = max(empty or 0.0, wait) if none_left else empty
    return longest if empty is None else empty


def _quotas(said: Said) -> list[str]:
    """Return the names of the quotas that an error says were exceeded."""
    if not said.beside:
        return []
    return [value[:READ] for name, value in _walked(said) if name in _QUOTA_NAMES]


def _is_of_day(said: Said) -> bool:
    """Say whether a refusal is for a quota of the day: it names one, and no shorter one beside it in its words."""
    if any(_DAY.search(quota) for quota in _quotas(said)):
        return True
    text = said.text[:READ]
    return _DAY.search(text) is not None and _SHORTER.search(text) is None


def _next_day(now: float, *, google: bool) -> Wait:
    """Return the wait until a quota of the day comes back."""
    import zoneinfo

    zone: dt.tzinfo = dt.UTC
    if google:
        zone = dt.timezone(dt.timedelta(hours=-8))
        # Not every machine has the time zones; it is an hour late in summer then.
        with contextlib.suppress(zoneinfo.ZoneInfoNotFoundError):
            zone = zoneinfo.ZoneInfo("America/Los_Angeles")
    try:
        today = dt.datetime.fromtimestamp(now, zone)
        next_day = dt.datetime.combine(today.date() + dt.timedelta(days=1), dt.time(), zone)
        at = next_day.astimezone(dt.UTC)
    except _UNREADABLE:
        return Wait(None)
    return Wait(_believed(at.timestamp() - now), f"its quota of the day comes back at {at:%H:%M} UTC")
