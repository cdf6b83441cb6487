"""The folders of the user's state and configuration, and how a file in them is written.

State: the daily budget, keys, lists of models, the names of model files and records of demos.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mixtura.errors import ConfigError
from mixtura.input_files import expanded, home_folder


def state_folder(env: Mapping[str, str]) -> Path:
    """Return MIXTURA_HOME, else the folder that the XDG rules give. The folder need not exist.

    Raises:
        ConfigError: nobody says where it is, as in a container without HOME; the text names what to set.
    """
    return _folder(env, "XDG_STATE_HOME", ".local/state")


def config_folder(env: Mapping[str, str]) -> Path:
    """Return MIXTURA_HOME, else the folder that the XDG rules give. The folder need not exist.

    Raises:
        ConfigError: nobody says where it is.
    """
    return _folder(env, "XDG_CONFIG_HOME", ".config")


def no_place(env: Mapping[str, str]) -> str:
    """Return in a sentence why there is no folder for a user's state and settings, and what to do; "" if there is."""
    try:
        state_folder(env)
        config_folder(env)
    except ConfigError as error:
        return error.message
    return ""


def _folder(env: Mapping[str, str], variable: str, below_home: str) -> Path:
    for name in ("MIXTURA_HOME", variable):
        named = env.get(name, "")
        try:
            path = expanded(named, env) if named.strip() else Path()
        except OSError as error:
            raise ConfigError(f"{name} is {named!r}, and {error.strerror}") from None
        if name == "MIXTURA_HOME" and named.strip():
            if path.parts[0].startswith("~"):
                raise ConfigError(f"{name} is {named!r}, and there is no user {path.parts[0][1:]!r}; name a folder")
            return path
        if path.is_absolute():  # the XDG rules: ignore a relative path
            return path / "mixtura"
    home = home_folder(env)
    if home is None:
        raise ConfigError(
            "there is no home folder, so nothing can be kept (HOME is not set, and the system knows none for this "
            "user): set MIXTURA_HOME to a folder that you may write, or HOME"
        )
    return home / below_home / "mixtura"


def unusable_state(env: Mapping[str, str], error: OSError) -> str:
    """Return in a sentence that the state folder cannot be used, and what to do."""
    home = env.get("MIXTURA_HOME", "").strip()
    named = f"MIXTURA_HOME is {home!r}, which" if home else f"the state folder {state_folder(env)}"
    fix = "set MIXTURA_HOME to a folder that you may write"
    return f"{named} cannot be used ({error.strerror or error}): {fix}"


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


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file at `path`, made if need be, inside the block; wait for it as long as it takes.

    The system frees the lock when the process ends, however that happens. The file stays.

    Raises:
        OSError: the file cannot be opened or locked.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def state_problem(env: Mapping[str, str]) -> str:
    """Return why the state folder cannot be used or trusted, as the end of a sentence about it; "" when it can.

    A folder that is not there yet is judged by the one that it would be made in. A file is written to try, and removed.
    """
    try:
        folder = state_folder(env)
    except ConfigError as error:
        return error.message
    try:
        while not folder.exists() and not folder.is_symlink():
            folder = folder.parent
        if not folder.exists():
            return f"it is a link to {str(folder.readlink())!r}, which is not there"
        if not folder.is_dir():
            return f"{str(folder)!r} is a file, not a folder"
        if folder == state_folder(env) and (problem := _strangers(folder)):
            return problem
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _strangers(folder: Path) -> str:
    """Return who else may change what is in `folder`, as the end of a sentence about it."""
    if sys.platform == "win32":
        return ""
    state = folder.stat()
    if state.st_uid not in (os.getuid(), 0):
        return f"it belongs to another user (id {state.st_uid})"
    # With the sticky bit others may still put files there that are read as this user's.
    return "every user may write there" if state.st_mode & 0o002 else ""
