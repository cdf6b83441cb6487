"""Loops of models are found while they come, and what repeats itself rightly is left alone."""

import base64
import gzip
import json
import math
import random
import string
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.chat import Delta
from mixtura.engine.repetition import LOOK_EVERY, LoopDetector, LoopWatch, asked_repeats, find_loop
from resources import recorded_data

PROSE = (
    "An LSM-tree gathers writes in memory and merges them into sorted files later. Reads look in several files, so "
    "they cost more; filters keep most of those looks away. A B-tree changes its pages in place, which makes reads "
    "cheap and writes dear. Which of the two suits depends on how often each happens, and on the disk below.\n\n"
)
PARAGRAPH = (
    "However, this is not the right way to see it, because the question asks for the rest of the trip and we have "
    "counted only the first part of it. So let us begin again with what is known: the train leaves at nine, it stops "
    "two times, and each of the stops takes a quarter of an hour, which is half an hour in all.\n\n"
)
LOOPS = {
    "a word": PROSE + "the " * 300,
    "two words": PROSE + "so then " * 200,
    "a sentence": PROSE + "Let me check that again. " * 60,
    "a paragraph": PROSE + PARAGRAPH * 6,
    "lines of a list": PROSE + "- Check the index once more\n" * 80,
    "two lines by turns": PROSE + "Wait, that is wrong.\nNo, it is right.\n" * 60,
    "a number that counts": PROSE + "".join(f"Step {n}: look at the result again.\n" for n in range(1, 200)),
    "no letters": PROSE + "0" * 9000,
    "blanks": PROSE + "\n \n" * 4000,
    "Chinese": PROSE + "我不知道，我们再看一次。" * 100,
    "an expression": PROSE + "'sn' + 'ts' = " * 800,
    "nearly the same": PROSE
    + "".join(
        f"{start} the answer is five, since two and three are five and nothing else was asked for. "
        for start in ("So", "Thus", "Hence", "Therefore") * 60
    ),
    "only a loop": "I am sorry, but I can only repeat myself. " * 200,
}
RIGHTLY = {
    "prose": PROSE,
    "a table": "| id | name | price |\n|---|---|---|\n"
    + "".join(f"| {n} | item {n * 7 % 90} | {n * 13 % 97}.50 |\n" for n in range(300)),
    "CSV": "id,name,flag\n" + "".join(f"{n},user{n},{'true' if n % 3 else 'false'}\n" for n in range(600)),
    "JSON": json.dumps([{"id": n, "name": f"user{n}", "mail": f"user{n}@example.com"} for n in range(200)], indent=1),
    "one line of JSON": json.dumps([{"id": n, "tags": ["a", "b"], "open": True} for n in range(300)]),
    "code": "".join(f"    assert solve({n}, {n + 1}) == {n * n}\n" for n in range(200)),
    "a switch": "switch (n) {\n" + "".join(f"  case {n}: return handle_{n}(state);\n" for n in range(150)) + "}\n",
    "zeros": "[" + "[0, 0, 0, 0, 0, 0, 0, 0],\n " * 20 + "]",
    "a multiplication table": "".join(f"{a} x {b} = {a * b}\n" for a in range(1, 21) for b in range(1, 21)),
    "numbers": "\n".join(str(n) for n in range(1, 201)),
    "base64": base64.b64encode(random.Random(1).randbytes(9000)).decode(),
    "base64 of a picture of equal lines": base64.b64encode(random.Random(1).randbytes(120) * 20).decode(),
    "blank base64": "data:image/bmp;base64,Qk1" + "A" * 3000 + "==",
    "a drawing": ("#" + " " * 38 + "#\n") * 40 + "#" * 40,
    "a ruler": "=" * 400 + "\nTitle\n" + "-" * 400 + "\n",
    "a poem with a refrain": "".join(
        f"The {thing} went down to the water,\nand the river ran on to the sea.\nSing low, sing low, my daughter,\n"
        "sing low, sing low with me.\n\n"
        for thing in ("miller", "widow", "soldier", "child", "fiddler", "stranger", "king", "drover")
    ),
    "checks of a reasoner": "".join(
        f"n = {n}: {n} mod 7 is {n % 7} and {n} mod 5 is {n % 5}, so it is {'right' if n % 35 == 3 else 'wrong'}.\n"
        for n in range(1, 150)
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_is_found_and_what_stands_before_it_is_kept(name: str) -> None:
    loop = find_loop(LOOPS[name])
    assert loop is not None
    kept = LOOPS[name][: loop.end]
    assert kept.startswith(PROSE.strip()) or name == "only a loop"
    assert len(kept) < len(PROSE) + 2 * len(PARAGRAPH)
    assert "again and again" not in str(loop)


@pytest.mark.parametrize("name", RIGHTLY)
def test_what_repeats_itself_rightly_is_no_loop(name: str) -> None:
    assert find_loop(RIGHTLY[name]) is None
    assert find_loop(PROSE + RIGHTLY[name] + PROSE) is None


HANOI = "\n".join(
    f"Move disk {(n & -n).bit_length()} from {'ABC'[(n & n - 1) % 3]} to {'ABC'[((n | n - 1) + 1) % 3]}."
    for n in range(1, 256)
)
ENDED = {
    "moves": HANOI,
    "a timetable": "".join(f"{day} May: 8 mg in the morning, 4 mg at noon, 8 mg at night.\n" for day in range(1, 32)),
    "a prayer": (
        "Hail, full of grace; blessed are you among all. Pray for us now and in the hour. Amen.\n" * 10 + "Glory.\n"
    )
    * 5,
    "what a program prints": "hello from the loop, and once more for good measure and the record of it\n" * 200,
}


@pytest.mark.parametrize("name", ENDED)
def test_what_ended_by_itself_went_round_to_some_end(name: str) -> None:
    assert find_loop(ENDED[name], ended=True) is None
    detector = LoopDetector()
    if name != "what a program prints":
        assert detector.add(ENDED[name]) is None


def test_one_word_and_nothing_else_is_a_loop_however_it_ended() -> None:
    assert find_loop("the " * 400, ended=True) is not None
    assert find_loop(PROSE + "the " * 400 + PROSE, ended=True) is None


@given(st.sampled_from([*LOOPS.values(), *RIGHTLY.values()]), st.data())
def test_however_a_reply_is_cut_the_same_is_found(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    detector = LoopDetector(looks=1)
    for start, end in pairwise([0, *cuts, len(text)]):
        detector.add(text[start:end])
    assert detector.finish() == find_loop(text)


words = st.text(string.ascii_lowercase, min_size=2, max_size=9)


@given(st.lists(words, min_size=3, max_size=40).map(" ".join), st.text(max_size=200))
def test_any_sentence_again_and_again_is_found_within_four_looks(unit: str, before: str) -> None:
    detector = LoopDetector()
    written, text = 0, before
    while detector.loop is None:
        detector.add(text)
        written += len(text)
        assert written < len(before) + 5 * LOOK_EVERY
        text = unit + ". "


@given(st.lists(st.sampled_from(PROSE.split()), min_size=100, max_size=400))
def test_words_in_any_order_are_no_loop(words: list[str]) -> None:
    assert find_loop(" ".join(words)) is None or len(set(pairwise(words))) < 30


@pytest.mark.parametrize("text", ["", " ", "a", "aa", "42", "\n" * 50])
def test_next_to_nothing_is_no_loop(text: str) -> None:
    assert find_loop(text) is None


def test_reasoning_is_watched_apart_from_the_text() -> None:
    watch = LoopWatch()
    for _ in range(300):
        watch.take(Delta(text="", reasoning="Wait, let me think about that once more. "))
    assert watch.loop is not None
    assert watch.before("An answer.") == "An answer."
    watch.begin()
    assert watch.loop is None


@pytest.mark.parametrize(
    ("question", "times"),
    [
        ("Why is the sky blue?", 0),
        ("Write 'hello' 500 times.", 500),
        ("Please give me a list of 200 numbers", 200),
        ("Count from 1 to 1,000", 1000),
        ("print five hundred lines", 500),
        ("Schreibe 300 mal Hallo", 300),
        ("写100次你好", 100),
        ("Repeat the word love forever", math.inf),
        ("Say it over and over again", math.inf),
        ("Tom has 300 apples and eats three times as many", 0),
        ("Does this loop run forever?", math.inf),
    ],
)
def test_who_asks_for_repetition_is_understood(question: str, times: float) -> None:
    assert asked_repeats(question) == times


def test_who_asks_for_repetition_gets_it() -> None:
    text = "hello " * 500
    assert find_loop(text) is not None
    assert find_loop(text, asked_repeats("Write 'hello' 500 times.")) is None
    # Far more than was asked for is a loop all the same.
    assert find_loop("hello " * 1500, 500) is not None
    assert find_loop("hello " * 5000, math.inf) is None


def _recorded() -> Iterator[str]:
    def texts(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for one in value.values() if isinstance(value, dict) else value:
                yield from texts(one)

    folder: Path = recorded_data("recordings")
    for file in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(file, "rt") as lines:
            for line in lines:
                row = json.loads(line)
                yield from texts(row.get("outputs", row))


@pytest.mark.slow
def test_of_the_recorded_answers_of_real_models_only_those_in_a_loop_are_called_so() -> None:
    found, count = [], 0
    for text in _recorded():
        count += 1
        if (loop := find_loop(text)) is not None:
            found.append(text[loop.end :])
    assert count > 60_000
    # 18 of them go round in a loop until their limit: of what follows its first time, little is new.
    assert 15 <= len(found) <= 25
    for rest in found:
        assert len(zlib.compress(rest.encode())) < 0.3 * len(rest.encode())
