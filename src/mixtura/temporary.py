"""Private folders for as long as a process lives. Those of killed processes are removed when the next one is made."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_SHORT = Path("/tmp")  # noqa: S108  # mkdtemp makes a folder there that only this user can enter


class TemporaryFolder:
    """A new folder that only this user can enter; `close` removes it.

    The process holds a lock on the folder while it lives, and so do those that are forked from it. A folder with this
    prefix that nobody holds was left by a process that was killed: it is removed first.

    Args:
        prefix: how its name begins.
        longest: bytes that its path may have. Where it would be longer, the folder is made in `/tmp`.
    """

    def __init__(self, prefix: str, longest: int = 4096) -> None:
        places = [Path(tempfile.gettempdir()), _SHORT]
        roomy = [place for place in places if len(os.fsencode(place / prefix)) + 8 <= longest]
        for place in places:
            _sweep(place, prefix)
        self.path, self._lock = _make(roomy[0] if roomy else _SHORT, prefix)

    def close(self) -> None:
        """Remove the folder and all that is in it. A second time does nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Give a `TemporaryFolder`'s path inside the block."""
    folder = TemporaryFolder(prefix)
    try:
        yield folder.path
    finally:
        folder.close()


def _make(place: Path, prefix: str) -> tuple[Path, int | None]:
    """Return a new folder and the descriptor that holds its lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        if sys.platform == "win32":  # an open folder has no lock there
            return path, None
        # Until it is locked another process may take it for one that was left behind, and remove it.
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink and path.exists():
                return path, lock
            os.close(lock)


def _sweep(place: Path, prefix: str) -> None:
    """Remove the folders of this user that no process holds."""
    if sys.platform == "win32":
        return
    for path in place.glob(f"{prefix}*"):
        try:
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        except OSError:
            continue  # another user's, gone meanwhile, or no folder
        try:
            if os.fstat(lock).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass  # its process lives
        finally:
            os.close(lock)
