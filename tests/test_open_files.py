import errno
import socket
import sys

import pytest

from mixtura import open_files
from mixtura.models.openai.shortage import of_this_machine


def failed(number: int) -> OSError:
    return OSError(number, "said the system")


def because_of(cause: BaseException) -> Exception:
    """Return an error of two libraries above `cause`."""
    try:
        try:
            raise ConnectionError("no connection") from cause
        except ConnectionError as problem:
            raise ValueError("the call failed") from problem
    except ValueError as problem:
        return problem


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_what_the_machine_lacks_is_found_under_what_libraries_say(number: int) -> None:
    found = open_files.shortage(because_of(failed(number)))
    assert found is not None
    assert found.errno == number


def test_one_of_several_addresses_is_enough() -> None:
    said = f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] refused, [Errno {errno.EMFILE}] Too many open files"
    found = open_files.shortage(OSError(said))
    assert found is not None
    assert found.errno == errno.EMFILE


@pytest.mark.parametrize(
    "problem",
    [
        failed(errno.ECONNREFUSED),
        failed(errno.ENETUNREACH),
        failed(errno.EADDRNOTAVAIL),
        OSError("Multiple exceptions: [Errno 111] refused, [Errno 99] Cannot assign requested address"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        RuntimeError("something else"),
    ],
)
def test_what_others_lack_is_none(problem: Exception) -> None:
    assert open_files.shortage(because_of(problem)) is None


def test_a_thread_that_cannot_be_started_is_a_shortage_too() -> None:
    assert open_files.shortage(RuntimeError("can't start new thread")) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limit on descriptors")
def test_the_limit_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (128, limits[1]))
    assert open_files.most_open() == 128
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert open_files.most_open() == float("inf")
    assert not open_files.is_used_up()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EMFILE, r"no file descriptor left for a connection .*ulimit -n"),
        (errno.ENOBUFS, r"this machine has nothing left for a connection \(said the system\)"),
        (errno.EADDRNOTAVAIL, r"no address or no free port to reach it from \(said the system\); check the base URL"),
    ],
)
def test_a_call_that_fails_for_it_was_not_sent_and_says_why(number: int, said: str) -> None:
    error = of_this_machine("groq", "m", because_of(failed(number)))
    assert error is not None
    assert (error.sent, error.connected) == (False, False)
    with pytest.raises(type(error), match=said):
        raise error
