"""Errors are an API: one tree, drawn in its docstring, free of secrets."""

import inspect
import re

import pytest

from mixtura import errors


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = set(re.findall(r"^[│├└─ ]*(\w+Error)", errors.__doc__ or "", re.MULTILINE))
    real = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert drawn == real


def test_every_model_error_says_what_is_done_about_it_in_the_tree() -> None:
    for name, action in re.findall(r"(\w+Error)\s+(retry|wait|substitute|drop)\b", errors.__doc__ or ""):
        assert getattr(errors, name).action == action


@pytest.mark.parametrize(
    "text",
    [
        "key gsk_abcDEF123456 is wrong",
        "sk-proj-abcdef12345",
        "Authorization: Bearer abc.def",
        "in organization `org_01jabc`",
    ],
)
def test_no_secret_survives_an_error(text: str) -> None:
    said = str(errors.RejectedError("groq", "m", text))
    assert "***" in said
    assert not re.search(r"gsk_a|sk-proj|abc\.def|01jabc", said)


def test_the_most_telling_failure_comes_first() -> None:
    busy = errors.OverloadedError("groq", "a", "busy")
    wrong = errors.UnauthorizedError("groq", "b", "wrong key")
    none = errors.NoAnswerError([busy, busy, wrong])
    assert none.failures[0] is wrong
    assert none.exit_code == 3
    assert none.message == "b on groq: wrong key (and 1 other failure)"
    assert errors.NoAnswerError([]).exit_code == 1
