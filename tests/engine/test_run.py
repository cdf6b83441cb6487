"""A run from its first event to its last: what it says of what was lost, and how it ends where there is no answer."""

import asyncio
import hashlib
from typing import Any

import msgspec
import pytest

from mixtura import Aggregator, ChatOptions, Completion, Layer, NoAnswerError, Proposer, Recipe, Usage
from mixtura.chat import Message
from mixtura.decisions import (
    AgreedDetail,
    CutDetail,
    Detail,
    DroppedDetail,
    EscalatedDetail,
    NoticedDetail,
)
from mixtura.errors import (
    BrokenReplyError,
    DeadlineError,
    ModelError,
    RejectedError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from mixtura.events import SCHEMA, RunFinished, RunStarted
from own_models import Asked, Told, failed

SAID = "LSM-trees suit heavy writes."


def slots(names: str) -> Layer:
    return Layer(proposers=tuple(Proposer(model=name, provider="own") for name in names))


def mixed(*layers: str, kind: str = "vote", model: str = "", escalate: str = "", **policy: Any) -> Recipe:
    """Layers of models by their names, a letter each."""
    return Recipe(
        layers=tuple(slots(names) for names in layers),
        aggregator=msgspec.convert({"kind": kind, "model": model, "provider": "own"}, Aggregator),
        escalate=slots(escalate) if escalate else None,
        policy=msgspec.convert({"deadline": 60.0, **policy}, type(Recipe.named("classic").policy)),
    )


def said(asked: Asked, detail: Detail) -> tuple[str, bool]:
    """The reason of the one decision with this detail, and whether it warns."""
    (found,) = [decision for decision in asked.answer.decisions if decision.detail == detail]
    return found.reason, found.warning


ALONE = Recipe(layers=(slots("a"),))


def test_the_first_event_has_all_that_was_asked() -> None:
    options = ChatOptions(max_tokens=9, user="u1", images=["https://x.org/a.png"])
    asked = Asked(mixed("ab"), Told(a=SAID, b=SAID), options=options)
    first = asked.events[0]
    assert isinstance(first, RunStarted)
    assert (first.calls, first.schema, first.digest) == (2, SCHEMA, "")
    assert first.recipe == mixed("ab")
    assert first.options == ChatOptions(max_tokens=9, user="u1"), "the images are in the conversation"
    assert first.conversation is not None
    assert "https://x.org/a.png" in str(first.conversation)
    assert len(first.run) > 8
    assert first.started_at > 1.7e9
    assert asked.answer.run == first.run


def test_a_first_event_without_texts_has_the_digest_of_the_conversation() -> None:
    asked = Asked(ALONE, Told(a=SAID), record="digest", options=ChatOptions(max_tokens=9, user="u1"))
    first = asked.events[0]
    assert isinstance(first, RunStarted)
    conversation = (Message(role="user", content="Why?"),)
    assert first.digest == hashlib.sha256(msgspec.json.encode(conversation)).hexdigest()
    assert first.conversation is None
    assert first.options == ChatOptions(max_tokens=9)


@pytest.mark.parametrize("record", ["conversation", "digest"])
def test_who_asks_for_nothing_has_no_options_in_the_first_event(record: str) -> None:
    first = Asked(ALONE, Told(a=SAID), record=record).events[0]
    assert isinstance(first, RunStarted)
    assert first.options is None


def test_a_run_ends_well_or_in_part_or_with_its_error() -> None:
    (last,) = [event for event in Asked(ALONE, Told(a=SAID)).events if isinstance(event, RunFinished)]
    assert (last.status, last.error) == ("ok", "")
    asked = Asked(ALONE, Told(a=failed("a")))
    assert asked.error is not None
    assert isinstance(asked.events[-1], RunFinished)
    assert (asked.events[-1].status, asked.events[-1].error) == ("failed", asked.error.message)


def test_a_model_that_did_not_answer_the_question_is_said() -> None:
    declined = Completion(model="a", text=SAID, usage=Usage(), declined="it only knows one topic")
    for told, models in ((ALONE, Told(a=declined)), (mixed("ab", stop_when_agree=True), Told(a=declined, b=SAID))):
        asked = Asked(told, models)
        assert said(asked, NoticedDetail(call=0)) == (
            "the question was not answered: it only knows one topic",
            True,
        )
        assert (asked.answer.text, asked.answer.status) == (SAID, "partial")


def test_drafts_that_agree_end_a_run_that_may_stop_there() -> None:
    models = Told(a="So the answer is 42.", b="The answer is 42.", c="From both.")
    asked = Asked(mixed("ab", kind="synthesize", model="c", stop_when_agree=True), models)
    assert said(asked, AgreedDetail(winner="42")) == ("all 2 drafts end in '42'", False)
    assert models.asked == ["a", "b"]
    models = Told(a="So the answer is 42.", b="The answer is 42.", c="From both.")
    assert Asked(mixed("ab", kind="synthesize", model="c"), models).answer.text == "From both."


LONG = " ".join(f"An index of kind {number} suits {number + 1} writes." for number in range(40))
SPLIT: dict[str, Any] = {"a": "The answer is 1.", "b": "The answer is 2."}


@pytest.mark.parametrize(
    ("replies", "why"),
    [
        ({"a": "The answer is 1.", "b": "The answer is 2."}, "only 1 of 2 drafts agree"),
        ({"a": f"{LONG} Says a.", "b": f"Says b. {LONG}"}, "the drafts cannot be compared"),
        ({"a": failed("a"), "b": failed("b")}, "no draft came"),
    ],
)
def test_stronger_models_are_asked_where_the_drafts_do_not_agree_and_the_reason_is_said(
    replies: dict[str, Any], why: str
) -> None:
    models = Told(**replies, c="The answer is 3.", d="The answer is 3.")
    asked = Asked(mixed("ab", escalate="cd"), models)
    assert models.asked == ["a", "b", "c", "d"]
    assert said(asked, EscalatedDetail(models=["c", "d"])) == (f"{why}; c, d asked as well", False)
    assert asked.answer.text == "The answer is 3."
    assert [(started.role, started.layer) for started in asked.started] == [
        ("proposer", 0),
        ("proposer", 0),
        ("escalation", 1),
        ("escalation", 1),
    ]


def test_drafts_that_did_not_come_are_counted_and_named_with_their_reasons() -> None:
    models = Told(a=failed("a", kind=BrokenReplyError), b=failed("b", kind=RejectedError), c=SAID)
    asked = Asked(mixed("abc"), models)
    assert said(asked, DroppedDetail(lost=2)) == (
        "2 of 3 drafts did not come (a: broken reply, b: rejected)",
        True,
    )
    assert asked.answer.text == SAID
    escalated = Asked(mixed("ab", escalate="cd"), Told(**SPLIT, c="The answer is 1.", d=failed("d")))
    assert said(escalated, DroppedDetail(lost=1)) == ("1 of 2 drafts did not come (d: overloaded)", True)


def test_where_nothing_is_left_the_error_says_it_and_no_decision_counts_drafts() -> None:
    asked = Asked(mixed("ab", escalate="c"), Told(a=failed("a"), b=failed("b"), c=failed("c")))
    assert isinstance(asked.error, NoAnswerError)
    assert {error.model for error in asked.error.failures} == {"a", "b", "c"}
    assert not [decision for decision in asked.answer.decisions if decision.kind == "dropped"]


def test_a_layer_that_gives_nothing_leaves_the_drafts_before_it() -> None:
    models = Told(a="The answer is 1.", b=failed("b"))
    asked = Asked(mixed("a", "b"), models)
    assert said(asked, NoticedDetail()) == ("layer 2 gave no draft; going on with those before it", True)
    assert asked.answer.text == "The answer is 1."


def test_a_first_layer_that_gives_nothing_is_followed_by_the_next() -> None:
    models = Told(a=failed("a"), b="The answer is 1.")
    asked = Asked(mixed("a", "b"), models)
    assert asked.answer.text == "The answer is 1."
    assert not [decision for decision in asked.answer.decisions if decision.kind == "noticed"]


@pytest.mark.parametrize(
    ("errors", "goes_on"),
    [
        ((UnauthorizedError, UnauthorizedError), False),
        ((UnauthorizedError, UnreachableError), False),
        ((UnauthorizedError, RejectedError), True),
        ((TimedOutError, TimedOutError), True),
    ],
)
@pytest.mark.parametrize("then", ["layer", "escalation", "aggregator"])
def test_after_refused_keys_and_servers_that_are_not_there_nothing_else_is_asked_of_them(
    errors: tuple[type[ModelError], type[ModelError]], goes_on: bool, then: str
) -> None:
    models = Told(a=failed("a", kind=errors[0]), b=failed("b", kind=errors[1]), c="The answer is 1.")
    told = {
        "layer": mixed("ab", "c"),
        "escalation": mixed("ab", escalate="c"),
        "aggregator": mixed("ab", kind="synthesize", model="c"),
    }[then]
    asked = Asked(told, models)
    assert models.asked == (["a", "b", "c"] if goes_on else ["a", "b"])
    assert (asked.error is None) is goes_on


def test_another_provider_is_asked_although_the_first_refused_its_key() -> None:
    elsewhere = Layer(proposers=(Proposer(model="c", provider="other"),))
    told = Recipe(layers=(slots("ab"), elsewhere), aggregator=Aggregator(kind="vote"))
    refused: dict[str, Any] = {name: failed(name, kind=UnauthorizedError) for name in "ab"}
    assert Asked(told, Told(**refused, c="The answer is 1.")).error is None


def test_an_aggregator_that_fails_as_the_drafts_did_is_among_the_failures() -> None:
    models = Told(a=failed("a"), b=failed("b"), c=failed("c", kind=RejectedError))
    asked = Asked(mixed("ab", kind="synthesize", model="c"), models)
    assert isinstance(asked.error, NoAnswerError)
    assert [error.model for error in asked.error.failures] == ["c", "a", "b"]


def test_drafts_that_are_all_empty_are_no_answer_and_the_error_says_what_may_help() -> None:
    asked = Asked(mixed("ab"), Told(a="", b=" "))
    assert isinstance(asked.error, NoAnswerError)
    assert asked.error.message == "every draft came back empty; raise max_tokens or change the model"


@pytest.mark.parametrize(("deadline", "over"), [(7.5, True), (None, False)])
def test_calls_that_all_ran_out_of_time_are_a_deadline_error_only_at_the_deadline(
    deadline: float | None, over: bool
) -> None:
    class Waits(Told):
        async def chat(self, request: Any, **more: Any) -> Completion:
            if deadline is not None:
                await asyncio.Event().wait()
            return await super().chat(request, **more)

    asked = Asked(
        mixed("ab"), Waits(a=failed("a", kind=TimedOutError), b=failed("b", kind=TimedOutError)), deadline=deadline
    )
    if over:
        assert isinstance(asked.error, DeadlineError)
        assert asked.error.message == (
            "no model answered within the deadline of 7.5 s; a longer one (deadline, --deadline) may help"
        )
    else:
        assert isinstance(asked.error, NoAnswerError)


@pytest.mark.parametrize(("reasoning", "only"), [("", ""), ("Hm.", " (only reasoning)")])
def test_one_model_that_writes_nothing_gives_no_answer(reasoning: str, only: str) -> None:
    nothing = Completion(model="a", text=" \n", reasoning=reasoning, usage=Usage())
    asked = Asked(ALONE, Told(a=nothing))
    assert isinstance(asked.error, NoAnswerError)
    assert asked.error.message == f"a wrote no answer{only}; raise max_tokens or lower reasoning_effort"


def test_one_answer_that_is_cut_off_at_its_limit_is_said() -> None:
    cut = Completion(model="a", text="LSM-trees suit", finish_reason="length", usage=Usage(completion_tokens=3))
    asked = Asked(ALONE, Told(a=cut))
    assert said(asked, NoticedDetail()) == ("the answer is cut off at its output limit", True)
    assert (asked.answer.text, asked.answer.finish_reason) == ("LSM-trees suit", "length")
    capped = Asked(ALONE, Told(a=cut), options=ChatOptions(max_tokens=3))
    assert capped.answer.warnings == []


def test_one_answer_that_goes_in_circles_is_used_as_far_as_it_goes() -> None:
    sense = "An LSM-tree gathers writes in memory and merges them on disk, which suits heavy writes very well. "
    loop = sense + "It is so because it is so. " * 300
    asked = Asked(ALONE, Told(a=loop))
    ((reason, warning),) = [
        (decision.reason, decision.warning)
        for decision in asked.answer.decisions
        if decision.detail == CutDetail(call=0)
    ]
    assert reason.startswith("the answer of a is used as far as it goes: it repeats itself")
    assert warning
    assert asked.answer.status == "partial"
    assert loop.startswith(asked.answer.text)
    assert len(asked.answer.text) < len(loop) / 2


def finished(text: str, finish: Any = "stop", reasoning: str = "", tokens: int = 5) -> Completion:
    usage = Usage(completion_tokens=tokens)
    return Completion(model="b", text=text, finish_reason=finish, reasoning=reasoning, usage=usage)


@pytest.mark.parametrize(
    ("empty", "why"),
    [
        (finished(" \n"), ""),
        (finished("", "length", "Hm."), " (it spent them on reasoning)"),
        (finished("", "length"), ""),
        (finished("", "stop", "Hm."), ""),
    ],
)
def test_an_empty_draft_is_left_out_and_named_by_its_call(empty: Completion, why: str) -> None:
    asked = Asked(mixed("ab"), Told(a=SAID, b=empty))
    assert said(asked, DroppedDetail(call=1)) == (f"b wrote an empty draft{why}", True)
    assert asked.answer.text == SAID


def test_a_draft_that_is_cut_off_is_kept_and_that_is_said_without_a_warning() -> None:
    asked = Asked(mixed("ab"), Told(a=SAID, b=finished("LSM-trees", "length")))
    assert said(asked, NoticedDetail(call=1)) == ("the draft of b is cut off at its output limit", False)
    assert len(asked.answer.drafts) == 2


def test_drafts_that_go_in_circles_count_as_far_as_they_go_or_not_at_all() -> None:
    sense = "An LSM-tree gathers writes in memory and merges them on disk, which suits heavy writes very well. "
    loop = "It is so because it is so. " * 300
    asked = Asked(mixed("ab"), Told(a=SAID, b=sense + loop))
    ((reason, warning),) = [
        (decision.reason, decision.warning)
        for decision in asked.answer.decisions
        if decision.detail == CutDetail(call=1)
    ]
    assert reason.startswith("the draft of b counts as an incomplete one: it repeats itself")
    assert not warning
    whole, cut = asked.answer.drafts
    assert (whole.incomplete, bool(cut.incomplete)) == ("", True)


def test_a_callers_limit_that_leaves_no_word_is_no_empty_draft() -> None:
    options = ChatOptions(max_tokens=5)
    asked = Asked(mixed("ab"), Told(a=SAID, b=finished("", "length")), options=options)
    assert not [decision for decision in asked.answer.decisions if decision.kind == "dropped"]
    assert len(asked.answer.drafts) == 2
