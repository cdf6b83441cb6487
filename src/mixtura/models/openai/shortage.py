"""The error of a call for which this machine had no connection: no fault of the provider that was to be asked."""

import errno

from mixtura import open_files
from mixtura.errors import UnreachableError


def of_this_machine(provider: str, model: str, problem: BaseException) -> UnreachableError | None:
    """Return the error of a call that failed for want of something on this machine; None for one that did not."""
    found = open_files.local_cause(problem)
    if found is None:
        return None
    match found.errno:
        case errno.EMFILE:
            most = open_files.most_open()
            text = (
                f"this process has no file descriptor left for a connection (at most {most:,.0f} may be open); "
                "raise the limit (`ulimit -n`), or close what else it has open"
            )
        case errno.EADDRNOTAVAIL:
            text = (
                f"this machine has no address or no free port to reach it from ({found.strerror}); check the base URL"
            )
        case _:
            text = f"this machine has nothing left for a connection ({found.strerror})"
    error = UnreachableError(provider, model, text)
    error.connected = error.sent = False
    return error
