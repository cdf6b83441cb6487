"""The transactions of this process on a SQLite file that other processes write as well.

POSIX locks belong to a process: closing any descriptor of a file drops all locks that the process holds on it, also
those of a transaction in another thread. So nothing here opens and closes the file beside SQLite, which knows of its
own descriptors, and a process has one transaction on it at a time.

A connection lives as long as one transaction. None is left that a forked child could close for its parent, or that
still writes to a file that was deleted and begun anew. A fork waits until no connection is open.
"""

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import ParamSpec, TypeVar

from mixtura import open_files
from mixtura.ending import start_daemon
from mixtura.places import make_folders

T = TypeVar("T")
P = ParamSpec("P")

Work = Callable[[sqlite3.Connection], T]

# Seconds that SQLite waits for its turn at the file before this module looks whether anybody still waits for it.
_SLICE = 0.05
# Seconds between two such attempts.
_PAUSE = 0.01
# What passes when the attempt is repeated: another process has the file, or it was replaced under the attempt. (So
# does a want of descriptors, which other calls use and give back.)
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
# This part of an error's code says what kind it is; the rest is detail.
_KIND = 0xFF
# SQLite only says that it is unable to open the file. With so few descriptors left that is for want of them: its own
# are back by the time at which one can look.
_FEW_LEFT = 16
# So often a file is tried that could not be opened though descriptors are left: they may have come back a moment ago.
_CHANCES = 3


class TransactionThread(Executor):
    """Runs jobs one after the other, in a daemon thread that lives as long as there are any.

    The loop's default executor has few threads, which name lookups need; a locked file would take them all.
    """

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._changing = threading.Lock()
        self._running = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` after the jobs before it, and return the future of its result.

        Raises:
            RuntimeError: the system cannot start another thread.
        """
        outcome: Future[T] = Future()

        def job() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                outcome.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # the future passes it to the waiting task
                outcome.set_exception(error)

        with self._changing:
            self._jobs.append(job)
            begins, self._running = not self._running, True
        if begins:
            try:
                start_daemon(self._run, "mixtura-budget")
            except RuntimeError:
                with self._changing:
                    self._jobs.clear()
                    self._running = False
                raise
        return outcome

    def _run(self) -> None:
        while True:
            with self._changing:
                if not self._jobs:
                    self._running = False
                    return
                job = self._jobs.popleft()
            job()


# Held while a connection is open.
_in_use = threading.Lock()
_threads: dict[Path, TransactionThread] = {}


def transaction_thread(path: Path) -> TransactionThread:
    """Return the thread of this process for the file at `path`, an absolute path."""
    return _threads.setdefault(path, TransactionThread())


def transact(
    path: Path,
    schema: tuple[str, ...],
    work: Work[T],
    patience: float,
    given_up: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> T:
    """Return what `work` returns in one transaction on the file, which is made if need be.

    `work` is repeated when another process comes between.

    Args:
        path: the file.
        schema: statements that make what is missing in it.
        work: gets the file inside the transaction.
        patience: seconds to wait for a turn at the file.
        given_up: once it is set nobody waits for the result any more.
        clock: returns seconds.

    Raises:
        sqlite3.Error, OSError: the file cannot be used, or there was no turn in time, or nobody waits any more.
    """
    until = clock() + patience
    chances = _CHANCES
    while True:
        if given_up.is_set():
            raise sqlite3.OperationalError("nobody waits for it any more")
        try:
            with _in_use:
                return _attempt(path, schema, work)
        except (sqlite3.OperationalError, OSError) as error:
            unopened = _kind_of(error) == sqlite3.SQLITE_CANTOPEN and not open_files.is_used_up(_FEW_LEFT)
            chances -= unopened
            if not (_passes(error) or (unopened and chances)) or clock() >= until:
                raise
        given_up.wait(_PAUSE)


def _attempt(path: Path, schema: tuple[str, ...], work: Work[T]) -> T:
    with contextlib.closing(_open(path)) as file:
        file.execute("BEGIN IMMEDIATE")
        try:
            for statement in schema:
                file.execute(statement)
            result = work(file)
            file.execute("COMMIT")
        except BaseException:
            if file.in_transaction:
                file.execute("ROLLBACK")
            raise
        return result


def _open(path: Path) -> sqlite3.Connection:
    make_folders(path.parent)
    # SQLite would make the file readable for all users; its helper files follow this one's permissions. A file that
    # was not there has no locks that closing it could drop.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    _check(path)
    file = sqlite3.connect(path, timeout=_SLICE, isolation_level=None, check_same_thread=False)
    try:
        # A rollback journal has no file that processes share in memory, and is gone after each transaction. An older
        # version kept a log; where another process still uses that, it goes on: both are safe.
        with contextlib.suppress(sqlite3.OperationalError):
            file.execute("PRAGMA journal_mode = DELETE")
        file.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        file.close()
        raise
    return file


def _check(path: Path) -> None:
    """Raise the system's own word for a place that SQLite only says it is unable to open."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _passes(error: sqlite3.OperationalError | OSError) -> bool:
    if isinstance(error, OSError):
        return open_files.shortage(error) is not None
    if _kind_of(error) == sqlite3.SQLITE_CANTOPEN:
        return open_files.is_used_up(_FEW_LEFT)
    moved = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_DBMOVED
    return moved or _kind_of(error) in _PASSING


def _kind_of(error: sqlite3.OperationalError | OSError) -> int:
    """Return SQLite's primary code, 0 for another error."""
    return getattr(error, "sqlite_errorcode", 0) & _KIND


def _forked() -> None:
    """Begin anew in a child, which has its parent's memory but none of its threads."""
    _in_use.release()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_in_use.acquire, after_in_parent=_in_use.release, after_in_child=_forked)
