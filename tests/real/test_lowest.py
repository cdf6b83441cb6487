"""The oldest versions of the dependencies that pyproject.toml allows."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from environments import WITH_SERVERS, Environment, build_wheel, development_tools, lowest_versions, run_tests


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_tests_pass_with_the_oldest_dependencies_that_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_text("\n".join(lowest_versions()), "utf-8")
    environment = Environment(tmp_path / "venv")
    wheel = build_wheel(tmp_path)
    environment.install(
        "--constraint", tmp_path / "constraints.txt", f"{wheel}[keyring,local,redis,room]", *development_tools()
    )
    shown = environment.run("python", "-m", "pip", "freeze", "--all", cwd=tmp_path).stdout
    pinned = [line.split("==") for line in shown.splitlines() if "==" in line]
    versions = {canonicalize_name(name): version for name, version in pinned}
    for line in lowest_versions():
        assert Requirement(line).specifier.contains(versions[canonicalize_name(Requirement(line).name)]), line
    done = run_tests(environment, WITH_SERVERS)
    assert done.returncode == 0, done.stdout[-8000:]
