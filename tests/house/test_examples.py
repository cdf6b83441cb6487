"""The programs in examples/ are short, run without a key, and print what their page says."""

import os
import re
from pathlib import Path

import pytest
from docs_tools import examples

pytestmark = pytest.mark.slow

FIGURE = re.compile(r"\d[\d,.]*\d|\d")
PAGE = examples.FOLDER / "README.md"


@pytest.fixture(autouse=True)
def without_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*os.environ]:
        if name.endswith("_API_KEY") or name.startswith("MIXTURA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MIXTURA_HOME", str(tmp_path))


def said(name: str) -> str:
    """Return what the page says that `name` prints."""
    found = re.search(rf"^## \[{name}\.py\].*?^```text\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{name} is not on the page"
    return found[1].rstrip()


def test_the_page_has_every_program_with_its_docstring() -> None:
    assert sorted((*examples.ORDER, *examples.HOSTED)) == sorted(path.stem for path in examples.FOLDER.glob("*.py"))
    assert examples.page({name: said(name) for name in examples.ORDER}) == PAGE.read_text("utf-8"), (
        "run: python -m docs_tools.examples"
    )


@pytest.mark.parametrize("name", examples.ORDER)
def test_a_program_is_short_and_prints_what_the_page_says(name: str) -> None:
    path = examples.FOLDER / f"{name}.py"
    assert len(path.read_text("utf-8").splitlines()) < 40
    # Times, and what the toys draw at random, differ from run to run.
    assert FIGURE.sub("0", examples.run(path).rstrip()) == FIGURE.sub("0", said(name))


def test_the_programs_that_answer_arithmetic_answer_it_rightly() -> None:
    assert "Answer: 442" in examples.run(examples.FOLDER / "ask.py")
    assert "votes for '96'" in examples.run(examples.FOLDER / "own_model.py")
