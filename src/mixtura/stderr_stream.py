"""stderr of a command that goes on when nobody reads it: whoever does may go away, and the answer goes to stdout."""

import io
import os
import sys

_STDERR = 2  # the file descriptor


class _Unheard(io.BufferedWriter):
    """The bytes of stderr; from the first that cannot be written on, they go nowhere."""

    def write(self, data: "io.ReadableBuffer") -> int:  # type: ignore[name-defined]
        try:
            return super().write(data)
        except OSError as error:
            self._lost(error)
            return len(memoryview(data))

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        if isinstance(error, BlockingIOError):
            return  # the reader is slow, and there yet
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _STDERR)
        os.close(nowhere)


def outlive_readers() -> None:
    """Let no write to stderr fail from now on, as long as the process lives; a closed pipe or full disk loses it."""
    stream = sys.stderr
    try:
        if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != _STDERR:
            return
    except (OSError, ValueError):  # in memory, or closed
        return
    if isinstance(stream.buffer, _Unheard):
        return
    written = _Unheard(io.FileIO(_STDERR, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(written, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
