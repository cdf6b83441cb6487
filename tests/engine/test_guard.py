"""What may not pass as an answer, and openings about drafts that do not belong in one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import Completion
from mixtura.engine import guard

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
    passed = guard.LeadInFilter(said.append, "Which index?")
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        passed.add(text[start:end])
    passed.close()
    assert "".join(said) == guard.without_lead_in(text)
    assert passed.removed == (guard.without_lead_in(text) != text)


def test_ordinary_answers_are_passed_on_at_once() -> None:
    said: list[str] = []
    passed = guard.LeadInFilter(said.append, "Which index?")
    passed.add("LSM")
    passed.add("-trees")
    assert said == ["LSM", "-trees"]


def test_who_asks_about_drafts_gets_them() -> None:
    said: list[str] = []
    passed = guard.LeadInFilter(said.append, "Compare the drafts of my letter")
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
