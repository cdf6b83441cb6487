"""What a run says of how its answer was chosen: every word, what it is about, and whether it is a warning."""

import re

import pytest

from asking import Ran, World
from mixtura import Aggregator, ChatOptions, Layer, Policy, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.decisions import (
    AgreedDetail,
    Detail,
    EditedDetail,
    FellBackDetail,
    NoticedDetail,
    RankedDetail,
    SelectedDetail,
    SynthesizedDetail,
    VotedDetail,
)
from mixtura.engine.kinds.select import parse_choice
from mixtura.events import AnswerRestarted, CallStarted
from mixtura.sim import Reply

LLAMA, GEMMA, SEVENTY = World.LLAMA, World.GEMMA, World.SEVENTY
ONE = (Layer(proposers=(Proposer(model=LLAMA),)),)
THREE = (Layer(proposers=(Proposer(model=LLAMA, samples=2), Proposer(model=GEMMA))),)


def recipe(kind: str, model: str = "", layers: tuple[Layer, ...] = THREE, **policy: object) -> Recipe:
    return Recipe(
        layers=layers,
        aggregator=Aggregator(kind=kind, model=model),  # type: ignore[arg-type]
        policy=Policy(hedge=False, **policy),  # type: ignore[arg-type]
    )


def told(ran: Ran) -> list[tuple[Detail | None, str, bool]]:
    """What the run has said: what it is about, in words, and whether it warns."""
    return [(said.detail, said.reason, said.warning) for said in ran.answer.decisions]


def ending(request: JsonObject, tag: str) -> str:
    """The pair of tags that a prompt asks for."""
    marker = re.findall(rf"<(m[0-9a-f]{{12}}) {tag}>", request["messages"][-1]["content"])[-1]
    return f"<{marker} {tag}>{{}}</{marker} {tag}>"


def labelled(request: JsonObject, text: str) -> str:
    return str(re.findall(rf"draft (\w+)>\n{re.escape(text)}", request["messages"][-1]["content"])[0])


def test_a_vote_says_who_voted_for_what(world: World) -> None:
    ran = world(recipe("vote"), "How many?", reply=world.by_model(llama="{n}. The answer is 18.", gemma="It is 17."))
    votes = VotedDetail(winner="18", votes={0: "18", 1: "18", 2: "17"})
    assert told(ran) == [(votes, "2 of 3 votes for '18'", False)]


def test_a_vote_says_that_there_was_a_tie_and_what_the_weights_were(world: World) -> None:
    layer = Layer(proposers=(Proposer(model=LLAMA, samples=3), Proposer(model=GEMMA, weight=2.5)))
    texts = {"llama": "The answer is {n}.", "gemma": "The answer is 7."}
    (said,) = told(world(recipe("vote", layers=(layer,)), "How many?", reply=world.by_model(**texts)))
    assert said[1] == "2.5 of 5.5 votes for '7'"
    (said,) = told(world(recipe("vote", layers=ONE), "How many?", reply=lambda _r, _c: "The answer is 3."))
    assert said[1:] == ("1 of 1 votes for '3'", False)
    pair = Layer(proposers=(Proposer(model=LLAMA), Proposer(model=GEMMA)))
    (said,) = told(world(recipe("vote", layers=(pair,)), "How many?", reply=world.by_model(llama="It is 1", gemma="2")))
    assert said[1:] == ("1 of 2 votes for '1' (a tie)", False)


def test_a_vote_without_answers_that_can_be_counted_warns(world: World) -> None:
    prose = "A long piece of prose, number {n}, which states nothing that could be counted in any way. " * 2
    ran = world(recipe("vote"), reply=world.by_model(llama=prose, gemma=prose.replace("{n}", "ninety")))
    said = "no draft states an answer that can be counted; took the one that is closest to the others"
    assert told(ran) == [(VotedDetail(), said, True)]
    assert ran.answer.warnings == [said]
    assert ran.answer.text in [draft.text for draft in ran.answer.drafts]
    assert ran.answer.source in (0, 1, 2)


def test_drafts_that_are_the_same_are_said_to_be(world: World) -> None:
    ran = world(recipe("synthesize", SEVENTY), reply=lambda _r, _c: "Use an LSM-tree.")
    assert told(ran) == [(AgreedDetail(), "all 3 drafts are the same; nothing to aggregate", False)]
    assert (ran.answer.text, ran.answer.n_calls, ran.answer.status) == ("Use an LSM-tree.", 3, "ok")


def test_drafts_that_are_the_same_still_need_the_model_that_acts(world: World) -> None:
    tool: JsonObject = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ran = world(recipe("synthesize", SEVENTY), reply=lambda _r, _c: "Sunny.", options=ChatOptions(tools=[tool]))
    assert len(ran.prompts(SEVENTY)) == 1


@pytest.mark.parametrize("kind", ["select", "rank"])
def test_one_draft_alone_is_the_answer(world: World, kind: str) -> None:
    ran = world(recipe(kind, SEVENTY if kind == "select" else "", ONE), reply=lambda _r, _c: "The only draft.")
    if kind == "select":
        assert told(ran) == [(SelectedDetail(call=0), "only one draft came; nothing to select from", False)]
    else:
        assert told(ran) == [(RankedDetail(), "only one draft came; nothing to rank", False)]
    assert (ran.answer.text, ran.answer.source, ran.answer.n_calls) == ("The only draft.", 0, 1)


def test_a_chairman_writes_from_one_draft_without_a_review(world: World) -> None:
    ran = world(recipe("rank", SEVENTY, ONE), reply=world.by_model(llama="The only draft.", seventy="Written."))
    assert [call.role for call in ran.answer.calls] == ["aggregator"]
    assert told(ran) == [
        (RankedDetail(), "only one draft came; nothing to rank", False),
        (SynthesizedDetail(order=[0]), f"{SEVENTY} wrote the answer from 1 draft", False),
    ]
    assert ran.answer.text == "Written."


def reviews(request: JsonObject, order: list[str]) -> str:
    return ending(request, "ranking").format(" > ".join(labelled(request, text) for text in order))


def test_a_ranking_says_the_points_of_every_draft(world: World) -> None:
    small = "openai/gpt-oss-20b"
    layer = Layer(proposers=tuple(Proposer(model=model) for model in (LLAMA, GEMMA, SEVENTY, small)))
    others = {LLAMA: [GEMMA, SEVENTY, small], GEMMA: [SEVENTY, LLAMA, small]}
    others |= {SEVENTY: [LLAMA, GEMMA, small], small: [LLAMA, GEMMA, SEVENTY]}

    def reply(request: JsonObject, call: int) -> str:
        model = request["model"]
        ranks = "ranking>" in request["messages"][-1]["content"]
        return reviews(request, [f"by {other}" for other in others[model]]) if ranks else f"by {model}"

    ran = world(recipe("rank", layers=(layer,)), reply=reply)
    points = RankedDetail(points={0: 0.8333, 1: 0.6667, 2: 0.5, 3: 0.0})
    assert told(ran) == [(points, f"4 reviews put the draft of {LLAMA} first", False)]
    reviewing = [event for event in ran.events if isinstance(event, CallStarted) and event.role == "reviewer"]
    assert len(reviewing) == 4


def test_a_review_that_names_no_ranking_is_left_out_and_said(world: World) -> None:
    def reply(request: JsonObject, call: int) -> str:
        if "ranking>" in request["messages"][-1]["content"]:
            return "All are fine." if request["model"] == LLAMA else reviews(request, ["l2", "g", "l1"])
        return "g" if request["model"] == GEMMA else f"l{call}"

    ran = world(recipe("rank"), reply=reply)
    silent = [call.call for call in ran.answer.calls if call.role == "reviewer" and call.model == LLAMA]
    said = f"the review of {LLAMA} names no ranking and is not counted"
    assert told(ran) == [
        *((NoticedDetail(call=call), said, False) for call in silent),
        (RankedDetail(points={0: 0.0, 1: 1.0, 2: 0.0}), f"1 review puts the draft of {LLAMA} first", False),
    ]
    assert ran.answer.text == "l2"
    assert ran.answer.status == "ok"


def test_without_reviews_and_a_chairman_the_drafts_are_counted(world: World) -> None:
    ran = world(recipe("rank"), "How many?", reply=world.by_model(llama="The answer is 5.", gemma="Answer: 6"))
    assert told(ran)[-2:] == [
        (NoticedDetail(), "no review could be counted", True),
        (VotedDetail(winner="5", votes={0: "5", 1: "5", 2: "6"}), "2 of 3 votes for '5'", False),
    ]
    assert ran.answer.text == "The answer is 5."


def test_there_are_no_more_reviews_than_the_last_layer_has_authors(world: World) -> None:
    layers = (Layer(proposers=(Proposer(model=LLAMA, samples=3),)), Layer(proposers=(Proposer(model=SEVENTY),)))
    ran = world(
        recipe("rank", layers=layers), reply=world.by_model(llama="Draft {n} of mine."), faults=f"400:{SEVENTY}"
    )
    assert [call.role for call in ran.answer.calls].count("reviewer") == 1


def test_a_selector_says_whose_draft_it_chose(world: World) -> None:
    def reply(request: JsonObject, call: int) -> str:
        if request["model"] == SEVENTY:
            return ending(request, "choice").format(labelled(request, "gemma's"))
        return "gemma's" if request["model"] == GEMMA else f"llama's {call}"

    ran = world(recipe("select", SEVENTY), reply=reply)
    assert told(ran) == [(SelectedDetail(call=2), f"{SEVENTY} chose the draft of {GEMMA}", False)]
    assert (ran.answer.source, ran.answer.status) == (2, "ok")
    asked = ran.prompts(SEVENTY)[0][-1]["content"].splitlines()[-1]
    assert re.fullmatch(r"End with the letter of the best draft: <(m\w{12}) choice>A</\1 choice>", asked)
    (started,) = [event for event in ran.events if isinstance(event, CallStarted) and event.role == "selector"]
    assert started.layer == 1
    assert sorted(started.reads) == [0, 1, 2]


@pytest.mark.parametrize(("kind", "role"), [("select", "selector"), ("rank", "reviewer")])
def test_who_judges_drafts_is_asked_for_the_callers_user_and_for_no_form_of_an_answer(
    world: World, kind: str, role: str
) -> None:
    texts = {"llama": "The answer is {n}.", "gemma": "The answer is 7.", "seventy": "A"}
    options = ChatOptions(stop=["END"], user="u1", max_tokens=77)
    ran = world(recipe(kind, SEVENTY if kind == "select" else ""), reply=world.by_model(**texts), options=options)
    judging = [body for body in ran.cloud.requests if "best" in body["messages"][0]["content"]]
    reads = [event.reads for event in ran.events if isinstance(event, CallStarted) and event.role == role]
    assert [sorted(calls) for calls in reads] == [[0, 1, 2]] * len(judging)
    assert len(judging) == len([call for call in ran.answer.calls if call.role == role]) > 0
    assert all((body["user"], body.get("stop")) == ("u1", None) for body in judging)
    assert all(body.get("max_completion_tokens", body.get("max_tokens")) != 77 for body in judging)


@pytest.mark.parametrize(
    ("chairman", "seconds"),
    [(SEVENTY, 30.0), ("", 60.0)],
)
def test_reviews_have_half_of_the_time_where_a_chairman_writes_and_else_all_of_it(
    world: World, chairman: str, seconds: float
) -> None:
    def reply(request: JsonObject, call: int) -> Reply | str:
        if "ranking>" in request["messages"][-1]["content"]:
            return Reply(text="Hm.", fault="silent=900")
        return "Written." if request["model"] == SEVENTY else f"Draft {call} has words of its own."

    ran = world(recipe("rank", chairman, deadline=60.0), reply=reply, watched=False)
    assert ran.seconds == pytest.approx(seconds, abs=2.0)
    if chairman:
        assert ran.answer.text == "Written."


def test_without_an_aggregator_the_draft_of_the_last_layer_is_the_answer(world: World) -> None:
    layers = (*THREE, Layer(proposers=(Proposer(model=SEVENTY),)))
    ran = world(Recipe(layers=layers), reply=world.by_model(llama="Draft {n}.", gemma="x", seventy="The last word."))
    assert (ran.answer.text, ran.answer.source, ran.answer.status) == ("The last word.", 3, "ok")


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ("<t choice>b</t choice>", 1),
        ("<t choice>*B*</t choice>", 1),
        ("<t choice>Draft C</t choice>", 2),
        ("Answer b", 1),
        ("C", 2),
        ("<t choice>D</t choice>", None),
        ("<t choice>A or B</t choice>", None),
        ("<t choice>A</t choice> No: <t choice>C</t choice>", 2),
        ("<u choice>A</u choice>", None),
        ("", None),
        ("I like A.", None),
    ],
)
def test_a_choice_is_a_letter_between_the_tags_or_all_that_is_said(said: str, chosen: int | None) -> None:
    assert parse_choice(said, "t", 3) == chosen


@pytest.mark.parametrize("kind", ["select", "synthesize"])
def test_an_aggregator_that_fails_gives_way_to_the_best_draft(world: World, kind: str) -> None:
    texts = {"llama": "The answer is 4.", "gemma": "The answer is 5."}
    ran = world(recipe(kind, SEVENTY), "How many?", reply=world.by_model(**texts), faults=f"400:{SEVENTY}")
    ((detail, reason, warning),) = told(ran)
    assert (detail, warning) == (FellBackDetail(call=0), True)
    assert re.fullmatch(
        rf"the aggregator failed \(.+\); the answer is the draft of {LLAMA} \(its answer has 2 of 3 votes\)", reason
    )
    assert (ran.answer.text, ran.answer.source, ran.answer.status) == ("The answer is 4.", 0, "partial")


def test_a_selector_that_names_no_draft_is_said_to(world: World) -> None:
    texts = {"llama": "The answer is 4.", "gemma": "The answer is 5.", "seventy": "No idea."}
    ran = world(recipe("select", SEVENTY), "How many?", reply=world.by_model(**texts))
    said = f"the aggregator named no draft; the answer is the draft of {LLAMA} (its answer has 2 of 3 votes)"
    assert told(ran) == [(FellBackDetail(call=0), said, True)]


def test_an_aggregator_says_from_how_many_drafts_it_wrote(world: World) -> None:
    texts = {"llama": "Draft {n}.", "gemma": "Another.", "seventy": "The answer."}
    ran = world(recipe("synthesize", SEVENTY), reply=world.by_model(**texts), seed=3)
    ((detail, reason, warning),) = told(ran)
    assert isinstance(detail, SynthesizedDetail)
    assert sorted(detail.order) == [0, 1, 2]
    assert (reason, warning) == (f"{SEVENTY} wrote the answer from 3 drafts", False)
    started = [event for event in ran.events if isinstance(event, CallStarted) and event.role == "aggregator"]
    assert [event.layer for event in started] == [1]


def test_two_drafts_are_several(world: World) -> None:
    layer = Layer(proposers=(Proposer(model=LLAMA), Proposer(model=GEMMA)))
    texts = {"llama": "One.", "gemma": "Another.", "seventy": "The answer."}
    ran = world(recipe("synthesize", SEVENTY, (layer,)), reply=world.by_model(**texts))
    assert told(ran)[0][1] == f"{SEVENTY} wrote the answer from 2 drafts"


def test_a_sentence_that_names_a_draft_is_a_choice(world: World) -> None:
    def reply(request: JsonObject, call: int) -> str:
        if request["model"] == SEVENTY:
            return f"I choose draft {labelled(request, 'The gemma draft')}."
        return "The gemma draft" if request["model"] == GEMMA else f"llama {call}"

    assert world(recipe("select", SEVENTY), reply=reply).answer.text == "The gemma draft"


def test_an_answer_that_is_a_draft_is_said_to_be_one(world: World) -> None:
    texts = {"llama": "Draft {n}.", "gemma": " Use LSM.\n", "seventy": "Use LSM."}
    ran = world(recipe("synthesize", SEVENTY), reply=world.by_model(**texts))
    assert told(ran)[1:] == [(NoticedDetail(call=2), f"the answer is the draft of {GEMMA}, word for word", False)]


def test_an_answer_that_speaks_of_drafts_as_of_its_subject_is_warned_of(world: World) -> None:
    texts = {"llama": "Draft {n}.", "gemma": "Another.", "seventy": "Burn the drafts and begin anew."}
    ran = world(recipe("synthesize", SEVENTY), reply=world.by_model(**texts))
    assert told(ran)[1:] == [(NoticedDetail(), "the answer speaks of drafts", True)]
    assert ran.answer.text == "Burn the drafts and begin anew."


def test_words_that_are_taken_off_an_answer_are_said_to_be(world: World) -> None:
    texts = {"llama": "Draft {n}.", "gemma": "Another.", "seventy": "Based on the drafts, LSM-trees win."}
    ran = world(recipe("synthesize", SEVENTY), reply=world.by_model(**texts))
    assert told(ran)[0] == (EditedDetail(), "words about the drafts were taken off the front of the answer", False)
    assert ran.answer.status == "ok"


def test_an_aggregator_that_finds_the_drafts_too_large_twice_gives_way(world: World) -> None:
    texts = {"llama": "The answer is 4. " + "word " * 300, "gemma": "Another.", "seventy": "Fine."}
    ran = world(recipe("synthesize", SEVENTY), reply=world.by_model(**texts), faults=f"context:{SEVENTY}")
    assert len(ran.prompts(SEVENTY)) == 2
    assert ran.kinds[-1] == "fell_back"
    assert ran.answer.status == "partial"


def test_an_answer_that_breaks_off_in_sight_of_its_reader_is_begun_anew_once(world: World) -> None:
    def reply(request: JsonObject, call: int) -> Reply | str:
        if request["model"] != SEVENTY:
            return f"Draft {call}."
        return Reply(text="An LSM-tree suits heavy writes. " * 8, fault="cut=4")

    ran = world(recipe("synthesize", SEVENTY, deadline=600.0), reply=reply)
    anew = (NoticedDetail(), f"the answer of {SEVENTY} broke off and is begun anew", True)
    assert told(ran)[0] == anew
    assert told(ran).count(anew) == 1
    assert ran.kinds[-1] == "fell_back"
    restarted = [event.at for event in ran.events if isinstance(event, AnswerRestarted)]
    assert len(restarted) == 2
    assert min(restarted) > 0
