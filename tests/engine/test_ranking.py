"""Reviews become one ranking: what a review names, the points of each draft, and how a chairman reads them."""

import pytest

from mixtura.engine.ranking import Ranking, borda, describe_ranking, parse_ranking, winner
from mixtura.events import Draft


def tagged(names: str, tag: str = "mab12") -> str:
    return f"My reasons.\n<{tag} ranking>{names}</{tag} ranking>"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (tagged("B > A > C"), [1, 0, 2]),
        (tagged("Draft B > Answer A > Response C"), [1, 0, 2]),
        (tagged("B >\n A >\n C"), [1, 0, 2]),
        (tagged("C > C > A > B > A"), [2, 0, 1]),
        (tagged("Z > B > Q > A"), [1, 0]),
        # Only the last pair of tags is the review's word.
        (tagged("A > B > C") + tagged("C > B > A"), [2, 1, 0]),
        # A reply that ends before its closing tag has said it all the same.
        ("<mab12 ranking>C > A > B", [2, 0, 1]),
        # What another tag holds is a quotation.
        (tagged("A > B > C", tag="mcd34"), []),
        ("B > A > C", []),
        ("", []),
    ],
)
def test_a_review_ranks_what_it_names_between_the_tags_of_its_run(text: str, places: list[int]) -> None:
    assert parse_ranking(text, "mab12", 3) == places


@pytest.mark.parametrize(("names", "count", "is_one"), [("A > B", 4, True), ("A", 2, True), ("A", 3, False)])
def test_a_review_that_names_fewer_than_half_of_the_drafts_is_none(names: str, count: int, is_one: bool) -> None:
    assert bool(parse_ranking(tagged(names), "mab12", count)) is is_one


def test_the_twenty_seventh_draft_has_a_name_too() -> None:
    names = " > ".join([*"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "A1"][::-1])
    assert parse_ranking(tagged(names), "mab12", 27) == list(range(27))[::-1]


@pytest.mark.parametrize(
    ("orders", "count", "points"),
    [
        # Three authors; nobody's word on their own draft counts.
        ([(0, [0, 1, 2]), (1, [1, 0, 2]), (2, [2, 1, 0])], 3, [0.5, 1.0, 0.0]),
        ([(0, [1, 2]), (1, [2, 0])], 3, [0.0, 1.0, 0.5]),
        # Of four drafts, a reviewer ranks three: 1, a half, nothing.
        ([(3, [2, 0, 3, 1])], 4, [0.5, 0.0, 1.0, 0.0]),
        # What a review does not name stands at its end.
        ([(0, [1])], 3, [0.0, 1.0, 0.0]),
        # Two drafts: each author can only put the other's first.
        ([(0, [0, 1]), (1, [0, 1])], 2, [1.0, 1.0]),
        # A reviewer who wrote none of the drafts has a word on all of them.
        ([(9, [1, 0, 2])], 3, [0.5, 1.0, 0.0]),
        ([(3, [1, 0, 2])], 3, [0.5, 1.0, 0.0]),
        ([], 2, [0.0, 0.0]),
    ],
)
def test_points_fall_evenly_from_one_and_the_own_draft_is_left_out(
    orders: list[tuple[int, list[int]]], count: int, points: list[float]
) -> None:
    assert borda(orders, count) == pytest.approx(points)


def test_points_are_the_mean_of_the_reviews() -> None:
    orders = [(0, [1, 2, 3]), (1, [2, 0, 3]), (2, [0, 1, 3]), (3, [0, 1, 2])]
    assert borda(orders, 4) == pytest.approx([(0.5 + 1 + 1) / 3, (1 + 0.5 + 0.5) / 3, (0.5 + 1 + 0) / 3, 0.0])


def draft(call: int, text: str) -> Draft:
    return Draft(call=call, role="proposer", model="m", provider="p", text=text)


def test_most_points_win_and_among_equals_the_draft_that_the_others_support() -> None:
    drafts = [draft(0, "cats dogs birds fish"), draft(1, "red green blue"), draft(2, "red green yellow")]
    assert winner(drafts, Ranking((0.2, 0.3, 0.9), 3)) == 2
    assert winner(drafts, Ranking((0.9, 0.3, 0.2), 3)) == 0
    # Of the last two, which share words, the first stands for both; the draft with no points has no say.
    assert winner(drafts, Ranking((0.0, 0.5, 0.5), 3)) == 1
    refusing = [draft(0, "I'm sorry, but I can't help with that."), draft(1, "An LSM-tree.")]
    assert winner(refusing, Ranking((1.0, 1.0), 2)) == 1


def test_a_chairman_reads_the_ranking_by_the_letters_of_its_own_order() -> None:
    ranking = Ranking((0.5, 1.0, 0.125), 3)
    said = describe_ranking(3, ranking, [2, 0, 1])
    assert said == "How the 3 authors ranked them, 1.00 is best: C (1.00), B (0.50), A (0.12)."
    assert describe_ranking(2, Ranking((0.5, 0.5), 2), [0, 1]).endswith("A (0.50), B (0.50).")
    assert describe_ranking(2, Ranking((0.0, 1.0), 1), [0, 1]) == (
        "How one of the authors ranked them, 1.00 is best: B (1.00), A (0.00)."
    )
