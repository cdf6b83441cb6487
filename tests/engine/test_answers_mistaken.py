"""Pairs of different answers that were once counted as one, each with the cause of it."""

import pytest

from mixtura.chat import Usage
from mixtura.engine import agree, answers
from mixtura.engine.answers.finding import Expected
from mixtura.engine.drafts import DraftSet
from mixtura.events import Draft


def draft(place: int, text: str, expected: Expected = "") -> Draft:
    """Return a draft with the answer that is found in it."""
    found = answers.find(text, expected)
    choice = "" if found.value is None else str(found.value)
    return Draft(
        call=place, role="proposer", model="m", provider="p", text=text, choice=choice, sure=found.sure, usage=Usage()
    )


def agreed(*texts: str, expected: Expected = "") -> bool:
    """Say whether a run would stop, since all of these drafts surely come to the same."""
    return DraftSet([draft(place, text, expected) for place, text in enumerate(texts)]).agreed


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # The value stands below the words that lead to it.
        ("The answer is as follows:\n\n42", "The answer is as follows:\n\n43"),
        ("The answer is the following:\n42", "The answer is the following:\n43"),
        ("La respuesta es la siguiente:\n42", "La respuesta es la siguiente:\n43"),
        ("The answer is:\n$$\n42\n$$", "The answer is:\n$$\n43\n$$"),
        ("**Final Answer:**\n\n$$\n\\frac12\n$$", "**Final Answer:**\n\n$$\n\\frac13\n$$"),
        ("The answer is [[1, 2],\n [3, 4]]", "The answer is [[1, 2],\n [3, 5]]"),
        ("The answer is x = 3\ny = 4", "The answer is x = 3\ny = 5"),
        ("The answer is\n- A\n- C", "The answer is\n- A\n- D"),
        ("The answer is 1. Paris\n2. Lyon", "The answer is 1. Paris\n2. Rome"),
        # Several parts.
        ("(a) \\boxed{3}\n(b) \\boxed{4}", "(a) \\boxed{8}\n(b) \\boxed{4}"),
        ("<answer>5</answer>\n<answer>6</answer>", "<answer>7</answer>\n<answer>6</answer>"),
        ("#### 5\n#### 6", "#### 7\n#### 6"),
        ('{"answer":5,"steps":[{"answer":3}]}', '{"answer":9,"steps":[{"answer":3}]}'),
        ('{"answer":"B","rejected":{"answer":"A"}}', '{"answer":"C","rejected":{"answer":"A"}}'),
        # Labels of options.
        ("The answer is x: 5", "The answer is x: 7"),
        ("The answer is P: 0.3", "The answer is P: 0.7"),
        ("The answer is N - 1", "The answer is N - 2"),
        ("The answer is A: 3, B: 1", "The answer is A: 1, B: 3"),
        ("The answer is (A) 3, (B) 1", "The answer is (A) 1, (B) 3"),
        ("The answer is (i) and (iii)", "The answer is (i) and (ii)"),
        ("The answer is T, F, T, T", "The answer is F, F, T, F"),
        ("The answer is (C) → (A) → (B)", "The answer is (C) → (B) → (A)"),
        # LaTeX.
        ("\\boxed{\\frac{1}{2}x}", "\\boxed{\\frac{1}{2x}}"),
        ("\\boxed{\\frac{a}{b}c}", "\\boxed{\\frac{a}{bc}}"),
        ("\\boxed{\\frac{1}{2}3}", "\\boxed{\\frac{1}{23}}"),
        ("\\boxed{x\\frac{-1}{2}}", "\\boxed{x-\\frac12}"),
        ("\\boxed{1-\\frac{1}{4}}", "\\boxed{1.25}"),
        ("\\boxed{-1+\\frac12}", "\\boxed{-1.5}"),
        ("\\boxed{5!}", "\\boxed{5}"),
        ('{"answer":"2\\theta"}', '{"answer":"2"}'),
        ("\\boxed{min = 5}", "\\boxed{max = 5}"),
        # Numbers in words, units, groups of digits.
        ("The answer is one hundred twenty", "The answer is 100"),
        ("The answer is twenty five", "The answer is 20"),
        ("The answer is 5 feet six inches", "The answer is 5 feet"),
        ("The answer is one in six", "The answer is 1"),
        ("The answer is 5 mV", "The answer is 5 MV"),
        ("The answer is 5 mPa", "The answer is 5 MPa"),
        ("The answer is 5 MeV", "The answer is 5 meV"),
        ("The answer is 5 orange trees", "The answer is 5 oranges"),
        ("The answer is 5°C below zero", "The answer is 5°C"),
        ("The answer is 5 minutes ago", "The answer is 5 minutes"),
        ("The answer is $100 Canadian", "The answer is 100 USD"),
        ("La respuesta es 0,125 kg", "La respuesta es 125 kg"),
        ("The answer is 192.168.100.200", "The answer is 192168100200"),
        ("The answer is 5 (negative)", "The answer is 5"),
        ("The answer is 1 - \\cos x", "The answer is 1"),
        # What is taken back.
        ("I don't think the answer is 5.", "The answer is 5."),
        ("One might think the answer is 5. It is 6.", "The answer is 5."),
        ("The answer should not be 5.", "The answer is 5."),
        ("The answer is B. Wait, let me recheck. It should be C.", "The answer is B."),
    ],
)
def test_different_answers_are_not_agreed_on(one: str, other: str) -> None:
    assert not agreed(one, other), (draft(0, one).choice, draft(1, other).choice)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("So the area is $9\\pi$ square cm.", "So the area is 9."),
        ("It is √3.", "It is 3."),
        ("It is ln 2.", "It is 2."),
        ("It comes to n - 1.", "It comes to 1."),
        ("That leaves 3 quarters", "That leaves 3."),
        ("He is 5 hundred and twenty.", "He is 500."),
        ("It is - 5", "It is 5"),
        ("It is less than 5.", "It is 5."),
        ("It is a loss of $50.", "It is $50."),
        ("It is 2**5", "It is 2"),
    ],
)
def test_a_last_number_that_something_changes_is_not_sure(one: str, other: str) -> None:
    assert not agreed(one, other, expected="number")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is 12. He actually has 3 boxes.", "12"),
        ("The answer is 15 minutes. They wait 10 minutes at the stop.", "15 min"),
        ("\\boxed{7}\n\n(The trap here is to actually count 6.)", "7"),
        ("The answer is as follows:\n\n42", "42"),
        ("The answer is:\n\\[\n42\n\\]", "42"),
        ("The answer is 5. Wait, no, it is 6.", "6"),
    ],
)
def test_the_answer_that_stands_there_is_found(text: str, found: str) -> None:
    assert str(answers.find(text).value) == found


def test_all_of_the_weight_is_all_however_it_adds_up() -> None:
    drafts = [draft(place, "The answer is 5.") for place in range(10)]
    weighed = [
        Draft(**{**{name: getattr(one, name) for name in one.__struct_fields__}, "weight": 0.1}) for one in drafts
    ]
    assert agree.tally(weighed).unanimous
