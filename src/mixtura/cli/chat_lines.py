"""What a user of `mixtura chat` types, pastes or pipes in, one message at a time."""

import importlib
import os
import select
import sys
from typing import NamedTuple

import click

from mixtura.errors import InputError
from mixtura.input_files import without_marks

FENCE = '"""'
_PASTED = 0.05  # seconds within which a terminal hands over the next line of a paste


class Entry(NamedTuple):
    """One message, or a command: `several` lines are never a command."""

    text: str
    several: bool


class Lines:
    """Reads messages from stdin: a line, a paste of several, or what stands between two lines with `FENCE`.

    A terminal marks what is pasted, where readline asks it to: while it reads. Elsewhere, and while an answer comes,
    the lines of a paste are handed over so fast that the next one waits when the first is read.
    """

    def __init__(self) -> None:
        self.typed = sys.stdin.isatty()
        self._marked = self.typed and _use_readline()
        self._lost = False

    def read(self) -> Entry | None:
        """Return the next message, None at the end of the input.

        Raises:
            InputError: it is not text, or the input ends inside a fence.
            KeyboardInterrupt: Ctrl-C; what was typed of the message is dropped.
        """
        unmarked = self.typed and (not self._marked or _waits(0))
        line = self._line("> ")
        if line is None:
            return None
        if unmarked:
            line = self._with_rest_of_paste(line)
        text = line.strip()
        if "\n" in text:
            return Entry(line.strip("\n"), several=True)
        return self._fenced(text) if text.startswith(FENCE) else Entry(text, several=False)

    def _fenced(self, first: str) -> Entry:
        line = first.removeprefix(FENCE)
        lines = []
        while not line.rstrip().endswith(FENCE):
            lines.append(line)
            more = self._line("… ")
            if more is None:
                raise InputError(f"the input ended before the {FENCE} that closes the message; it was not asked")
            line = more
        lines.append(line.rstrip().removesuffix(FENCE))
        return Entry("\n".join(lines).strip("\n"), several=True)

    def _with_rest_of_paste(self, line: str) -> str:
        lines = [line]
        while _waits(_PASTED):
            more = self._line("")
            if more is None:
                break
            lines.append(more)
        return "\n".join(lines)

    def _line(self, prompt: str) -> str | None:
        if self._lost:
            return None
        try:
            line = _typed_line(prompt) if self.typed else _piped_line()
        except OSError as error:
            self._lost = True
            raise InputError(f"stdin cannot be read ({error.strerror or error}), so the conversation ends") from None
        return line and without_marks(line)


def _waits(seconds: float) -> bool:
    """Say whether a line is there, or comes in time."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _use_readline() -> bool:
    """Give typed lines editing and a history, where Python was built with it; return whether pastes are marked."""
    try:
        readline = importlib.import_module("readline")
    except ImportError:
        return False
    if "libedit" in (readline.__doc__ or ""):
        return False
    # Python switches it off, since a program that does not expect it would see several lines as one.
    readline.parse_and_bind("set enable-bracketed-paste on")
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _typed_line(prompt: str) -> str | None:
    try:
        if sys.stdout.isatty():
            return input(prompt)
        click.echo(prompt, nl=False, err=True)
        return input()
    except EOFError:
        click.echo(err=True)
        return None
    except UnicodeDecodeError as error:
        raise InputError(f"the line is not UTF-8 text (byte {error.start + 1})") from None


def _piped_line() -> str | None:
    raw = sys.stdin.buffer.readline()
    try:
        return raw.decode().rstrip("\r\n") if raw else None
    except UnicodeDecodeError as error:
        raise InputError(f"the line is not UTF-8 text (byte {error.start + 1})") from None
