import datetime as dt
import errno
import json
from collections.abc import Mapping

import msgspec
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import (
    BadGenerationError,
    BrokenReplyError,
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TooLargeError,
    UnauthorizedError,
    UnreachableError,
)
from mixtura.models.catalog import Catalog
from mixtura.models.openai.carried import keep_no_secrets
from mixtura.models.openai.failures import Failures, retry_after
from mixtura.models.openai.reply import WireError, as_json, reported_in
from mixtura.models.openai.shortage import of_this_machine

GROQ = Failures("groq", Catalog.load(), lambda: dt.date(2026, 11, 21))
TOO_MANY = (
    "Rate limit reached for model `m` in organization `org_01abcdef` service tier `on_demand` on tokens per minute "
    "(TPM): Limit 6000, Used 3547, Requested 3572. Please try again in 11.19s. Need more tokens?"
)


def failed(status: int, body: object = None, headers: Mapping[str, str] | None = None, model: str = "m") -> ModelError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return GROQ.of_reply(model, status, headers or {}, data)


def error(message: str = "no", code: str = "", **fields: object) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, **fields}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, error(), RejectedError),
        (400, error(code="context_length_exceeded"), TooLargeError),
        (400, error("This model's maximum context length is 4096 tokens."), TooLargeError),
        (400, error(code="json_validate_failed"), BadGenerationError),
        (400, error(code="tool_use_failed"), BadGenerationError),
        (400, error(code="model_decommissioned"), ModelGoneError),
        (400, error(code="blocked_api_access"), UnauthorizedError),
        (401, error("Invalid API Key", "invalid_api_key"), UnauthorizedError),
        (402, error("Insufficient credits"), UnauthorizedError),
        (403, error(), UnauthorizedError),
        (404, error(code="model_not_found"), ModelGoneError),
        (404, {"error": {"message": 'model "m" not found, try pulling it first', "code": None}}, ModelGoneError),
        (404, {"message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}, ModelGoneError),
        (404, error("Unknown request URL", "unknown_url"), RejectedError),
        (408, error(), OverloadedError),
        (409, error(), OverloadedError),
        (413, error("Request too large: Limit 8000, Requested 66536", "rate_limit_exceeded"), TooLargeError),
        (422, error(), RejectedError),
        (424, error(), RejectedError),
        (429, error(TOO_MANY, "rate_limit_exceeded"), RateLimitedError),
        (429, error("on tokens per minute (TPM): Limit 8000, Used 0, Requested 34031"), TooLargeError),
        (429, error("You exceeded your current quota", "insufficient_quota"), UnauthorizedError),
        (498, error(code="capacity_exceeded"), OverloadedError),
        (500, error(), OverloadedError),
        (502, b"<html><head><title>502 Bad Gateway</title></head></html>", OverloadedError),
        (503, error("m is currently over capacity."), OverloadedError),
        (529, None, OverloadedError),
        (307, b"", RejectedError),
    ],
)
def test_status_and_code_decide_what_a_failure_is(status: int, body: object, kind: type[ModelError]) -> None:
    found = failed(status, body)
    assert type(found) is kind
    assert (found.status, found.provider, found.model) == (status, "groq", "m")


@pytest.mark.parametrize(
    ("reported", "kind"),
    [
        ({"message": "x", "code": "tool_use_failed", "status_code": 400}, BadGenerationError),
        ({"message": "x", "status_code": 503}, OverloadedError),
        ({"message": "x", "code": 429}, RateLimitedError),
        ({"message": "x", "code": "rate_limit_exceeded"}, RateLimitedError),
        ({"message": "x", "type": "invalid_request_error"}, RejectedError),
        ({"message": "x", "type": "server_error"}, OverloadedError),
        ("it broke", OverloadedError),
    ],
)
def test_an_error_inside_a_success_is_read_by_its_own_words(reported: object, kind: type[ModelError]) -> None:
    assert type(GROQ.of_wire("m", WireError("", reported))) is kind


def test_a_success_that_is_no_completion_is_a_broken_reply() -> None:
    found = GROQ.of_wire("m", WireError("a reply without choices"))
    assert type(found) is BrokenReplyError
    assert "a reply without choices" in str(found)


def test_a_decommissioned_model_names_its_day_its_replacement_and_the_nearest() -> None:
    failures = Failures("groq", Catalog.load(), lambda: dt.date(2026, 3, 1))
    body = json.dumps(error("The model `gemma2-9b-it` has been decommissioned", "model_decommissioned"))
    found = failures.of_reply("gemma2-9b-it", 400, {}, body)
    assert isinstance(found, ModelGoneError)
    assert found.replacement == "llama-3.1-8b-instant"
    assert found.replacement not in found.nearest
    assert "`gemma2-9b-it` was shut down on 2025-10-08; use 'llama-3.1-8b-instant' (its replacement) or one of" in str(
        found
    )


def test_a_replacement_that_is_gone_itself_is_followed_to_one_that_lives() -> None:
    found = failed(400, error(code="model_decommissioned"), model="gemma2-9b-it")
    assert isinstance(found, ModelGoneError)
    assert found.replacement == "openai/gpt-oss-20b"
    assert "llama-3.1-8b-instant" not in str(found)


def test_a_model_for_enterprise_keys_says_so() -> None:
    found = failed(404, error(code="model_not_found"), model="llama-3.3-70b-versatile")
    assert "`llama-3.3-70b-versatile` is for Enterprise keys only since 2026-08-16" in str(found)


def test_an_unknown_model_keeps_the_provider_s_words_and_names_the_nearest() -> None:
    found = failed(
        404, error("The model `openai/gpt-oss-121b` does not exist.", "model_not_found"), None, "openai/gpt-oss-121b"
    )
    assert isinstance(found, ModelGoneError)
    assert found.replacement is None
    assert "does not exist; served are 'openai/gpt-oss-120b'" in str(found)
    assert found.nearest[0] == "openai/gpt-oss-120b"


def test_a_wrong_key_says_where_keys_are_made_and_which_variable_holds_it() -> None:
    said = str(failed(401, error("Invalid API Key", "invalid_api_key")))
    assert "GROQ_API_KEY" in said
    assert "https://console.groq.com/keys" in said


def test_numbers_of_a_limit_stay_and_organisations_and_keys_go() -> None:
    found = failed(429, error(TOO_MANY + " key gsk_abcdefgh123"))
    assert "Limit 6000, Used 3547, Requested 3572" in str(found)
    assert "org_01" not in str(found)
    assert "gsk_" not in str(found)


def test_a_key_is_scrubbed_before_the_text_is_cut() -> None:
    for length in range(480, 500):
        assert "gsk" not in str(failed(400, error("x" * length + " gsk_abcdefghijklmnop")))


def test_a_long_text_is_cut_and_put_on_one_line() -> None:
    found = failed(400, error("word\n" * 1000))
    assert len(found.reason) <= 500
    assert "\n" not in str(found)


def test_megabytes_of_a_hostile_text_are_not_searched() -> None:
    text = "model Limit 1 maximum context <title " * 300_000
    assert isinstance(failed(429, error(text)), RateLimitedError)
    assert isinstance(failed(502, b"<html>" + text.encode()), OverloadedError)


def test_a_web_page_becomes_a_short_sentence() -> None:
    found = failed(502, b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>" + b"x" * 9999)
    assert found.reason == "answered with a web page ('502 Bad Gateway')"
    assert failed(503, b"").reason == "status 503 without a word"


def test_a_redirect_says_where_to() -> None:
    assert "'https://other/v1'" in str(failed(308, b"", {"Location": "https://other/v1"}))


NOW = "Sat, 21 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "text", "seconds"),
    [
        ({"Retry-After": "2"}, "", 2.0),
        ({"retry-after": "0.5"}, "", 0.5),
        ({"Retry-After": "7.66"}, "", 7.66),
        ({"Retry-After": "420"}, "", 420.0),
        ({"Retry-After": "0"}, "try again in 3s", 0.0),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, "", 1.5),
        ({"Retry-After": "Sat, 21 Nov 2026 10:01:01 GMT", "Date": NOW}, "", 61.0),
        ({"Retry-After": "Sat, 21 Nov 2026 09:00:00 GMT", "Date": NOW}, "", 0.0),
        ({"Retry-After": "Sat, 21 Nov 2026 10:01:01 GMT"}, "", None),
        ({"Retry-After": "soon"}, "try again in 3s", 3.0),
        ({"Retry-After": "-1"}, "", None),
        ({"Retry-After": "inf"}, "", None),
        ({}, TOO_MANY, 11.19),
        ({}, "Please try again in 1m7.391999999s. Need", 67.391999999),
        ({}, "Please try again in 1h25m3.847s.", 5103.847),
        ({}, "Please try again in 130ms.", 0.13),
        ({}, "Please try again later", None),
    ],
)
def test_the_wait_is_read_from_headers_first_and_then_from_the_text(
    headers: dict[str, str], text: str, seconds: float | None
) -> None:
    found = retry_after(headers, text)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_a_rate_limit_and_an_overload_carry_their_wait() -> None:
    assert failed(429, error(TOO_MANY)).retry_after == pytest.approx(11.19)
    assert failed(503, error(), {"Retry-After": "3"}).retry_after == 3.0


@given(st.integers(100, 599), st.binary(max_size=60), st.text(max_size=20))
def test_whatever_fails_becomes_a_model_error(status: int, body: bytes, header: str) -> None:
    found = GROQ.of_reply("m", status, {"Retry-After": header, "Date": header}, body)
    assert isinstance(found, ModelError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "detail", "status_code"]), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from([None, 400, 404, 429, 500]), JSON)
def test_whatever_an_error_object_is_it_becomes_a_model_error(status: int | None, body: object) -> None:
    assert isinstance(GROQ.of_body("m", status, {}, body), ModelError)


def test_no_key_and_no_password_stays_in_what_an_error_was_raised_from() -> None:
    cause = ValueError(b"\xff Bearer gsk_abcdefghijklmnopqrstuvwxyz0123456789")
    cause.url = yarl.URL("http://me:hunter2@proxy/")  # type: ignore[attr-defined]  # as aiohttp's errors have one
    error = UnreachableError("groq", "m", "no")
    error.__cause__ = cause
    keep_no_secrets(error)
    assert str(cause.url) == "http://proxy/"  # type: ignore[attr-defined]
    assert cause.args[0].startswith(b"\xff")
    assert b"gsk_a" not in cause.args[0]


def test_a_call_for_which_this_machine_has_nothing_left_says_what_is_missing() -> None:
    found = of_this_machine("groq", "m", OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"))
    assert found is not None
    assert (found.provider, found.model, found.connected, found.sent) == ("groq", "m", False, False)
    assert "no free port to reach it from (Cannot assign requested address)" in found.reason


def test_a_large_error_that_is_no_text_is_shown_as_far_as_it_goes() -> None:
    raw = msgspec.Raw(b'{"message":"' + b"\xff" * 100_000 + b'"}')
    assert reported_in(raw) == '{"message":"' + "\ufffd" * 1988


def test_a_lone_surrogate_in_a_client_s_object_is_replaced() -> None:
    assert json.loads(as_json({"a": ["\ud800", object]})) == {"a": ["\ufffd", str(object)]}
