"""The folder of the user's state: the daily budget, the names of model files and records of demos."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def state_folder(env: Mapping[str, str]) -> Path:
    """Return MIXTURA_HOME, else the folder that the XDG rules give. The folder need not exist."""
    if env.get("MIXTURA_HOME"):
        return Path(env["MIXTURA_HOME"])
    state = Path(env.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # the XDG rules: ignore a relative path
        state = (Path(env["HOME"]) if env.get("HOME") else Path.home()) / ".local" / "state"
    return state / "mixtura"


def unusable_state(env: Mapping[str, str], error: OSError) -> str:
    """Return in a sentence that the state folder cannot be used, and what to do."""
    home = env.get("MIXTURA_HOME")
    named = f"MIXTURA_HOME is {home!r}, which" if home else f"the state folder {state_folder(env)}"
    fix = "set MIXTURA_HOME to a folder that you may write"
    return f"{named} cannot be used ({error.strerror or error}): {fix}"


def make_folders(folder: Path) -> None:
    """Make a folder and its missing parents, accessible to their owner only."""
    if not folder.exists():
        make_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


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
    folder = state_folder(env)
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
