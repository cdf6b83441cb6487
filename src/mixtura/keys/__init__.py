"""API keys that `mixtura keys set` keeps: in the system's keyring, else in files that their owner alone can read.

`Mixture` reads no stored key on its own: a program that runs for others must not pick up a person's keys. The command
adds them to its environment, and so can a program: `Mixture("balanced", env=with_stored_keys(env))`.
"""

import os
import stat
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from mixtura.errors import ConfigError
from mixtura.keys import system
from mixtura.models.catalog import Catalog
from mixtura.models.environment import check_key, key_variables, server_address
from mixtura.places import no_place, state_folder, unusable_state, write_atomically
from mixtura.secret import Secret

Place = Literal["keyring", "file"]
_HINT = 4  # characters of a key that may be shown


class _Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The file of one provider: `key` is "" where the keyring keeps it."""

    provider: str
    kept: Place
    key: str = ""


class StoredKeys:
    """The stored keys of one user, one file a provider: two writers do not undo each other's work.

    A provider is a name of the catalogue or the base URL of a server; all ways of writing a URL are one provider.

    Args:
        env: names the state folder.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    @property
    def folder(self) -> Path:
        """Where the files are; it need not exist.

        Raises:
            ConfigError: there is no folder for what a user keeps.
        """
        return state_folder(self._env) / "keys"

    def providers(self) -> list[str]:
        """Return the providers that a key is stored for, sorted."""
        return self._look()[0]

    def unread(self) -> str:
        """Return in a sentence why stored keys cannot be looked for, "" where they can."""
        return self._look()[1]

    def _look(self) -> tuple[list[str], str]:
        if why := no_place(self._env):
            return [], why
        try:
            names = [name for name in os.listdir(self.folder) if name.endswith(".json")]  # noqa: PTH208  # glob passes errors over
        except (FileNotFoundError, NotADirectoryError):
            return [], ""
        except OSError as error:
            return [], unusable_state(self._env, error)
        return sorted(urllib.parse.unquote(name.removesuffix(".json")) for name in names), ""

    def set(self, provider: str, key: str, *, in_file: bool = False) -> tuple[Place, str]:
        """Store a key in place of the one before; return where it is kept, and why it is not in the keyring.

        Args:
            provider: whose key it is.
            key: the key.
            in_file: keep it in the file although there may be a keyring.

        Raises:
            ConfigError: it is no key, or nothing can be written.
        """
        name = account(provider)
        check_key(Secret(key), "the key")
        path = self._path(name)
        kept: Place = "file"
        why = "a file was asked for"
        if not in_file:
            try:
                system.write(name, key)
                kept, why = "keyring", ""
            except system.KeyringUnusable as unusable:
                why = str(unusable)
        entry = _Entry(provider=name, kept=kept, key="" if kept == "keyring" else key)
        try:
            before = self._entry(name)
        except ConfigError:
            before = None  # it is replaced, whatever was wrong with it
        try:
            write_atomically(path, msgspec.json.encode(entry))
        except OSError as error:
            raise ConfigError(unusable_state(self._env, error)) from error
        if kept == "file" and before is not None and before.kept == "keyring":
            try:
                system.remove(name)
            except system.KeyringUnusable:
                pass  # the old key stays in a keyring that nobody can open now; it is not read any more
        return kept, why

    def place(self, provider: str) -> Place | None:
        """Return where a key is kept, None where none is.

        Raises:
            ConfigError: its file cannot be read, or others can read it.
        """
        entry = self._entry(account(provider))
        return None if entry is None else entry.kept

    def get(self, provider: str) -> str | None:
        """Return a key, None where none is stored.

        Raises:
            ConfigError: it cannot be read, or others can read its file.
        """
        name = account(provider)
        entry = self._entry(name)
        if entry is None:
            return None
        if entry.kept == "file":
            return entry.key
        try:
            key = system.read(name)
        except system.KeyringUnusable as unusable:
            said = f"the key of {name!r} is in the system's keyring, and {unusable}"
            raise ConfigError(f"{said}; unlock it, or {_again(name)}") from None
        if key is None:
            raise ConfigError(f"the key of {name!r} is no longer in the system's keyring; {_again(name)}")
        return key

    def remove(self, provider: str) -> Place:
        """Delete a key, and return where it was kept.

        Raises:
            ConfigError: none is stored, or it cannot be deleted.
        """
        name = account(provider)
        try:
            entry = self._entry(name)
            kept = entry.kept if entry else None
        except ConfigError:
            kept = "file"  # a file that must not be used can still be deleted
        if kept is None:
            stored = self.providers()
            known = f"stored are {', '.join(stored)}" if stored else "none is stored"
            raise ConfigError(f"no key is stored for {name!r}: {known}")
        try:
            if kept == "keyring":
                system.remove(name)
            self._path(name).unlink(missing_ok=True)
        except (system.KeyringUnusable, OSError) as error:
            raise ConfigError(f"the key of {name!r} cannot be removed: {error}") from None
        return kept

    def _path(self, name: str) -> Path:
        return self.folder / f"{urllib.parse.quote(name, safe='')}.json"

    def _entry(self, name: str) -> _Entry | None:
        if no_place(self._env):
            return None
        path = self._path(name)
        try:
            with path.open("rb") as file:
                # Of the open file and not of its name, which could stand for another file by then.
                about = os.fstat(file.fileno())
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        if os.name == "posix" and stat.S_IMODE(about.st_mode) & 0o077:
            raise ConfigError(
                f"{path} can be read by others (mode {stat.S_IMODE(about.st_mode):o}) and is not used: make a new key, "
                f"since somebody may have read this one, and run `mixtura keys set {name}`"
            )
        try:
            return msgspec.json.decode(data, type=_Entry)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise ConfigError(f"{path} is damaged; {_again(name)}") from None


def _again(name: str) -> str:
    return f"run `mixtura keys set {name}` again"


def account(provider: str) -> str:
    """Return the name that the key of `provider` is stored under.

    Raises:
        ConfigError: no such provider, or it takes no key.
    """
    catalog = Catalog.load()
    row = catalog.provider(provider)
    if not row.key_env:
        raise ConfigError(f"{provider!r} takes no key" + ("" if row.in_process else "; a base URL can have one"))
    if provider in catalog.providers:
        return provider
    parts = urllib.parse.urlsplit(provider)
    address = server_address(provider, row)
    if not address or parts.username is not None or parts.password is not None:
        raise ConfigError(
            "that is not a base URL; one looks like 'http://127.0.0.1:8000/v1', without a user or password"
        )
    return address


def hidden_by(provider: str, env: Mapping[str, str]) -> str:
    """Return the variable of `env` that goes before the stored key of `provider`; "" for none."""
    row = Catalog.load().provider(provider)
    return next((name for name in key_variables(provider, row) if env.get(name)), "")


def hint(key: str) -> str:
    """Return what may be shown of a key: its last characters, at most 4 and at most a sixth of it."""
    shown = min(_HINT, len(key) // 6)
    return "…" + key[len(key) - shown :]


def with_stored_keys(env: Mapping[str, str], providers: Iterable[str] | None = None) -> dict[str, str]:
    """Return a copy of `env` with the stored keys added, for `Mixture(env=...)`. A key that `env` holds goes first.

    Args:
        env: an environment, such as the process's; it also names the state folder.
        providers: those whose keys are read, by name or base URL; None for all that are stored.

    Raises:
        ConfigError: a stored key cannot be read.
    """
    found = dict(env)
    stored = StoredKeys(env)
    known = set(stored.providers())
    if not known:
        return found
    catalog = Catalog.load()
    for provider in known if providers is None else dict.fromkeys(providers):
        if provider not in catalog.providers and "://" not in provider:
            continue  # of an installed package, in this process
        row = catalog.provider(provider)
        if row.key_env and account(provider) in known and not hidden_by(provider, env):
            found[key_variables(provider, row)[0]] = stored.get(provider) or ""
    return found
