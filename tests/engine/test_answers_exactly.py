"""The normal form of each kind of final answer, to the character, and where an answer is read."""

import pytest

from mixtura.engine import answers

LONG = "Nobody knows yet how it ends, since all of it is still to be found out by whoever looks. "


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("0.1", "0.1"),
        ("2.50", "2.5"),
        ("100", "100"),
        ("-0.125", "-0.125"),
        ("+3", "3"),
        ("\u22123", "-3"),
        (".5", "0.5"),
        ("1e-3", "0.001"),
        ("1E3", "1000"),
        ("1e-20", "0.00000000000000000001"),
        ("1e-30", "0.000000000000000000000000000001"),
        ("1e-31", "1/1" + "0" * 31),
        ("-2/6", "-1/3"),
        ("1 1/2", "1.5"),
        ("2 3 / 4", "2.75"),
        ("1,234,567", "1234567"),
        ("1,23", "1,23"),
        ("$ 5", "5 dollars"),
        ("-$5", "-5 dollars"),
        ("$-5", "-5 dollars"),
        ("-$-5", "-$-5"),
        ("5%", "5%"),
        ("5 km/h", "5 km/h"),
        ("5kg", "5 kg"),
        ("5 red apples", "5 red apples"),
        ("5 well-known trees", "5 well-known trees"),
        ("5!", "5!"),
        ("5.", "5"),
        ("5 .", "5"),
        ("5 million", "5000000"),
        ("2.5 thousand dollars", "2500 dollars"),
        ("3 dozen eggs", "36 eggs"),
        ("2 million and one", "2 million and one"),
        ("5 pm", "5 pm"),
        ("5 times", "5 times"),
        ("1/2 million", "1/2 million"),
        ("5apples", "5apples"),
        ("5 a b c d e f g", "5 a b c d e f g"),
        ("x^2 + 1", "x^2+1"),
        ("X^2 + 1.", "X^2+1"),
        ("\\alpha + 1", "\\alpha+1"),
        ("b", "B"),
        ("(c)", "C"),
        ("d) Rome", "D"),
        ("e.", "E"),
        ("Yes.", "Yes"),
        ('"The  Red House!"', '"The  Red House!"'),
        ("**bold**", "bold"),
        ("`code`", "code"),
        ("'a'", '"a"'),
        ("**`both`**", "both"),
        ("''", '""'),
        ("(1, 2)", "(1,2)"),
        ("['a', 'B']", '["a","B"]'),
        ('{"A": "B c"}', '{"A":"B c"}'),
        ("", ""),
        ("x" * 300, "x" * 300),
        ("x" * 301, ""),
        ("[" + "x" * 9_998 + "]", "[" + "x" * 9_998 + "]"),
        ("[" + "x" * 9_999 + "]", ""),
        ("1" * 100, "1" * 100),
    ],
)
def test_a_value_has_one_normal_form(value: str, normal: str) -> None:
    assert str(answers.normal(value)) == normal


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (LONG + '{"final_answer": [1, 2]}', "[1,2]"),
        (LONG + '{"Final Answer": {"a": true}}', '{"a":true}'),
        (LONG + '{"solution": [3]}', "[3]"),
        (LONG + "'answer': 'seven'", "7"),
        (LONG + '{"answer": [5]} and {more', "[5]"),
        (LONG + '{"answer": null, "solution": [3]}', "[3]"),
        (LONG + '{"answer": 7, "solution": 8}', "7"),
        (LONG + "{'answer': 'seven o clock'}", "seven o clock"),
        (LONG + "\n#### true\n", "true"),
        (LONG + "\n#### TRUE", "TRUE"),
        (LONG + "\n#### false", "false"),
        (LONG + "\n#### no", "no"),
        (LONG + "\n#### 5\n#### Conclusion\n" + LONG, "5"),
        (LONG + "\n#### What follows\n" + LONG, ""),
        ("x" * 48, "x" * 48),
        ("x" * 49, ""),
        ("two\nlines", ""),
        (LONG + "the answer is about 5", "5"),
        (LONG + "The answer is [1, 2] since it is so", "[1,2]"),
        ("The answer is 41.\n" + LONG + "The answer is 42.", "42"),
        ("The answer is 41. " + "x" * 20_000, ""),
        ("x" * 100 + " The answer is 41. " + "x" * 19_000, "41"),
    ],
)
def test_an_answer_is_read_where_it_stands(text: str, found: str) -> None:
    assert str(answers.extract(text)) == found


def test_the_last_of_all_numbers_is_read_with_its_sign() -> None:
    assert answers.extract(LONG + "From 3 to -4 then.", lenient=True) == "-4"
    assert answers.extract(LONG, lenient=True) == ""


@pytest.mark.parametrize(("text", "states"), [("The answer is 4.", True), ("It is 4.", False), ("#### 4", True)])
def test_an_answer_is_stated_in_so_many_words(text: str, states: bool) -> None:
    assert answers.states(text) is states
