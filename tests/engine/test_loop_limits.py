"""How often is too often: the limit for each kind of unit, where a loop begins, and how long one is watched."""

import math
import re

import pytest

from mixtura.chat import Delta
from mixtura.engine.repetition import (
    LOOK_EVERY,
    Loop,
    LoopDetector,
    LoopWatch,
    asked_repeats,
    find_loop,
    may_be_loop,
)

PROSE = (
    "An LSM-tree gathers writes in memory and merges them into sorted files later. Reads look in several files, so "
    "they cost more and filters keep most of those looks away. A B-tree changes its pages in place, which makes reads "
    "cheap and writes dear. Which of the two suits depends on how often each happens, and on the disk below. "
)
SENTENCE = "Let me check it all again. "


@pytest.mark.parametrize(
    ("unit", "least"),
    [
        # A short word: 40 times and 256 characters, on lines of its own 1024.
        ("never ", 43),
        ("no ", 86),
        ("and ", 64),
        ("never\n", 171),
        ("understandings ", 40),
        ("incomprehensibility ", 40),
        # A word of 20 letters or more, and a sentence: 16 times and 256 characters.
        ("counterrevolutionary ", 16),
        ("So it is. Or so. ", 16),
        ("Go on. ", 37),
        ("Look (again) at it and go on to the next of them all. ", 16),
        ("Look (again) at it, and go to the next. ", 16),
        # 8 times and 1024 characters, from 256 characters on 4 times.
        (PROSE[:127], 9),
        (PROSE[:128], 8),
        (PROSE[:150], 8),
        (PROSE[:255], 8),
        (PROSE[:256], 4),
        (PROSE[:300], 4),
        # Data, drawings and code: 8 times and 4096 characters.
        ("0", 4096),
        ("-a- a -", 586),
        ("0, ", 1366),
        ("never, ", 586),
        ("CHECK THE DISK AND GO ON. ", 158),
        ("lalelu-", 586),
        ("a = b; c = d\n", 316),
        ("[" + PROSE[:160].replace(" ", "]") + "\n", 26),
        ("[" + PROSE[:600].replace(" ", "]") + "\n" + PROSE[7:207].replace(" ", "="), 8),
    ],
)
def test_a_unit_may_be_repeated_so_often_and_no_oftener(unit: str, least: int) -> None:
    assert find_loop(unit * (least - 1)) is None
    loop = find_loop(unit * least)
    assert loop is not None
    assert loop.times == least if least * len(unit) <= LOOK_EVERY else loop.times >= 8
    assert len(loop.unit) == len(unit)


@pytest.mark.parametrize("allowed", [10, 25, 100.5])
def test_more_than_twice_of_what_was_asked_for_is_a_loop(allowed: float) -> None:
    most = int(2 * allowed)
    assert find_loop(SENTENCE * most, allowed) is None
    assert find_loop(SENTENCE * (most + 1), allowed) is not None


def test_a_loop_begins_behind_the_sentence_that_is_repeated() -> None:
    loop = find_loop(PROSE + SENTENCE * 40)
    assert loop is not None
    assert (PROSE + SENTENCE * 40)[: loop.end] == (PROSE + SENTENCE).rstrip()
    assert (len(loop.unit), loop.times) == (len(SENTENCE), 40)
    assert loop.unit in SENTENCE * 2
    # Without a sentence's end in the unit, the cut is where the second round begins.
    loop = find_loop(PROSE + "round and about we go and " * 40)
    assert loop is not None
    assert (PROSE + "round and about we go and " * 40)[: loop.end] == PROSE + "round and about we go and"
    assert str(loop) == "'round and about we go and' 40 times"


def test_a_loop_that_begins_late_is_cut_where_it_begins() -> None:
    before = "".join(f"Of {n} trees {n * n} are tall and {n * 7919 % 1000} small. " for n in range(900))
    assert len(before) > 5 * LOOK_EVERY
    text = before + SENTENCE * 900
    loop = find_loop(text)
    assert loop is not None
    assert text[: loop.end] == before + SENTENCE.rstrip()


def test_a_unit_that_holds_its_own_end_twice_is_found_whole() -> None:
    wait = "Wait, that cannot be the right way to count the stops. "
    unit = wait + "There is one more stop that was left out of the count above. " + wait
    loop = find_loop(unit * 10)
    assert loop is not None
    assert (len(loop.unit), loop.times) == (len(unit), 10)


def test_a_loop_is_told_in_forty_characters() -> None:
    assert str(Loop(0, "so\n  then ", 7)) == "'so then' 7 times"
    assert str(Loop(0, "x" * 40, 7)) == f"'{'x' * 40}' 7 times"
    assert str(Loop(0, "x" * 41, 7)) == f"'{'x' * 39}…' 7 times"
    assert str(Loop(9, "", 12)) == "what it had written"


def counting(unit: str, count: int, first: int = 1, step: int = 1) -> str:
    return "".join(unit.format(n) for n in range(first, first + step * count, step))


@pytest.mark.parametrize(
    ("unit", "least"),
    [
        # 20 times and 1024 characters; a number of any length is one character of its unit.
        ("Step {}: look at it again.\n", 40),
        ("Step {}: look at it all again ok\n", 32),
        ("Step {}: look at the result once more, and at the disk.\n", 20),
        ("Step {}: look (again) at the result once more, and at the disk.\n", 20),
        ("Step {}: look (again) at it all, or not.\n", 26),
        # At least twelve letters and four words.
        ("Row {}: look at its\n", 54),
        ("Lookatit {} once again\n", 47),
        # A second number may stay as it is, or count as well.
        ("Step {0} of 400: look at it again and again.\n", 25),
        ("Step {0}, look {0}: look at it again and again.\n", 24),
    ],
)
def test_a_number_may_count_so_often_and_no_oftener(unit: str, least: int) -> None:
    assert find_loop(counting(unit, least - 1)) is None
    loop = find_loop(counting(unit, least))
    assert loop is not None
    assert loop.times == least - 1
    assert loop.unit == unit.format(2)[unit.index("{") :] + unit[: unit.index("{")]


@pytest.mark.parametrize(
    "text",
    [
        counting("Step {}: look at it again.\n", 99, step=2),
        counting("Step {}: look at it again.\n", 99, first=500, step=-1),
        counting("Step {}: look at it again.\n", 99, first=10**9),
        counting("Step {} of 12345678901: look at it.\n", 99),
        counting("Row {}: look at it\n", 99),
        counting("Lookatitagain {} again\n", 99),
        counting("look[{}] = look again at(it);\n", 99),
        "".join(f"Step {n}: there are {n * n} of them in all.\n" for n in range(99)),
    ],
)
def test_other_numbers_and_shorter_lines_are_a_list(text: str) -> None:
    assert find_loop(text) is None


def test_numbers_of_nine_digits_still_count() -> None:
    assert find_loop(counting("Step {}: look at it again.\n", 99, first=10**9 - 200)) is not None


def test_who_asks_for_a_list_gets_twice_as_long_a_one() -> None:
    text = counting("Step {}: look at it again.\n", 60)
    assert find_loop(text, 30) is None
    assert find_loop(text, 29.5) is not None


def test_a_counting_loop_is_cut_behind_its_third_line() -> None:
    text = PROSE + counting("Step {}: look at it again.\n", 99)
    loop = find_loop(text)
    assert loop is not None
    assert text[: loop.end] == PROSE + "Step 1: look at it again.\nStep 2: look at it again.\nStep 3: look at it again."


WORDS = re.findall(r"\w+", "one of these trees is here and the others are over there with all that we have seen")


def nearly(words: int, times: int, last: int) -> str:
    """Rounds of so many words, and so many words at the end that have not been there before."""
    return (" ".join(WORDS[:words]) + " ") * times + " ".join(["alpha", "beta", "gamma", "delta", "epsilon"][:last])


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        # Nine tenths of the six words in a row have to be old, of at least 200 words.
        (nearly(18, 12, 3), True),
        (nearly(18, 11, 4), False),
        (nearly(5, 39, 5), True),
        (nearly(5, 39, 4), False),
        (nearly(18, 14, 3).replace("these", "(these)"), True),
    ],
)
def test_a_reply_that_says_hardly_anything_new_is_a_loop(text: str, is_one: bool) -> None:
    assert (find_loop(text) is not None) is is_one


def test_such_a_loop_is_cut_where_the_first_words_come_again() -> None:
    text = nearly(10, 30, 3)
    grams, distinct = 303 - 5, 10 + 3
    assert find_loop(text) == Loop(len(" ".join(WORDS[:10])) + 1, "", grams // distinct)
    assert find_loop(text, grams // distinct / 2) is None
    assert find_loop(text, grams // distinct / 2 - 0.5) is not None
    before = "".join(f"Of {n} trees {n * n} are tall and {n * 7919 % 1000} small. " for n in range(300))
    late = before + nearly(10, 400, 3)
    loop = find_loop(late)
    assert loop is not None
    assert len(before) < loop.end < len(before) + 2 * LOOK_EVERY


def test_code_and_tables_say_little_that_is_new() -> None:
    assert find_loop(nearly(10, 30, 3).replace(" ", " = ")) is None


def test_a_reply_that_comes_in_pieces_is_stopped_at_the_third_look_in_a_row() -> None:
    text = SENTENCE * 1000
    detector = LoopDetector()
    for place in range(3 * LOOK_EVERY - 1):
        assert detector.add(text[place]) is None
    loop = detector.add(text[3 * LOOK_EVERY - 1])
    assert loop is not None
    assert text[: loop.end] == SENTENCE
    assert detector.add("more") == detector.finish() == detector.loop == loop


def test_what_ends_before_the_next_look_is_looked_at_in_the_end() -> None:
    detector = LoopDetector(looks=1)
    assert detector.finish() is None
    assert detector.add(SENTENCE * 30) is None
    assert detector.finish() is not None


def test_a_passage_of_other_words_begins_the_count_of_looks_anew() -> None:
    detector = LoopDetector()
    for _ in range(3):
        detector.add((SENTENCE * 400)[: 2 * LOOK_EVERY])
        detector.add((PROSE[::-1] + "".join(f"{n} and {n * n} trees. " for n in range(900)))[:LOOK_EVERY])
    assert detector.finish() is None
    assert detector.add((SENTENCE * 800)[: 3 * LOOK_EVERY]) is not None


def test_repetition_without_end_that_was_asked_for_is_no_loop() -> None:
    detector = LoopDetector(math.inf, looks=1)
    assert detector.add(SENTENCE * 2000) is None
    assert detector.finish() is None
    assert find_loop("the " * 400, math.inf, ended=True) is None


def test_a_watched_call_is_in_a_loop_by_its_text_or_by_its_reasoning() -> None:
    watch = LoopWatch()
    assert watch.take(Delta(text="An answer. ")) is None
    loop = watch.take(Delta(text=SENTENCE * 600, reasoning="Hm."))
    assert loop is not None
    assert watch.before("An answer. " + SENTENCE * 600).startswith("An answer. Let me check it all again.")
    assert len(watch.before("An answer. " + SENTENCE * 600)) < len("An answer. ") + 2 * len(SENTENCE)
    watch.begin()
    assert watch.take(Delta(text="", reasoning=SENTENCE * 600)) == watch.loop
    assert watch.loop is not None
    generous = LoopWatch(300)
    assert generous.take(Delta(text=SENTENCE * 600)) is None
    assert generous.take(Delta(text="", reasoning=SENTENCE * 600)) is None


@pytest.mark.parametrize(
    ("text", "worth_it"),
    [
        ("a" * 65, True),
        ("a" * 64, False),
        (PROSE[:64] * 2, True),
        ("x" + PROSE[:64] * 2, True),
        (PROSE[:65] * 3, False),
        (PROSE[:64] + "." + PROSE[:64], False),
        (PROSE, False),
    ],
)
def test_a_reply_that_ended_is_worth_a_look_where_its_last_words_stood_right_before(text: str, worth_it: bool) -> None:
    assert may_be_loop(text, ended=True) is worth_it
    assert may_be_loop(text, ended=False)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        # One unit of 64 characters at most, 40 times, is four fifths of what was written.
        (SENTENCE * 40, True),
        (SENTENCE * 39, False),
        (PROSE[:64] * 40, True),
        (PROSE[:65] * 60, False),
        (PROSE[: 10 * len(SENTENCE)] + SENTENCE * 40, True),
        (PROSE[: 10 * len(SENTENCE)] + "So. " + SENTENCE * 40, False),
        ("", False),
        ("a", False),
    ],
)
def test_a_reply_that_ended_is_a_loop_where_it_says_next_to_nothing_else(text: str, is_one: bool) -> None:
    assert (find_loop(text, ended=True) is not None) is is_one
    if is_one:
        assert may_be_loop(text, ended=True)


def test_of_a_long_reply_that_ended_only_its_end_is_looked_at() -> None:
    text = SENTENCE * 1000
    loop = find_loop(text, ended=True)
    assert loop is not None
    seen = 4 * LOOK_EVERY
    assert len(text) - seen < loop.end <= len(text) - seen + 2 * len(SENTENCE)


@pytest.mark.parametrize(
    ("question", "times"),
    [
        ("I will love you forever. Why?", 0),
        ("Do this in a loop, endlessly", math.inf),
        ("Hello 100 times", 100),
        ("hello 20x", 20),
        ("Say it three hundred times", 300),
        ("List a dozen names", 12),
        ("Draw ten dozen circles", 120),
        ("Show it 300 times more", 300),
        ("It is 300 times more likely. Why?", 0),
        ("We have 200 trees. Why?", 0),
        ("Write about trees. There are 200 of them", 0),
        ("Write 5 lines and then 20 words", 20),
        ("repeat it 1,000,000,000,000,000 times", 10**8),
    ],
)
def test_numbers_count_where_something_is_asked_for(question: str, times: float) -> None:
    assert asked_repeats(question) == times
