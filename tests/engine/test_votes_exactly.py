"""How drafts are counted and compared: every tie, every reason in words, and where a refusal may yet become one."""

import pytest

from mixtura.engine import agree
from mixtura.engine.drafts import DraftSet
from mixtura.events import Draft

NO = "I'm sorry, but I can't help with that."
PROSE = "A long piece of prose that states nothing which could be counted in any way whatsoever, however it is read. "


def draft(
    text: str = PROSE, choice: str = "", weight: float = 1.0, finish: str = "stop", incomplete: str = ""
) -> Draft:
    return Draft(
        call=0,
        role="proposer",
        model="m",
        provider="p",
        text=text,
        choice=choice,
        weight=weight,
        finish_reason=finish,  # type: ignore[arg-type]
        incomplete=incomplete,
    )


def votes(*choices: str) -> list[Draft]:
    return [draft(f"{PROSE}{place}", choice) for place, choice in enumerate(choices)]


@pytest.mark.parametrize(
    ("choices", "counted", "unanimous", "majority"),
    [
        (["4", "4", "4"], ("4", 3.0, 3.0, 3, False), True, True),
        (["4", "4", "5"], ("4", 2.0, 3.0, 3, False), False, True),
        (["4", "5"], ("4", 1.0, 2.0, 2, True), False, False),
        (["4", "4", "", ""], ("4", 2.0, 4.0, 2, False), False, False),
        (["4", "4", ""], ("4", 2.0, 3.0, 2, False), False, True),
        (["4"], ("4", 1.0, 1.0, 1, False), False, False),
        (["", ""], ("", 0.0, 2.0, 0, False), False, False),
        ([], ("", 0.0, 0.0, 0, False), False, False),
    ],
)
def test_drafts_are_counted_by_their_final_answers(
    choices: list[str], counted: tuple[object, ...], unanimous: bool, majority: bool
) -> None:
    found = agree.tally(votes(*choices))
    assert found == counted
    assert (found.unanimous, found.majority) == (unanimous, majority)
    assert DraftSet(votes(*choices)).tally == found


def test_among_equal_votes_the_heaviest_draft_wins_and_else_the_first() -> None:
    pair = [draft(choice="1"), draft(choice="1"), draft(choice="2", weight=2.0)]
    assert agree.tally(pair)[:2] == ("2", 2.0)
    assert agree.tally(pair[::-1])[:2] == ("2", 2.0)
    assert agree.tally(votes("b", "a", "a", "b")).winner == "b"
    # The heaviest of an answer's drafts counts, wherever it stands.
    drafts = [
        draft(choice="1", weight=2.0),
        draft(choice="1"),
        draft(choice="2", weight=1.5),
        draft(choice="2", weight=1.5),
    ]
    assert agree.tally(drafts).winner == "1"


def test_one_draft_alone_is_the_best_and_said_to_be() -> None:
    assert agree.best([draft()]) == (0, "the only one left")
    assert agree.best([draft(NO), draft()]) == (1, "the only sound one")


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (draft(NO), draft(incomplete="its time was up")),
        (draft(incomplete="its time was up"), draft(finish="content_filter")),
        (draft(finish="content_filter"), draft(finish="length")),
        (draft(finish="length"), draft()),
        (draft(finish="length"), draft(finish="unknown")),
        (draft(NO, finish="stop"), draft(finish="length")),
    ],
)
def test_a_whole_draft_goes_before_a_broken_one_and_a_refusal_comes_last(worse: Draft, better: Draft) -> None:
    assert agree.best([worse, better]) == (1, "the only sound one")
    assert agree.best([better, worse]) == (0, "the only sound one")


@pytest.mark.parametrize(
    ("drafts", "best"),
    [
        (votes("5", "4", "4"), (1, "its answer has 2 of 3 votes")),
        (votes("4", "5", "4", ""), (0, "its answer has 2 of 4 votes")),
        # One vote each: nothing is decided by them.
        (
            [draft("a b c d", "1"), draft("x y c d", "2"), draft("a b x y", "3"), draft("a b c y", "4")],
            (3, "closest to the others"),
        ),
        # One answer among prose is the only one that can be counted.
        ([draft("a b"), draft("a b c"), draft("z", "4")], (2, "its answer has 1 of 3 votes")),
        # The heaviest stands where nobody else agrees.
        ([draft("a b"), draft("a c"), draft("z", weight=2.0)], (2, "from the model that counts most")),
        ([draft("a", "1"), draft("b", "2", weight=1.5), draft("c", "3")], (1, "its answer has 1.5 of 3.5 votes")),
        # Two against two: several drafts stand behind each, so the first wins.
        (votes("4", "5", "4", "5"), (0, "its answer has 2 of 4 votes")),
        # Of the drafts for the winner, the heaviest.
        ([draft("a", "4"), draft("b", "4", weight=2.0), draft("c", "5")], (1, "its answer has 3 of 4 votes")),
        # Of several, the one that shares most words with all of them.
        ([draft("x y z", "4"), draft("a b c", "4"), draft("a b d", "5")], (1, "its answer has 2 of 3 votes")),
        # Of broken drafts only those of the best kind count.
        (
            [*(draft(f"{n}", "5", finish="length") for n in "ab"), *votes("4", "6", "6")],
            (3, "its answer has 2 of 3 votes"),
        ),
    ],
)
def test_the_best_draft_and_why(drafts: list[Draft], best: tuple[int, str]) -> None:
    assert agree.best(drafts) == best
    chosen, reason = DraftSet(drafts).best
    assert (drafts.index(chosen), reason) == best


def test_the_count_of_all_drafts_says_nothing_of_those_that_are_left() -> None:
    # Three refusals "agree"; they are counted in the whole, and not where the best draft is looked for.
    drafts = [*(draft(NO, "no") for _ in range(3)), draft("a", "4"), draft("b", "4")]
    assert agree.best(drafts, agree.tally(drafts)) == (3, "its answer has 2 of 2 votes")


def test_drafts_are_close_by_the_share_of_words_that_they_have_in_common() -> None:
    # Case and signs do not count, and long drafts are not closer for being long.
    drafts = [
        draft("Cats, dogs!"),
        draft("cats dogs " + "and many more words of all kinds " * 3),
        draft("CATS DOGS mice"),
    ]
    assert agree.best(drafts) == (0, "closest to the others")
    assert agree.best([draft("red"), draft("cats dogs birds"), draft("cats dogs")])[0] == 1
    # Words of which the first 20,000 characters hold none are not read.
    far = "x " * 10_000
    assert agree.best([draft("cats dogs"), draft(f"{far}cats dogs"), draft("x cats")])[0] == 2


def test_drafts_without_words_are_as_good_as_each_other() -> None:
    assert agree.best([draft("!"), draft("?")]) == (0, "closest to the others")


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I cannot help.", True),
        ("I can not answer", True),
        ("I can’t help.", True),
        ("I cant help with it", True),
        ("I won't do that.", True),
        ("I will not discuss it", True),
        ("I am unable to comply.", True),
        ("I'm not able to help you", True),
        ("I can't really help.", True),
        ("I can't do magic.", False),
        ("I can't help. The answer is 42.", False),
        ("We cannot help.", False),
        ("x" * 200 + " I cannot help.", False),
        ("I helped, and not in vain.", False),
    ],
)
def test_a_refusal_says_that_its_author_does_not_help(text: str, refuses: bool) -> None:
    assert agree.refuses(text) is refuses
    if refuses:
        assert all(agree.may_refuse(text[:end]) for end in range(len(text)))


@pytest.mark.parametrize(
    ("text", "may"),
    [
        ("", True),
        (" ** ", True),
        ("S", True),
        ("Sor", True),
        ("Sort", False),
        ("Im", True),
        ("Im unable ", True),
        ("As an A", True),
        ("As an apple", False),
        ("I", True),
        ("It", True),
        ("It ", False),
        ("I can", True),
        ("I can ", True),
        ("I think ", False),
        ("I can't ", True),
        ("I can’t possibly ", True),
        ("I can't, however, ", True),
        ("I can't tell you one ", True),
        ("I can't tell you one thing ", False),
        ("We cannot ", False),
        # Behind an apology a refusal begins within fourteen words.
        ("Sorry " + "so " * 13, True),
        ("Sorry " + "so " * 14, False),
        ("Unfortunately B-trees", True),
    ],
)
def test_the_beginning_of_a_reply_may_yet_become_a_refusal(text: str, may: bool) -> None:
    assert agree.may_refuse(text) is may
