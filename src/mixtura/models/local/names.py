"""Names for model files, stored in `models.toml` of the state folder. `mixtura models add` writes them.

[models.tiny]
path = "/home/me/models/tiny-Q4_K_M.gguf"
slots = 8
"""

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import tomli_w

from mixtura.errors import ConfigError
from mixtura.models.local.settings import RequestedSettings
from mixtura.places import make_folders, state_folder

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
    path = names_file(env)
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), _NamesFile).models
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}; fix it, or delete it and add the models again") from None


def write_names(env: Mapping[str, str], entries: Mapping[str, ModelEntry]) -> None:
    """Replace the named files by `entries`, atomically.

    Raises:
        ConfigError: `models.toml` cannot be written.
    """
    path = names_file(env)
    text = tomli_w.dumps({"models": {name: msgspec.to_builtins(entry) for name, entry in sorted(entries.items())}})
    try:
        make_folders(path.parent)
        handle, written = tempfile.mkstemp(dir=path.parent, prefix=".models-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(written).replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from None


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
