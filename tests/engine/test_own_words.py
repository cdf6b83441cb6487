"""Our own words never reach a reader as an answer: the fence of the drafts, our instructions, talk of drafts."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking import Ran, Reacts, World
from mixtura import Aggregator, Layer, Policy, Proposer, Recipe, prompts
from mixtura.chat import JsonObject
from mixtura.engine import own_words
from mixtura.engine.own_words import find_slip, named_draft, talk_of_drafts
from mixtura.engine.writer import FenceFilter
from mixtura.events import AnswerDelta, AnswerRestarted, CallDelta
from mixtura.sim import Reply

MARKER = "ma6b054d07904"
ANSWER = "An LSM-tree suits heavy writes, because it gathers them in memory and writes them in order."
SLIPS = [
    f"<{MARKER} not a very clean version: {ANSWER}",
    f"<{MARKER} draft A>\n{ANSWER}\n</{MARKER} draft A>",
    f"{ANSWER}\n</{MARKER} draft B>",
    f"{ANSWER} <{MARKER[:6]}",
    f"{ANSWER}\n< / {MARKER.upper()}  DRAFT A >",
    f"{ANSWER} {MARKER[2:11]}",
    f"{ANSWER} <m a6b0 54d0 7904 draft A>",
    f"{ANSWER} **{MARKER[1:]}**",
    f"<draft A>\n{ANSWER}\n</draft A>",
    f"<m0123456789ab draft C>\n{ANSWER}",
    f"Drafts, each between lines that begin with <x and </x:\n{ANSWER}",
    f"{ANSWER}{prompts.INCOMPLETE}",
    "Judge every claim and step on its merits. A draft is not better for being longer, more confident or first.",
    f"{ANSWER} Say nothing about drafts, markers, other models or this procedure: the reader knows only it.",
    f"<{MARKER} choice>B</{MARKER} choice>",
]
INNOCENT = [
    ANSWER,
    "<p>An LSM-tree.</p>\n<mark>writes</mark> <math><mi>x</mi></math> <main>",
    "```xml\n<draft id='a'><title>LSM</title></draft>\n```",
    "The hash is a6b0, and the other one m054d0.",
    "if a < b and m > 3: print('<m')",
    "Follow the format of the file, and write the best answer.",
]


@pytest.mark.parametrize("text", SLIPS)
def test_our_own_words_are_found_whole_in_part_and_distorted(text: str) -> None:
    slip = find_slip(text, ["mffffffffffff", MARKER], "Which index?")
    assert slip is not None
    assert not find_slip(text[: slip.start], [MARKER], "Which index?")
    assert ANSWER.startswith(text[: slip.start].strip()[: len(ANSWER)])


@pytest.mark.parametrize("text", INNOCENT)
def test_other_text_is_none_of_ours(text: str) -> None:
    assert find_slip(text, [MARKER], "Which index?") is None


@pytest.mark.parametrize("text", SLIPS[8:14])
def test_what_the_question_says_the_answer_may_say(text: str) -> None:
    assert find_slip(text, [MARKER], f"What does this mean?\n{text}") is None


TALK = [
    "I choose draft B.",
    "Draft B is the best answer.",
    "**Draft A:**\nIt is an LSM-tree.",
    "The best response is Draft A.",
    "Response 2 is better than the other.",
    "I would go with the second response.",
    "Both drafts are correct, so an LSM-tree.",
    "As draft C says, an LSM-tree.",
    "Candidate B wins.",
    "The drafts agree that it is an LSM-tree.",
]
NO_TALK = [
    "Draft a letter to the owner first.",
    "Draft A Contract in Five Steps",
    "HTTP response 200 means that all is well.",
    "Write a first draft quickly, then a second one.",
    "In the drafts of 1984 and 1987 they chose well.",
    "The draft C++ standard says so.",
    "A candidate for president needs votes.",
]


@pytest.mark.parametrize("text", TALK)
def test_talk_of_drafts_is_found_unless_the_question_speaks_of_them(text: str) -> None:
    assert talk_of_drafts(text, "Which index suits heavy writes?")
    assert not talk_of_drafts(text, "Which draft, response or candidate is best?")
    assert own_words.may_talk_of_drafts(text, "Which index?") or not text.startswith(("Draft", "I choose"))


@pytest.mark.parametrize("text", NO_TALK)
def test_words_that_only_look_like_it_are_left_alone(text: str) -> None:
    assert not talk_of_drafts(text, "How is it done?")


def test_a_verdict_names_its_draft() -> None:
    assert [named_draft(text, 3) for text in (*TALK[:2], "Draft 3", "Draft B, not draft A", "Neither")] == [
        *(1, 1),
        2,
        None,
        None,
    ]


@given(st.sampled_from([*SLIPS[:9], *INNOCENT]), st.data())
def test_a_streamed_fence_is_never_shown_and_all_else_is(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    said: list[str] = []
    passed = FenceFilter(said.append)
    for start, end in pairwise([0, *cuts, len(text)]):
        passed.add(text[start:end])
    if text in INNOCENT:
        passed.close()
        assert "".join(said) == text
    else:
        assert text.startswith("".join(said))
        assert f"<{MARKER[:8]}" not in "".join(said).lower()


def fenced(request: JsonObject) -> tuple[str, str]:
    """Return the marker and the whole block of drafts that a model was shown."""
    shown = request["messages"][-1]["content"]
    found = re.search(r"<(m[0-9a-f]{12}) draft", shown)
    return (found[1], shown[found.start() :]) if found else ("", "")


def aggregator_says(says: Callable[[str, str], str], **drafts: str) -> Reacts:
    texts = {World.LLAMA: "A B-tree, or so I think.", World.GEMMA: f"{ANSWER} So take one.", **drafts}

    def reply(request: JsonObject, call: int) -> Reply | str:
        marker, block = fenced(request)
        return says(marker, block) if marker and request["model"] == World.SEVENTY else texts[request["model"]]

    return reply


def recipe(kind: Any = "synthesize", layers: int = 1) -> Recipe:
    layer = Layer(proposers=(Proposer(model=World.LLAMA), Proposer(model=World.GEMMA)))
    return Recipe(
        layers=(layer,) * layers,
        aggregator=Aggregator(kind=kind, model=World.SEVENTY),
        policy=Policy(hedge=False),
    )


def shown_to_a_reader(ran: Ran) -> list[str]:
    """Return what a reader of the stream has seen, text by text, each until it was withdrawn."""
    texts = [""]
    for event in ran.events:
        if isinstance(event, AnswerRestarted):
            texts.append("")
        elif isinstance(event, AnswerDelta):
            texts[-1] += event.text
    return texts


COPIES: list[Callable[[str, str], str]] = [
    lambda marker, block: block,
    lambda marker, block: f"<{marker} not a very clean version: {ANSWER}",
    lambda marker, block: f"{ANSWER[:40]}\n</{marker} draft A>\n{ANSWER}",
    lambda marker, block: f"It is so. <{marker[:7].upper()}",
    lambda marker, block: "I choose draft B.",
    lambda marker, block: "Both drafts are correct.",
    lambda marker, block: "So it is an LSM-tree. " * 80,
    lambda marker, block: prompts.SYNTHESIZE,
]


@pytest.mark.parametrize("watch", ["nothing", "answer", "calls"])
@pytest.mark.parametrize("says", COPIES)
def test_an_aggregator_that_copies_our_words_loses_to_the_best_draft(
    world: World, watch: str, says: Callable[[str, str], str]
) -> None:
    options: Any = {} if watch == "nothing" else {"watch": watch}
    ran = world(recipe(), reply=aggregator_says(says), watched=watch != "nothing", **options)
    assert ran.answer.text in [draft.text for draft in ran.answer.drafts]
    assert ran.answer.status == "partial"
    assert ran.kinds[-1] == "fell_back"
    assert ran.answer.warnings
    if watch != "nothing":
        texts = shown_to_a_reader(ran)
        assert texts[-1] == ran.answer.text
        assert not any(re.search(r"m[0-9a-f]{6}", text.lower()) for text in texts)


def test_a_verdict_is_taken_at_its_word(world: World) -> None:
    def says(marker: str, block: str) -> str:
        found = re.search(rf"<{marker} draft ([A-Z])>\nA B-tree", block)
        assert found
        return f"I choose draft {found[1]}."

    for kind in ("synthesize", "rank", "select"):
        ran = world(recipe(kind), reply=aggregator_says(says))
        assert ran.answer.text == "A B-tree, or so I think."


def test_an_answer_that_is_whole_before_the_fence_stands(world: World) -> None:
    whole = f"{ANSWER} It pays with reads, which look in several files; filters spare most of those looks."
    ran = world(recipe(), reply=aggregator_says(lambda marker, block: f"{whole}\n\n{block}"), watch="answer")
    assert ran.answer.text == whole
    assert ran.answer.status == "partial"
    assert "edited" in ran.kinds
    assert shown_to_a_reader(ran)[-1] == whole


def test_who_asks_about_drafts_is_answered_in_their_words(world: World) -> None:
    question = "Is draft B of my letter better than draft A? Why do you say <draft A>?"
    ran = world(recipe(), question, reply=aggregator_says(lambda *_: "Draft B is better; <draft A> is a tag."))
    assert ran.answer.text == "Draft B is better; <draft A> is a tag."
    assert ran.answer.status == "ok"


def test_the_marker_is_no_word_of_the_question(world: World) -> None:
    first = world(recipe(), seed=7, reply=aggregator_says(lambda marker, block: f"{marker}"))
    marker = fenced({"messages": first.prompts(World.SEVENTY)[0]})[0]
    ran = world(recipe(), f"What is {marker}?", seed=7, reply=aggregator_says(lambda *_: f"{marker} is a tag."))
    assert ran.answer.text == f"{marker} is a tag."


def test_a_draft_of_a_later_layer_that_copies_the_fence_is_not_used(world: World) -> None:
    def reply(request: JsonObject, call: int) -> str:
        marker, block = fenced(request)
        if request["model"] == World.SEVENTY:
            return "I choose draft A."
        return block if marker and request["model"] == World.LLAMA else f"{ANSWER} {request['model']}"

    ran = world(recipe(layers=2), reply=reply)
    assert ran.answer.text == f"{ANSWER} {World.GEMMA}"
    assert "dropped" in ran.kinds


LOOP = "So the answer is an LSM-tree, since it writes in order. "


@pytest.mark.parametrize("watch", ["nothing", "calls"])
@pytest.mark.parametrize("first_token", [None, 10.0])
def test_a_draft_in_a_loop_is_used_as_far_as_it_goes(world: World, watch: str, first_token: float | None) -> None:
    said = {"llama": f"{ANSWER} {LOOP * 2000}", "gemma": "A B-tree, or so I think.", "seventy": "Fine."}
    policy = Policy(hedge=False, first_token=first_token, between_tokens=first_token)
    asked = Recipe(layers=recipe().layers, aggregator=recipe().aggregator, policy=policy)
    options: Any = {} if watch == "nothing" else {"watch": watch}
    ran = world(asked, reply=world.by_model(**said), watched=watch != "nothing", **options)
    (draft,) = [draft for draft in ran.answer.drafts if draft.incomplete]
    assert "repeats itself" in draft.incomplete
    assert draft.text.startswith(ANSWER)
    assert len(draft.text) < len(ANSWER) + 3 * len(LOOP)
    assert ran.answer.text == "Fine."
    assert any("repeats itself" in said.reason for said in ran.answer.decisions)
    if watch == "calls":
        written = "".join(
            event.text for event in ran.events if isinstance(event, CallDelta) and event.call == draft.call
        )
        assert len(written) < 0.2 * len(said["llama"])


def test_a_question_for_repetition_gets_it(world: World) -> None:
    text = "hello " * 2000
    ran = world("single", "Write hello 2000 times", reply=lambda *_: text, watch="answer")
    assert ran.answer.text == text
    assert ran.answer.status == "ok"


def test_one_model_alone_that_loops_says_so(world: World) -> None:
    ran = world("single", reply=lambda *_: f"{ANSWER} {LOOP * 60}")
    assert ran.answer.text.startswith(ANSWER)
    assert len(ran.answer.text) < len(ANSWER) + 3 * len(LOOP)
    assert ran.answer.status == "partial"
    assert any("repeats itself" in said for said in ran.answer.warnings)
