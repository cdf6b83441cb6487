"""Names for model files, stored in `models.toml` of the state folder. `mixtura models add` writes them.

[models.tiny]
path = "/home/me/models/tiny-Q4_K_M.gguf"
slots = 8
"""

import os
import re
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import tomli_w

from mixtura.errors import ConfigError
from mixtura.input_files import cause_of, read_input, utf8_text
from mixtura.models.local.settings import RequestedSettings
from mixtura.places import locked, make_folders, no_place, state_folder, state_problem, unusable_state

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A named file and its settings. `tried` identifies the state of the file in which a trial loaded it."""

    path: str
    threads: int | None = None
    slots: int | None = None
    context: int | None = None
    tried: str = ""

    @property
    def requested(self) -> RequestedSettings:
        """The settings of the entry, None where the default applies."""
        return RequestedSettings(threads=self.threads, slots=self.slots, context=self.context)


class _NamesFile(msgspec.Struct, forbid_unknown_fields=True):
    models: dict[str, ModelEntry] = {}


def names_file(env: Mapping[str, str]) -> Path:
    """Return the path of the file of names."""
    return state_folder(env) / "models.toml"


def read_names(env: Mapping[str, str]) -> dict[str, ModelEntry]:
    """Return the named files. The result is empty when no file has been added yet.

    Raises:
        ConfigError: `models.toml` cannot be read or is invalid.
    """
    if no_place(env):
        return {}
    path = names_file(env)
    try:
        return msgspec.convert(tomllib.loads(utf8_text(read_input(path))), _NamesFile).models
    except FileNotFoundError:
        return {}
    except (NotADirectoryError, PermissionError) as error:
        raise ConfigError(f"{unusable_state(env, error)}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {cause_of(error)}; fix it, or delete it and add the models again") from None


def add_name(env: Mapping[str, str], name: str, entry: ModelEntry, *, replace: bool) -> bool:
    """Give a file a name, beside those that other processes give at the same time.

    Returns:
        Whether the rest of the file stayed as its owner wrote it. A file that cannot be edited is written anew.

    Raises:
        ConfigError: another file has the name and `replace` is not set, or `models.toml` cannot be read or written.
    """
    with _locked(env):
        entries = read_names(env)
        if name in entries and not replace:
            raise ConfigError(f"{name!r} is {entries[name].path}; another name, or --force to replace it")
        return _write(names_file(env), name, {**entries, name: entry})


def remove_name(env: Mapping[str, str], name: str) -> ModelEntry | None:
    """Remove a name and return the file that had it, None where none had.

    Raises:
        ConfigError: `models.toml` cannot be read or written.
    """
    if name not in read_names(env):
        return None
    with _locked(env):
        entries = read_names(env)
        gone = entries.pop(name, None)
        if gone is not None:
            _write(names_file(env), name, entries)
        return gone


@contextmanager
def _locked(env: Mapping[str, str]) -> Iterator[None]:
    """Let no other process change the file inside the block."""
    if why := no_place(env):
        raise ConfigError(why)
    path = names_file(env)
    if problem := state_problem(env):
        raise ConfigError(f"{path} is not written: {problem}; mixtura doctor says what to do")
    try:
        make_folders(path.parent)
        with locked(path.with_suffix(".lock")):
            yield
    except OSError as error:
        raise ConfigError(unusable_state(env, error)) from None


def _write(path: Path, name: str, entries: Mapping[str, ModelEntry]) -> bool:
    """Write `entries`, of which only that of `name` differs from the file's; return whether the rest was kept."""
    rows = {each: msgspec.to_builtins(entry) for each, entry in entries.items()}
    before = path.read_text("utf-8-sig") if path.exists() else ""
    text = _edited(before, name, rows.get(name))
    try:
        kept = bool(tomllib.loads(text).get("models", {}) == rows)
    except tomllib.TOMLDecodeError:
        kept = False
    if not kept:
        text = tomli_w.dumps({"models": dict(sorted(rows.items()))})
    real = Path(os.path.realpath(path))  # a link stays a link
    handle, written = tempfile.mkstemp(dir=real.parent, prefix=".models-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if real.exists():
            Path(written).chmod(real.stat().st_mode & 0o777)
        Path(written).replace(real)
    except BaseException:
        Path(written).unlink(missing_ok=True)
        raise
    return kept


def _edited(text: str, name: str, row: dict[str, object] | None) -> str:
    """Return a file's text with the table of `name` replaced by `row`, None to remove it; all else stays.

    The result has to be parsed to see whether it says what it should: a text can hold the name in other forms.
    """
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    heads = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")]
    table = [] if row is None else tomli_w.dumps({"models": {name: row}}).rstrip("\n").split("\n")
    for number, end in zip(heads, [*heads, len(lines)][1:], strict=True):
        if _name_in(lines[number]) != name:
            continue
        while end > number + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
            end -= 1  # what stands above the next table belongs to that one
        remarks = [line for line in lines[number:end] if line.lstrip().startswith("#")]
        lines[number:end] = [*table[:1], *remarks, *table[1:]] if table else []
        break
    else:
        lines += [*([""] if lines and lines[-1].strip() else []), *table]
    return "\n".join(lines) + "\n"


def _name_in(head: str) -> str:
    """Return the name in a line such as `[models.tiny]`, "" if it is the head of another table."""
    try:
        found = tomllib.loads(head).get("models")
    except tomllib.TOMLDecodeError:
        return ""
    return next(iter(found), "") if isinstance(found, dict) else ""


def check_name(name: str) -> str:
    """Return `name` if it is a valid name for a file.

    Raises:
        ConfigError: it is not.
    """
    if not _NAME.fullmatch(name) or name.lower().endswith(".gguf"):
        raise ConfigError(
            f"{name!r} is not a valid model name: use up to 64 letters, digits, dots, hyphens and underscores, "
            "beginning with a letter or digit and not ending in .gguf"
        )
    return name
