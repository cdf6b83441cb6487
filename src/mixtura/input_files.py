"""Files that a user names: read up to a size, and why one could not be read, in words."""

import errno
import tomllib
from pathlib import Path

SMALL = 4_000_000
"""Bytes of a file that somebody wrote by hand, at most."""

_SHOWN = 100


def read_input(path: Path | str, most: int = SMALL) -> bytes:
    """Return the bytes of a file, or of a pipe such as a shell's `<(...)`.

    Raises:
        OSError: it cannot be read, or has more than `most` bytes.
        ValueError: `path` is none.
    """
    with Path(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most / 1e6:,.0f} MB")
    return data


def cause_of(error: BaseException) -> str:
    """Return why a file could not be read or understood, as the end of a sentence about it."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (byte {error.start + 1})"
    if isinstance(error, UnicodeEncodeError):
        return "its name holds bytes that are not UTF-8"
    if isinstance(error, tomllib.TOMLDecodeError):
        return f"it is not TOML ({error})"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def shown_name(name: Path | str) -> str:
    """Return a name that a user gave as it is shown in a sentence: in quotes if it is blank, short if it is long."""
    text = str(name)
    if not text.strip():
        return repr(text)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 2 :]}"
