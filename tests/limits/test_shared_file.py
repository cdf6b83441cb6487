"""Transactions on a file that other processes write as well: one at a time, whole or not at all, while one waits."""

import os
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from mixtura.limits.budget import shared_file
from mixtura.limits.budget.shared_file import TransactionThread, transact, transaction_thread

SCHEMA = ("CREATE TABLE IF NOT EXISTS n (value INTEGER)",)
NOBODY = threading.Event()


def add(value: int) -> Any:
    def work(file: sqlite3.Connection) -> int:
        file.execute("INSERT INTO n VALUES (?)", (value,))
        return int(file.execute("SELECT count(*) FROM n").fetchone()[0])

    return work


def values(path: Path) -> list[int]:
    def work(file: sqlite3.Connection) -> list[int]:
        return [row[0] for row in file.execute("SELECT value FROM n ORDER BY rowid")]

    return transact(path, SCHEMA, work, 5.0, NOBODY)


class Holder:
    """Another process's transaction on the file: it is held until it is let go."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.execute("BEGIN IMMEDIATE")

    def let_go(self) -> None:
        self._file.execute("ROLLBACK")
        self._file.close()


class Clock:
    """A clock that goes on by so many seconds each time it is read, and does something at a given time."""

    def __init__(self, step: float, at: float = float("inf"), then: Any = None) -> None:
        self.now = 0.0
        self.reads = 0
        self._step, self._at, self._then = step, at, then

    def __call__(self) -> float:
        self.reads += 1
        now = self.now
        self.now += self._step
        if now >= self._at and self._then is not None:
            self._then, then = None, self._then
            then()
        return now


def test_a_transaction_returns_what_its_work_returns_and_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "books.db"
    assert transact(path, SCHEMA, add(1), 5.0, NOBODY) == 1
    assert transact(path, SCHEMA, add(2), 5.0, NOBODY) == 2
    assert values(path) == [1, 2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["books.db"], "nothing is left beside it"


def test_what_fails_leaves_nothing_and_the_next_is_served(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    transact(path, SCHEMA, add(1), 5.0, NOBODY)

    def work(file: sqlite3.Connection) -> None:
        file.execute("INSERT INTO n VALUES (2)")
        raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"):
        transact(path, SCHEMA, work, 5.0, NOBODY)
    assert values(path) == [1]


def test_work_that_ends_its_transaction_itself_and_fails_raises_its_own_error(tmp_path: Path) -> None:
    def work(file: sqlite3.Connection) -> None:
        file.execute("ROLLBACK")
        raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"):
        transact(tmp_path / "books.db", SCHEMA, work, 5.0, NOBODY)


def test_a_file_that_another_process_holds_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    transact(path, SCHEMA, add(1), 5.0, NOBODY)
    other = Holder(path)
    clock = Clock(1.0, at=3.0, then=other.let_go)
    assert transact(path, SCHEMA, add(2), 10.0, NOBODY, clock) == 2
    assert clock.reads == 4, "once for the beginning, and once for each attempt that failed"


@pytest.mark.parametrize(("patience", "attempts"), [(3.0, 3), (3.5, 4), (0.0, 1)])
def test_a_file_that_stays_held_is_given_up_when_patience_is_over(
    tmp_path: Path, patience: float, attempts: int
) -> None:
    path = tmp_path / "books.db"
    transact(path, SCHEMA, add(1), 5.0, NOBODY)
    other, clock = Holder(path), Clock(1.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        transact(path, SCHEMA, add(2), patience, NOBODY, clock)
    assert clock.reads == 1 + attempts
    other.let_go()


def test_nothing_is_begun_for_whom_nobody_waits_any_more(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    given_up = threading.Event()
    given_up.set()
    with pytest.raises(sqlite3.OperationalError, match=r"^nobody waits for it any more$"):
        transact(path, SCHEMA, add(1), 5.0, given_up)
    assert not path.exists()


def test_who_gives_up_while_the_file_is_held_is_not_served_later(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    transact(path, SCHEMA, add(1), 5.0, NOBODY)
    other, given_up = Holder(path), threading.Event()
    clock = Clock(1.0, at=2.0, then=given_up.set)
    with pytest.raises(sqlite3.OperationalError, match="nobody waits"):
        transact(path, SCHEMA, add(2), 1e9, given_up, clock)
    other.let_go()
    assert values(path) == [1]


def test_an_error_that_does_not_pass_is_raised_at_once(tmp_path: Path) -> None:
    clock = Clock(1.0)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        transact(tmp_path / "books.db", (), add(1), 1e9, NOBODY, clock)
    assert clock.reads == 1


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_LOCKED, True),
        (sqlite3.SQLITE_PROTOCOL, True),
        (sqlite3.SQLITE_READONLY_DBMOVED, True),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_IOERR, False),
        (None, False),
    ],
)
def test_only_what_passes_by_itself_is_tried_again(tmp_path: Path, code: int | None, passes: bool) -> None:
    tries: list[int] = []

    def work(file: sqlite3.Connection) -> str:
        tries.append(1)
        if len(tries) > 1:
            return "done"
        error = sqlite3.OperationalError("not now")
        if code is not None:
            error.sqlite_errorcode = code
        raise error

    if passes:
        assert transact(tmp_path / "books.db", SCHEMA, work, 5.0, NOBODY) == "done"
    else:
        with pytest.raises(sqlite3.OperationalError, match="not now"):
            transact(tmp_path / "books.db", SCHEMA, work, 5.0, NOBODY)
    assert len(tries) == 1 + passes


def test_a_place_that_cannot_be_used_is_named_in_the_systems_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IsADirectoryError, match=r"^\[Errno 21\] Is a directory$"):
        transact(tmp_path, SCHEMA, add(1), 5.0, NOBODY)
    asked: list[tuple[int, bool]] = []

    def access(path: Path, mode: int, *, effective_ids: bool) -> bool:
        asked.append((mode, effective_ids))
        return False

    monkeypatch.setattr(os, "access", access)
    for known in (set(), {access}):
        monkeypatch.setattr(os, "supports_effective_ids", known)
        with pytest.raises(PermissionError, match=r"^\[Errno 13\] Permission denied$"):
            transact(tmp_path / "books.db", SCHEMA, add(1), 5.0, NOBODY)
    # Whoever runs the process under another user's rights is asked about those, where the system can be asked.
    assert asked == [(os.R_OK | os.W_OK, False), (os.R_OK | os.W_OK, True)]


def test_no_two_transactions_of_a_process_are_open_at_once(tmp_path: Path) -> None:
    """Closing one's descriptors would drop the other's locks."""
    open_now: list[int] = []
    most: list[int] = []
    entered = threading.Barrier(2)

    def work(file: sqlite3.Connection) -> None:
        open_now.append(1)
        most.append(len(open_now))
        open_now.pop()

    def one(name: str) -> None:
        entered.wait()
        for _ in range(20):
            transact(tmp_path / name, (), work, 5.0, NOBODY)

    threads = [threading.Thread(target=one, args=(name,)) for name in ("a.db", "b.db")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert not shared_file._in_use.locked()


def test_jobs_are_done_in_order_in_one_daemon_thread() -> None:
    jobs = TransactionThread()
    begin, done = threading.Event(), []

    def job(number: int) -> int:
        begin.wait(5.0)
        done.append((number, threading.current_thread()))
        return number

    futures = [jobs.submit(job, number) for number in range(5)]
    begin.set()
    assert [future.result(5.0) for future in futures] == [0, 1, 2, 3, 4]
    assert [number for number, _ in done] == [0, 1, 2, 3, 4]
    threads = {thread for _, thread in done}
    assert len(threads) == 1
    (thread,) = threads
    assert thread.daemon
    assert thread.name == "mixtura-budget"
    thread.join(5.0)
    assert not thread.is_alive(), "it lives as long as there are jobs"
    assert jobs.submit(job, number=7).result(5.0) == 7, "and another one does the next"


def test_what_a_job_raises_is_its_own_and_one_that_is_cancelled_is_not_done() -> None:
    jobs, done = TransactionThread(), list[int]()
    begin = threading.Event()
    first = jobs.submit(begin.wait, 5.0)
    fails = jobs.submit(int, "x")
    exits = jobs.submit(lambda: (_ for _ in ()).throw(SystemExit(3)))
    cancelled = jobs.submit(done.append, 1)
    last = jobs.submit(done.append, 2)
    assert cancelled.cancel()
    begin.set()
    assert first.result(5.0)
    with pytest.raises(ValueError, match="invalid literal"):
        fails.result(5.0)
    with pytest.raises(SystemExit):
        exits.result(5.0)
    last.result(5.0)
    assert done == [2]


def test_a_thread_that_cannot_be_started_leaves_no_job_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, done = TransactionThread(), list[int]()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            jobs.submit(done.append, 1)
    jobs.submit(done.append, 2).result(5.0)
    assert done == [2]


def test_each_file_has_its_thread(tmp_path: Path) -> None:
    one = transaction_thread(tmp_path / "a.db")
    assert transaction_thread(tmp_path / "a.db") is one
    assert transaction_thread(tmp_path / "b.db") is not one


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own_and_the_files_are_free(tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    transaction_thread(path).submit(transact, path, SCHEMA, add(1), 5.0, NOBODY).result(5.0)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            future = transaction_thread(path).submit(transact, path, SCHEMA, add(2), 5.0, NOBODY)
            status = 0 if future.result(10.0) == 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert values(path) == [1, 2]
