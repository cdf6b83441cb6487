"""The file of a user's settings: where it is, whether it can be looked for, and what it holds."""

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mixtura.errors import ConfigError
from mixtura.input_files import cause_of, utf8_text
from mixtura.places import config_folder, unusable_state


class Place(NamedTuple):
    """Where the file is; `path` None: there is no folder for it.

    `unread` says in a sentence why none is looked for, "" where one is.
    """

    path: Path | None
    found: bool = False
    unread: str = ""


def config_file(env: Mapping[str, str]) -> Path:
    """Return the file of the settings; it need not exist.

    Raises:
        ConfigError: there is no folder for it.
    """
    return config_folder(env) / "config.toml"


def look_for(env: Mapping[str, str]) -> Place:
    """Return where the file is, and whether there is one.

    Without a home folder, and in the home of another user, there are no settings. A file that is there and cannot be
    read is another matter: what it says may limit what is spent.

    Raises:
        ConfigError: MIXTURA_HOME names no folder that can be.
    """
    try:
        path = config_file(env)
    except ConfigError as error:
        if env.get("MIXTURA_HOME", "").strip():
            raise
        return Place(None, unread=error.message)
    try:
        path.stat()
    except PermissionError as error:
        said = f"{path} cannot be looked for ({error.strerror or error}), so no settings of a file hold"
        return Place(path, unread=f"{said}: set MIXTURA_HOME or HOME to a folder of your own")
    except OSError:
        return Place(path)  # `read_settings` says what is wrong, if anything is
    return Place(path, found=True)


def read_settings(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return what the file holds, nothing where there is none; `names` are those that it may set.

    Raises:
        ConfigError: it cannot be read, is not TOML, or sets something else.
    """
    try:
        kept = tomllib.loads(utf8_text(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except NotADirectoryError as error:
        raise ConfigError(unusable_state(os.environ, error)) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a TOML file: {cause_of(error)}; mend it, or move it away") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}; mend it, or move it away") from None
    for key in kept:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise ConfigError(f"{path}: {key}: no such setting; {hint}")
    return kept
