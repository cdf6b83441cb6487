"""The picture of the terminal is what the command shows, and readable wherever it is drawn."""

import asyncio
import re
import xml.etree.ElementTree as ET

import pyte
import pytest
from docs_tools import picture

pytestmark = pytest.mark.slow

FIGURE = re.compile(r"\d[\d,.]*\d|\d")


def drawn(svg: str) -> str:
    """Return the words of a picture, every figure as 0."""
    root = ET.fromstring(svg)
    return FIGURE.sub("0", "\n".join(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text")))


def test_the_picture_shows_what_a_run_of_the_command_ends_with() -> None:
    *_, last = picture.screens(asyncio.run(picture.record(seed=0)))
    svg = picture.FILE.read_text("utf-8")
    expected = drawn(picture.draw([("at the end", picture.styled(last))]))
    assert expected in drawn(svg), "run: python -m docs_tools.picture"
    assert "while the proposers write" in svg
    assert "○" in drawn(svg), "some proposer still writes"


def test_a_screen_is_drawn_in_its_colours_and_places() -> None:
    screen = pyte.Screen(picture.COLUMNS, picture.ROWS)
    pyte.Stream(screen).feed("\x1b[32m✓\x1b[0m a <b>   c\r\n")
    lines = picture.styled(screen)
    assert [[text for text, _ in line] for line in lines] == [["✓", " a <b>   c"]]
    svg = picture.draw([("title", lines)])
    places = re.findall(r'x="([\d.]+)" y="[\d.]+" textLength="[\d.]+" fill="(#\w+)">([^<]*)<', svg)
    assert [(colour, words) for _, colour, words in places] == [
        ("#3fb950", "✓"),
        ("#e6edf3", "a &lt;b&gt;"),
        ("#e6edf3", "c"),
    ]
    assert float(places[2][0]) - float(places[1][0]) == pytest.approx(8 * picture._CELL, abs=0.1)


def test_a_moment_is_midway_only_while_somebody_writes() -> None:
    screen = pyte.Screen(picture.COLUMNS, picture.ROWS)
    stream = pyte.Stream(screen)
    stream.feed(f"✓ {'a' * 85}\r\n○ \r\n")
    assert not picture.is_midway(screen)
    stream.feed(f"\x1b[1A○ {'b' * 85}\r\n")
    assert picture.is_midway(screen)


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    svg = picture.FILE.read_text("utf-8")
    assert "<title>" in svg
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|<image|@import", svg)
