"""Virtual environments outside the checkout: for the built wheel, and for the oldest dependencies it may have."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
QUICK = "not slow and not server and not models and not real"
WITH_SERVERS = "not slow and not models and not real"
# Extras that a user of the package does not install.
FOR_A_CLONE = ("dev", "training", "bench", "mutants")


class Environment:
    """A virtual environment of the running Python, made when it is constructed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)

    def run(self, *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; nothing of this one is inherited that changes what Python imports."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        env["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{env['PATH']}"
        program, *args = command
        return subprocess.run(
            [self.folder / "bin" / program, *args],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, *requirements: str | Path) -> None:
        """Install by pip.

        Raises:
            RuntimeError: pip failed; the text is what it says.
        """
        pip = ("python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
        done = self.run(*pip, *requirements, cwd=self.folder)
        if done.returncode:
            raise RuntimeError(done.stderr)


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout into `folder`, as it would be published."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps")
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def project() -> dict[str, Any]:
    """Return the table `project` of pyproject.toml."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return found


def run_time_requirements() -> list[Requirement]:
    """Return what an install needs, and what the extras for users need."""
    extras = project()["optional-dependencies"]
    users = [line for name, lines in extras.items() if name not in FOR_A_CLONE for line in lines]
    return [Requirement(line) for line in (*project()["dependencies"], *users)]


def lowest_versions() -> list[str]:
    """Return a constraint for each run-time requirement that holds it at its lower bound."""
    return [f"{one.name}=={lower_bound(one)}" for one in run_time_requirements()]


def lower_bound(requirement: Requirement) -> str:
    """Return the oldest version that a requirement allows.

    Raises:
        ValueError: it has no lower bound.
    """
    found = [part.version for part in requirement.specifier if part.operator in (">=", "==")]
    if len(found) != 1:
        raise ValueError(f"{requirement}: expected one lower bound")
    return found[0]


def development_tools() -> list[str]:
    """Return what the tests need beside what is needed at run time."""
    at_run_time = {one.name for one in run_time_requirements()}
    return [line for line in project()["optional-dependencies"]["dev"] if Requirement(line).name not in at_run_time]


def run_tests(environment: Environment, marked: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the checkout with the package that is installed in the environment."""
    done = environment.run("python", "-c", "import mixtura; print(mixtura.__file__)", cwd=ROOT)
    assert str(environment.folder) in done.stdout, f"the tests would not run against the wheel: {done}"
    return environment.run("python", "-m", "pytest", "-m", marked, cwd=ROOT)
