"""`mixtura studies`: verdicts on stdout, a report in a folder, one-sentence errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands import complaint, complete, invoke
from mixtura.room.studies.all import STUDIES


def test_every_study_prints_a_line_and_enters_the_report(tmp_path: Path) -> None:
    done = invoke("studies", "--to", str(tmp_path / "new" / "folder"))
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(STUDIES)
    page = tmp_path / "new" / "folder" / "studies.html"
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert done.stderr == f"mixtura: the report is in {page}\n"


def test_one_study_runs_alone_and_prints_json(tmp_path: Path) -> None:
    done = invoke("studies", "kimi-chips", "--to", str(tmp_path), "--json")
    (told,) = json.loads(done.stdout)
    assert (told["name"], told["verdict"]) == ("kimi-chips", "holds when")
    assert told["charts"][0]["series"][0]["name"] == "weights alone"
    assert [path.name for path in tmp_path.iterdir()] == ["kimi-chips.html"]


def test_markdown_has_its_charts_beside_it(tmp_path: Path) -> None:
    assert invoke("studies", "copies", "--to", str(tmp_path), "--markdown").exit_code == 0
    page = (tmp_path / "machine-room.md").read_text("utf-8")
    charts = sorted(path.name for path in (tmp_path / "studies").iterdir())
    assert charts == ["copies-1.svg", "copies-2.svg"]
    assert all(f"](studies/{name})" in page for name in charts)


def test_the_error_for_an_unknown_study_lists_the_closest_names(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = complaint(capsys, "studies", "kimi-chip")
    assert (code, "did you mean 'kimi-chips'" in said) == (3, True)


def test_a_folder_that_cannot_be_written_to_raises_a_one_sentence_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, said = complaint(capsys, "studies", "kimi-chips", "--to", str(tmp_path / "file" / "below"))
    assert code == 3
    assert "cannot write the report to" in said
    assert said.endswith("give another folder with --to")


def test_without_numpy_the_error_names_the_package_to_install() -> None:
    script = (
        "import sys; sys.modules['numpy'] = None; from mixtura.cli import main;"
        "sys.exit(main(['studies', 'kimi-chips']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "mixtura: the studies need NumPy: pip install 'mixtura[room]'\n"


def test_names_of_studies_complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "plain,kimi-chips" in complete("mixtura studies ki", capsys, monkeypatch).splitlines()
