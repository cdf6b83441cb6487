"""Writes docs/dialects.md from the table of dialects: `python -m docs_tools.dialects` writes it, `--check` compares."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.dialects.row import Row
from bench.dialects.table import PARTS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "dialects.md"
_HEAD = """\
# Dialects of servers

<!-- Written by `python -m docs_tools.dialects` from bench/dialects. Change the rows there. -->

Many servers speak the API that OpenAI documents, and hardly two of them speak it alike.
This page lists what servers were seen to send, and what becomes of it here: {rows} rows, of {servers} servers.

Each row is a test. This asks for every one over HTTP, whole and streamed, and prints what came of it:

```console
$ python -m bench.dialects
```

`mixtura doctor --provider URL` [tries by six small calls](commands.md#a-servers-dialect) how one server answers.

A server that sends what stands in no row gets one: a few lines in the file of `bench/dialects` for its part.
"""
_COLUMNS = ("sent", "known from", "becomes", "source")
_ISSUE = re.compile(r"(?<![\w/.-])([A-Za-z0-9][\w-]*/[A-Za-z0-9][\w.-]*)#(\d+)(?!\w)")
_ADDRESS = re.compile(r"(?<![\w(])https?://[^\s<>|()]*[^\s<>|().,;:]")
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_MARKS = re.compile(r"([\\`*_\[\]<>#|~$&])")
_NO_ANCHOR = re.compile(r"[^\w\- ]")


def written(parts: Mapping[str, Sequence[Row]]) -> str:
    """Return the page."""
    parts = {title: rows for title, rows in parts.items() if rows}
    rows = [row for part in parts.values() for row in part]
    by_server: dict[str, int] = {}
    for row in rows:
        for server in dict.fromkeys(row.servers):
            by_server[server] = by_server.get(server, 0) + 1
    blocks = [_HEAD.format(rows=len(rows), servers=len(by_server)), "## Parts of a reply", _contents(parts)]
    for title, some in parts.items():
        blocks += [f"## {_text(title)}", _table(some)]
    counts = (
        f"{_text(name)} ({count})" for name, count in sorted(by_server.items(), key=lambda one: one[0].casefold())
    )
    blocks += ["## Servers", "By name, with the number of rows that each is known from:", ", ".join(counts) + "."]
    return "\n\n".join(block.strip("\n") for block in blocks) + "\n"


def _contents(parts: Mapping[str, Sequence[Row]]) -> str:
    return "\n".join(f"- [{_text(title)}](#{_anchor(title)}): {len(some)}" for title, some in parts.items())


def _anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return _NO_ANCHOR.sub("", title.lower()).strip().replace(" ", "-")


def _table(rows: Iterable[Row]) -> str:
    lines = [_COLUMNS, ("---",) * len(_COLUMNS)]
    lines += [tuple(map(cell, (row.sends, ", ".join(row.servers), row.becomes, row.source or "-"))) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(text: str) -> str:
    """Return a text as a cell of a table: its marks are shown, but for code in backticks, issues and addresses."""
    return _text(" ".join(text.split()))


def _text(text: str) -> str:
    """Return a text in which code, issues and addresses are those of Markdown and everything else is itself."""
    parts, at = [], 0
    for code in _CODE.finditer(text):
        parts += [_linked(text[at : code.start()]), _code(code[2])]
        at = code.end()
    return "".join([*parts, _linked(text[at:])])


def _code(inside: str) -> str:
    """Return a text as code, between more backticks than it holds; a bar needs a backslash even there."""
    if "\\|" in inside:
        return _escaped(inside)  # no way to write it as code is read alike everywhere
    longest = max((len(ticks) for ticks in re.findall("`+", inside)), default=0)
    fence = "`" * (longest + 1)
    pad = " " * (inside.startswith("`") or inside.endswith("`"))
    return f"{fence}{pad}{inside}{pad}{fence}".replace("|", "\\|")


def _linked(text: str) -> str:
    found = sorted([*_ISSUE.finditer(text), *_ADDRESS.finditer(text)], key=lambda one: one.start())
    parts, at = [], 0
    for one in found:
        if one.start() < at:
            continue
        parts.append(_escaped(text[at : one.start()]))
        issue = one.re is _ISSUE
        target = f"https://github.com/{one[1]}/issues/{one[2]}" if issue else one[0]
        parts.append(f"[{_escaped(one[0])}]({target})" if issue else f"<{target}>")
        at = one.end()
    return "".join([*parts, _escaped(text[at:])])


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\1", text)


def main(args: Sequence[str] | None = None) -> int:
    """Write the page, or (`--check`) return 1 if it is not what the table says."""
    text = written(PARTS)
    fresh = PAGE.is_file() and PAGE.read_text("utf-8") == text
    if "--check" in (sys.argv[1:] if args is None else args):
        print("docs/dialects.md is what the table says" if fresh else "stale: run python -m docs_tools.dialects")
        return int(not fresh)
    PAGE.write_text(text, "utf-8")
    print("docs/dialects.md " + ("was fresh" if fresh else "written"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
