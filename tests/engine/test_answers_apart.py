"""Answers that differ are never counted as one: 2,000 generated pairs of each sort, in each dress that models use."""

import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mixtura.engine import agree, answers
from mixtura.events import Draft

PAIRS = settings(max_examples=2000, deadline=None)
WORKING = "We write down what is given and work through it.\n"
DRESSES = (
    "{}",
    "The answer is {}",
    "The answer is {}.",
    "**Final Answer:** {}",
    "**{}**",
    "\u2705 Final answer: **{}**",
    "<answer>{}</answer>",
    "#### {}",
    "\\boxed{{{}}}",
    "Final Answer: The final answer is {}. I hope it is correct.",
    "La respuesta final es {}.",
    "\u7b54\u6848\u662f{}\u3002",
    "\u041e\u0442\u0432\u0435\u0442: {}",
)
dresses = st.sampled_from(DRESSES)
UNITS = (
    *(
        "minutes",
        "hours",
        "days",
        "km",
        "miles",
        "kg",
        "g",
        "mg",
        "dollars",
        "euros",
        "rupees",
        "%",
        "cm^2",
        "cm^3",
        "cm",
    ),
    *("km/h", "m/s", "m/s^2", "oranges", "red apples", "green apples", "MB", "Mb", "\u00b0C", "\u00b0F", "years"),
)


def counted_as_one(one: str, other: str, lenient: bool = False) -> bool:
    """Say whether two drafts are counted as one answer."""
    found = [answers.extract(text, lenient=lenient) for text in (one, other)]
    return "" not in map(str, found) and answers.groups(map(str, found))[str(found[1])] == str(found[0])


@st.composite
def two_numbers(draw: st.DrawFn) -> tuple[str, str]:
    """Two numbers that differ in one digit, grouped and signed alike."""
    digits = draw(st.text("0123456789", min_size=1, max_size=7))
    assume(digits[0] != "0" or len(digits) == 1)
    at = draw(st.integers(0, len(digits) - 1))
    other = draw(st.sampled_from([digit for digit in "123456789" if digit != digits[at]]))
    whole = draw(st.sampled_from(("{:,}", "{}", "{:_}", "-{:,}", "\u2212{}", "\u2013{}", "${:,}", "{:,}.5", "{} / 7")))
    pair = [int(value) for value in (digits, digits[:at] + other + digits[at + 1 :])]
    space = draw(st.sampled_from((",", ",", ",", " ", "\u202f", "\u00a0", "'")))
    one, two = (whole.format(value).replace(",", space) for value in pair)
    return one, two


@PAIRS
@given(two_numbers(), dresses)
def test_numbers_that_differ_in_a_digit(pair: tuple[str, str], dress: str) -> None:
    one, other = (dress.format(value) for value in pair)
    assert not counted_as_one(WORKING + one, WORKING + other)
    assert not counted_as_one(WORKING + one, WORKING + other, lenient=True)


@PAIRS
@given(
    st.integers(1, 10**7),
    st.sampled_from(("-", "\u2212", "\u2013", "\u2011", "minus ", "-$", "$-", "\u2212\u20ac")),
    st.sampled_from(("", "+", "$", "\u20ac")),
    st.sampled_from(("", " dollars", "%", " km", ".5", "/7", " million")),
    dresses,
)
def test_numbers_that_differ_in_their_sign(value: int, minus: str, plus: str, behind: str, dress: str) -> None:
    one, other = (dress.format(f"{sign}{value}{behind}") for sign in (minus, plus))
    assert not counted_as_one(WORKING + one, WORKING + other)
    assert not counted_as_one(one, other, lenient=True)


@PAIRS
@given(st.integers(-999, 10**7), st.lists(st.sampled_from(UNITS), min_size=2, max_size=2, unique=True), dresses)
def test_numbers_that_differ_in_their_unit(value: int, units: list[str], dress: str) -> None:
    one, other = (dress.format(f"{value}{'' if unit == '%' else ' '}{unit}") for unit in units)
    assert not counted_as_one(WORKING + one, WORKING + other)


@PAIRS
@given(
    st.integers(1, 999),
    st.lists(
        st.sampled_from(("", "hundred", "thousand", "million", "billion", "lakh", "crore")),
        min_size=2,
        max_size=2,
        unique=True,
    ),
    st.sampled_from(("{}", "${}", "{} dollars", "\u20b9{}")),
    dresses,
)
def test_numbers_that_differ_in_their_scale(value: int, scales: list[str], money: str, dress: str) -> None:
    texts = [dress.format(money.format(f"{value} {scale}".strip())) for scale in scales]
    assert not counted_as_one(WORKING + texts[0], WORKING + texts[1])


inside = st.text(string.ascii_letters + string.digits + " .,;:!?-_", min_size=1, max_size=12)


@PAIRS
@given(
    inside,
    st.data(),
    st.sampled_from(("'{}'", '"{}"', "['{}']", "('{}', 1)", "{{'k': '{}'}}", "[1, '{}', None]")),
    dresses,
)
def test_literals_that_differ_in_the_case_of_a_letter_or_in_a_space(
    text: str, data: st.DataObject, form: str, dress: str
) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    other = text[:at] + (text[at].swapcase() if text[at].isalpha() else f"{text[at]} ") + text[at + 1 :]
    one, two = (dress.format(form.format(value)) for value in (text, other))
    assert not counted_as_one(WORKING + one, WORKING + two)


letters = st.sets(st.sampled_from("ABCDEFGH"), min_size=1, max_size=4)
LISTS = (", ", " and ", " & ", ") and (", "), (", ", and ")


@PAIRS
@given(letters, letters, st.sampled_from(LISTS), st.sampled_from(LISTS), dresses)
def test_sets_of_options_that_differ(one: set[str], other: set[str], first: str, second: str, dress: str) -> None:
    texts = []
    for chosen, between in ((one, first), (other, second)):
        listed = between.join(sorted(chosen))
        texts.append(dress.format(f"({listed})" if between[0] == ")" else listed))
    same = counted_as_one(WORKING + texts[0], WORKING + texts[1])
    assert same == (one == other) or dress in ("{}", "**{}**"), "which state nothing behind the working"


surnames = st.text(string.ascii_lowercase, min_size=3, max_size=8).map(str.capitalize)
TITLES = ("Dr.", "Mr.", "St.", "Sgt.", "Prof.", "Capt.", "Mme.", "J. K.", "J.", "C.", "U.S.", "No.", "Vol.", "Mt. St.")


@PAIRS
@given(surnames, surnames, st.sampled_from(TITLES), dresses)
def test_names_behind_an_abbreviation(one: str, other: str, title: str, dress: str) -> None:
    assume(one != other)
    texts = [WORKING + dress.format(f"{title} {name}") for name in (one, other)]
    assert not counted_as_one(texts[0], texts[1])


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from(("5", "5 min", "5 h", "$5", "A", "A, B", "'a'", "a", "x", "007", "7")), inside),
        min_size=2,
        max_size=5,
    )
)
def test_what_is_counted_as_one_is_all_the_same(choices: list[str]) -> None:
    found = [str(answers.normal(choice)) for choice in choices]
    groups = answers.groups(found)
    for one in filter(None, found):
        assert answers.normal(one) == one, "a canonical text stands for itself"
        for other in filter(None, found):
            assert answers.alike(one, other) == answers.alike(other, one)
            assert answers.alike(one, other) or groups[one] != groups[other]
    drafts = [
        Draft(call=at, role="proposer", model="m", provider="p", text="", choice=one) for at, one in enumerate(found)
    ]
    assert agree.tally(drafts).unanimous == ("" not in found and len(set(map(groups.get, found))) == 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("twice as old as Tom", "twice as tall as Tom"),
        ("married since 1990", "married since 1980"),
        ("Chapter 3. Verse 5", "Chapter 3. Verse 6"),
        ("the man who sold it", "the man who bought it"),
        ("'Hello' and 'World'", "'Hello' and 'Moon'"),
        ("[1, 2] and [3]", "[1, 2] and [4]"),
        ("(x+1)(x-2)", "(x+1)(x-3)"),
        ("$3$ and $5$", "$3$ and $7$"),
        ("x = 5, y = 3", "x = 5, y = 4"),
        ("5; 6", "5; 7"),
        ("5 or 6", "5"),
        ("not 42", "42"),
        ("at least 5", "5"),
        ("5 squared", "5"),
        ("5 - x", "5 - y"),
        ("5\u03c0", "5"),
        ("2\u221a3", "2"),
        ("3 + 4i", "3 - 4i"),
        ("2x + 3", "2X + 3"),
        ("10^5", "10^6"),
        ("2 x 10^5", "2 x 10^6"),
        ("5k", "5"),
        ("5 feet 3 inches", "5 feet 6 inches"),
        ("2 hours 30 minutes", "2 hours 45 minutes"),
        ("12:00 pm", "12:00 am"),
        ("C++", "C"),
        (".NET", "net"),
        ("CO", "Co"),
        ("A* search", "A"),
        ("vitamin C", "vitamin D"),
        ("B flat", "B sharp"),
        ("US$5", "A$5"),
        ("$5m", "$5"),
        ("$5 m", "$5"),
        ("\u20ac5 Mio", "\u20ac5"),
        ("A. A. Milne", "A. A. Gill"),
        ("E. coli", "E. faecalis"),
        ("5 yards", "5 miles"),
        ("$18 per day", "$18 per week"),
        ("50%", "0.5"),
        ("007", "07"),
        ("Paris, Texas", "Paris, France"),
        ("J. Smith Jr. of Ohio", "J. Smith Jr. of Utah"),
        ("[-2, 7)", "(-2, 7]"),
        ("\\Delta", "\\delta"),
        ("\\frac{-1}{2}", "\\frac{1}{2}"),
        ("the 1st one", "the 2nd one"),
        ("1.000,50", "1.000,60"),
    ],
)
def test_values_that_begin_alike_are_not_cut_to_what_they_share(one: str, other: str) -> None:
    for dress in (
        "The answer is {}",
        "The answer is {}.",
        "<answer>{}</answer>",
        "\\boxed{{{}}}",
        '{{"answer": "{}"}}',
    ):
        texts = [
            WORKING + dress.format(value.replace("\\", "\\\\") if dress[0] == "{" else value) for value in (one, other)
        ]
        assert not counted_as_one(texts[0], texts[1]), dress


def test_a_value_of_no_unit_is_no_bridge_between_two_units() -> None:
    drafts = [
        Draft(call=at, role="proposer", model="m", provider="p", text="", choice=choice)
        for at, choice in enumerate(["5 min", "5", "5 h"])
    ]
    counted = agree.tally(drafts)
    assert (counted.votes, counted.unanimous, counted.majority) == (1.0, False, False)
    assert agree.tally(drafts[:2]).unanimous
    assert answers.groups(["5", "5 min", "5 h"]) == {"5": "5", "5 min": "5 min", "5 h": "5 h"}
    assert answers.groups(["5", "5 min", "5 minutes", "6"]) == {"5": "5", "5 min": "5", "5 minutes": "5", "6": "6"}
