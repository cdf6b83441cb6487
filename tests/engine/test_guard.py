"""What may not pass as an answer, and openings about drafts that do not belong in one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.answer_format import AnswerFormat
from mixtura.chat import Completion
from mixtura.engine import agree, guard

OPENINGS = [
    "Based on the drafts, ",
    "According to the provided responses: ",
    "After carefully reviewing all of the candidate answers, ",
    "Synthesizing the various answers, ",
    "Here is the combined answer:\n\n",
    "Here's my final synthesized response: ",
]
INNOCENT = [
    "Based on the numbers, it is 4.",
    "Given that x is 2, y is 3.",
    "Here is a program:\nprint(1)",
    "From Rome, take the train.",
    "After lunch, rest.",
    "",
    "B",
    "Here",
]


@pytest.mark.parametrize("opening", OPENINGS)
def test_an_opening_about_drafts_is_taken_off(opening: str) -> None:
    # Behind a line break the text stays as it is: it may be code.
    expected = "use an LSM-tree." if "\n" in opening else "Use an LSM-tree."
    assert guard.without_lead_in(opening + "use an LSM-tree.") == expected


def test_code_and_names_behind_an_opening_keep_their_look() -> None:
    code = "    import os\n    print(os.getcwd())"
    assert guard.without_lead_in(f"Here is the final answer:\n\n{code}") == code
    assert guard.without_lead_in("Based on the drafts, iPhone sales fell.") == "iPhone sales fell."
    assert guard.without_lead_in("Based on the drafts, print(1) is it.") == "print(1) is it."


@pytest.mark.parametrize("text", INNOCENT)
def test_other_openings_stay(text: str) -> None:
    assert guard.without_lead_in(text) == text


@given(
    st.sampled_from([*(opening + "use an LSM-tree. Done." for opening in OPENINGS), *INNOCENT]) | st.text(), st.data()
)
def test_a_streamed_answer_is_the_whole_one_however_it_is_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    said: list[str] = []
    passed = guard.Opening(said.append, "Which index?")
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        passed.add(text[start:end])
    passed.close()
    assert "".join(said) == guard.without_lead_in(text)


def test_ordinary_answers_are_passed_on_at_once() -> None:
    said: list[str] = []
    passed = guard.Opening(said.append, "Which index?")
    passed.add("LSM")
    passed.add("-trees")
    assert said == ["LSM", "-trees"]


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "Sorry, I cannot assist with this request.",
    "I can’t comply.",
    "I am unable to provide that information.",
    "I won't write that.",
    "Unfortunately, I am not able to answer that question.",
    "As an AI language model, I cannot continue this conversation.",
    "I'm very sorry, but I can not really discuss it.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_held_to_its_end(text: str) -> None:
    assert agree.refuses(text)
    said: list[str] = []
    passed = guard.Opening(said.append, "Which index?")
    for character in text:
        passed.add(character)
    assert said == []
    passed.close()
    assert said == [text]


@pytest.mark.parametrize(
    ("text", "soon"),
    [
        ("I think an LSM-tree suits heavy writes.", 10),
        ("I'd take an LSM-tree.", 6),
        ("If writes are many, an LSM-tree.", 4),
        ("It depends on the reads.", 4),
        ("Sort the writes first.", 4),
        ("I cannot recommend a B-tree for heavy writes; take an LSM-tree.", 40),
        ("Unfortunately, B-trees rewrite whole pages for each change, so an LSM-tree is the better choice here.", 102),
    ],
)
def test_what_only_begins_like_a_refusal_is_passed_on_soon(text: str, soon: int) -> None:
    said: list[str] = []
    passed = guard.Opening(said.append, "Which index?")
    for character in text[:soon]:
        passed.add(character)
    assert said
    for character in text[soon:]:
        passed.add(character)
    passed.close()
    assert "".join(said) == text


def test_nothing_but_json_is_passed_on_where_json_was_asked_for() -> None:
    form = AnswerFormat({"type": "json_object"})
    said: list[str] = []
    passed = guard.Opening(said.append, "Which index?", form)
    for piece in ("\n", " {", '"index"', ': "lsm"}'):
        passed.add(piece)
    assert "".join(said) == '\n {"index": "lsm"}'
    said.clear()
    passed = guard.Opening(said.append, "Which index?", form)
    for piece in ("Sure", ': {"index"', ': "lsm"}'):
        passed.add(piece)
    passed.close()
    assert said == []


def test_who_asks_about_drafts_gets_them() -> None:
    said: list[str] = []
    passed = guard.Opening(said.append, "Compare the drafts of my letter")
    passed.add("Based on the drafts, the second is better.")
    assert said == ["Based on the drafts, the second is better."]
    assert not guard.mentions_drafts("Both drafts are fine.", "Compare the drafts")
    assert guard.mentions_drafts("Draft B says so.", "Which index?")


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        (Completion(model="m", text=" "), "wrote no answer"),
        (Completion(model="m", text="", reasoning="hm"), "wrote no answer, only reasoning"),
        (Completion(model="m", text="So it", finish_reason="length"), "cut off"),
        (Completion(model="m", text="So it", finish_reason="content_filter"), "content filter"),
        (Completion(model="m", text="", tool_calls=[{}], finish_reason="tool_calls"), ""),
        (Completion(model="m", text="An answer."), ""),
    ],
)
def test_what_cannot_stand_as_an_answer_is_named(completion: Completion, why: str) -> None:
    found = guard.problem(completion, ())
    assert (why in found) if why else found == ""
