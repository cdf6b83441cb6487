"""What a run says of an answer whose form is wrong, and what each way out of it leads to, word for word."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from asking import Ran, Reacts, World
from mixtura import Aggregator, ChatOptions, DeadlineError, Layer, NoAnswerError, Policy, Proposer, Recipe, prompts
from mixtura.chat import JsonObject
from mixtura.decisions import Detail, DroppedDetail, EditedDetail, FellBackDetail, NoticedDetail, RepairedDetail
from mixtura.engine.form import ended_by_caller
from mixtura.events import AnswerFinished, CallStarted
from mixtura.sim import Reply

SMALL, LARGE = "openai/gpt-oss-20b", "openai/gpt-oss-120b"
SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
COLOUR = ChatOptions(response_format={"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}})
PROSE, RED, BLUE = "The colour is red.", '{"colour": "red"}', '{"colour": "blue"}'
NO_JSON = "it is not JSON"


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud that does not check what its models write, as servers of model files do not."""
    monkeypatch.setattr("mixtura.sim.generation._check_json", lambda *_: None)


def recipe(kind: str = "synthesize", **more: Any) -> Recipe:
    layer = Layer(proposers=(Proposer(model=SMALL, samples=2),))
    aggregator = Aggregator(kind=kind, model="" if kind == "vote" else LARGE, **more)  # type: ignore[arg-type]
    return Recipe(layers=(layer,), aggregator=aggregator, policy=Policy(hedge=False, deadline=60.0))


ALONE = Recipe(
    layers=(Layer(proposers=(Proposer(model=LARGE, system="Be brief."),)),), policy=Policy(hedge=False, deadline=60.0)
)


def writing(drafts: list[Any], *texts: Any) -> Reacts:
    """The small model writes the drafts in turn, the large one the texts."""
    left = {SMALL: list(drafts), LARGE: list(texts)}

    def reply(request: JsonObject, _call: int) -> Reply | str:
        said: Reply | str = left[request["model"]].pop(0)
        return said

    return reply


def ask(world: World, told: Recipe, reply: Reacts, options: ChatOptions = COLOUR) -> Ran:
    return world(told, "Name a colour.", reply=reply, options=options)


def told(ran: Ran) -> list[tuple[Detail | None, str, bool]]:
    return [(said.detail, said.reason, said.warning) for said in ran.answer.decisions]


def why_of(ran: Ran, pattern: str) -> str:
    """What is said to be wrong with the form, in the one decision whose reason the pattern fits."""
    (found,) = [match for _, reason, _ in told(ran) if (match := re.fullmatch(pattern, reason))]
    return found[1]


def test_a_repair_is_told_and_is_the_source_of_the_answer(world: World) -> None:
    ran = ask(world, recipe(), writing(["A.", "B."], PROSE, Reply(text=RED, reasoning="I see.")))
    detail, reason, warning = told(ran)[-1]
    assert re.fullmatch(rf"the answer's form was wrong \({NO_JSON}.*\); {LARGE} wrote it again", reason)
    assert (detail, warning) == (RepairedDetail(call=3), False)
    (finished,) = [event for event in ran.events if isinstance(event, AnswerFinished)]
    assert (finished.source, finished.finish_reason, finished.text) == (3, "stop", None)
    assert (ran.answer.text, ran.answer.reasoning.strip(), ran.answer.status) == (RED, "I see.", "ok")
    (started,) = [event for event in ran.events if isinstance(event, CallStarted) and event.role == "repair"]
    assert started.layer == 1


def test_a_repair_is_asked_for_in_the_conversation_and_not_among_drafts(world: World) -> None:
    ran = ask(world, recipe(system="Edit the drafts."), writing(["A.", "B."], PROSE, RED))
    first, second = ran.prompts(LARGE)
    assert "Edit the drafts." in first[0]["content"]
    assert second[-3]["content"] == "Name a colour."
    assert second[-2] == {"role": "assistant", "content": PROSE}
    assert "draft" not in str(second)
    assert second[-1]["content"].startswith("Your reply cannot be used: it is not JSON")
    assert second[-1]["content"].endswith(prompts.REPAIR.partition("}")[2][-60:])
    sent = [body["response_format"]["type"] for body in ran.cloud.requests if body["model"] == LARGE]
    assert sent == ["json_schema", "json_schema"]


def test_a_proposer_that_repairs_its_own_answer_keeps_its_system_text(world: World) -> None:
    ran = ask(world, ALONE, writing([], PROSE, RED))
    assert [prompt[0]["content"].startswith("Be brief.") for prompt in ran.prompts(LARGE)] == [True, True]
    assert ran.answer.text == RED


def test_an_answer_without_words_is_not_repeated_to_who_repairs_it(world: World) -> None:
    options = ChatOptions(response_format=COLOUR.response_format, stop=["END"])
    ran = ask(world, recipe(), writing(["A.", "B."], Reply(text="", finish_reason="stop"), RED), options)
    assert [turn["role"] for turn in ran.prompts(LARGE)[-1]].count("assistant") == 0
    assert ran.answer.text == RED


@pytest.mark.parametrize(
    ("second", "still"),
    [(PROSE, NO_JSON), ('{"colour": "green"}', "the answer"), ("<draft A>" + RED, "it copied the fence of the drafts")],
)
def test_a_repair_that_is_no_better_gives_way_to_a_draft_that_has_the_form(
    world: World, second: str, still: str
) -> None:
    ran = ask(world, recipe(), writing([PROSE, BLUE], PROSE, second))
    assert (NoticedDetail(call=3), True) in [(detail, warning) for detail, _, warning in told(ran)]
    assert why_of(ran, rf"the repair by {LARGE} is no better: (.+)").startswith(still)
    said = rf"the answer has not the form that was asked for \((.+)\); it is the draft of {SMALL} \(the only one left\)"
    assert why_of(ran, said).startswith(NO_JSON)
    assert (told(ran)[-1][0], told(ran)[-1][2]) == (FellBackDetail(call=1), True)
    assert (ran.answer.text, ran.answer.source, ran.answer.status) == (BLUE, 1, "partial")


def test_a_model_that_could_not_repair_is_told(world: World) -> None:
    ran = ask(world, recipe(), writing([PROSE, f"So: {BLUE}"], PROSE, Reply(fault="400")))
    detail, reason, warning = next(one for one in told(ran) if "could not repair" in one[1])
    assert re.fullmatch(rf"{LARGE} could not repair the answer \(.+\)", reason)
    assert (detail, warning) == (NoticedDetail(), True)
    # The draft had words round its JSON: they go.
    assert told(ran)[-1] == (EditedDetail(), "the words round the JSON were taken off", False)
    assert ran.answer.text == BLUE


@pytest.mark.parametrize("second", [PROSE, Reply(fault="400")])
def test_without_any_form_the_error_says_what_to_do(world: World, second: Any) -> None:
    ran = ask(world, recipe(), writing([PROSE, PROSE + "!"], PROSE, second))
    assert isinstance(ran.error, NoAnswerError)
    head = rf"no reply has the form that was asked for; that of {LARGE}: {NO_JSON}.*"
    if second == PROSE:
        assert re.fullmatch(
            head + "; say in the question what to write, or take a model that keeps to schemas", ran.error.message
        )
        assert ran.error.failures == ()
    else:
        assert re.fullmatch(head + f"; asked again, {LARGE} on groq: .+", ran.error.message)
        assert [problem.model for problem in ran.error.failures] == [LARGE]


def test_drafts_that_only_vote_say_whose_form_is_wrong(world: World) -> None:
    ran = ask(world, recipe("vote"), writing([PROSE, PROSE]))
    assert ran.error is not None
    assert ran.error.message.startswith(f"no reply has the form that was asked for; that of {SMALL}: {NO_JSON}")


def test_a_deadline_that_leaves_no_time_for_a_repair_is_said(world: World) -> None:
    ran = ask(world, ALONE, writing([], PROSE, Reply(text=RED, fault="silent=900")))
    assert isinstance(ran.error, DeadlineError)
    assert ran.error.message.startswith(f"no reply has the form that was asked for; that of {LARGE}: {NO_JSON}")
    assert ran.error.message.endswith("; the deadline left no time to ask again: a longer one may help")


def test_a_draft_without_the_form_is_left_out_and_said(world: World) -> None:
    layer = Layer(proposers=(Proposer(model=SMALL, samples=3),))
    three = Recipe(layers=(layer,), aggregator=Aggregator(kind="vote"), policy=Policy(hedge=False, deadline=60.0))
    ran = ask(world, three, writing([PROSE, BLUE, RED]))
    detail, reason, warning = told(ran)[0]
    assert reason.startswith(f"the draft of {SMALL} has not the form that was asked for: {NO_JSON}")
    assert (detail, warning) == (DroppedDetail(call=0), False)
    assert ran.kinds.count("dropped") == 1
    assert ran.answer.text in (BLUE, RED)


@pytest.mark.parametrize("drafts", [[BLUE, RED], [PROSE, PROSE + "!"]])
def test_where_all_drafts_or_none_have_the_form_none_is_left_out(world: World, drafts: list[str]) -> None:
    ran = ask(world, recipe("vote"), writing(drafts))
    assert "dropped" not in ran.kinds


def test_what_the_callers_limit_cut_off_is_given_with_a_warning(world: World) -> None:
    options = ChatOptions(response_format={"type": "json_object"}, max_tokens=3)
    ran = ask(world, ALONE, writing([], '{"colour": "red and blue and green"}'), options)
    detail, reason, warning = told(ran)[-1]
    assert re.fullmatch(r"max_tokens cut the answer off: .+", reason)
    assert (detail, warning) == (NoticedDetail(), True)
    assert ran.answer.finish_reason == "length"


@pytest.mark.parametrize(
    ("finish", "limit", "tokens", "ended"),
    [
        ("length", 356, 10, True),
        ("length", 357, 10, False),
        ("length", 5, 5, True),
        ("length", 100_000, 0, True),
        ("length", None, 10, False),
        ("stop", 5, 5, False),
    ],
)
def test_a_limit_far_above_what_was_written_ended_nothing(
    finish: str, limit: int | None, tokens: int, ended: bool
) -> None:
    run: Any = SimpleNamespace(caller_limit=limit)
    assert ended_by_caller(run, finish, tokens) is ended
