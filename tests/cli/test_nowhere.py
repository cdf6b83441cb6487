"""Places where nothing can be kept: no home, a user that the system does not know, another user's folders.

What cannot be kept costs a warning, never the answer. A daily budget that cannot be kept refuses the run.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import forked
from mixtura.cli import VERBS, main
from mixtura.errors import ConfigError
from mixtura.mixture import Mixture
from mixtura.mixture.composition import daily_budget_of
from mixtura.sim import SimOptions, simulated_cloud

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs fork, and user ids"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

UNKNOWN = 54321
TABLE: dict[str, tuple[tuple[str, ...], int]] = {
    # What follows the verb, and the exit code where nothing can be kept. Answers are asked of a simulated cloud.
    "ask": (("--sim", "Why?"), 0),
    "ask, one answer": (("--sim", "-q", "-m", "openai/gpt-oss-20b", "Why?"), 0),
    "ask, forecast": (("--dry-run", "Why?"), 0),
    "chat": (("--sim",), 0),
    "plan": (("--limits",), 0),
    "machines": (("h100",), 0),
    "studies": (("kimi-chips", "--to", "/proc/nowhere"), 3),
    "recipes": ((), 0),
    "models": (("--offline",), 0),
    "models, of names": (("--provider", "local"), 0),
    "models, forget": (("remove", "tiny"), 3),
    "keys": (("list",), 0),
    "keys, forget": (("remove", "groq"), 3),
    "config": ((), 0),
    "config, JSON": (("--json",), 0),
    "config, set": (("set", "recipe", "deep"), 3),
    "config, unset": (("unset", "recipe"), 3),
    "doctor": (("-r", "toy"), 1),
    "sim": (("--port", "65536"), 2),
    "demo": (("--recorded", "--questions", "1"), 0),
    "demo, live": (("--live", "-r", "fast", "--max-cost", "0"), 1),
    "completion": (("bash",), 0),
}


def nowhere() -> None:
    """Take the home folder away."""
    for name in ("HOME", "MIXTURA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        os.environ.pop(name, None)
    os.getuid = lambda: UNKNOWN


def test_every_verb_is_in_the_table() -> None:
    assert {case.partition(",")[0] for case in TABLE} == set(VERBS)


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE)
def test_without_a_home_every_verb_does_what_it_can(case: str) -> None:
    after, expected = TABLE[case]
    code, said = forked([case.partition(",")[0], *after], prepare=nowhere)
    assert (code, "Traceback" in said, "Errno" in said) == (expected, False, False), said
    if case in ("config", "config, set", "doctor", "keys"):
        assert "set MIXTURA_HOME to a folder that you may write, or HOME" in said
        assert case != "doctor" or "✓ version" in said  # it goes on


def test_without_a_home_a_daily_budget_is_refused() -> None:
    code, said = forked(["ask", "--daily-budget", "1", "-m", "openai/gpt-oss-20b", "Why?"], prepare=nowhere)
    assert code == 3
    assert "mixtura: the daily budget cannot be kept: there is no home folder" in said


def locked_out(home: Path, arguments: list[str]) -> Callable[[], None]:
    """Return what makes `home` the home of another user, whose folders cannot be entered."""

    def prepare() -> None:
        for name in ("MIXTURA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            os.environ.pop(name, None)
        os.environ["HOME"] = str(home)
        if os.geteuid() == 0:
            # What is imported on the way must be there before: this user may not enter its folder either.
            kept = os.dup(1), os.dup(2)
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            main(arguments)
            sys.stdout.flush()
            for stream, was in zip((1, 2), kept, strict=True):
                os.dup2(was, stream)
            os.setuid(UNKNOWN)

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ask", "models", "keys", "config", "config, set", "doctor", "models, of names"])
def test_the_home_of_another_user_is_nobodys_settings(case: str, tmp_path: Path) -> None:
    after, expected = TABLE[case]
    arguments = [case.partition(",")[0], *after]
    home = tmp_path / "home"
    home.mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    code, said = forked(arguments, prepare=locked_out(home, arguments))
    home.chmod(0o700)
    assert code == (3 if case == "models, of names" else expected), said
    assert "Traceback" not in said
    assert "Permission denied" in said
    assert "MIXTURA_HOME" in said


@pytest.mark.parametrize(
    ("home", "said"),
    [
        ("~nobody-of-this-name/x", "MIXTURA_HOME is '~nobody-of-this-name/x', and there is no user"),
        ("~", "there is no home folder that ~ could be: set HOME"),
        ("/dev/null", "cannot be used (Not a directory): set MIXTURA_HOME to a folder that you may write"),
    ],
)
def test_a_folder_that_cannot_be_is_one_sentence(home: str, said: str) -> None:
    def prepare() -> None:
        nowhere()
        os.environ["MIXTURA_HOME"] = home

    code, found = forked(["ask", "-m", "openai/gpt-oss-20b", "Why?"], prepare=prepare)
    assert code == 3
    assert said in found
    assert found.count("\n") == 1


@pytest.mark.slow
def test_without_a_folder_for_temporary_files_a_simulated_cloud_answers() -> None:
    def prepare() -> None:
        import tempfile

        tempfile.tempdir = "/proc/nothing"
        import mixtura.temporary

        mixtura.temporary._SHORT = Path("/proc/nothing")

    code, said = forked(["ask", "--sim", "-q", "Why?"], prepare=prepare)
    assert code == 0, said
    code, said = forked(["ask", "--sim", "-q", "--daily-budget", "1", "Why?"], prepare=prepare)
    assert code == 3
    assert "the daily budget cannot be kept" in said


async def test_the_library_needs_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "MIXTURA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: UNKNOWN)
    async with simulated_cloud(SimOptions(unlimited=True)) as cloud:
        env = {"GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_x"}
        assert (await Mixture("fast", env=env).ask("Why?")).text
        with pytest.raises(ConfigError, match=r"daily budget cannot be kept: .*set MIXTURA_HOME"):
            await Mixture("fast", env=env, daily_budget=1.0).ask("Why?")


@pytest.mark.parametrize("home", ["", "relative/home"])
def test_a_home_that_is_no_path_is_none(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "getuid", lambda: UNKNOWN)
    with pytest.raises(ConfigError, match="there is no home folder"):
        daily_budget_of(1.0, {"HOME": home})
