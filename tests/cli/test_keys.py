"""`mixtura keys`: where keys are kept, which one is used, and that none is ever shown."""

import json
import os
import stat
from pathlib import Path

import pytest

from commands import Done, environment, invoke, run, sentence
from mixtura import ConfigError
from mixtura.keys import StoredKeys, hint, with_stored_keys
from mixtura.sim import SimOptions, simulated_cloud
from terminals import terminal

KEY = "gsk_very_secret"  # `run` looks for it in everything that a command writes
pytestmark = pytest.mark.slow  # a process a command


def home(folder: Path, **given: str) -> dict[str, str]:
    return environment(MIXTURA_HOME=str(folder), **given)


def key_files(folder: Path) -> list[Path]:
    return sorted((folder / "keys").glob("*.json"))


async def test_a_key_that_is_piped_in_is_kept_for_its_owner_alone_and_used(tmp_path: Path) -> None:
    options = SimOptions(unlimited=True, tokens=5, keys={KEY: "org"})
    async with simulated_cloud(options) as cloud:
        env = home(tmp_path / "home", GROQ_BASE_URL=cloud.url)
        done = await run(env, "keys", "set", "groq", stdin=f"{KEY}\n".encode())
        assert (done.code, done.out) == (0, "")
        (file,) = key_files(tmp_path / "home")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert list(file.parent.iterdir()) == [file]  # nothing half-written beside it
        listed = await run(env, "keys", "list")
        assert "groq" in listed.out
        assert "…et" in listed.out
        assert (await run(env, "ask", "-q", "Why?")).code == 0
        assert "✓ groq key: from a file in" in (await run(env, "doctor")).out
        assert (await run(env, "keys", "remove", "groq")).code == 0
        assert key_files(tmp_path / "home") == []
        assert "mixtura keys set groq" in sentence(await run(env, "ask", "Why?"))
        assert (await run(env, "keys", "remove", "groq")).code == 3


async def test_the_environment_goes_first_and_that_is_said(tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(keys={KEY: "org"}, unlimited=True, tokens=5)) as cloud:
        env = home(tmp_path, GROQ_BASE_URL=cloud.url, GROQ_API_KEY=KEY)
        done = await run(env, "keys", "set", "groq", stdin=b"gsk_another_one_that_is_wrong")
        assert "GROQ_API_KEY is set in the environment and goes before it" in done.err
        assert (await run(env, "ask", "-q", "Why?")).code == 0
        rows = json.loads((await run(env, "keys", "list", "--json")).out)
        assert [(row["provider"], row["kept"]) for row in rows] == [
            ("groq", "file"),
            ("groq", "environment (GROQ_API_KEY)"),
        ]
        assert rows[0]["said"] == "not used: GROQ_API_KEY is set"
        assert "GROQ_API_KEY is set; it goes before the key in a file" in (await run(env, "doctor")).out
        without = {name: value for name, value in env.items() if name != "GROQ_API_KEY"}
        assert (await run(without, "ask", "-q", "Why?")).code != 0


async def test_a_key_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path) -> None:
    env = home(tmp_path)
    for args in (("keys", "set", "groq", KEY), ("keys", "set", KEY), ("keys", "remove", KEY)):
        done = await run(env, *args)
        assert (done.code in (2, 3), done.out) == (True, "")
        assert KEY not in done.err
    assert "every user of this machine sees it" in (await run(env, "keys", "set", "groq", KEY)).err
    assert key_files(tmp_path) == []


@pytest.mark.parametrize(
    "given", [b"", b"  \n", b"two words", b"two\nlines", b"k\xc3\xa9y", b"\xff\xfe", b"k" * 20_000]
)
async def test_what_is_no_key_is_refused_and_the_one_before_stays(given: bytes, tmp_path: Path) -> None:
    env = home(tmp_path)
    await run(env, "keys", "set", "groq", stdin=KEY.encode())
    before = key_files(tmp_path)[0].read_bytes()
    done = await run(env, "keys", "set", "groq", stdin=given)
    assert done.code in (2, 3)
    sentence(done)
    assert key_files(tmp_path)[0].read_bytes() == before


async def test_a_file_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    env = home(tmp_path)
    await run(env, "keys", "set", "groq", stdin=KEY.encode())
    (file,) = key_files(tmp_path)
    file.chmod(0o644)
    said = sentence(await run(env, "ask", "Why?"))
    assert "can be read by others (mode 644) and is not used: make a new key" in said
    doctor = await run(env, "doctor")
    assert "✗ groq stored key:" in doctor.out
    assert doctor.code == 1
    assert "can be read by others" in (await run(env, "keys", "list")).out
    assert (await run(env, "keys", "set", "groq", stdin=KEY.encode())).code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"provider": 1}', b"\xff"])
async def test_a_damaged_file_is_one_sentence_and_is_mended_by_setting_anew(content: bytes, tmp_path: Path) -> None:
    env = home(tmp_path)
    await run(env, "keys", "set", "groq", stdin=KEY.encode())
    key_files(tmp_path)[0].write_bytes(content)
    assert "is damaged; run `mixtura keys set groq` again" in sentence(await run(env, "ask", "Why?"))
    assert (await run(env, "keys", "set", "groq", stdin=KEY.encode())).code == 0
    assert StoredKeys(env).get("groq") == KEY


async def test_the_key_of_a_server_is_sent_to_that_server_alone(tmp_path: Path) -> None:
    options = SimOptions(unlimited=True, tokens=5, keys={KEY: "org"})
    async with simulated_cloud(options) as mine, simulated_cloud(options) as other:
        env = home(tmp_path)
        await run(env, "config", "set", "base_urls.box", f"{mine.url}/openai/v1/")
        assert (await run(env, "keys", "set", "box", stdin=KEY.encode())).code == 0
        asked = ("ask", "-q", "-m", "openai/gpt-oss-20b", "Why?", "--provider")
        assert (await run(env, *asked, "box")).code == 0
        assert (await run(env, *asked, f"{mine.url}/openai/v1")).code == 0
        assert (await run(env, *asked, f"{other.url}/openai/v1")).code != 0


async def test_a_typed_key_is_not_shown(tmp_path: Path) -> None:
    async with simulated_cloud() as cloud:
        async with terminal(cloud, "keys", "set", "openai", MIXTURA_HOME=str(tmp_path)) as shown:
            await shown.until("not shown")
            shown.type(f"{KEY}\r")
            assert await shown.end() == 0
        assert KEY not in shown.text
        assert StoredKeys({"MIXTURA_HOME": str(tmp_path)}).get("openai") == KEY


def test_keys_that_nobody_takes_are_refused(tmp_path: Path) -> None:
    for name in ("ollama", "local", "nobody", "http://user:pw@box/v1", "http://"):
        done = invoke("keys", "set", name, MIXTURA_HOME=str(tmp_path))
        assert done.exit_code != 0
        assert "pw" not in done.output
    assert key_files(tmp_path) == []


@pytest.mark.parametrize("key", ["", "k", "short", "abcdefghijk", KEY, "gsk_" + 52 * "x" + "1234"])
def test_a_hint_never_gives_much_away(key: str) -> None:
    shown = hint(key).removeprefix("…")
    assert len(shown) <= min(4, len(key) / 6)
    assert key.endswith(shown)


def test_a_program_gets_stored_keys_when_it_asks_for_them(tmp_path: Path) -> None:
    env = {"MIXTURA_HOME": str(tmp_path), "OPENAI_API_KEY": "mine"}
    stored = StoredKeys(env)
    stored.set("groq", KEY, in_file=True)
    stored.set("openai", KEY, in_file=True)
    assert with_stored_keys(env) == {**env, "GROQ_API_KEY": KEY}
    assert with_stored_keys(env, ["openai", "toy", "ollama"]) == env
    with pytest.raises(ConfigError, match="takes no key"):
        stored.set("ollama", KEY)


_BACKEND = """
import json, os, pathlib
from keyring.errors import KeyringLocked
class Kept:
    file = pathlib.Path(os.environ["FAKE_KEYRING"])
    def _read(self):
        if os.environ.get("FAKE_LOCKED"):
            raise KeyringLocked("locked")
        return json.loads(self.file.read_text()) if self.file.exists() else {}
    def set_password(self, service, name, key):
        kept = self._read()
        if not os.environ.get("FAKE_FORGETS"):
            self.file.write_text(json.dumps({**kept, f"{service}/{name}": key}))
    def get_password(self, service, name):
        return self._read().get(f"{service}/{name}")
    def delete_password(self, service, name):
        kept = self._read()
        del kept[f"{service}/{name}"]
        self.file.write_text(json.dumps(kept))
"""


@pytest.fixture
def keyring(tmp_path: Path) -> dict[str, str]:
    """An environment in which the package `keyring` is a small one that keeps entries in a file."""
    package = tmp_path / "packages" / "keyring"
    (package / "backends").mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import importlib, os\n"
        "def get_keyring():\n"
        "    module, _, name = os.environ.get('FAKE_BACKEND', 'keyring.backends.kept.Kept').rpartition('.')\n"
        "    return getattr(importlib.import_module(module), name)()\n"
    )
    (package / "errors.py").write_text("class KeyringError(Exception): ...\nclass KeyringLocked(KeyringError): ...\n")
    (package / "backends" / "kept.py").write_text(_BACKEND)
    for name in ("fail", "null"):
        (package / "backends" / f"{name}.py").write_text("class Keyring: ...\n")
    path = os.pathsep.join([str(package.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    return home(tmp_path / "home", PYTHONPATH=path, FAKE_KEYRING=str(tmp_path / "entries.json"))


async def _set(env: dict[str, str]) -> Done:
    return await run(env, "keys", "set", "groq", stdin=KEY.encode())


async def test_a_keyring_keeps_the_key_and_no_file_has_it(keyring: dict[str, str], tmp_path: Path) -> None:
    assert "in the system's keyring" in (await _set(keyring)).err
    assert KEY.encode() not in key_files(tmp_path / "home")[0].read_bytes()
    assert json.loads((tmp_path / "entries.json").read_text()) == {"mixtura/groq": KEY}
    assert "keyring" in (await run(keyring, "keys", "list")).out
    options = SimOptions(unlimited=True, tokens=5, keys={KEY: "org"})
    async with simulated_cloud(options) as cloud:
        env = {**keyring, "GROQ_BASE_URL": cloud.url}
        assert (await run(env, "ask", "-q", "Why?")).code == 0
        assert "✓ groq key: from the system's keyring" in (await run(env, "doctor")).out
    locked = await run({**keyring, "FAKE_LOCKED": "1"}, "ask", "Why?")
    assert (locked.code, "unlock it" in sentence(locked)) == (3, True)
    assert "GROQ_API_KEY" in (await run({**keyring, "FAKE_LOCKED": "1", "GROQ_API_KEY": KEY}, "keys", "list")).out
    assert (await run(keyring, "keys", "remove", "groq")).code == 0
    assert json.loads((tmp_path / "entries.json").read_text()) == {}


@pytest.mark.parametrize(
    "fault",
    [
        {"FAKE_BACKEND": "keyring.backends.fail.Keyring"},
        {"FAKE_BACKEND": "keyring.backends.null.Keyring"},
        {"FAKE_LOCKED": "1"},
        {"FAKE_FORGETS": "1"},
    ],
    ids=lambda fault: "".join(fault.values()),
)
async def test_without_a_keyring_that_keeps_it_a_file_does(
    fault: dict[str, str], keyring: dict[str, str], tmp_path: Path
) -> None:
    env = {**keyring, **fault}
    done = await _set(env)
    assert done.code == 0
    assert "for you alone (" in done.err
    assert StoredKeys(env).get("groq") == KEY
    (file,) = key_files(tmp_path / "home")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_file_takes_the_place_of_an_entry_and_leaves_none_behind(
    keyring: dict[str, str], tmp_path: Path
) -> None:
    await _set(keyring)
    done = await run(keyring, "keys", "set", "groq", "--file", stdin=b"gsk_the_second_one")
    assert done.code == 0
    assert json.loads((tmp_path / "entries.json").read_text()) == {}
    assert StoredKeys(keyring).get("groq") == "gsk_the_second_one"


async def test_a_library_call_reads_no_stored_key(tmp_path: Path) -> None:
    StoredKeys({"MIXTURA_HOME": str(tmp_path)}).set("groq", KEY, in_file=True)
    from mixtura import MissingKeyError, Mixture

    with pytest.raises(MissingKeyError):
        await Mixture(env={"MIXTURA_HOME": str(tmp_path)}).ask("Why?")
