"""The file of names of model files: several processes write it, and its owner does too."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.models.local.names import ModelEntry, add_name, check_name, names_file, read_names, remove_name
from mixtura.models.registry import ModelRegistry

ENTRY = ModelEntry(path="/models/a.gguf")
OWN = """\
# My models.

[models.small]  # the quick one
# It came from a friend.
path = "/models/small.gguf"
slots = 8

# Slow, and good.
[models."large.v2"]
path = '''/models/[large].gguf'''
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"MIXTURA_HOME": str(tmp_path / "state")}


def begin(env: dict[str, str], text: str) -> Path:
    path = names_file(env)
    path.parent.mkdir()
    path.write_text(text, "utf-8")
    return path


def test_what_its_owner_wrote_stays_around_a_name(env: dict[str, str]) -> None:
    path = begin(env, OWN)
    assert add_name(env, "tiny", ENTRY, replace=False)
    assert path.read_text("utf-8") == OWN + '\n[models.tiny]\npath = "/models/a.gguf"\n'
    assert add_name(env, "small", ENTRY, replace=True)
    text = path.read_text("utf-8")
    assert all(remark in text for remark in ("# My models.", "# It came from a friend.", "# Slow, and good."))
    assert list(read_names(env)) == ["small", "large.v2", "tiny"]
    assert read_names(env)["small"] == ENTRY
    assert remove_name(env, "small") == ENTRY
    assert remove_name(env, "small") is None
    assert path.read_text("utf-8").startswith("# My models.\n\n")
    assert "# Slow, and good.\n[models." in path.read_text("utf-8")


@pytest.mark.parametrize("odd", ['models.small.path = "/s.gguf"\n', 'models = { small = { path = "/s.gguf" } }\n'])
def test_a_form_that_cannot_be_edited_is_written_anew_which_is_said(env: dict[str, str], odd: str) -> None:
    begin(env, f"# a remark\n{odd}")
    assert not add_name(env, "small", ENTRY, replace=True)
    assert add_name(env, "tiny", ENTRY, replace=False)
    assert read_names(env) == {"small": ENTRY, "tiny": ENTRY}


def test_a_link_stays_a_link_and_a_mode_a_mode(env: dict[str, str], tmp_path: Path) -> None:
    path = begin(env, "")
    kept = tmp_path / "dotfiles.toml"
    path.rename(kept)
    path.symlink_to(kept)
    kept.chmod(0o640)
    add_name(env, "tiny", ENTRY, replace=False)
    assert path.is_symlink()
    assert "tiny" in kept.read_text("utf-8")
    assert kept.stat().st_mode & 0o777 == 0o640


def test_a_name_that_another_process_took_meanwhile_is_refused(env: dict[str, str]) -> None:
    add_name(env, "tiny", ENTRY, replace=False)
    with pytest.raises(ConfigError, match=r"'tiny' is /models/a\.gguf; another name, or --force"):
        add_name(env, "tiny", ENTRY, replace=False)


_NAMES = st.text("ab.-_[]\"'#= é", min_size=1, max_size=6)
_PATHS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(st.lists(st.tuples(_NAMES, st.none() | _PATHS), max_size=8))
def test_whatever_is_added_and_removed_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, str | None]]
) -> None:
    env = {"MIXTURA_HOME": str(tmp_path_factory.mktemp("state"))}
    names_file(env).write_text("# kept\n", "utf-8")
    expected: dict[str, ModelEntry] = {}
    for name, path in changes:
        if path is None:
            assert remove_name(env, name) == expected.pop(name, None)
        else:
            expected[name] = ModelEntry(path=path, slots=2)
            assert add_name(env, name, expected[name], replace=True)
        assert read_names(env) == expected
    assert names_file(env).read_text("utf-8").startswith("# kept\n")


@pytest.mark.slow
def test_names_given_at_the_same_time_are_all_kept(env: dict[str, str]) -> None:
    program = (
        "import sys\nfrom mixtura.models.local.names import ModelEntry, add_name\n"
        "for number in range(9):\n"
        "    add_name({'MIXTURA_HOME': sys.argv[1]}, f'n{sys.argv[2]}-{number}', ModelEntry(path='a'), replace=False)\n"
    )
    command = [sys.executable, "-c", program, env["MIXTURA_HOME"]]
    running = [subprocess.Popen([*command, str(number)]) for number in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert len(read_names(env)) == 36
    assert {path.name for path in names_file(env).parent.iterdir()} == {"models.toml", "models.lock"}


def test_a_file_of_names_that_cannot_be_read_says_what_to_do(env: dict[str, str]) -> None:
    path = begin(env, "models = 3")
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}: .*; fix it, or delete it and add the models"):
        read_names(env)


def test_a_name_near_others_names_them(env: dict[str, str]) -> None:
    begin(env, '[models.tiny1]\npath = "/a.gguf"\n[models.tiny2]\npath = "/b.gguf"\n')
    with pytest.raises(ConfigError, match=r"'tinyx': did you mean 'tiny[12]' or 'tiny[12]'\?"):
        ModelRegistry(env=env).find("local", "tinyx")


def test_what_looks_like_a_file_is_no_name() -> None:
    assert check_name("tiny-1.b") == "tiny-1.b"
    for name in ("", "-a", "a b", "a/b", "a.GGUF", "a" * 65):
        with pytest.raises(ConfigError, match="is not a valid model name"):
            check_name(name)
