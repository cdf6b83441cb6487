"""The folder of the user's state: the daily budget, the names of model files and records of demos."""

import os
import sys
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
