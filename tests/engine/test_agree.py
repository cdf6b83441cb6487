"""Counting final answers, naming the best draft, knowing a refusal."""

import pytest

from mixtura.engine import agree, answers
from mixtura.engine.drafts import DraftSet
from mixtura.events import Draft


def draft(
    text: str, *, weight: float = 1.0, finish: str = "stop", lenient: bool = False, incomplete: str = ""
) -> Draft:
    found = answers.find(text, "number" if lenient else "")
    return Draft(
        incomplete=incomplete,
        call=0,
        role="proposer",
        model="m",
        provider="p",
        text=text,
        weight=weight,
        finish_reason=finish,  # type: ignore[arg-type]
        choice="" if found.value is None else str(found.value),
        sure=found.sure,
    )


def test_votes_are_counted_by_weight_and_the_heaviest_breaks_ties() -> None:
    drafts = [draft("Answer: 1"), draft("Answer: 2", weight=1.5), draft("Answer: 3")]
    counted = agree.tally(drafts)
    assert (counted.winner, counted.votes, counted.total, counted.tied) == ("2", 1.5, 3.5, False)
    assert not counted.majority
    tie = agree.tally([draft("Answer: 1"), draft("Answer: 1"), draft("Answer: 2", weight=2.0)])
    assert (tie.winner, tie.tied) == ("2", True)


def test_a_draft_that_was_stopped_is_not_counted_in_the_votes_nor_in_their_total() -> None:
    stopped = [draft(f"Answer: {n}", weight=5.0, incomplete="enough drafts were there without it") for n in range(2)]
    counted = agree.tally([draft("Answer: 1"), *stopped, draft("Answer: 1")])
    assert (counted.winner, counted.votes, counted.total, counted.counted) == ("1", 2.0, 2.0, 2)
    assert counted.unanimous
    assert agree.tally(stopped) == ("", 0.0, 0.0, 0, False)


def test_drafts_that_state_nothing_are_not_unanimous() -> None:
    prose = "A long piece of prose that states nothing which could be counted in any way whatsoever. " * 2
    assert not agree.tally([draft(prose), draft(prose)]).unanimous
    assert not agree.tally([draft("Answer: 1")]).unanimous
    assert agree.tally([draft("Answer: 1"), draft("so: the answer is 1")]).unanimous


def test_drafts_agree_only_where_all_of_them_are_sure() -> None:
    sure = ["It makes 18 in all.", "The answer is 18"]
    unsure = "From 3 to 5 o'clock they sell one of 20, and of those between 9 and 18."
    assert DraftSet([draft(text, lenient=True) for text in sure]).agreed
    doubted = DraftSet([draft(text, lenient=True) for text in (*sure, unsure)])
    assert (doubted.tally.unanimous, doubted.agreed) == (True, False)
    stopped = draft(unsure, incomplete="its time was up")
    assert DraftSet([*(draft(text, lenient=True) for text in sure), stopped]).agreed
    assert not DraftSet([draft(sure[0], lenient=True)]).agreed


def test_one_answer_with_and_without_its_unit_is_counted_as_one() -> None:
    drafts = [draft("The answer is 18"), draft("The answer is $18.00", weight=2.0), draft("The answer is 18 eggs")]
    assert agree.tally(drafts[:2]) == ("18", 3.0, 3.0, 2, False)
    assert agree.best(drafts[:2]) == (1, "its answer has 3 of 3 votes")
    assert agree.tally(drafts)[:2] == ("18 dollars", 2.0), "18 may be either of the others"


@pytest.mark.parametrize(
    ("drafts", "same"),
    [
        ([draft("Paris.")], False),
        ([draft("Paris."), draft(" Paris.\n")], True),
        ([draft("Paris."), draft("Paris."), draft("paris.")], False),
        ([draft("Paris."), draft("Paris.", incomplete="its time was up")], False),
    ],
)
def test_two_whole_drafts_that_say_the_same_are_identical(drafts: list[Draft], same: bool) -> None:
    assert agree.identical(drafts) is same


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Answer: 5", "Answer: 7", "Answer: 7"], 1),
        (["only one"], 0),
        (["I'm sorry, but I can't help with that.", "The index is an LSM tree."], 1),
        (["cats dogs birds fish", "red green blue", "cats dogs birds horses"], 0),
        (["red green blue", "cats dogs birds fish", "cats dogs birds horses"], 1),
    ],
)
def test_the_best_draft_is_the_one_the_others_support(texts: list[str], expected: int) -> None:
    assert agree.best([draft(text) for text in texts])[0] == expected


def test_a_refusal_loses_to_drafts_that_are_cut_off() -> None:
    cut = [draft(f"The answer is 9 minutes. And then {n}", finish="length") for n in range(4)]
    no = draft("I'm sorry, I can't help with that.")
    assert agree.best([no, *cut])[0] != 0
    assert agree.best([draft("The capital is", finish="content_filter"), *cut])[0] != 0


def test_a_cut_off_draft_loses_to_a_whole_one() -> None:
    assert agree.best([draft("Answer: 5", finish="length"), draft("Something else")])[0] == 1
    assert agree.best([draft("Answer: 5", finish="length")])[0] == 0


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "Sorry, I can’t answer that",
        "As an AI language model, I cannot provide that.",
        "Unfortunately, I am unable to comply.",
    ],
)
def test_a_refusal_is_one(text: str) -> None:
    assert agree.refuses(text)


@pytest.mark.parametrize(
    "text",
    [
        "I can help with that.",
        "I cannot be sure, but 42 is likely.",
        "Sorry about the wait. It is 42.",
        "You can't help it.",
    ],
)
def test_an_answer_is_no_refusal(text: str) -> None:
    assert not agree.refuses(text)


def test_a_refusal_of_six_hundred_characters_says_more_than_that_it_is_one() -> None:
    opening = "I'm sorry, but I can't help with that. "
    for length, is_one in ((599, True), (600, False)):
        text = opening.ljust(length, "x")
        assert agree.refuses(text) is is_one
        assert agree.refuses(f"  {text}\n") is is_one, "white space around it says nothing"
        assert agree.may_refuse(text) is is_one
