"""The oldest versions of the dependencies that pyproject.toml allows."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from environments import Environment, build_wheel, development_tools, lowest_versions, quick_tests


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_quick_tests_pass_with_the_oldest_dependencies_that_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("\n".join(lowest_versions()), "utf-8")
    environment = Environment(tmp_path / "venv")
    wheel = build_wheel(tmp_path)
    environment.install(
        "--constraint", tmp_path / "constraints.txt", f"{wheel}[local,redis,room]", *development_tools()
    )
    shown = environment.run("python", "-m", "pip", "freeze", "--all", cwd=tmp_path).stdout
    versions = dict(line.split("==") for line in shown.splitlines() if "==" in line)
    for line in lowest_versions():
        assert Requirement(line).specifier.contains(versions[Requirement(line).name]), line
    done = quick_tests(environment)
    assert done.returncode == 0, done.stdout[-8000:]
