"""Small changes to a TOML file that leave the rest of its text, comments included, as it was."""

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import tomli_w

_HEADING = re.compile(r"\s*\[")


def edited(text: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return `text`, which says `before`, changed so that it says `after`.

    Lines are replaced, added and taken out where that gives what is wanted. Otherwise (a value over several lines, a
    table written in one) the file is written anew, without its comments.

    Args:
        text: a TOML document.
        before: its keys; values are scalars, or tables of scalars.
        after: the keys that it shall have.
    """
    lines = text.split("\n")  # a text in quotes may hold what else breaks lines
    for table in ("", *sorted({key for kept in (before, after) for key, value in kept.items() if _is_table(value)})):
        old, new = _scalars(before, table), _scalars(after, table)
        for key in (*old, *(key for key in new if key not in old)):
            if old.get(key) != new.get(key) or (key in old) != (key in new):
                line = tomli_w.dumps({key: new[key]}).strip() if key in new else None
                lines = _with_line(lines, table, key, line)
    changed = "\n".join(lines).strip("\n")
    changed += "\n" if changed else ""
    try:
        said = {key: value for key, value in tomllib.loads(changed).items() if value != {}}
    except tomllib.TOMLDecodeError:
        said = None
    return changed if said == after else tomli_w.dumps(after)


def _with_line(lines: list[str], table: str, key: str, line: str | None) -> list[str]:
    """Return `lines` with the one that sets `key` in `table` replaced by `line`, or without it; a new one is added."""
    begin, end = _span(lines, table)
    if begin is None:
        return lines if line is None else [*lines, *([""] if lines else []), f"[{table}]", line]
    setting = re.compile(rf"\s*(?:{re.escape(key)}|\"{re.escape(key)}\"|'{re.escape(key)}')\s*=")
    for at in range(begin, end):
        if setting.match(lines[at]):
            return [*lines[:at], *([] if line is None else [line]), *lines[at + 1 :]]
    while end > begin and not lines[end - 1].strip():
        end -= 1  # behind the last line that says something
    return lines if line is None else [*lines[:end], line, *lines[end:]]


def _span(lines: list[str], table: str) -> tuple[int | None, int]:
    """Return where the lines of `table` begin and end; None where the text has no such heading."""
    headings = [at for at, line in enumerate(lines) if _HEADING.match(line)]
    begin = 0 if not table else next((at + 1 for at in headings if re.match(rf"\s*\[\s*{table}\s*\]", lines[at])), None)
    return begin, next((at for at in headings if begin is not None and at >= begin), len(lines))


def _scalars(kept: Mapping[str, Any], table: str) -> dict[str, Any]:
    inside = kept.get(table, {}) if table else kept
    return {key: value for key, value in inside.items() if not _is_table(value)} if _is_table(inside) else {}


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)
