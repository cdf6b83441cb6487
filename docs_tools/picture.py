"""Draw the terminal while a mixture runs, docs/images/terminal.svg, from a real run of the command.

    python -m docs_tools.picture

`mixtura ask` runs on a pseudo-terminal against a simulated cloud with the times of recorded replies; only the words of
its models are ours (picture.toml). Two moments of what it sends to the terminal are drawn: proposers at work, and the
end.
"""

import asyncio
import datetime as dt
import fcntl
import html
import itertools
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyte

from mixtura.sim import SimOptions, simulated_cloud

WORDS = Path(__file__).parent / "picture.toml"
FILE = Path(__file__).resolve().parents[1] / "docs" / "images" / "terminal.svg"
QUESTION = "Why is the sky blue at noon and red in the evening?"
COLUMNS, ROWS = 92, 12
DAY = dt.date(2026, 11, 21)  # a day on which every model of the recipe is served

_LOOK = {"green": "#3fb950", "red": "#f85149", "brown": "#d29922", "default": "#e6edf3", "dim": "#8b949e"}
_BACK, _EDGE = "#0d1117", "#30363d"
_CELL, _LINE = 8.43, 19.0  # the size of a character, in pixels at a font size of 14
_PAD = 16.0
_WORDS = re.compile(r"\S+(?: \S+)*")  # not every viewer keeps two spaces, so each stretch without them has a place


class Style(NamedTuple):
    """How a run of characters looks."""

    colour: str
    bold: bool


async def record(seed: int) -> list[bytes]:
    """Run the command on a pseudo-terminal and return what it sends, piece by piece."""
    told = SimOptions(as_of=DAY, unlimited=True, profile="lpu", script=str(WORDS), seed=seed)
    async with simulated_cloud(told) as cloud:
        main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MIXTURA_")}
        kept |= {"TERM": "xterm-256color", "GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_simulated"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mixtura", "ask", QUESTION), stdin=other, stdout=other, stderr=other, env=kept
        )
        os.close(other)
        loop, pieces, over = asyncio.get_running_loop(), list[bytes](), asyncio.Event()

        def read() -> None:
            try:
                pieces.append(os.read(main, 65536))
            except OSError:  # Linux says so when the last process has closed the other end
                pieces.append(b"")
            if not pieces[-1]:
                loop.remove_reader(main)
                over.set()

        loop.add_reader(main, read)
        await over.wait()
        os.close(main)
        if await process.wait():
            raise SystemExit(f"the command failed: {b''.join(pieces).decode()}")
        return pieces


def screens(pieces: list[bytes]) -> Iterator[pyte.Screen]:
    """Give the screen after each piece; it is one screen that changes."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(f'$ mixtura ask "{QUESTION}"\r\n'.encode())
    for piece in pieces:
        stream.feed(piece)
        yield screen


def is_midway(screen: pyte.Screen) -> bool:
    """Say whether a proposer is done while the others write and show what."""
    rows = [line.rstrip() for line in screen.display if line[:1] in ("✓", "○")]
    return len({row[0] for row in rows}) == 2 and all(len(row) > 80 for row in rows)


def styled(screen: pyte.Screen) -> list[list[tuple[str, Style]]]:
    """Return the lines of a screen as runs of characters that look alike, without the empty lines at the end."""
    lines = []
    for row in range(ROWS):
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        text = "".join(cell.data for cell in cells).rstrip()
        looks = [(cell.data, Style(_colour(cell), cell.bold)) for cell in cells[: len(text)]]
        runs = itertools.groupby(looks, key=lambda look: look[1])
        lines.append([("".join(data for data, _ in some), style) for style, some in runs])
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _colour(cell: pyte.screens.Char) -> str:
    return _LOOK.get(cell.fg, _LOOK["default"])


def draw(panels: list[tuple[str, list[list[tuple[str, Style]]]]]) -> str:
    """Return an SVG with one terminal window per panel, each under its title."""
    width = COLUMNS * _CELL + 2 * _PAD
    parts, top = [], 0.0
    for title, lines in panels:
        height = 34 + len(lines) * _LINE + _PAD
        parts.append(f'<rect x=".5" y="{top + 0.5:.1f}" width="{width - 1:.1f}" height="{height:.1f}" rx="8"/>')
        parts.append(f'<text x="{_PAD}" y="{top + 21:.1f}" class="title">{html.escape(title)}</text>')
        for number, line in enumerate(lines):
            column = 0
            for text, style in line:
                for words in _WORDS.finditer(text):
                    x, y = _PAD + (column + words.start()) * _CELL, top + 34 + (number + 0.75) * _LINE
                    place = f'x="{x:.1f}" y="{y:.1f}" textLength="{len(words[0]) * _CELL:.1f}"'
                    bold = ' font-weight="bold"' if style.bold else ""
                    parts.append(f'<text {place} fill="{style.colour}"{bold}>{html.escape(words[0])}</text>')
                column += len(text)
        top += height + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top - 11:.0f}" width="{width:.0f}">\n'
        "<title>mixtura ask on a terminal: three proposers write at the same time, then the answer</title>\n"
        "<style>text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace } "
        f".title {{ fill: {_LOOK['dim']}; font-size: 12px }} rect {{ fill: {_BACK}; stroke: {_EDGE} }}</style>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> None:
    """Run until a run has such a moment, draw and write."""
    for seed in range(30):
        midway = None
        for screen in screens(asyncio.run(record(seed))):
            if midway is None and is_midway(screen):
                midway = styled(screen)
        if midway is not None:
            FILE.write_text(draw([("while the proposers write", midway), ("at the end", styled(screen))]), "utf-8")
            return
    raise SystemExit("in no run one proposer was done while the others wrote")


if __name__ == "__main__":
    main()
