"""Where our own words begin in an answer, how little of them gives them away, and what is left alone."""

import re

import pytest

from mixtura import prompts
from mixtura.engine.own_words import (
    Slip,
    fence_begins,
    fence_stands,
    find_slip,
    may_talk_of_drafts,
    named_draft,
    stands_alone,
    talk_of_drafts,
)

MARKER = "ma6b054d07904"
ANSWER = "An LSM-tree suits heavy writes, because it gathers them in memory."
OF_MARKER, OF_FENCE = "the marker of the drafts", "the fence of the drafts"
OF_INSTRUCTIONS = "the instructions of the aggregator"


@pytest.mark.parametrize(
    ("copied", "kept", "what"),
    [
        # What opens a marker goes with it, and so does the white space before it.
        (f"\n\n</{MARKER} draft A>", "", OF_MARKER),
        (f" < / {MARKER} draft A>", "", OF_MARKER),
        (f" **{MARKER[1:]}**", " **", OF_MARKER),
        (f" It is {MARKER[3:10]}.", " It is", OF_MARKER),
        (f" It is {MARKER[-7:]}.", " It is", OF_MARKER),
        (f" <{MARKER[:4]}", "", OF_MARKER),
        (f" </{MARKER[:4].upper()}", "", OF_MARKER),
        (" a6-b0_54*d0`79\u200b04", "", OF_MARKER),
        (" <draft A>", " ", OF_FENCE),
        (" [This Draft Is Incomplete: its author was stopped here.]", " ", OF_FENCE),
        ("\nJudge every claim and step on its merits; a draft is short.", "\n", OF_INSTRUCTIONS),
    ],
)
def test_a_slip_begins_where_our_words_begin(copied: str, kept: str, what: str) -> None:
    text = ANSWER + copied
    assert find_slip(text, ["mffffffffffff", MARKER], "Which index?") == Slip(len(ANSWER + kept), what)


def test_of_a_marker_that_is_copied_twice_the_first_place_counts() -> None:
    assert find_slip(f"So. {MARKER} and {MARKER}", [MARKER], "") == Slip(3, OF_MARKER)
    assert find_slip(f"{MARKER} is it", [MARKER], "") == Slip(0, OF_MARKER)


@pytest.mark.parametrize("text", [f"It is {MARKER[3:9]}.", f"It is <{MARKER[:3]}>", f"{MARKER[:6]} {MARKER[8:]}"])
def test_fewer_characters_of_a_marker_are_chance(text: str) -> None:
    assert find_slip(text, [MARKER], "Which index?") is None


def test_the_first_of_several_slips_counts() -> None:
    first = "Judge every claim and step on its merits, they say. "
    assert find_slip(f"{first}<draft B> {MARKER}", [MARKER], "") == Slip(0, OF_INSTRUCTIONS)
    assert find_slip(f"<draft B> {MARKER} {first}", [MARKER], "") == Slip(0, OF_FENCE)
    both = [MARKER, "m0123456789ab"]
    for markers in (both, both[::-1]):
        assert find_slip(f"So. m0123456789ab {MARKER}", markers, "") == Slip(3, OF_MARKER)


def sentences() -> list[str]:
    ours = (prompts.SYNTHESIZE, prompts.SELECT, prompts.RANK, prompts.RANKED_SYNTHESIS, prompts.MERGE)
    lines = [line for text in ours for line in text.split("\n") if line]
    return sorted({line for line in lines if len(re.findall(r"\w+", line)) >= 8})


@pytest.mark.parametrize("line", sentences())
def test_every_line_of_our_instructions_is_known(line: str) -> None:
    assert find_slip(f"{ANSWER}\n{line}", [], "Which index?") == Slip(len(ANSWER) + 1, OF_INSTRUCTIONS)
    assert find_slip(f"{ANSWER}\n{line}", [], f"Why {line.upper()}?") is None


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a draft is not better for being longer", 0),
        ("A DRAFT is -- not\nbetter for being   longer", 0),
        ("First. Then a draft is not better for being longer", 7),
        ("First.\nThen. So a draft is not better for being longer", 13),
        ("First. Then\nso a draft is not better for being longer", 12),
        ("a draft is not better for being", None),
        ("a draft is never better for being longer", None),
    ],
)
def test_eight_words_in_a_row_are_ours_from_the_beginning_of_their_sentence(text: str, start: int | None) -> None:
    assert find_slip(text, [], "") == (None if start is None else Slip(start, OF_INSTRUCTIONS))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Well, I choose  draft\nB, since it is right.", "draft B"),
        ("Go on. Both drafts are correct.", "Both drafts are"),
        ("I would pick response 2.", "pick response 2"),
        ("An LSM-tree.", ""),
    ],
)
def test_the_words_that_give_talk_of_drafts_away_are_told(text: str, words: str) -> None:
    assert talk_of_drafts(text, "Which index?") == words


def test_an_answer_may_say_what_its_drafts_say() -> None:
    said = "Draft B of the contract is signed."
    assert talk_of_drafts(said, "Which one?") == "Draft B"
    assert talk_of_drafts(said, "Which one?", ["An LSM-tree.", "They signed  draft\nb."]) == ""
    assert talk_of_drafts(f"{said} I prefer response 2.", "Which one?", ["Draft B"]) == "prefer response 2"


def test_only_what_the_question_speaks_of_is_excused() -> None:
    assert talk_of_drafts("Draft B is right.", "Which RESPONSE is right?") == "Draft B"
    assert talk_of_drafts("I pick response 2.", "Which RESPONSE is right?") == ""


@pytest.mark.parametrize(
    ("text", "count", "place"),
    [
        ("I choose draft B.", 2, 1),
        ("i choose draft b", 2, 1),
        ("Draft 1", 3, 0),
        ("Draft 3", 3, 2),
        ("Draft 4", 3, None),
        ("Draft 0", 3, None),
        ("Draft D", 3, None),
        ("Draft A1 is best", 27, 26),
        ("Draft B. Yes, draft B.", 3, 1),
        ("Draft B, not draft Z", 3, None),
        ("An LSM-tree.", 3, None),
        ("Draft B".ljust(300), 3, 1),
        ("Draft B".ljust(301), 3, None),
    ],
)
def test_a_short_verdict_names_one_draft_by_letter_or_number(text: str, count: int, place: int | None) -> None:
    assert named_draft(text, count) == place


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("", False),
        ("  **", False),
        ("Dr", True),
        ("**Draft", True),
        ("Draft ", True),
        ("Draughts", False),
        ("The be", True),
        ("The bee", False),
        ("Two ", False),
        # A sentence that is over has said it, or has not.
        ("Draft a letter. ", False),
        ("Draft B is best. ", True),
        ("I choose an LSM-tree.\n", False),
        ("I choose draft B:\n", True),
        ("I choose it, and " + "so on and on " * 30, False),
        ("I choose it, and draft B, and " + "so on and on " * 30, True),
        ("I choose it and".ljust(299), True),
        ("I choose it and".ljust(300), False),
    ],
)
def test_a_beginning_that_may_become_talk_of_drafts_is_known(text: str, may: bool) -> None:
    assert may_talk_of_drafts(text, "Which index?") is may
    assert not may_talk_of_drafts(text, "Which draft?") or not re.search(r"[.:]\s", text)


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("abc", 3),
        ("abc <", 4),
        ("abc </", 4),
        ("abc < / m", 4),
        ("abc <ma6b0 54d", 4),
        ("abc <ma6b054d07904 dra", 4),
        ("abc <b", 6),
        ("abc <mz", 7),
        ("abc <m1 draft A", 15),
        ("x" * 100 + "<ma6", 100),
        ("<" * 60, 59),
        ("<m" + "a" * 16, 0),
        ("<m" + "a" * 17, 19),
        ("<" + " " * 39, 0),
        ("<" + " " * 40, 41),
    ],
)
def test_what_may_become_a_fence_is_held_back_from_its_first_sign(text: str, begins: int) -> None:
    assert fence_begins(text) == begins


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("abc <ma6b054", True),
        ("abc < / M a 6 b 0 5 4", True),
        ("abc <a6b054 draft", True),
        ("abc <ma6b05", False),
        ("ma6b054d07904", False),
        ("<b>bold</b>", False),
    ],
)
def test_six_digits_behind_a_sign_are_a_fence(text: str, stands: bool) -> None:
    assert fence_stands(text) is stands


@pytest.mark.parametrize(
    ("text", "draft", "whole"),
    [
        ("x" * 79 + ".", "", True),
        ("x" * 78 + ".", "", False),
        ("  " + "x" * 78 + ".  \n", "", False),
        ("x" * 80, "", False),
        ("x" * 79 + ".", "y" * 160, True),
        ("x" * 79 + ".", "y" * 161, False),
        ("x" * 79 + ".", " " * 99 + "y" * 160 + "\n", True),
        ("```\n" + "x" * 80 + "\n```", "", True),
        ("```\n" + "x" * 80 + ")", "", False),
    ],
)
def test_what_stands_before_a_slip_is_an_answer_where_it_is_whole_and_half_as_long_as_the_best_draft(
    text: str, draft: str, whole: bool
) -> None:
    assert stands_alone(text, draft) is whole
