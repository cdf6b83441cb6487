"""The how-tos of CONTRIBUTING.md work: their steps are carried out in a copy of the project, in their order.

A block says in its first line what is done with it: `append=FILE` or `create=FILE`, or it is a `diff`, a `console` of
commands, or a `python` program to run. A `diff` replaces each run of `-` lines by the `+` lines after it.
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from docs_tools import changelog

from pages import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n]+)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
HOW_TOS = re.findall(r"^## (Add .+)$", PAGE, re.MULTILINE)
# What the steps read or change; the rest of a clone is not needed for them.
COPIED = ("src", "tests", "bench", "changelog.d", "pyproject.toml")


class Step(NamedTuple):
    """One block of a how-to."""

    language: str
    does: str
    file: str
    body: str


def steps(how_to: str) -> list[Step]:
    text = PAGE[PAGE.index(f"## {how_to}\n") :].split("\n## ", 1)[0]
    found = []
    for fence in FENCE.finditer(text):
        language, _, rest = fence["info"].partition(" ")
        does, _, file = rest.partition("=")
        found.append(Step(language, does, file, textwrap.dedent(fence["body"])))
    return found


def run(command: list[str] | str, project: Path) -> None:
    """Run a command in the copy, with the copy's package and the tools of these tests, and expect that it succeeds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MIXTURA_", "GROQ_"))}
    places = (project / "src", project / "site")
    env |= {"PATH": path, "PYTHONPATH": os.pathsep.join(map(str, places)), "MIXTURA_HOME": str(project / "home")}
    shell = isinstance(command, str)
    done = subprocess.run(command, cwd=project, env=env, shell=shell, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def patch(project: Path, body: str) -> None:
    """Carry out a diff: every run of `-` lines has to stand in the file exactly once."""
    head, *hunks = body.split("@@\n")
    path = project / head.removeprefix("--- ").strip()
    text = path.read_text("utf-8")
    for hunk in hunks:
        old = "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line.startswith("-"))
        new = "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line.startswith("+"))
        assert text.count(old) == 1, f"{path.name} has {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


def install(project: Path, folder: str) -> None:
    """Do what pip does with a package of plain modules: copy them, and write its metadata beside them."""
    told = tomllib.loads((project / folder / "pyproject.toml").read_text("utf-8"))["project"]
    site, package = project / "site", told["name"].replace("-", "_")
    shutil.copytree(project / folder / package, site / package)
    metadata = site / f"{package}-{told['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {told['name']}\nVersion: {told['version']}\n")
    groups = [f"[{group}]\n{_lines(entries)}" for group, entries in told["entry-points"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(groups))


def _lines(entries: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in entries.items())


def carry_out(step: Step, project: Path) -> None:
    if step.does == "append":
        path = project / step.file
        path.write_text(f"{path.read_text('utf-8')}\n{step.body}", "utf-8")
    elif step.does == "create":
        assert not (project / step.file).exists()
        (project / step.file).parent.mkdir(parents=True, exist_ok=True)
        (project / step.file).write_text(step.body, "utf-8")
    elif step.language == "diff":
        patch(project, step.body)
    elif step.language == "console":
        for command in step.body.replace("$ ", "").splitlines():
            if command.startswith("pip install ./"):
                install(project, command.removeprefix("pip install ./"))
            else:
                run(command, project)
    elif step.language == "python":
        run([sys.executable, "-W", "error", "-c", step.body], project)
    else:
        pytest.fail(f"nothing is done with a block of {step.language!r}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a copy of the project."""
    ignored = shutil.ignore_patterns("__pycache__", "*.gguf")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_there_are_how_tos_for_models_providers_and_kinds() -> None:
    assert len(HOW_TOS) >= 4
    for word in ("model", "provider", "kind of aggregator"):
        assert any(word in how_to for how_to in HOW_TOS), word


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how_to", HOW_TOS)
def test_the_steps_work(how_to: str, project: Path) -> None:
    told = steps(how_to)
    assert len(told) >= 3
    for step in told:
        carry_out(step, project)
    changelog.read_fragments(project / "changelog.d")


def test_a_step_that_no_longer_fits_is_noticed(project: Path) -> None:
    with pytest.raises(AssertionError, match="0 times"):
        patch(project, "--- src/mixtura/kinds.py\n@@\n-no such line\n+another\n")
    with pytest.raises(AssertionError):
        carry_out(Step("console", "", "", "$ mixtura models --provider nobody\n"), project)


def test_every_target_of_the_makefile_is_explained() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    named = set(re.findall(r"`make ([\w-]+)`", PAGE))
    assert set(phony[1].split()) <= named
