"""The state folder: where it is, and whether it can be used."""

import os
from pathlib import Path

import pytest

from commands import environment, invoke, run, sentence
from mixtura.errors import ConfigError
from mixtura.models.local.names import ModelEntry, add_name, read_names
from mixtura.places import state_problem


def problem_of(path: Path) -> str:
    return state_problem({"MIXTURA_HOME": str(path)})


def test_a_folder_of_ones_own_can_be_used_also_before_it_is_there(tmp_path: Path) -> None:
    assert problem_of(tmp_path) == problem_of(tmp_path / "not" / "yet") == ""
    assert not (tmp_path / "not").exists()
    assert list(tmp_path.iterdir()) == []
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert problem_of(link) == ""


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    lost = tmp_path / "lost"
    lost.symlink_to(tmp_path / "nowhere")
    assert problem_of(file) == problem_of(file / "below") == f"{str(file)!r} is a file, not a folder"
    assert "which is not there" in problem_of(lost)
    assert problem_of(tmp_path / ("x" * 300)) == "File name too long"
    assert problem_of(Path("/proc/mixtura")) != ""


@pytest.mark.parametrize(("mode", "problem"), [(0o700, ""), (0o755, ""), (0o777, "every user"), (0o1777, "every user")])
def test_a_folder_that_others_may_write_is_not_trusted(tmp_path: Path, mode: int, problem: str) -> None:
    tmp_path.chmod(mode)
    env = {"MIXTURA_HOME": str(tmp_path)}
    assert problem_of(tmp_path).startswith(problem)
    checks = invoke("doctor", "-r", "toy", **env).output
    assert ("✗ state folder" in checks) is bool(problem)
    assert ("chmod o-w" in checks) is bool(problem)
    if problem:
        with pytest.raises(ConfigError, match="every user may write there; mixtura doctor"):
            add_name(env, "tiny", ModelEntry(path="/a.gguf"), replace=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    assert problem_of(tmp_path) == "it belongs to another user (id 12345)"


async def test_a_file_in_its_place_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    env = environment(MIXTURA_HOME=str(file))
    with pytest.raises(ConfigError, match=r"MIXTURA_HOME is .* cannot be used \(Not a directory\)"):
        read_names(env)
    listed = await run(env, "models", "--provider", "local")
    assert listed.code == 3
    assert "set MIXTURA_HOME to a folder that you may write" in sentence(listed)
