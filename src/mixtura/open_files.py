"""What this machine lets the process have open, and the errors that say that it has no more to give.

A connection, a name lookup and a file of SQLite each take file descriptors, of which a process has 256 on macOS and
1,024 on most Linux machines. Want of them says nothing about the server that was to be reached.
"""

import errno
import math
import os
import socket
import sys
from collections.abc import Iterator

if sys.platform != "win32":
    import resource

# Descriptors of the process and of the machine, buffers, memory.
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# A name lookup that had fewer than these to itself says "no such name" where it could not read how names are found.
FOR_A_LOOKUP = 3
# So deep an error is searched for its cause; each library between adds one or two.
_DEPTH = 8


def most_open() -> float:
    """Return the number that the descriptors of this process stay under; inf where the system sets none.

    It can change while the process runs.
    """
    if sys.platform == "win32":
        return math.inf
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if soft == resource.RLIM_INFINITY else soft


def is_used_up(needed: int = FOR_A_LOOKUP) -> bool:
    """Say whether fewer than `needed` descriptors are left."""
    try:
        # POSIX gives out the lowest number that is free: all below it are in use.
        with socket.socket() as probe:
            return sys.platform != "win32" and probe.fileno() + needed > most_open()
    except OSError as problem:
        return problem.errno in _SHORT


def shortage(problem: BaseException) -> OSError | None:
    """Return the error under `problem` by which this machine says that it has no more to give; None for another."""
    return next((found for cause in _causes(problem) if (found := _own_shortage(cause)) is not None), None)


def local_cause(problem: BaseException) -> OSError | None:
    """Return the error under `problem` that has its cause on this machine, whatever may be done about it, or None."""
    found = shortage(problem)
    if found is not None:
        return found
    causes = (cause for cause in _causes(problem) if isinstance(cause, OSError))
    return next((cause for cause in causes if cause.errno == errno.EADDRNOTAVAIL), None)


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """Yield an error, and what it was raised for."""
    found: BaseException | None = problem
    for _ in range(_DEPTH):
        if found is None:
            return
        yield found
        inner = getattr(found, "os_error", None)
        found = inner if isinstance(inner, OSError) else found.__cause__


def _own_shortage(problem: BaseException) -> OSError | None:
    match problem:
        case socket.gaierror():
            # What a lookup says that had no descriptors, it also says of a name that does not exist.
            return _error(errno.EMFILE) if is_used_up() else None
        case OSError(errno=number) if number in _SHORT:
            return problem
        case OSError(errno=errno.EADDRNOTAVAIL):
            return problem if _has_no_port() else None
        case OSError(errno=None):
            # Several addresses were tried, and each failed in its own way.
            return next((_error(number) for number in _SHORT if f"[Errno {number}]" in str(problem)), None)
        case RuntimeError() if "start new thread" in str(problem):
            return _error(errno.ENOMEM)
    return None


def _has_no_port() -> bool:
    """Say whether every port for connections that leave this machine is in use."""
    try:
        with socket.socket() as probe:
            probe.bind(("", 0))
    except OSError:
        return True
    return False


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
