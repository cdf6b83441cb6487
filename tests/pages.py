"""The pages of the documentation: where they are, their fenced blocks, their tables."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


DOCS = ROOT / "docs"


PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])


FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    runs: bool
    body: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    found = []
    for fence in FENCE.finditer(text):
        language, *words = fence["info"].split() or [""]
        found.append(Block(language, "no-run" not in words, fence["body"], text.count("\n", 0, fence.start()) + 2))
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table behind `heading`, its own heading left out."""
    text = (DOCS / page).read_text("utf-8")
    rows = text[text.index(f"\n{heading}\n") :].split("\n|", 1)[1].split("\n\n")[0].strip().split("\n")
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("| "))] for row in rows]
    return cells[2:]
