"""The toy models: which questions reach one, what the others are told, and how one is found."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mixtura import ChatRequest, Completion, Delta, ModelCard, Price
from mixtura.chat import Message, Timing
from mixtura.errors import ConfigError
from mixtura.models.base import Emit
from mixtura.models.local.settings import RequestedSettings
from mixtura.models.toy import provider
from mixtura.models.toy.domain import REAL_ANSWERS, question_of, refusal, why_outside
from mixtura.models.toy.model import DomainGuardedModel

WORDS = frozenset(["Tom", "has", "apples", "and", "plums", "How", "many", "are", "there"])
PROBLEM = "Tom has 3 apples and 14 plums. How many are there?"


@pytest.mark.parametrize(
    "question",
    [PROBLEM, "Tom has 3, 1234. 5?", "3 4?", f"Tom {'has ' * 373}1 2?"],
)
def test_a_question_of_known_words_and_numbers_is_inside(question: str) -> None:
    assert why_outside(question, WORDS) == ""


TOO_LARGE = "its numbers are too large for them"
NO_PROBLEM = "it is not a word problem with numbers in it and a question at its end"
OUTSIDE = [
    ("Tom " * 375 + "1 2?", "it is longer than any problem they know"),
    ("Tom has 3 pears and 4 plums?", "they do not know 'pears'"),
    ("tom has pears, tom has figs?", "they do not know 'tom', 'pears', 'figs'"),
    ("a b c d a 1 2?", "they do not know 'a', 'b', 'c' and 1 more words"),
    ("a b c d e 1 2?", "they do not know 'a', 'b', 'c' and 2 more words"),
    ("Tom's 3 apples and 4 plums?", 'they do not know "Tom\'s"'),
    ("Tom has 3 + 4?", "they cannot read '+'"),
    ("Tom has 3/4 apples?", "they cannot read '/'"),
    ("Tom has 1,000 and 2?", "they cannot read '1,0'"),
    ("Tom has 1.5 and 2?", "they cannot read '1.5'"),
    ("Tom has 10000 apples and 2 plums?", TOO_LARGE),
    ("Tom has 3 apples?", NO_PROBLEM),
    ("Tom has 3 apples and 4 plums.", NO_PROBLEM),
    ("How many apples are there?", NO_PROBLEM),
    ("", NO_PROBLEM),
]


@pytest.mark.parametrize(("question", "why"), OUTSIDE)
def test_why_a_question_is_outside_is_said(question: str, why: str) -> None:
    assert why_outside(question, WORDS) == why


def said(role: Any, text: str) -> Message:
    return Message(role=role, content=text)


def test_the_question_is_the_last_that_the_user_said_without_the_drafts_behind_it() -> None:
    drafts = "\n\nDrafts, each between lines that begin with <m1 and </m1:\n\n<m1 draft A>\n7"
    talk = (said("system", "Be brief."), said("user", "First?"), said("assistant", "7."), said("user", f" {PROBLEM} "))
    assert question_of(talk) == PROBLEM
    assert question_of((*talk, said("assistant", "17."))) == PROBLEM
    assert question_of((said("user", PROBLEM + drafts),)) == PROBLEM
    assert question_of((said("user", PROBLEM + drafts + drafts),)) == PROBLEM
    assert question_of((said("system", "Be brief."),)) == ""
    assert question_of(()) == ""


def test_a_refusal_says_why_and_what_gives_real_answers() -> None:
    assert refusal("they cannot read '+'") == (
        "The toy models solve arithmetic word problems and nothing else, and they cannot answer this question: "
        f"they cannot read '+'. {REAL_ANSWERS}"
    )


class Inner:
    """The model behind the check."""

    def __init__(self) -> None:
        self.calls: list[tuple[ChatRequest, Emit | None, float | None]] = []

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        self.calls.append((request, emit, deadline))
        return Completion(model=request.model, text="The answer is 17.")


def asked(question: str) -> ChatRequest:
    return ChatRequest(model="toy-dense", messages=(said("user", question),))


def test_a_question_inside_is_asked_as_it_came() -> None:
    inner, shown = Inner(), list[Delta]()
    request = asked(PROBLEM)
    completion = asyncio.run(DomainGuardedModel(inner, WORDS).chat(request, emit=shown.append, deadline=7.0))
    assert (completion.text, completion.declined) == ("The answer is 17.", "")
    ((sent, emit, deadline),) = inner.calls
    assert (sent, deadline) == (request, 7.0)
    assert emit is not None


@pytest.mark.parametrize("watched", [True, False])
def test_a_question_outside_is_answered_by_a_refusal_and_marked_as_declined(watched: bool) -> None:
    inner, shown = Inner(), list[Delta]()
    model = DomainGuardedModel(inner, WORDS)
    completion = asyncio.run(model.chat(asked("Why?"), emit=shown.append if watched else None))
    why = "they do not know 'Why'"
    assert completion == Completion(
        model="toy-dense",
        text=refusal(why),
        timing=Timing(first_token=0.0 if watched else None),
        declined=f"outside what toys can do: {why}",
    )
    assert shown == ([Delta(text=refusal(why))] if watched else [])
    assert inner.calls == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("toy-dens", "did you mean 'toy-dense'?"),
        ("x", "the known ones are toy-dense, toy-moe-a, toy-moe-b, toy-aggregator, toy-single"),
    ],
)
def test_an_unknown_toy_is_told_what_there_is(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        provider.find(name, {})
    assert error.value.message == f"no toy model is called {name!r}: {hint}"


def test_every_toy_has_its_file_in_the_package_its_card_and_its_settings() -> None:
    assert set(provider.entries()) == set(provider.names({})) == set(provider.NAMES)
    for name, entry in provider.entries().items():
        assert Path(entry.path).name == f"{name}.gguf"
        assert Path(entry.path).is_file()
        assert entry.requested == RequestedSettings(threads=1, slots=None, context=1024)
        free = Price(input=0.0, output=0.0)
        assert provider.card(name, {}) == ModelCard(id=name, provider="toy", window=1024, price=free)
    assert {"How", "many"} <= provider.words()


def test_a_toy_is_its_file_behind_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    inner = Inner()

    def local_model(path: Path, env: Any, **more: Any) -> Inner:
        made.append((path, env, more))
        return inner

    monkeypatch.setattr(provider, "local_model", local_model)
    env = {"MIXTURA_LOCAL_THREADS": "3"}
    served = provider.find("toy-moe-a", env)
    assert served.card == provider.card("toy-moe-a", env)
    assert served.begins
    ((path, given, more),) = made
    assert path == provider.folder() / "toy-moe-a.gguf"
    assert given is env
    assert more == {
        "name": "toy-moe-a",
        "provider": "toy",
        "requested": RequestedSettings.from_env(env).or_else(provider.entries()["toy-moe-a"].requested),
        "trusted": True,
    }
    completion = asyncio.run(served.chat.chat(asked("Why is xylophone?")))
    assert completion.declined
    assert inner.calls == []
