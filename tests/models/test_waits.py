"""When a server may be asked again, by whatever it says."""

import datetime as dt
import email.utils
import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixtura.errors import OverloadedError, RateLimitedError
from mixtura.limits.window import go_duration, in_words
from mixtura.models.catalog import Catalog
from mixtura.models.openai.failures import Failures
from mixtura.models.openai.said import Said, said_in
from mixtura.models.openai.waits import LONGEST, of_limit, seconds_in, stated

NOW = 1795780800.0  # 2026-11-27, noon in UTC
SENT = email.utils.formatdate(NOW, usegmt=True)
GROQ = Failures("groq", Catalog.load(), lambda: dt.date(2026, 11, 27), clock=lambda: NOW)


def limited(message: str, **headers: str) -> RateLimitedError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found = GROQ.of_reply("m", 429, named, json.dumps({"error": {"message": message}}))
    assert isinstance(found, RateLimitedError)
    return found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("39", 39),
        ("39s", 39),
        (" 0.5 ", 0.5),
        (".5", 0.5),
        ("6m0s", 360),
        ("1h2m3s", 3723),
        ("26 seconds", 26),
        ("1 hour, 2 minutes and 3 seconds", 3723),
        ("500ms", 0.5),
        ("250 µs", 0.00025),
        ("2 days", 172_800),
        ('"39s"', 39),
        (str(int(NOW) + 20), 20),
        (str(int(NOW + 20) * 1000), 20),
        (str(int(NOW + 20) * 1000_000_000), 20),
        (str(int(NOW) - 20), 0),
        ("2026-11-27T12:01:00Z", 60),
        ("2026-11-27T13:01:00.123456789+01:00", 60.123456),
        ("2026-11-27 12:01:00", 60),
        (email.utils.formatdate(NOW + 61, usegmt=True), 61),
        *[(text, None) for text in ("", "soon", "-1", "-39s", "nan", "inf", "1e9", "0x10", "39 apples", "31536000")],
        *[
            (text, None)
            for text in ("9" * 29, "9" * 3000, "400 days", "2036-01-01T00:00:00Z", "2026-99-99T00:00", "1 s x")
        ],
    ],
)
def test_a_field_is_read_as_seconds_a_duration_or_a_moment(text: str, seconds: float | None) -> None:
    assert seconds_in(text, NOW) == (None if seconds is None else pytest.approx(seconds, abs=1e-3))


def test_moments_are_not_read_without_a_clock() -> None:
    assert seconds_in("2026-11-27T12:01:00Z") is None
    assert seconds_in(str(int(NOW))) is None
    assert seconds_in("39s") == 39


def believable(seconds: float | None) -> bool:
    return seconds is None or (math.isfinite(seconds) and 0 <= seconds <= LONGEST)


WRITTEN = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[-+]?[0-9.,:eEsmhd ZT/-]{0,40}", fullmatch=True),
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(str),
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()),
    st.floats(0, 1e7).map(go_duration),
)
CLOCKS = st.none() | st.floats(-1e12, 1e12)


@given(WRITTEN, CLOCKS)
def test_whatever_stands_in_a_field_a_wait_is_none_or_bounded(text: str, now: float | None) -> None:
    assert believable(seconds_in(text, now))


NAMES = st.sampled_from(
    [
        *("Retry-After", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-remaining-requests", "Date"),
        *("anthropic-ratelimit-tokens-reset", "ratelimit-reset", "ratelimit"),
    ]
)
WORDS = st.lists(
    st.sampled_from(
        ["try again in ", "wait ", "retry after ", "resets at ", "per day ", "1m7.39s", "26 seconds", "-5 s"]
    )
    | WRITTEN,
    max_size=6,
).map("".join)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["details", "metadata", "retry_after", "resets_at", "estimated_time", "message", "headers", "seconds"]
    )
    | st.just("retryDelay"),
    st.recursive(
        WRITTEN | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["headers", "retryDelay", "quotaId"]), inner)
        ),
        max_leaves=6,
    ),
    max_size=4,
)


@given(st.dictionaries(NAMES, WRITTEN, max_size=4), WORDS, FIELDS, st.floats(-1e12, 1e12))
@example({"Date": "Mon, 01 Jan 0001 00:00:00 -0000", "Retry-After": SENT}, "", {}, 0.0)
@example({}, "x", {"details": [{"retryDelay": 10**300}]}, 0.0)
@example({}, "again tomorrow", {}, 1e12)
def test_whatever_a_refusal_says_its_wait_is_none_or_bounded(
    headers: dict[str, str], words: str, fields: dict[str, object], clock: float
) -> None:
    said = said_in(json.dumps({"error": {"message": words, **fields}}))
    assert believable(stated(headers, said, clock))
    assert believable(of_limit(headers, said, clock).seconds)
    found = GROQ.of_reply("m", 503, headers, json.dumps({"error": fields}))
    assert believable(found.retry_after)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Please retry in 39.5s.", 39.5),
        ("try again in 1m7.39s", 67.39),
        ("Please retry after 26 seconds. Please go there to raise the quota", 26),
        ("wait 5 minutes before", 300),
        ("Please wait 7326 seconds before retrying", 7326),
        ("Try again in 2 hours, 5 minutes and 3 seconds", 7503),
        ("retry_after: 12", 12),
        ("retry your request after about 20 seconds", 20),
        ("Your quota will reset after 4h12m.", 15_120),
        ("Your limit resets at 2026-11-27T13:00:00Z", 3600),
        ("请在30秒后重试", 30),
        ("请 5 分钟后再试", 300),
        ("Try again in 400 days, or retry in 3 s", 3),
        ("try again in -5s", None),
        ("try again in 9999999999999s", None),
        ("Please try again in a few minutes", None),
        ("Upgrade today at https://example.com/settings/billing", None),
        ("20 requests per 10 s", None),
    ],
)
def test_the_words_of_a_refusal_name_the_wait(words: str, seconds: float | None) -> None:
    assert limited(words).retry_after == (None if seconds is None else pytest.approx(seconds))


def test_a_header_goes_before_a_field_and_a_field_before_the_words_and_words_before_a_reset() -> None:
    body = {"error": {"message": "retry in 3 s", "details": [{"retryDelay": {"seconds": 2, "nanos": 0}}]}}
    reset = {"x-ratelimit-reset": "4"}
    assert GROQ.of_reply("m", 429, {"Retry-After": "1", **reset}, json.dumps(body)).retry_after == 1
    assert GROQ.of_reply("m", 429, {"Retry-After": "-1", **reset}, json.dumps(body)).retry_after == 2
    assert limited("retry in 3 s", x_ratelimit_reset="4").retry_after == 3
    assert limited("no", x_ratelimit_reset="4").retry_after == 4


def test_of_windows_that_are_empty_the_last_one_counts_and_else_the_longest() -> None:
    both = {"x_ratelimit_reset_requests": "5s", "x_ratelimit_reset_tokens": "9s", "x_ratelimit_reset_day": "1h"}
    empty = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_remaining_tokens": "0"}
    assert limited("no", **both).retry_after == 3600
    assert limited("no", **both, **empty).retry_after == 9
    assert limited("no", **both, x_ratelimit_remaining_requests="0").retry_after == 5


def test_a_moment_is_measured_from_the_replys_own_date() -> None:
    early = email.utils.formatdate(NOW - 1000, usegmt=True)
    assert limited("no", x_ratelimit_reset=str(int(NOW) - 990), Date=early).retry_after == 10
    assert limited("no", x_ratelimit_reset=str(int(NOW) + 10)).retry_after == 10
    assert limited("no", x_ratelimit_reset=str(int(NOW) + 10), Date="never").retry_after == 10


def test_when_windows_are_full_again_is_no_wait_of_a_server_that_is_busy() -> None:
    found = GROQ.of_reply("m", 503, {"x-ratelimit-reset-requests": "6m0s"}, "busy")
    assert (type(found), found.retry_after) == (OverloadedError, None)


@pytest.mark.parametrize(
    ("words", "of_day"),
    [
        ("on requests per day (RPD): Limit 50", True),
        ("Rate limit exceeded: free-models-per-day", True),
        ("You reached today's quota of this model", True),
        ("daily limit reached", True),
        ("已达到今日上限", True),
        ("20 requests per minute, 200 requests per day", False),
        ("Upgrade today", False),
        ("slow down", False),
    ],
)
def test_a_quota_of_the_day_comes_back_with_the_next_day(words: str, of_day: bool) -> None:
    found = limited(words)
    assert found.retry_after == (12 * 3600 if of_day else None)
    assert ("its quota of the day comes back at 00:00 UTC" in found.reason) is of_day
    assert limited(words + "; try again in 11m").retry_after == 660


def test_an_estimate_of_a_loading_model_is_its_wait() -> None:
    found = GROQ.of_reply("m", 503, {}, '{"error": "Model x is currently loading", "estimated_time": 20.5}')
    assert isinstance(found, OverloadedError)
    assert (found.loading, found.retry_after) == (True, 20.5)


@pytest.mark.parametrize(
    ("words", "loading"),
    [
        ("Loading model", True),
        ("llm server loading model", True),
        ("The model is still loading", True),
        ("model m is being loaded", True),
        ("Model is not ready yet", True),
        ("Server is starting up", True),
        ("worker is warming up", True),
        ("failed to load model", False),
        ("error loading model: out of memory", False),
        ("unable to start: loading model weights", False),
        ("Service Unavailable", False),
        ("timed out waiting for llama runner to start", False),
    ],
)
def test_a_server_that_loads_its_model_is_told_from_one_that_cannot(words: str, loading: bool) -> None:
    found = GROQ.of_reply("m", 503, {}, json.dumps({"error": {"message": words}}))
    assert isinstance(found, OverloadedError)
    assert found.loading is loading


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (39.5, "39.5 s"),
        (420, "420 s"),
        (3600, "1 h"),
        (7326, "2 h 3 min"),
        (86_400, "24 h"),
        (3 * 86_400 + 3600, "3 days 1 h"),
        (2 * 86_400, "2 days"),
    ],
)
def test_a_wait_is_written_for_people(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_nothing_is_read_of_what_says_nothing() -> None:
    assert stated({}, Said(""), NOW) is None
