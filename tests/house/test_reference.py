"""The API reference is what the docstrings say, and every document imports documented names only."""

import ast
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import griffe
import pytest
from docs_tools import reference

import mixtura
from mixtura.models.in_process import GROUP
from pages import FENCE, ROOT, blocks
from pages import name_of as named

FOLDER = ROOT / "docs" / "reference"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
SHOWN = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("**/*.md"),
        *(ROOT / "examples").glob("*.py"),
        *(ROOT / "changelog.d").glob("*.md"),
    ]
)


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    return reference.load()


def test_no_page_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check"]) == 0, f"{capsys.readouterr().out}run: make reference"


@pytest.mark.slow
def test_a_stale_page_and_one_too_many_are_found_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "FOLDER", tmp_path / "reference")
    assert reference.main([]) == 0
    (tmp_path / "reference/chat.md").write_text("# Something else\n")
    (tmp_path / "reference/gone.md").write_text("# A module that is no more\n")
    assert reference.main(["--check"]) == 1
    assert "stale: chat.md, gone.md" in capsys.readouterr().out
    assert reference.main([]) == 0
    assert {path.name: path.read_text() for path in (tmp_path / "reference").iterdir()} == {
        path.name: path.read_text() for path in FOLDER.iterdir()
    }


def test_every_public_name_is_documented_once_and_has_a_docstring(package: griffe.Module) -> None:
    told = [(page, name, entry.told) for page in reference.pages(package) for name, entry in page.names.items()]
    paths = [one.canonical_path for _, _, one in told]
    assert len(paths) == len(set(paths))
    exported = {package[name].canonical_path for name in mixtura.__all__ if not name.startswith("__")}
    assert exported <= {reference._target(package[path.removeprefix("mixtura.")]).canonical_path for path in paths}
    silent = [path.canonical_path for _, _, path in told if not path.docstring and not path.is_attribute]
    assert not silent


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


FURTHER = [*FOLDER.glob("*.md"), *(ROOT / "docs/design").glob("*.md"), ROOT / "examples/README.md"]


@pytest.mark.parametrize("page", [*sorted(FURTHER), ROOT / "changelog.d/README.md"], ids=named)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for found in LINK.finditer(FENCE.sub("", page.read_text("utf-8"))):
        target, _, anchor = found["target"].partition("#")
        file = page.parent / target
        assert file.is_file(), f"{named(page)}: {found[0]}"
        assert not anchor or anchor in headings(file), f"{named(page)}: {found[0]}"


def sources(page: Path) -> Iterator[str]:
    """Give every program that `page` shows."""
    text = page.read_text("utf-8")
    if page.suffix == ".py":
        yield text
        return
    for block in blocks(page):
        if block.language == "python" and page.parent != FOLDER:
            yield block.body
    yield from re.findall(r"`((?:from mixtura[\w.]* )?import [\w., ]+)`", text)


def imports(source: str) -> Iterator[tuple[str, str]]:
    """Give the module and name of every import of Mixtura in a program; "" for the module itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mixtura":
            for alias in node.names:
                yield node.module or "", alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mixtura":
                    yield alias.name, ""


@pytest.mark.parametrize("page", SHOWN, ids=named)
def test_every_import_that_is_shown_exists_and_is_public(page: Path, package: griffe.Module) -> None:
    public = reference.documented(package)
    modules = {module for module, _ in public}
    for source in sources(page):
        for module, name in imports(source):
            shown = f"{named(page)}: from {module} import {name or '(the module)'}"
            assert module in modules, f"{shown}: not a documented module (see docs_tools/reference.py)"
            if name:
                assert hasattr(importlib.import_module(module), name), f"{shown}: there is no such name"
                assert (module, name) in public, f"{shown}: not a documented name (see docs_tools/reference.py)"
            else:
                importlib.import_module(module)


@pytest.mark.parametrize("page", SHOWN, ids=named)
def test_every_dotted_name_in_a_sentence_exists(page: Path) -> None:
    for dotted in re.findall(r"`(mixtura(?:\.\w+)+)`", page.read_text("utf-8")):
        if dotted == GROUP:
            continue  # a group of entry points, whose names look like modules
        parts = dotted.split(".")
        module = next(".".join(parts[:end]) for end in range(len(parts), 0, -1) if _is_module(".".join(parts[:end])))
        found: object = importlib.import_module(module)
        for part in parts[module.count(".") + 1 :]:
            assert hasattr(found, part), f"{named(page)}: {dotted}: no {part!r} in {module}"
            found = getattr(found, part)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
