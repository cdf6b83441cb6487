"""What the place that a run is shown on can do."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TextIO


@dataclass(frozen=True, kw_only=True)
class Screen:
    """What the place that is written to can do.

    Attributes:
        live: the cursor can be moved, so that lines can be redrawn.
        colour: colours may be used.
        symbols: marks beyond ASCII can be written.
        size: columns and rows, asked for anew at every drawing.
    """

    live: bool = False
    colour: bool = False
    symbols: bool = True
    size: Callable[[], os.terminal_size] = field(default=lambda: os.terminal_size((80, 24)))


def screen_of(stream: TextIO, env: Mapping[str, str]) -> Screen:
    """Return what `stream` can do. NO_COLOR beats FORCE_COLOR; TERM=dumb means that nothing is redrawn."""
    terminal = stream.isatty()
    smart = terminal and env.get("TERM", "") not in ("", "dumb")
    forced = env.get("FORCE_COLOR", "") not in ("", "0")
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("_", "-")
    return Screen(
        live=smart,
        colour=not env.get("NO_COLOR") and (forced or smart),
        symbols=encoding.startswith("utf"),
        size=lambda: _size(stream, env),
    )


def _size(stream: TextIO, env: Mapping[str, str]) -> os.terminal_size:
    try:
        found = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        found = os.terminal_size((0, 0))
    columns, rows = (env.get(name, "") for name in ("COLUMNS", "LINES"))
    return os.terminal_size(
        (
            found.columns or (int(columns) if columns.isdecimal() and int(columns) else 80),
            found.lines or (int(rows) if rows.isdecimal() and int(rows) else 24),
        )
    )
