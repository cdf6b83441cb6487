"""What the body of a refusal says, and which successes are refusals."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.models.openai.said import Said, reports_error, said_in, unwrapped


@pytest.mark.parametrize(
    ("body", "text", "code", "kind", "status"),
    [
        ({"error": {"message": "a", "type": "t", "code": "c"}}, "a", "c", "t", None),
        (
            [{"error": {"code": 429, "message": "a", "status": "RESOURCE_EXHAUSTED"}}],
            "a",
            "",
            "RESOURCE_EXHAUSTED",
            429,
        ),
        ({"error": "a", "code": "c", "status": 503}, "a", "c", "", 503),
        ({"base_resp": {"status_code": 1008, "status_msg": "a"}}, "a", "1008", "", 402),
        ({"success": False, "errors": [{"code": 10000, "message": "a"}]}, "a", "10000", "", None),
        ({"object": "error", "message": "a", "type": "t", "code": 400}, "a", "", "t", 400),
        ({"code": 1113, "msg": "a"}, "a", "1113", "", None),
        ({"statusCode": 429, "message": "a"}, "a", "", "", 429),
        ({"error_code": 18, "error_msg": "a"}, "a", "18", "", None),
        ({"detail": "a"}, "a", "", "", None),
        ({"type": "error", "error": {"type": "api_error", "message": "a"}}, "a", "", "api_error", None),
        ({"error": {"message": json.dumps({"error": {"message": "a", "code": 429}}), "code": "c"}}, "a", "c", "", 429),
    ],
)
def test_the_words_the_code_and_the_status_are_found_where_servers_write_them(
    body: object, text: str, code: str, kind: str, status: int | None
) -> None:
    said = said_in(json.dumps(body))
    assert (said.text, said.code, said.type, said.status) == (text, code, kind, status)


@pytest.mark.parametrize(
    "body",
    [
        {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
        {"success": False, "errors": []},
        {"errors": [{"message": "no"}]},
        {"object": "error", "message": "no"},
        {"error": "no"},
        {"detail": [{"loc": ["body"], "msg": "no"}]},
        {"code": 400, "message": "no"},
        {"code": "400", "msg": "no"},
        {"status": "error", "message": "no"},
        {"status_code": 500, "message": "no"},
        {"error_code": 18, "error_msg": "no"},
        {"message": "no"},
        {"message": "no", "code": None},
    ],
)
def test_a_success_without_choices_that_says_so_is_an_error(body: object) -> None:
    assert reports_error(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [], "usage": {"prompt_tokens": 1}},
        {"choices": [], "prompt_filter_results": [{"detail": 1}]},
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"code": 0, "message": "ok"},
        {"code": 200, "msg": "success", "data": {}},
        {"success": True, "errors": [], "messages": []},
        {"type": "ping"},
        {"type": "status", "message": "thinking"},
        {"status": "processing", "message": "please hold the line"},
        {"message": {"role": "assistant", "content": "x"}},
        {"error": None},
        {"error": ""},
        [],
        7,
    ],
)
def test_what_only_looks_like_an_error_is_none(body: object) -> None:
    assert not reports_error(json.dumps(body).encode())


NAMES = [
    "error",
    "errors",
    "base_resp",
    "success",
    "detail",
    "message",
    "msg",
    "code",
    "status",
    "status_code",
    "object",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("error"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=60) | JSON.map(lambda body: json.dumps(body).encode()))
def test_no_body_is_too_odd_to_be_read(body: bytes) -> None:
    assert isinstance(said_in(body), Said)
    assert reports_error(body) in (True, False)
    assert unwrapped(body) is None or json.loads(unwrapped(body) or b"") is not None


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"error":' * 50_000, b'{"details":[' * 30_000, b'{"message":"\\ud800"}']
)
def test_a_hostile_body_is_words_and_nothing_more(body: bytes) -> None:
    assert isinstance(said_in(body), Said)
    assert not reports_error(body) or body.endswith(b"}")
