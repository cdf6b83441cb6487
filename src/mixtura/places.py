"""The folders of the user's state and configuration, and how a file in them is written.

State: the daily budget, keys, lists of models, the names of model files and records of demos.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def state_folder(env: Mapping[str, str]) -> Path:
    """Return MIXTURA_HOME, else the folder that the XDG rules give. The folder need not exist."""
    return _folder(env, "XDG_STATE_HOME", ".local/state")


def config_folder(env: Mapping[str, str]) -> Path:
    """Return MIXTURA_HOME, else the folder that the XDG rules give. The folder need not exist."""
    return _folder(env, "XDG_CONFIG_HOME", ".config")


def _folder(env: Mapping[str, str], variable: str, below_home: str) -> Path:
    if env.get("MIXTURA_HOME"):
        return Path(env["MIXTURA_HOME"])
    base = Path(env.get(variable, ""))
    if not base.is_absolute():  # the XDG rules: ignore a relative path
        base = (Path(env["HOME"]) if env.get("HOME") else Path.home()) / below_home
    return base / "mixtura"


def make_folders(folder: Path) -> None:
    """Make a folder and its missing parents, accessible to their owner only."""
    if not folder.exists():
        make_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step: whoever reads, or whatever fails, there is the old content or the new.

    Only the owner can read the file, from its first byte on. Missing folders are made. A link is followed.

    Raises:
        OSError: it cannot be written; what was there is still there.
    """
    path = path.resolve()
    make_folders(path.parent)
    # Created for its owner alone (0600), in the same folder, since a file can only be renamed within its file system.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123  # it is open already: this is its descriptor
            file.write(data)
            file.flush()
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
