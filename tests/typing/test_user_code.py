"""The types as a user's checker sees them: mypy --strict and pyright in its strict mode, over the code in `user/`.

The files are copied out of the project first, so that a checker finds Mixtura as an installed package (py.typed) and
none of the project's own settings.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resources import lack

pytestmark = pytest.mark.slow

USER = Path(__file__).parent / "user"
ROOT = Path(__file__).resolve().parents[2]

Place = tuple[str, int]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """Return a folder of a user's with the code in it."""
    return Path(shutil.copytree(USER, tmp_path / "user", ignore=shutil.ignore_patterns("__pycache__")))


def marked() -> set[Place]:
    """Return the lines that have to be errors."""
    return {
        (path.name, number)
        for path in USER.glob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if line.endswith("# wrong")
    }


def explain(found: set[Place]) -> str:
    """Name the lines on which a checker and the marks differ."""
    accepted = sorted(f"{name}:{line}" for name, line in marked() - found)
    refused = sorted(f"{name}:{line}" for name, line in found - marked())
    return f"wrong, yet accepted: {accepted}; right, yet refused: {refused}"


def test_there_is_something_to_refuse_and_something_to_accept() -> None:
    assert len(marked()) >= 25
    assert {name for name, _ in marked()} == {"wrong.py"}
    assert sum(path.read_text("utf-8").count("assert_type(") for path in USER.glob("*.py")) >= 40


@pytest.mark.timeout(300)  # the first run reads all of the dependencies
def test_mypy_strict_accepts_what_is_right_and_refuses_what_is_wrong(code: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull),
            *("--cache-dir", str(ROOT / ".mypy_cache" / "user"), "--no-error-summary", "."),
        ],
        cwd=code,
        env={name: value for name, value in os.environ.items() if name != "MYPYPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    errors = re.findall(r"^(?:\./)?(\w+\.py):(\d+): error: ", done.stdout, re.MULTILINE)
    found = {(name, int(line)) for name, line in errors}
    assert found == marked(), f"{explain(found)}\n{done.stdout}"


@pytest.mark.timeout(300)
def test_pyright_strict_accepts_what_is_right_and_refuses_what_is_wrong(code: Path) -> None:
    if shutil.which("node") is None:
        # Pyright's wheel holds the checker and not the Node that runs it; it would download one.
        lack("pyright needs Node.js (node on PATH)")
    settings = {"include": ["."], "typeCheckingMode": "strict", "pythonVersion": "3.11"}
    (code / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--project", ".", "--pythonpath", sys.executable, "--outputjson"],
        cwd=code,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == len(list(USER.glob("*.py")))
    found = {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1)
        for one in told["generalDiagnostics"]
        if one["severity"] == "error"
    }
    assert found == marked(), f"{explain(found)}\n{done.stdout}"
