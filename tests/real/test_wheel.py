"""The built wheel, installed into an environment of its own, outside the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mixtura
from environments import QUICK, ROOT, Environment, build_wheel, development_tools, run_tests

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

_USER = """\
import asyncio
from mixtura import Answer, Mixture

async def main() -> str:
    answer = await Mixture("classic").ask("Why?")
    reveal_type(answer)
    return answer.text

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and what an install brings, nothing else."""
    environment = Environment(tmp_path_factory.mktemp("installed") / "venv")
    environment.install(wheel)
    return environment


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_every_file_of_the_package_is_in_the_wheel_and_no_other(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "src/mixtura"], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {name.removeprefix("src/") for name in tracked.stdout.splitlines() if (ROOT / name).exists()}
    about = f"mixtura-{mixtura.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if not name.startswith(about)}
        metadata = packed.read(f"{about}/METADATA").decode()
        licence = packed.read(f"{about}/licenses/LICENSE").decode()
    assert names == wanted
    assert "mixtura/py.typed" in names
    assert licence == (ROOT / "LICENSE").read_text("utf-8")
    assert f"\nVersion: {mixtura.__version__}\n" in metadata
    assert metadata.endswith((ROOT / "README.md").read_text("utf-8"))


def test_what_is_installed_is_consistent_and_is_the_wheel(installed: Environment, tmp_path: Path) -> None:
    assert installed.run("python", "-m", "pip", "check", cwd=tmp_path).returncode == 0
    done = installed.run("python", "-c", "import mixtura; print(mixtura.__version__, mixtura.__file__)", cwd=tmp_path)
    version, file = done.stdout.split()
    assert version == mixtura.__version__
    assert Path(file).is_relative_to(installed.folder)


@pytest.mark.parametrize(
    ("command", "status", "shown"),
    [
        ("--version", 0, mixtura.__version__),
        ("--help", 0, "demo"),
        ("recipes", 0, "classic"),
        ("ask --sim Why?", 0, ""),
        ("demo --recorded --show 1", 0, "The small models agreed on"),
        ("models --json", 0, "openai/gpt-oss-120b"),
        ("doctor", 1, "GROQ_API_KEY is not set"),
    ],
)
def test_the_command_works_without_key_and_network(
    installed: Environment, tmp_path: Path, command: str, status: int, shown: str
) -> None:
    for program in (("mixtura",), ("python", "-m", "mixtura")):
        done = installed.run(*program, *command.split(), cwd=tmp_path)
        assert done.returncode == status, done.stderr
        assert shown in done.stdout
        assert done.stdout.strip()
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "extra"), [("studies kimi-chips", "room"), ("ask --provider local -m toy-dense.gguf Hi", "local")]
)
def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    installed: Environment, command: str, extra: str
) -> None:
    (models,) = installed.folder.glob("lib/python*/site-packages/mixtura/models/toy/files")
    done = installed.run("mixtura", *command.split(), cwd=models)
    assert done.returncode == 3
    assert f"pip install 'mixtura[{extra}]'" in done.stderr


def test_a_users_program_is_checked_with_the_packages_types(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(_USER)
    python = installed.folder / "bin" / "python"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--python-executable={python}", "--config-file=", "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'Revealed type is "mixtura.events.Answer"' in done.stdout
    assert "Success" in done.stdout


def test_the_quick_tests_pass_against_the_wheel(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv")
    environment.install(f"{wheel}[local,redis,room]", *development_tools())
    done = run_tests(environment, QUICK)
    assert done.returncode == 0, done.stdout[-8000:]
