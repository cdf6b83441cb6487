"""Each decision has a page of one form, and both lists name all of them."""

import re
from pathlib import Path

import pytest

from pages import DOCS, ROOT

PAGES = sorted(path for path in (DOCS / "design").glob("*.md") if path.name != "README.md")
PARTS = ["Context", "Decision", "Consequences", "Tried and measured"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_has_its_context_its_consequences_and_what_was_tried(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    for part in re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]:
        assert len(part.split()) >= 8, "say more than a heading does"


@pytest.mark.parametrize("index", ["docs/design/README.md", "docs/architecture.md"])
def test_both_lists_name_every_decision_by_its_title(index: str) -> None:
    listed = dict(
        re.findall(r"^- \[(.+)\]\((?:design/)?([\w-]+)\.md\)$", (ROOT / index).read_text("utf-8"), re.MULTILINE)
    )
    titles = {page.read_text("utf-8").split("\n")[0].removeprefix("# "): page.stem for page in PAGES}
    assert listed == titles
