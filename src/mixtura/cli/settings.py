"""What a user sets once instead of typing it each time: the table of settings, and the file that keeps them.

A value is taken from the command line, else the environment, else the file, else it is built in. Only the command reads
the file: what a program does must not depend on who runs it.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import tomli_w

from mixtura.cli.common import number
from mixtura.cli.settings_file import look_for, read_settings
from mixtura.errors import ConfigError
from mixtura.input_files import expanded
from mixtura.keys import with_stored_keys
from mixtura.models.catalog import TIERS, Catalog, CatalogProvider
from mixtura.models.environment import base_url
from mixtura.models.in_process import is_registered
from mixtura.places import locked, make_folders, write_atomically
from mixtura.recipe import Recipe

Value = str | float
Origin = Literal["environment", "config", "built in"]
SERVERS = "base_urls"
"""The table of the file with the addresses of servers; a setting in it is called `base_urls.NAME`."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: its name in the file, what goes before it, and how its text is read.

    `read` raises ConfigError or ValueError for a text that cannot be. `verbs` are the verbs that it is the default of.
    """

    name: str
    about: str
    variable: str
    option: str
    built_in: str
    verbs: tuple[str, ...]
    read: Callable[[str], Value]


def _recipe(text: str) -> str:
    Recipe.named(text)
    # The file is read in whatever folder the command is called in.
    return str(expanded(text).resolve()) if text.endswith(".toml") else text


def _provider(text: str) -> str:
    if text not in Catalog.load().providers and "://" not in text and is_registered(text):
        return text
    row = Catalog.load().provider(text)
    if "://" in text:
        base_url(row, {})
    return text


def _plan(text: str) -> str:
    if text.lower() not in TIERS:
        raise ValueError(f"expected {', '.join(TIERS)}, got {text!r}")
    return text.lower()


def _above_zero(text: str) -> float:
    found = number(text)
    if not found:
        raise ValueError(f"expected a number above 0, got {text!r}")
    return found


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="recipe",
        about="the recipe, by its name or .toml file; it does not count beside --model",
        variable="MIXTURA_RECIPE",
        option="--recipe",
        built_in="balanced",
        verbs=("ask", "chat", "doctor"),
        read=_recipe,
    ),
    Setting(
        name="provider",
        about="where its models are served: a provider's name, a base URL or a name of `base_urls`; not with --sim",
        variable="MIXTURA_PROVIDER",
        option="--provider",
        built_in="the recipe's own",
        verbs=("ask", "chat", "models"),
        read=_provider,
    ),
    Setting(
        name="deadline",
        about="seconds that an answer may take",
        variable="MIXTURA_DEADLINE",
        option="--deadline",
        built_in="the recipe's own",
        verbs=("ask", "chat"),
        read=_above_zero,
    ),
    Setting(
        name="max_cost",
        about="dollars that an answer may cost",
        variable="MIXTURA_MAX_COST",
        option="--max-cost",
        built_in="any",
        verbs=("ask", "chat"),
        read=number,
    ),
    Setting(
        name="daily_budget",
        about="dollars that all runs of a day (UTC) may cost together; not with --sim",
        variable="MIXTURA_DAILY_BUDGET",
        option="--daily-budget",
        built_in="any",
        verbs=("ask", "chat", "demo", "doctor"),
        read=number,
    ),
    Setting(
        name="plan",
        about="the plan of the keys: " + ", ".join(TIERS) + "; not with --sim",
        variable="MIXTURA_PLAN",
        option="--plan",
        built_in="learned from replies",
        verbs=("ask", "chat", "demo", "doctor", "plan"),
        read=_plan,
    ),
)
"""Every setting; `base_urls` stands beside them, a table of the file with one address a server."""
_BY_NAME = {setting.name: setting for setting in SETTINGS}
_KEYS = (*_BY_NAME, SERVERS)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The value of one setting and where it comes from; `value` is None where only what is built in holds."""

    name: str
    value: Value | None
    origin: Origin
    where: str = ""


class Settings:
    """The settings of one user: those of an environment, else those of the file.

    Attributes:
        found: there is a file.
        unread: why none is looked for, in a sentence: there is no folder for it, or it is another user's; else "".

    Args:
        env: where variables are read; it names the folder of the file, too.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has a key that is no setting.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._path, self.found, self.unread = look_for(env)
        self._kept = {} if self._path is None or self.unread else read_settings(self._path, _KEYS)

    @property
    def path(self) -> Path:
        """The file; it need not exist.

        Raises:
            ConfigError: there is no folder that it could be in.
        """
        if self._path is None:
            raise ConfigError(self.unread)
        return self._path

    def find(self, name: str) -> Found:
        """Return the value of a setting.

        Raises:
            ConfigError: what is set cannot be; the text names the variable, or the file and the key.
        """
        setting = _BY_NAME[name]
        said = self._env.get(setting.variable, "").strip()
        if said:
            value = _checked(self._read_setting, setting, said, setting.variable)
            return Found(name=name, value=value, origin="environment", where=setting.variable)
        if name in self._kept:
            fix = f"mend it there, or run `mixtura config unset {name}`"
            value = _checked(self._read_setting, setting, _text(self._kept[name]), f"{self.path}: {name}", fix)
            return Found(name=name, value=value, origin="config", where=str(self.path))
        return Found(name=name, value=None, origin="built in")

    def text(self, name: str) -> str | None:
        """Return the value of a setting that is a text, None where only what is built in holds."""
        value = self.find(name).value
        return None if value is None else str(value)

    def amount(self, name: str) -> float | None:
        """Return the value of a setting that is a number, None where only what is built in holds."""
        value = self.find(name).value
        return None if value is None else float(value)

    def servers(self) -> dict[str, str]:
        """Return the addresses of servers in the file, by name.

        Raises:
            ConfigError: one of them cannot be; the text names the file and the key.
        """
        table = self._kept.get(SERVERS, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{self.path}: {SERVERS}: expected a table of names and base URLs")
        found = {}
        for name, url in table.items():
            key = f"{SERVERS}.{name}"
            fix = f"mend it there, or run `mixtura config unset {key}`"
            found[name] = _checked(_server, name, _text(url), f"{self.path}: {key}", fix)
        return found

    def problems(self) -> list[ConfigError]:
        """Return what is wrong with any setting, in the order of the table."""
        found = []
        looks: list[Callable[[], object]] = [partial(self.find, name) for name in _BY_NAME]
        for look in [*looks, self.servers]:
            try:
                look()
            except ConfigError as error:
                found.append(error)
        return found

    def served_by(self, provider: str) -> str:
        """Return `provider`, or the address that the file gives for a name that is no provider's."""
        if provider in Catalog.load().providers:
            return provider
        return self.servers().get(provider, provider)

    def environment(self) -> dict[str, str]:
        """Return the environment with what the file says for variables that are not set in it.

        Raises:
            ConfigError: what the file says of them cannot be.
        """
        env = dict(self._env)
        for name in ("daily_budget", "plan"):
            if name in self._kept and not env.get(_BY_NAME[name].variable, "").strip():
                env[_BY_NAME[name].variable] = _text(self.find(name).value)
        for name, url in self.servers().items():
            row = Catalog.load().providers.get(name)
            if row is not None and not env.get(row.base_url_env, "").strip():
                env[row.base_url_env] = url
        return env

    def _read_setting(self, setting: Setting, text: str) -> Value:
        # A name of `base_urls` is no provider to anybody but the command.
        return setting.read(self.served_by(text) if setting.name == "provider" else text)

    def set(self, name: str, text: str) -> Value:
        """Check a value, keep it in the file, and return it.

        Raises:
            ConfigError: no such setting, the value cannot be, or the file cannot be written.
        """
        table, key = _place(name)
        value: Value
        if table:
            value = _checked(_server, key, text, name)
        else:
            value = _checked(self._read_setting, _BY_NAME[key], text, name)
            value = text if key == "provider" else value
        kept = int(value) if isinstance(value, float) and value.is_integer() else value
        with self._locked():
            inside = {SERVERS: {**self.servers(), key: kept}} if table else {key: kept}
            self._write({**self._kept, **inside})
        return value

    def unset(self, name: str) -> bool:
        """Take a setting out of the file; return whether it was there.

        Raises:
            ConfigError: no such setting, or the file cannot be written.
        """
        table, key = _place(name)
        with self._locked():
            inside = self._kept.get(SERVERS, {}) if table else self._kept
            if not isinstance(inside, dict) or key not in inside:
                return False
            rest = {known: value for known, value in inside.items() if known != key}
            self._write({**self._kept, SERVERS: rest} if table else rest)
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other process change the file inside the block, and begin with what it holds now."""
        try:
            make_folders(self.path.parent)
            with locked(self.path.with_suffix(".lock")):
                self._kept = read_settings(self.path, _KEYS)
                yield
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be written: {error.strerror or error}; set MIXTURA_HOME to a folder that you may "
                "write"
            ) from error

    def _write(self, kept: dict[str, Any]) -> None:
        from mixtura.cli.toml_text import edited

        kept = {key: value for key, value in kept.items() if value != {}}
        try:
            text = self.path.read_text("utf-8-sig") if self.path.exists() else ""
            write_atomically(self.path, edited(text, self._kept, kept).encode())
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be written: {error.strerror or error}; set MIXTURA_HOME to a folder that you may "
                "write"
            ) from error
        self._kept = kept


def command_environment(providers: list[str] | None = None) -> dict[str, str]:
    """Return what the command reads keys and addresses from: the process's environment, the file, the stored keys.

    Args:
        providers: those whose stored keys are read; None for all.

    Raises:
        ConfigError: the file is not sound, or a stored key cannot be read.
    """
    return with_stored_keys(Settings(os.environ).environment(), providers)


def setting_names() -> list[str]:
    """Return the names that can be set; a server's name stands for any."""
    return [*_BY_NAME, f"{SERVERS}.NAME"]


def _place(name: str) -> tuple[str, str]:
    """Return the table and the key of a setting; the table is "" for the top of the file."""
    table, _, key = name.rpartition(".")
    if (table == SERVERS and _NAME.match(key)) or (not table and key in _BY_NAME):
        return table, key
    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(setting_names())}"
    raise ConfigError(f"no setting {name!r}; {hint}")


def _server(name: str, url: str) -> str:
    row = Catalog.load().providers.get(name)
    if row is not None and not row.base_url_env:
        raise ValueError(f"{name!r} has no address: its models run in this process")
    if not _NAME.match(name):
        raise ValueError("a name has small letters, digits, - and _")
    row = row or CatalogProvider(title=name, base_url="http://127.0.0.1:8000/v1", base_url_env=name)
    try:
        base = base_url(row, {row.base_url_env: url or "-"})
        # Of one that ends in the path of a request, that says that nothing is to be added.
        return url.strip() if base.exact else base.whole
    except ConfigError as error:
        # The file and the key are what the user wrote, not the variable that would say the same.
        raise ValueError(error.message.removeprefix(f"{row.base_url_env}: ")) from None


def _text(value: object) -> str:
    """Return a value of the file as it would be typed; what is no text and no number is refused with its type."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return tomli_w.dumps({"value": value}).partition("=")[2].strip() or "a table"


def _checked(read: Callable[[Any, str], Any], about: object, text: str, where: str, fix: str = "") -> Any:
    try:
        return read(about, text)
    except (ConfigError, ValueError) as error:
        said = str(error).rstrip(".")
        raise ConfigError(f"{where}: {said}" + (f"; {fix}" if fix else "")) from None
