"""The standard streams of a command whose output a terminal shows: nothing that is written commands the terminal.

Whatever a verb prints may hold words of others: a model's, a recipe's, a provider's, a file's name, an argument. A
terminal would obey the controls in them, so they are taken out where all text passes, and not where each is printed.
"""

import io
import sys
from typing import TextIO

from mixtura.columns import safe


class GuardedTerminal(io.TextIOWrapper):
    """A stream to a terminal that makes whatever is written safe; `command` alone writes what the terminal obeys.

    `behind` is the stream whose bytes it writes: they would be closed with it.
    """

    behind: TextIO | None = None

    def write(self, text: str) -> int:
        """Write `text` as `columns.safe` makes it; return the characters given."""
        super().write(safe(text))
        return len(text)

    def isatty(self) -> bool:
        """Say that it is a terminal: only those are guarded."""
        return True

    def command(self, text: str) -> None:
        """Write our own movements of the cursor and colours. What others wrote has been made safe before."""
        super().write(text)


def guard_streams() -> None:
    """Put guards in front of those of stdout and stderr that are terminals, for as long as the process lives."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, GuardedTerminal) and stream.isatty():
            stream.flush()
            guarded = GuardedTerminal(
                stream.buffer,
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            guarded.behind = stream
            setattr(sys, name, guarded)


def write_commands(stream: TextIO, text: str) -> None:
    """Write `text`, which holds our own commands to a terminal, and words of others only where they are safe."""
    if isinstance(stream, GuardedTerminal):
        stream.command(text)
    else:
        stream.write(text)
