"""What a written answer is judged by, what stands in its place and what is said of it, word for word."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from asking import Ran, Reacts, World
from mixtura import Aggregator, ChatOptions, Layer, NoAnswerError, Policy, Proposer, Recipe, prompts
from mixtura.chat import JsonObject
from mixtura.decisions import Detail, DroppedDetail, EditedDetail, FellBackDetail, NoticedDetail
from mixtura.engine.draft_check import check_draft
from mixtura.engine.writer import FenceFilter
from mixtura.events import AnswerDelta, AnswerFinished, AnswerRestarted, Draft
from mixtura.sim import Reply, ToolCall

LLAMA, GEMMA, SEVENTY = World.LLAMA, World.GEMMA, World.SEVENTY
ANSWER = "An LSM-tree suits heavy writes, because it gathers them in memory and writes them out in order."
LOOP = "So it is an LSM-tree. "
TOOL: JsonObject = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
DRAFTS = {LLAMA: "Take an LSM-tree.", GEMMA: "A B-tree, or so I think."}


def recipe(**policy: Any) -> Recipe:
    layer = Layer(proposers=(Proposer(model=LLAMA, weight=2.0), Proposer(model=GEMMA)))
    return Recipe(
        layers=(layer,), aggregator=Aggregator(model=SEVENTY), policy=Policy(hedge=False, deadline=60.0, **policy)
    )


def writing(says: Any, **drafts: Any) -> Reacts:
    """The aggregator says `says`: a reply, or a function of the marker that it was shown."""

    def reply(request: JsonObject, _call: int) -> Reply | str:
        if request["model"] != SEVENTY:
            made: Reply | str = drafts.get("every", DRAFTS[request["model"]])
            return made
        marker = re.findall(r"<(m[0-9a-f]{12}) draft", request["messages"][-1]["content"])
        told: Reply | str = says(marker[0]) if callable(says) else says
        return told

    return reply


def told(ran: Ran) -> list[tuple[Detail | None, str, bool]]:
    return [(said.detail, said.reason, said.warning) for said in ran.answer.decisions]


def pieces(ran: Ran) -> str:
    """What a reader of the stream has in the end."""
    text = ""
    for event in ran.events:
        text = (
            "" if isinstance(event, AnswerRestarted) else text + (event.text if isinstance(event, AnswerDelta) else "")
        )
    return text


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (LOOP * 60, "repeated itself ('So it is an LSM-tree.' 60 times)"),
        (lambda marker: f"So. <{marker} draft A>", "copied the marker of the drafts"),
        ("Both drafts are correct, I think.", "speaks of drafts ('Both drafts are')"),
        (Reply(text=ANSWER, finish_reason="length"), "was cut off at its output limit"),
        (Reply(text=ANSWER, finish_reason="content_filter"), "was stopped by a content filter"),
        (Reply(text="", reasoning="Hm."), "wrote no answer, only reasoning"),
        ("I'm sorry, but I can't help with that.", "refused, while the drafts answer"),
    ],
)
@pytest.mark.parametrize("watched", [True, False])
def test_an_answer_that_cannot_stand_gives_way_to_the_best_draft(
    world: World, says: Any, why: str, watched: bool
) -> None:
    ran = world(recipe(), reply=writing(says), watched=watched)
    ((detail, reason, warning),) = told(ran)
    end = f"; the answer is the draft of {LLAMA} (its answer has 2 of 3 votes)"
    assert reason == f"the aggregator {why}{end}"
    assert (detail, warning) == (FellBackDetail(call=0), True)
    assert (ran.answer.text, ran.answer.source, ran.answer.status) == (DRAFTS[LLAMA], 0, "partial")
    assert ran.answer.warnings == [reason]


def test_a_verdict_gives_the_draft_that_it_names(world: World) -> None:
    def reply(request: JsonObject, _call: int) -> str:
        if request["model"] != SEVENTY:
            return DRAFTS[request["model"]]
        letter = re.findall(rf"draft (\w)>\n{re.escape(DRAFTS[GEMMA])}", request["messages"][-1]["content"])[0]
        return f"I choose draft {letter}."

    ran = world(recipe(), reply=reply)
    ((detail, reason, warning),) = told(ran)
    assert re.fullmatch(
        rf"the aggregator speaks of drafts \('draft [AB]'\); the answer is the draft of {GEMMA} \(the one it names\)",
        reason,
    )
    assert (detail, warning) == (FellBackDetail(call=1), True)
    assert (ran.answer.text, ran.answer.source, ran.answer.status) == (DRAFTS[GEMMA], 1, "partial")


def test_what_is_whole_before_the_fence_is_the_answer(world: World) -> None:
    ran = world(recipe(), reply=writing(lambda marker: f"{ANSWER}\n\n<{marker} draft A>\nTake"))
    said = f"the answer of {SEVENTY} ends before the place where it copied the marker of the drafts"
    assert told(ran)[0] == (EditedDetail(), said, True)
    assert (ran.answer.text, ran.answer.status, ran.answer.source) == (ANSWER, "partial", 2)
    assert pieces(ran) == ANSWER
    assert [reason for _, reason, _ in told(ran)] == [said, f"{SEVENTY} wrote the answer from 2 drafts"]
    (finished,) = [event for event in ran.events if isinstance(event, AnswerFinished)]
    assert finished.text == ANSWER


def test_what_is_whole_before_a_loop_is_the_answer(world: World) -> None:
    ran = world(recipe(), reply=writing(Reply(text=f"{ANSWER} {LOOP * 60}", finish_reason="length")))
    assert ran.answer.text == pieces(ran) == f"{ANSWER} {LOOP}".rstrip()
    said = f"the answer of {SEVENTY} ends before the place where it repeated itself ("
    assert told(ran)[0][1].startswith(said)
    assert ran.answer.status == "partial"


def test_what_is_held_of_an_answer_is_shown_when_it_stands(world: World) -> None:
    # It ends before it is sure that no opening about drafts follows.
    ran = world(recipe(), reply=writing("Given rain, stay"))
    assert ran.answer.text == pieces(ran) == "Given rain, stay"
    assert not [event for event in ran.events if isinstance(event, AnswerRestarted)]


def test_what_may_begin_a_fence_is_shown_once_when_the_answer_stands(world: World) -> None:
    ran = world(recipe(), reply=writing("Take it where a <"))
    assert ran.answer.text == pieces(ran) == "Take it where a <"
    assert not [event for event in ran.events if isinstance(event, AnswerRestarted)]
    said: list[str] = []
    passed = FenceFilter(said.append)
    passed.add("where a <")
    assert said == ["where a "]
    passed.close()
    passed.close()
    passed.add(" b")
    assert said == ["where a ", "<", " b"]


@pytest.mark.parametrize("watched", [True, False])
def test_an_answer_is_streamed_where_somebody_watches_it(world: World, watched: bool) -> None:
    ran = world(recipe(), reply=writing(ANSWER), watched=watched)
    (sent,) = [body for body in ran.cloud.requests if body["model"] == SEVENTY]
    assert bool(sent.get("stream")) is watched


def test_an_answer_that_repeats_itself_as_the_drafts_do_stands(world: World) -> None:
    drafts = iter([LOOP * 50, "Take an LSM-tree."])
    ran = world(recipe(), reply=lambda request, _: LOOP * 60 if request["model"] == SEVENTY else next(drafts))
    said = "the answer repeats itself ('So it is an LSM-tree.' 60 times), as drafts do"
    assert (NoticedDetail(), said, True) in told(ran)
    assert ran.kinds[-1] == "synthesized"
    assert ran.answer.text == LOOP * 60


def test_an_answer_that_is_cut_off_stands_where_all_drafts_are(world: World) -> None:
    cut = Reply(text="The draft begins, and", finish_reason="length")
    other = Reply(text="Another begins, and", finish_reason="length")
    texts = iter([cut, other])
    ran = world(
        recipe(),
        reply=lambda request, _: (
            Reply(text="It begins, and", finish_reason="length") if request["model"] == SEVENTY else next(texts)
        ),
    )
    assert (NoticedDetail(), "the answer is cut off at its output limit", True) in told(ran)
    assert (ran.answer.text, ran.answer.finish_reason) == ("It begins, and", "length")
    assert ran.kinds[-1] == "synthesized"


def test_a_marker_in_the_arguments_of_a_tool_is_copied_as_well(world: World) -> None:
    def acts(marker: str) -> Reply:
        return Reply(text=None, tool_calls=(ToolCall(name="weather", arguments=f'{{"city":"<{marker}>"}}'),))

    ran = world(recipe(), reply=writing(acts), options=ChatOptions(tools=[TOOL]))
    said = "the aggregator copied the marker of the drafts into a call of a tool; "
    assert any(reason.startswith(said) for _, reason, _ in told(ran))
    assert ran.answer.tool_calls is None
    assert ran.answer.text == DRAFTS[LLAMA]


def test_who_asks_about_a_draft_keeps_an_opening_about_drafts(world: World) -> None:
    text = "Based on the drafts, take an LSM-tree."
    ran = world(recipe(), "What of the Draft of my index?", reply=writing(text))
    assert ran.answer.text == pieces(ran) == text
    assert "edited" not in ran.kinds


def test_a_stop_word_that_comes_first_leaves_an_empty_answer(world: World) -> None:
    ran = world(recipe(), reply=writing(Reply(text="", finish_reason="stop")), options=ChatOptions(stop=["END"]))
    assert (ran.answer.text, ran.answer.status, ran.error) == ("", "ok", None)
    ran = world(recipe(), reply=writing(Reply(text="", finish_reason="stop")))
    assert ran.answer.text == DRAFTS[LLAMA]
    ran = world(recipe(), reply=writing(Reply(text="", reasoning="Hm.")), options=ChatOptions(stop=["END"]))
    assert ran.answer.text == DRAFTS[LLAMA]


def test_a_written_answer_carries_its_reasoning_and_names_its_call(world: World) -> None:
    ran = world(recipe(), reply=writing(Reply(text=ANSWER, reasoning="I weigh both.")))
    assert (ran.answer.text, ran.answer.reasoning, ran.answer.source) == (ANSWER, "I weigh both.", 2)
    assert not [event for event in ran.events if isinstance(event, AnswerRestarted)]
    assert all(event.at > 0 for event in ran.events if isinstance(event, AnswerDelta))
    (finished,) = [event for event in ran.events if isinstance(event, AnswerFinished)]
    assert (finished.text, finished.source, finished.finish_reason) == (None, 2, "stop")
    assert "".join(event.reasoning for event in ran.events if isinstance(event, AnswerDelta)).strip() == "I weigh both."


def test_a_model_that_answers_alone_is_said_to(world: World) -> None:
    faults = f"400:{LLAMA},400:{GEMMA}"
    ran = world(recipe(), reply=writing(ANSWER), faults=faults)
    said = f"no usable draft came; {SEVENTY} was asked to answer alone"
    assert (FellBackDetail(), said, True) in told(ran)
    assert (ran.answer.text, ran.answer.status) == (ANSWER, "partial")
    # It is asked what was asked, and nothing about drafts.
    assert ran.prompts(SEVENTY) == [[{"role": "user", "content": "Which index suits heavy writes?"}]]
    ran = world(recipe(), reply=writing("Both drafts are fine, as <draft A> says."), faults=faults)
    assert ran.answer.text == "Both drafts are fine, as <draft A> says."


@pytest.mark.parametrize(
    ("says", "why"),
    [(Reply(text="", reasoning="Hm."), "wrote no answer, only reasoning"), (LOOP * 90, "repeated itself")],
)
def test_a_model_that_answers_alone_and_cannot_is_a_failed_run(world: World, says: Any, why: str) -> None:
    ran = world(recipe(), reply=writing(says), faults=f"400:{LLAMA},400:{GEMMA}")
    assert isinstance(ran.error, NoAnswerError)
    assert [why in str(problem) for problem in ran.error.failures] == [False, False, True]
    assert (ran.error.failures[-1].provider, ran.error.failures[-1].model) == ("groq", SEVENTY)


def stub(**more: Any) -> Any:
    return SimpleNamespace(**{"allowed_repeats": 0, "markers": ["ma6b054d07904"], "asked": "Why?", **more})


def draft(text: str, **more: Any) -> Draft:
    return Draft(call=0, role="proposer", model="m", provider="p", text=text, choice="4", **more)


READ = [draft("Take response 2 of them.")]


@pytest.mark.parametrize(
    ("text", "more", "kept", "why"),
    [
        (f"{ANSWER} {LOOP * 60}", {"finish_reason": "length"}, f"{ANSWER} {LOOP}".rstrip(), "it repeats itself: "),
        # Too little stands before the second round, so all of it stays, and it is said what it is.
        (
            LOOP * 60,
            {"finish_reason": "stop"},
            (LOOP * 60).rstrip(),
            "it repeats itself: 'So it is an LSM-tree.' 60 times",
        ),
        (f"{ANSWER}\n<ma6b054d07904 draft A>", {}, ANSWER, "it copied the marker of the drafts"),
        (f"{'x' * 79}. <ma6b054d07904 draft A>", {}, f"{'x' * 79}.", "it copied the marker of the drafts"),
        (f"{'x' * 78}. <ma6b054d07904 draft A>", {}, "", "it copied the marker of the drafts"),
        ("I choose draft B.", {}, "I choose draft B.", "it speaks of other drafts: 'draft B'"),
    ],
)
def test_a_draft_counts_as_far_as_it_is_one(text: str, more: JsonObject, kept: str, why: str) -> None:
    found = check_draft(stub(), draft(text, **more), reads=READ)
    assert (found.text, found.choice) == (kept, "")
    assert found.incomplete.startswith(why)


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (ANSWER, {}),
        # It ended by itself, and says something else as well.
        (f"{ANSWER * 9} {LOOP * 60}", {"finish_reason": "stop"}),
        (LOOP * 60, {"incomplete": "its time was up"}),
        (LOOP * 60, {"tool_calls": [{"id": "a"}]}),
        ("I pick response 2 of them.", {}),
    ],
)
def test_a_draft_that_is_one_stays_as_it_is(text: str, more: JsonObject) -> None:
    whole = draft(text, **more)
    assert check_draft(stub(), whole, reads=[draft("They pick response 2.")]) is whole


def test_a_draft_that_was_shown_no_others_has_nothing_to_copy() -> None:
    whole = draft(f"I choose draft B. {prompts.INCOMPLETE}")
    assert check_draft(stub(), whole) is whole
    assert check_draft(stub(asked="Which draft? [This draft is incomplete"), whole, reads=READ) is whole


def test_repetition_that_was_asked_for_is_no_loop_of_a_draft() -> None:
    whole = draft(LOOP * 60, finish_reason="length")
    assert check_draft(stub(allowed_repeats=30), whole) is whole
    assert check_draft(stub(allowed_repeats=29), whole) is not whole


def test_an_answer_may_say_of_drafts_what_the_drafts_say_themselves(world: World) -> None:
    said = "Both drafts are correct: take an LSM-tree."
    drafts = iter(["I think so. " + said, "A B-tree."])
    ran = world(recipe(), reply=lambda request, _: said if request["model"] == SEVENTY else next(drafts))
    assert "synthesized" in ran.kinds
    assert ran.answer.text == said


def test_a_whole_answer_that_ends_in_a_refrain_stands(world: World) -> None:
    refrain = ANSWER + "\n\n" + LOOP * 25
    ran = world(recipe(), reply=writing(refrain))
    assert (ran.answer.text, ran.answer.status) == (refrain, "ok")


def test_a_draft_that_begins_with_the_fence_of_others_is_left_out_with_a_warning(world: World) -> None:
    layer = Layer(proposers=(Proposer(model=LLAMA), Proposer(model=GEMMA)))

    def reply(request: JsonObject, _call: int) -> Reply | str:
        marker = re.findall(r"<(m[0-9a-f]{12}) draft", request["messages"][-1]["content"])
        if request["model"] == GEMMA and marker:
            return f"<{marker[0]} draft A>"
        return ANSWER if request["model"] == SEVENTY else DRAFTS[request["model"]]

    ran = world(Recipe(layers=(layer, layer), aggregator=Aggregator(model=SEVENTY)), reply=reply)
    ((reason, warning),) = [
        (reason, warning) for detail, reason, warning in told(ran) if isinstance(detail, DroppedDetail)
    ]
    assert reason == f"the draft of {GEMMA} was left out: it copied the fence of the drafts"
    assert warning
