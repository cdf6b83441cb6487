"""`mixtura keys` with a real keyring: the extra `keyring`, GNOME's daemon, a D-Bus session of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from environments import Environment, build_wheel
from resources import lack

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
_PROGRAMS = {"dbus-run-session": "dbus", "gnome-keyring-daemon": "gnome-keyring"}
KEY = "gsk_very_secret_key_of_a_test"


@pytest.fixture(scope="module")
def daemon() -> None:
    """Make sure that there is a keyring daemon; root installs it, as in a container that only runs the tests."""
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if missing and (os.geteuid() != 0 or shutil.which("apt-get") is None):
        lack(f"needs {', '.join(missing)}: apt-get install {' '.join(missing)}")
    if missing:
        subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
        install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
        subprocess.run(
            install, check=True, capture_output=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and its extra."""
    folder = tmp_path_factory.mktemp("keyring")
    environment = Environment(folder / "venv")
    environment.install(f"{build_wheel(folder)}[keyring]")
    return environment


def in_session(installed: Environment, home: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script of shell commands in a session of its own, whose keyring is open."""
    for folder in (home, home / "run", home / "data"):
        folder.mkdir(mode=0o700, exist_ok=True)
    env = {
        "PATH": f"{installed.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "XDG_DATA_HOME": str(home / "data"),
        "LANG": "C.UTF-8",
    }
    unlocked = "printf pw | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1\n"
    command = ["dbus-run-session", "--", "sh", "-ec", unlocked + script]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.usefixtures("daemon")
def test_a_key_is_kept_in_the_keyring_and_in_no_file(installed: Environment, tmp_path: Path) -> None:
    done = in_session(
        installed,
        tmp_path / "home",
        f"printf {KEY} | mixtura keys set groq\n"
        "mixtura keys list\n"
        "mixtura doctor || true\n"
        "mixtura keys remove groq\n"
        "mixtura keys list\n",
    )
    assert done.returncode == 0, done.stderr
    assert "kept in the system's keyring" in done.stderr
    assert "groq      keyring  …test" in done.stdout
    assert "✓ groq key: from the system's keyring" in done.stdout
    assert "gone from the keyring" in done.stderr
    assert "there is no key" in done.stderr
    assert KEY not in done.stdout + done.stderr
    held = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert held == []


@pytest.mark.usefixtures("daemon")
def test_outside_of_a_session_a_file_keeps_the_key(installed: Environment, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}
    command = [str(installed.folder / "bin" / "mixtura"), "keys", "set", "groq"]
    done = subprocess.run(command, env=env, input=KEY, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "this system has no keyring that can be used" in done.stderr
    (file,) = (tmp_path / ".local" / "state" / "mixtura" / "keys").iterdir()
    assert file.stat().st_mode & 0o077 == 0
