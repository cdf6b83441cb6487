"""The wordings of the problems' sentences, as patterns. "[buys|gets]" means either word; an empty choice means none.

Each pattern expands to dozens of sentences. An eighth of them, chosen by a checksum, is held out of training.
Placeholders: {N} is the main person, {P} and {p} that person's pronoun ("She", "she"), {M} another person, {items} and
{others} are things, {boxes} their containers.
"""

import itertools
import re
import zlib
from typing import NamedTuple

_CHOICE = re.compile(r"\[([^\]]*)\]")
_HELD_OUT = 8


class Wordings(NamedTuple):
    """Sentences with the same meaning: those used in training, and those held out."""

    trained: tuple[str, ...]
    held_out: tuple[str, ...]


def _say(*patterns: str) -> Wordings:
    every = [sentence for pattern in patterns for sentence in _expand(pattern)]
    every.sort(key=lambda sentence: zlib.crc32(sentence.encode()))
    held_out = max(1, len(every) // _HELD_OUT)
    return Wordings(tuple(every[held_out:]), tuple(every[:held_out]))


def _expand(pattern: str) -> list[str]:
    parts = _CHOICE.split(pattern)
    choices = [part.split("|") if place % 2 else [part] for place, part in enumerate(parts)]
    sentences = ["".join(chosen) for chosen in itertools.product(*choices)]
    return [sentence.replace(" .", ".").replace(" ?", "?") for sentence in sentences]


_WHEN = "[Then|Later|After that|On Friday|The next day]"
_DOES = "[{P}|{N}|Then {p}|Later {p}|After that {N}|On Friday {p}|The next day {p}]"
_ALSO = "[{M}|Then {M}|Later {M}|On Sunday {M}|The next day {M}]"
_FIRST = "[|On Monday |At first |In the morning ]"
_THERE = "[in the room of {N}|at the house of {N}|on the table of {N}]"
_LAST = "[now|in the end|after that]"
_MAYBE = "[|now|in the end|after that]"
_FULL = "[of {m} {items} each|with {m} {items} in each|with {m} in each]"
_GETS = "[buys|gets|finds|makes|collects]"
_OF = "[of them|{items}|of the {items}]"
_OTHER_THERE = "[in the room of {M}|at the house of {M}|on the table of {M}]"


START = _say(
    _FIRST + "{N} [has|counts|owns] {a} {items}.",
    "There are {a} {items} " + _THERE + ".",
)
START_BOXES = _say(
    _FIRST + "{N} [has|owns|fills] {k} {boxes} [with {m} {items} in each|of {m} {items} each].",
    "There are {k} {boxes} " + _THERE + " [with {m} {items} in each|and {m} {items} in each of them].",
)
ADD = _say(
    _DOES + " " + _GETS + " {x} [more|more {items}|other {items}].",
    _DOES + " [gets|takes] {x} [more from {M}|{items} from {M}].",
    _ALSO + " [gives|brings] {N} {x} [more|{items}|more {items}].",
)
SUB = _say(
    _DOES + " [sells|loses|breaks|uses] {x} " + _OF + ".",
    _DOES + " gives {x} " + _OF + " to {M}.",
    _ALSO + " takes {x} " + _OF + " [away|from {N}].",
)
ADD_BOXES = _say(
    _DOES + " " + _GETS + " {k} [{boxes}|more {boxes}] " + _FULL + ".",
    _ALSO + " [gives|brings] {N} {k} [{boxes}|more {boxes}] " + _FULL + ".",
)
SUB_BOXES = _say(
    _DOES + " [sells|loses|uses] {k} {boxes} " + _FULL + ".",
    _DOES + " gives {M} {k} {boxes} " + _FULL + ".",
    _ALSO + " takes {k} {boxes} " + _FULL + " [away|from {N}].",
)
DOZENS = _say(
    _DOES + " " + _GETS + " {k} dozen [more|more {items}|{items}].",
    _ALSO + " [gives|brings] {N} {k} dozen [more|{items}].",
)
DOUBLE = _say(
    _WHEN + " the number [doubles|of {items} doubles].",
    _ALSO + " [gives|brings] {N} as many [{items} as {p} has|as {p} has].",
)
TRIPLE = _say(_WHEN + " the number [triples|of {items} triples].", _WHEN + " {p} has {k} times as many.")
HALF = _say(
    _DOES + " [sells|loses|uses] half of [them|the {items}].",
    _DOES + " gives half of [them|the {items}] to {M}.",
    _ALSO + " takes half of [them|the {items}].",
)
NOW = _say(
    "How many {items} does {N} have " + _LAST + "?",
    "How many [{items} are left|are left] " + _LAST + "?",
    "What is the number of {items} " + _LAST + "?",
)
ASIDE = _say(
    "{M} [is {n} years old|lives in house number {n}|has {n} friends].",
    "The [house|street|room|shop] [has {n} windows|is {n} years old|has {n} trees].",
    "[It takes {n} minutes|{N} walks {n} minutes] to get [there|home].",
    "There are {n} [people|trees|windows] in the [street|house|shop].",
)

BUYS = _say(
    "{N} [buys|gets|takes] {k} {items} for {q} {unit} each.",
    "{N} pays {q} {unit} for each of {k} {items}.",
    "For {k} {items} {N} pays {q} {unit} each.",
    "{N} [buys|gets|takes] {k} {items} and pays {q} {unit} for each [|of them].",
)
BUYS_OTHERS = _say(
    "[{P} also|{N} also|Then {p}|Later {p}] [buys|gets|takes] {k} {others} for {q} {unit} each.",
    "[{P} also|{N} also|Then {p}|Later {p}] pays {q} {unit} for each of {k} {others}.",
    "For {k} {others} [{p} also|{N} also|{p}] pays {q} {unit} each.",
    "[{P} also|{N} also|Then {p}|Later {p}] [buys|gets|takes] {k} {others} and pays {q} {unit} for each [|of them].",
)
PURSE = _say(
    "[{P}|{N}] [has|pays with|came with|starts with] {b} {unit}.",
    "[{P}|{N}] takes {b} {unit} from [home|the table|the house].",
)
GIFT = _say(
    _ALSO + " [gives|brings] {N} {x} {small}.",
    "[Then {p}|Later {p}|{P}|{N}] [finds|gets] {x} [{small}|more {small}].",
    "[Then {p}|Later {p}|{P}|{N}] gets {x} {small} from {M}.",
)
CHANGE = _say(
    "How many {small} [are left|does {p} have|does {N} have] " + _LAST + "?",
    "What is the number of {small} [left|{p} has] " + _LAST + "?",
)

RATE = _say(
    "[A|The] {machine} [|of {N} ]makes {r} {items} [an hour|every hour|in an hour].",
    "[In an hour|Every hour] [a|the] {machine} [|of {N} ]makes {r} {items}.",
    "{N} [has|owns|uses] a {machine} that makes {r} {items} [an hour|every hour|in an hour].",
)
RUNS = _say(
    "It [runs|works] {h} hours [a day|every day] for {w} weeks and {d} days.",
    "It [runs|works] for {w} weeks and {d} days, {h} hours [a day|every day].",
    "For {w} weeks and {d} days it [runs|works] {h} hours [a day|every day].",
)
BROKEN = _say(
    "{x} " + _OF + " are [broken|lost].",
    "[Then {p}|Later {p}|{N}|{M}] [sells|loses|breaks|uses] {x} " + _OF + ".",
)
MADE = _say(
    "How many {items} are left " + _MAYBE + "?",
    "How many [good {items}|{items}] does {N} have [left|now|in the end|after that]?",
)
LENGTH = _say(
    _FIRST + "{N} [has|owns|counts] {a} meters and {b} centimeters of {thing}.",
    "There are {a} meters and {b} centimeters of {thing} " + _THERE + ".",
)
PIECES = _say(
    _DOES + " [cuts|uses|sells|loses] {k} pieces [of {m} centimeters each|with {m} centimeters each].",
    _ALSO + " [cuts|takes|gets] {k} pieces [of {m} centimeters each|with {m} centimeters each].",
)
MORE_LENGTH = _say(
    _DOES + " [buys|gets|finds|makes] {a} [more meters|meters more].",
    _ALSO + " [gives|brings] {N} {a} [more meters|meters more].",
)
LEFT_LENGTH = _say("How many centimeters [of {thing} are left|are left|does {p} have|does {N} have] " + _LAST + "?")
WORK = _say(
    "{N} works [|for ]{h} hours and {m} minutes [a day|every day].",
    "[Every day|On every day] {N} works [|for ]{h} hours and {m} minutes.",
)
DAYS = _say(
    "[{P} does this|{N} does this|This goes on] for {w} weeks and {d} days.",
    "For {w} weeks and {d} days [{p} does this|{N} does this|this goes on].",
)
REST = _say(
    "[{P}|{N}] [rests|sleeps|reads] [|for ]{x} minutes of it.",
    "Of [it|this] [{p}|{N}] [rests|sleeps|reads] [|for ]{x} minutes.",
)
MINUTES = _say(
    "How many minutes [does {N} work|does {p} work|of work are left] " + _LAST + "?",
    "How many minutes of work is that " + _LAST + "?",
)

OTHER_START = _say(
    "[|On Monday |At home |At first ]{M} [has|counts|owns] {a} {items}.",
    "There are {a} {items} " + _OTHER_THERE + ".",
)
OTHER_BOXES = _say("[|On Monday |At home |At first ]{M} [has|owns|fills] {k} {boxes} " + _FULL + ".")
OTHER_ADD = _say(_ALSO + " " + _GETS + " {x} [more|more {items}|other {items}].")
OTHER_SUB = _say(_ALSO + " [sells|loses|breaks|uses] {x} " + _OF + ".")
OWN_ADD = _say(_DOES + " " + _GETS + " {x} [more|more {items}|other {items}].")
OWN_SUB = _say(_DOES + " [sells|loses|breaks|uses] {x} " + _OF + ".")
DIFFERENCE = _say(
    "[How many|By how many] [{items} more|more {items}] does {A} [have|own] than {B} " + _MAYBE + "?",
    "How many [{items} more|more {items}] than {B} does {A} [have|own] " + _MAYBE + "?",
)
TOGETHER = _say(
    "How many {items} do [they|{A} and {B}] [have|own] together " + _MAYBE + "?",
    "What is the number of {items} [they|{A} and {B}] have together " + _MAYBE + "?",
)

SOME = _say(
    _FIRST + "{N} [has|owns|counts] some {items}.",
    "There are some {items} " + _THERE + ".",
)
ENDS = _say(
    "[In the end|Now|After that] [{p} has {r} {items}|{N} has {r} {items}|there are {r} {items}"
    "|{r} {items} are left|{r} are left]."
)
AT_FIRST = _say(
    "How many {items} [did {N} have|did {p} have|were there] [at first|at the start|on Monday|in the morning]?",
    "With how many {items} did [{N}|{p}] start?",
)
SHARED = _say(
    "[Then {p}|Later {p}|{P}|{N}] shares [all of them|all {items}|them] equally among {k} [friends|people].",
    "[Then |Later ]{k} [friends|people] share [all of them|all {items}|them] equally.",
    "[Then {p}|Later {p}|{P}|{N}] puts [all of them|all {items}|them] equally into {k} {boxes}.",
)
EACH = _say(
    "How many [{items} are in each share|{items} is that for each|are in each share|is that for each] " + _MAYBE + "?"
)
