"""Folders that end with their process, and what is left by processes that could not end."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mixtura.temporary import TemporaryFolder, temporary_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an open folder has no lock there")

PREFIX = "mixtura-test-"
HOLD = f"""
import sys, time
from mixtura.temporary import TemporaryFolder
folder = TemporaryFolder({PREFIX!r})
(folder.path / "socket").touch()
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def hold(place: Path) -> "subprocess.Popen[str]":
    env = {**os.environ, "TMPDIR": str(place)}
    return subprocess.Popen(
        [sys.executable, "-c", HOLD], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_folder_is_private_and_goes_with_its_block(place: Path) -> None:
    with temporary_folder(PREFIX) as path:
        assert path.parent == place
        assert path.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


@pytest.mark.slow
def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(place: Path) -> None:
    with hold(place) as killed, hold(place) as living:
        assert killed.stdout
        assert living.stdout
        left, kept = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.exists()
        folder = TemporaryFolder(PREFIX)
        assert {*place.iterdir()} == {kept, folder.path}
        folder.close()
        folder.close()
        living.kill()


def test_files_links_and_other_folders_are_left_alone(place: Path) -> None:
    (place / f"{PREFIX}file").touch()
    (place / f"{PREFIX}link").symlink_to(place)
    (place / "other").mkdir()
    TemporaryFolder(PREFIX).close()
    assert {path.name for path in place.iterdir()} == {f"{PREFIX}file", f"{PREFIX}link", "other"}


def test_a_path_that_would_be_too_long_is_made_in_a_short_place(place: Path) -> None:
    folder = TemporaryFolder(PREFIX, longest=40)
    assert folder.path.parent == Path("/tmp")
    folder.close()
    assert not folder.path.exists()
