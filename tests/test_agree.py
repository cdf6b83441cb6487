"""Finding final answers, counting them, and naming the best draft."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.engine import agree
from mixtura.events import Draft

RECORDINGS = Path(__file__).parents[2] / "shared" / "data" / "recordings"


def draft(text: str, *, weight: float = 1.0, finish: str = "stop", lenient: bool = False) -> Draft:
    return Draft(
        call=0,
        role="proposer",
        model="m",
        provider="p",
        text=text,
        weight=weight,
        finish_reason=finish,  # type: ignore[arg-type]
        choice=agree.extract(text, lenient=lenient),
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is 42.", "42"),
        ("**Final Answer:** 42", "42"),
        ("So the answer is $1,234.50 per day, as shown.", "1234.5"),
        ('{"reasoning": "the answer is 1", "answer": "18"}', "18"),
        ('```json\n{"reasoning": "x", "answer": 18.0}\n```', "18"),
        ('broken { json "answer": "7", and more', "7"),
        ("long text\n\n#### 1,000", "1000"),
        (r"thus \boxed{12}", "12"),
        ("Answer: (B) because it fits", "B"),
        ("Therefore, the correct answer is C) 12 apples", "C"),
        ("The answer is: [1, 2, 'a']", '[1,2,"a"]'),
        ("Paris", "paris"),
        ("The final answer is **3/4**", "3/4"),
        ("A train leaves the station at noon and nobody knows where it goes after that.", ""),
        ("### Step 1: set up the whole thing\nThen go on and on until the end is reached.", ""),
        ("Whether the answer is yes depends on many things that are not said in the question at all.", ""),
        ("", ""),
    ],
)
def test_the_final_answer_of_a_text_is_found(text: str, found: str) -> None:
    assert agree.extract(text) == found


def test_a_last_number_counts_only_where_a_number_is_asked_for() -> None:
    text = "She sells 9 eggs a day at the market, which makes a total of 18 dollars in the end."
    assert agree.extract(text) == ""
    assert agree.extract(text, lenient=True) == "18"
    assert agree.asks_number("How many dollars does she make?")
    assert not agree.asks_number("Why is the sky blue?")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18", "18.00"),
        ("$18", "18 dollars"),
        ("1,000", "1000"),
        ("'x'", '"x"'),
        ("[1, 2]", "[1,2]"),
        ("(B)", "b."),
        ("-0", "0"),
    ],
)
def test_the_same_answer_in_other_dress_is_the_same(one: str, other: str) -> None:
    assert agree.normal(one) == agree.normal(other) != ""


@given(st.text(max_size=400))
def test_no_text_breaks_the_search(text: str) -> None:
    for lenient in (False, True):
        found = agree.extract(text, lenient=lenient)
        assert agree.normal(found) == agree.normal(agree.normal(found))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=4))
def test_a_number_is_equal_to_itself_however_it_is_written(number: object) -> None:
    assert agree.normal(f"{number}") == agree.normal(f"  {number:,}00 ")


def test_votes_are_counted_by_weight_and_the_heaviest_breaks_ties() -> None:
    drafts = [draft("Answer: 1"), draft("Answer: 2", weight=1.5), draft("Answer: 3")]
    counted = agree.tally(drafts)
    assert (counted.winner, counted.votes, counted.total, counted.tied) == ("2", 1.5, 3.5, False)
    assert not counted.majority
    tie = agree.tally([draft("Answer: 1"), draft("Answer: 1"), draft("Answer: 2", weight=2.0)])
    assert (tie.winner, tie.tied) == ("2", True)


def test_drafts_that_state_nothing_are_not_unanimous() -> None:
    prose = "A long piece of prose that states nothing which could be counted in any way whatsoever. " * 2
    assert not agree.tally([draft(prose), draft(prose)]).unanimous
    assert not agree.tally([draft("Answer: 1")]).unanimous
    assert agree.tally([draft("Answer: 1"), draft("so: the answer is 1")]).unanimous


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Answer: 5", "Answer: 7", "Answer: 7"], 1),
        (["only one"], 0),
        (["I'm sorry, but I can't help with that.", "The index is an LSM tree."], 1),
        (["cats dogs birds fish", "red green blue", "cats dogs birds horses"], 0),
    ],
)
def test_the_best_draft_is_the_one_the_others_support(texts: list[str], expected: int) -> None:
    assert agree.best([draft(text) for text in texts])[0] == expected


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


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not part of the project")
def test_answers_found_in_recordings_agree_with_their_own_grader() -> None:
    path = RECORDINGS / "gsm8k-dev.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    total = differ = 0
    for row in rows:
        gold = agree.normal(row["answer"])
        for model, text in row["outputs"].items():
            total += 1
            differ += (agree.extract(text, lenient=True) == gold) != row["graded"][model]
    assert total == 5940
    # 20 of 5,940 differ, nearly all where the answer stands right there and the recordings' own grader missed it.
    assert differ <= 25
