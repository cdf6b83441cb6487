"""What an error of a provider says, whole: its words, the key, the model to use instead, the limit that was passed."""

import datetime as dt
import json
from typing import Any

import pytest

from mixtura.chat import RateLimitHeaders
from mixtura.errors import (
    BadGenerationError,
    BrokenReplyError,
    Exceeded,
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TooLargeError,
    UnauthorizedError,
)
from mixtura.models.catalog import Catalog, CatalogProvider
from mixtura.models.openai.failures import Failures, exceeded, rate_limit_headers, retry_after
from mixtura.models.openai.reply import WireError

TODAY = dt.date(2026, 11, 21)
CATALOG = Catalog.load()
GROQ = Failures("groq", CATALOG, lambda: TODAY)


class OneProvider:
    """A catalogue of one provider and no models."""

    def __init__(self, **row: Any) -> None:
        self._row = CatalogProvider(title="Own", **row)

    def provider(self, name: str) -> CatalogProvider:
        return self._row


def own(**row: Any) -> Failures:
    return Failures("own", OneProvider(**row), lambda: TODAY)  # type: ignore[arg-type]


def of(status: int, body: object, failures: Failures = GROQ, **headers: str) -> ModelError:
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return failures.of_reply("m", status, headers, data)


@pytest.mark.parametrize(
    ("status", "row", "hint"),
    [
        (
            401,
            {"key_env": "OWN_KEY", "keys_at": "https://own/keys"},
            "; check OWN_KEY (keys are made at https://own/keys)",
        ),
        (401, {"key_env": "OWN_KEY"}, "; check OWN_KEY"),
        (401, {"keys_at": "https://own/keys"}, ""),
        (401, {}, ""),
        (
            403,
            {"key_env": "OWN_KEY", "keys_at": "https://own/keys"},
            "; the key may not use this, see https://own/keys",
        ),
        (403, {"key_env": "OWN_KEY"}, "; the key may not use this"),
    ],
)
def test_a_refused_key_says_what_to_look_at(status: int, row: dict[str, Any], hint: str) -> None:
    found = of(status, {"error": {"message": "Wrong", "code": "invalid_api_key"}}, own(**row))
    assert isinstance(found, UnauthorizedError)
    assert found.reason == "Wrong" + hint
    assert (found.status, found.code) == (status, "invalid_api_key")


def test_a_key_that_may_not_is_known_by_its_code_too() -> None:
    found = of(400, {"error": {"message": "No", "code": "permissions_error"}}, own(key_env="OWN_KEY"))
    assert (type(found), found.reason) == (UnauthorizedError, "No; check OWN_KEY")


@pytest.mark.parametrize(
    ("status", "code"), [(402, ""), (429, "insufficient_quota"), (400, "billing_hard_limit_reached")]
)
def test_an_account_without_money_says_so(status: int, code: str) -> None:
    found = of(status, {"error": {"message": "Pay first", "code": code}})
    assert (type(found), found.reason) == (UnauthorizedError, "Pay first; the account has no budget left for it")
    assert (found.status, found.code) == (status, code)


def test_a_redirect_and_an_address_that_is_wrong_say_what_to_set() -> None:
    said = "redirected to 'https://other'; set the base URL to where the API really is"
    page = of(301, "", Location="https://other").reason
    assert page == f"{said}, or log in there if that is a page of your network's"
    assert of(399, "").reason == said.replace("https://other", "elsewhere")
    assert of(304, "not changed").reason == "not changed"
    assert of(404, {"error": {"message": "No such", "code": "unknown_url"}}).reason == "No such; is the base URL right?"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, OverloadedError),
        (299, OverloadedError),
        (300, RejectedError),
        (400, RejectedError),
        (408, OverloadedError),
        (409, OverloadedError),
        (410, RejectedError),
        (425, OverloadedError),
        (498, OverloadedError),
        (499, RejectedError),
        (500, OverloadedError),
        (599, OverloadedError),
    ],
)
def test_a_status_alone_says_what_a_failure_is(status: int, kind: type[ModelError]) -> None:
    found = of(status, "")
    assert (type(found), found.status, found.code) == (kind, status, "")


def test_a_success_with_an_error_of_the_request_is_a_rejection() -> None:
    body = {"message": "No", "type": "invalid_request_error"}
    assert type(GROQ.of_body("m", None, {}, {"error": body})) is RejectedError
    assert type(GROQ.of_body("m", None, {}, {"error": {**body, "type": "other"}})) is OverloadedError


def test_a_status_in_the_error_counts_where_the_reply_has_none() -> None:
    for name, value in (("status_code", 404), ("status", "404"), ("code", 404)):
        found = GROQ.of_body("m", None, {}, {"error": {"message": "No", name: value}})
        assert (type(found), found.status, found.code) == (
            RejectedError,
            404,
            "404" if value == "404" and name == "code" else "",
        )
    for value in (99, 600, 4040, "x404"):
        assert GROQ.of_body("m", None, {}, {"message": "No", "status": value}).status == 200
    assert GROQ.of_body("m", 503, {}, {"error": {"message": "No", "status": 404}}).status == 503


def test_the_wait_that_a_reply_asks_for_goes_with_it() -> None:
    wait = {"Retry-After": "7"}
    for status in (429, 503, 498, 200):
        assert GROQ.of_reply("m", status, wait, "busy").retry_after == 7.0
    assert GROQ.of_body("m", 429, wait, {"message": "busy"}).retry_after == 7.0
    assert GROQ.of_reply("m", 400, wait, "no").retry_after is None


def test_a_code_goes_before_the_words() -> None:
    gone = "The model `m` does not exist"
    for code in ("", "not_found", "NOT_FOUND"):
        assert isinstance(of(404, {"error": {"message": gone, "code": code}}), ModelGoneError)
    assert isinstance(of(404, {"error": {"message": gone, "code": "other"}}), RejectedError)
    assert isinstance(of(400, gone), ModelGoneError)
    assert isinstance(of(422, gone), RejectedError)


@pytest.mark.parametrize(
    ("status", "message", "code", "large"),
    [
        (429, "Limit 100, Requested 101", "", True),
        (429, "Limit 100, Requested 100", "", False),
        (429, "Limit 100, Used 90, Requested 99", "", False),
        (400, "Limit 100, Requested 101", "rate_limit_exceeded", True),
        (400, "the context length was exceeded", "", True),
        (422, "the context length was exceeded", "", False),
        (413, "", "", True),
        (400, "", "context_length_exceeded", True),
    ],
)
def test_what_can_never_fit_is_too_large_and_what_passes_is_a_limit(
    status: int, message: str, code: str, large: bool
) -> None:
    found = of(status, {"error": {"message": message, "code": code}})
    assert isinstance(found, TooLargeError) == large
    assert isinstance(found, RateLimitedError) == (not large and status != 422)


def test_what_a_model_had_generated_goes_with_its_error_only() -> None:
    body = {"error": {"message": "No", "code": "tool_use_failed", "failed_generation": "<half>"}}
    found = of(400, body)
    assert isinstance(found, BadGenerationError)
    assert (found.failed_generation, found.reason) == ("<half>", "No")


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("on tokens per minute (TPM): Limit 6000, Used 3547, Requested 3572.", Exceeded("tpm", 6000.0, 3547.0)),
        ("on requests per day (RPD): Limit 1000", Exceeded("rpd", 1000.0, None)),
        ("on Tokens Per Day: Limit 5, Used 0", Exceeded("tpd", 5.0, 0.0)),
        ("on requests per minute: Limit 30, Requested 1", Exceeded("rpm", 30.0, None)),
        ("on requests per hour: Limit 30", None),
        ("", None),
    ],
)
def test_the_window_that_a_refusal_names_is_read(text: str, window: Exceeded | None) -> None:
    assert exceeded(text) == window
    assert of(429, text or "busy").exceeded == window


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "a", "detail": "b"}}, "a"),
        ({"error": {"detail": "b"}}, "b"),
        ({"error": {"msg": "c"}}, "c"),
        ({"error": "d", "code": "x"}, "d"),
        ({"message": "e"}, "e"),
        ({"detail": [{"msg": "f"}]}, '[{"msg": "f"}]'),
        ([{"error": {"message": "g"}}], "g"),
        ({"error": {}}, "status 500 without a word"),
        ({"error": {"code": 5}}, '{"code": 5}'),
        ({"error": "", "message": "h"}, "h"),
        ("null", "status 500 without a word"),
        ("plain words", "plain words"),
        ('"a text"', "a text"),
        ("", "status 500 without a word"),
        (b"\xff broken", "� broken"),
        ('{"error":{"message":"lone \\ud800"}}', "lone �"),
        ("<html><body>no title", "answered with a web page"),
        ("  <?XML><title lang=x> Busy </title>", "answered with a web page ('Busy')"),
    ],
)
def test_the_words_are_found_wherever_a_server_writes_them(body: object, words: str) -> None:
    assert of(500, body).reason == words


def test_the_code_of_an_error_that_is_a_text_stands_beside_it() -> None:
    found = of(400, {"error": "no", "code": "tool_use_failed", "type": "x"})
    assert (type(found), found.code) == (BadGenerationError, "tool_use_failed")


@pytest.mark.parametrize("length", [499, 500, 501, 5000])
def test_a_text_has_five_hundred_characters_at_the_most(length: int) -> None:
    reason = of(500, "é" * length).reason
    assert reason == ("é" * length if length <= 500 else "é" * 499 + "…")


def test_an_error_in_place_of_a_completion_has_the_servers_words_or_ours() -> None:
    plain = GROQ.of_wire("m", WireError("no choices"))
    assert (type(plain), plain.reason, plain.model, plain.provider) == (BrokenReplyError, "no choices", "m", "groq")
    told = GROQ.of_wire("m", WireError("an error", reported={"message": "busy", "code": "x"}))
    assert (type(told), told.reason, told.code) == (OverloadedError, "busy", "x")
    assert GROQ.of_body("m", 500, {}, b'{"message":"bytes"}').reason == "bytes"
    assert GROQ.of_body("m", 500, {}, '{"message":"text"}').reason == "text"


LIMITS = {
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-remaining-requests": "14399",
    "x-ratelimit-limit-tokens": "6000",
    "x-ratelimit-remaining-tokens": "5987.5",
}


def test_the_limits_in_a_head_are_read_and_what_is_no_number_is_not_said() -> None:
    assert rate_limit_headers(LIMITS) == RateLimitHeaders(14400.0, 14399.0, 6000.0, 5987.5)
    some = {name: LIMITS[name] for name in list(LIMITS)[:1]}
    assert rate_limit_headers(some) == RateLimitHeaders(14400.0, None, None, None)
    other = {"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "-1"}
    assert rate_limit_headers(other) == RateLimitHeaders(None, None, 0.0, None)
    odd = {"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "inf"}
    assert rate_limit_headers(odd) == RateLimitHeaders(None, None, None, None)
    assert rate_limit_headers({"x-ratelimit-remaining-tokens": "5"}) is None
    assert rate_limit_headers({}) is None


def test_a_date_is_measured_from_the_replys_own_in_either_spelling() -> None:
    then, now = "Sat, 21 Nov 2026 10:01:01 GMT", "Sat, 21 Nov 2026 10:00:00 GMT"
    assert retry_after({"retry-after": then, "date": now}) == 61.0
    assert retry_after({"Retry-After": then, "Date": now}) == 61.0
    assert retry_after({"retry-after-ms": "0", "Retry-After": "9"}) == 0.0
    assert retry_after({"retry-after-ms": "x", "Retry-After": "9"}) == 9.0
    assert retry_after({}, "Try Again In 2S") == 2.0


def gone(model: str, day: dt.date = TODAY) -> ModelGoneError:
    body = {"error": {"message": "There is none.", "code": "model_not_found"}}
    found = Failures("groq", CATALOG, lambda: day).of_reply(model, 404, {}, json.dumps(body))
    assert isinstance(found, ModelGoneError)
    assert (found.status, found.code) == (404, "model_not_found")
    return found


def test_a_model_that_is_gone_names_at_most_three_others_and_itself_never() -> None:
    found = gone("openai/gpt-oss-12b")
    assert found.replacement is None
    assert len(found.nearest) == 3
    others = ", ".join(repr(near) for near in found.nearest)
    assert found.reason == f"There is none; served are {others}"


def test_a_day_on_which_a_model_was_shut_down_counts() -> None:
    row = CATALOG.get("groq", "gemma2-9b-it")
    assert row is not None
    assert row.shut_down is not None
    assert gone("gemma2-9b-it", row.shut_down).reason.startswith(
        f"`gemma2-9b-it` was shut down on {row.shut_down}; use "
    )
    before = gone("gemma2-9b-it", row.shut_down - dt.timedelta(1)).reason
    assert before.startswith("There is none; ")
