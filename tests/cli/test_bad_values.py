"""Every option with values that cannot be: one clear sentence and the right exit code, never a traceback or a password.

Each command runs in a process that is forked from this one, with the environment of a fresh one.
"""

import os
from pathlib import Path

import pytest

from commands import forked

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

PATHS = ["", " ", "folder", "missing", "junk", "latin.toml", "endless.toml", "\udcff", "x" * 5000, "~nobody/x.toml"]
ADDRESSES = [
    *("", " ", "http://", "https:///v1", "127.0.0.1:8000", "localhost", "http://host:99999/v1", "http://h:0", "//host"),
    *("http://user:sekret@127.0.0.1:9/v1", "user:sekret@host", "ftp://u:sekret@x/v1", "http://[::1", "http://a b/v1"),
    *("http://\udcff/v1", "http://" + "a" * 300, "http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1 ", "groqq"),
]
WRONG = [each for each in ADDRESSES if not each.startswith("http://127.0.0.1:9/v1")]
NUMBERS = ["", " ", "x", "-1", "nan", "inf", "1e999", "1,5", "\udcff"]
NAMES = ["", " ", "nosuch", "\udcff", "a\nb", "x" * 3000, "\x1b[31m"]
SENT = ["-m", "x", "Why?"]
COMMANDS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "provider": (["ask", "--provider"], ADDRESSES, SENT),
    "provider, forecast": (["ask", "--dry-run", "--provider"], WRONG, SENT),
    "models of a provider": (["models", "--provider"], ADDRESSES, []),
    "recipe": (["ask", "--dry-run", "-r"], [*PATHS, *NAMES], ["Why?"]),
    "recipe of doctor": (["doctor", "-r"], [*PATHS[:4], "\udcff"], []),
    "recipe shown": (["recipes"], PATHS, []),
    "recipe planned": (["plan", "--limits", "-r"], PATHS, []),
    "versus": (["ask", "--dry-run", "--vs"], ["", " "], ["Why?"]),
    "question": (["ask", "--dry-run"], ["", " ", "\udcff", "x" * 1_000_001], []),
    "system": (["ask", "--dry-run", "-s"], ["\udcff", "x" * 1_000_001], ["Why?"]),
    "deadline": (["ask", "--dry-run", "--deadline"], NUMBERS, ["Why?"]),
    "cost": (["ask", "--dry-run", "--max-cost"], NUMBERS, ["Why?"]),
    "day": (["ask", "--sim", "--as-of"], [*NUMBERS, "2025-13-01"], ["Why?"]),
    "schema": (["ask", "--dry-run", "--schema"], PATHS, ["Why?"]),
    "script": (["sim", "--port", "0", "--script"], [each for each in PATHS if each != "endless.toml"], []),
    "recordings": (["sim", "--port", "0", "--recordings"], [each for each in PATHS if each != "endless.toml"], []),
    "faults": (["sim", "--port", "0", "--faults"], ["", "nosuch", "\udcff", "missing.toml", "latin.toml"], []),
    "port": (["sim", "--port"], [*NUMBERS, "65536"], []),
    "host": (["sim", "--port", "0", "--host"], ["", "300.1.1.1", "\udcff", "a b", "http://x"], []),
    "file of a model": (["models", "add", "n"], PATHS, []),
    "study": (["studies"], NAMES, []),
}
SETTINGS = {
    "MIXTURA_HOME": ["junk", "/proc/x", "/dev/null"],
    "GROQ_BASE_URL": [each for each in ADDRESSES if each.strip() and each != "groqq"],
    "GROQ_API_KEY": [" ", "a b", "\udcff", "k\n"],
    "MIXTURA_PLAN": ["nosuch", "\udcff"],
    "MIXTURA_PREDICTIONS": PATHS[2:],
    "MIXTURA_DAILY_BUDGET": [each for each in NUMBERS if each.strip()],
    "MIXTURA_REDIS_URL": [each for each in ADDRESSES if each.strip()],
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of things that are not what an option expects."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "junk").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"\n')
    (tmp_path / "endless.toml").symlink_to("/dev/zero")
    return tmp_path


def check(said: str, what: object) -> None:
    for wrong in ("Traceback", "sekret", "Errno", "codec can't", "Error("):
        assert wrong not in said, (what, said[-2000:])


@pytest.mark.parametrize("case", COMMANDS)
def test_a_value_that_cannot_be_is_one_sentence(case: str, place: Path) -> None:
    before, values, after = COMMANDS[case]
    for value in values:
        code, said = forked([*before, value, *after], {"MIXTURA_HOME": str(place / "home")})
        check(said, value)
        assert code in (1, 2, 3), (value, code, said[-500:])
        [*_, last] = said.strip().splitlines() or [""]
        assert case == "recipe of doctor" or last.startswith("mixtura: "), (value, said[-500:])
        assert len(last) < 1200, (value, last)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_cannot_be_breaks_nothing(name: str, place: Path) -> None:
    for value in SETTINGS[name]:
        for command in (["ask", "-m", "m", "Why?"], ["ask", "--sim", "-q", "Why?"], ["doctor"], ["models"]):
            code, said = forked(command, {"MIXTURA_HOME": str(place / "home"), name: value})
            check(said, (value, command))
            assert code in (0, 1, 3, 75), (value, command, code, said[-500:])
