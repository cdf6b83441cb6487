"""Files that a user names: where `~` is, what is read up to a size, and why one could not be read, in words."""

import codecs
import errno
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

SMALL = 4_000_000
"""Bytes of a file that somebody wrote by hand, at most."""

_SHOWN = 100
_MARKS = re.compile("^\ufeff+", re.MULTILINE)
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def home_folder(env: Mapping[str, str] | None = None) -> Path | None:
    """Return the user's home folder: HOME in `env`, else the process's, else the one that the system knows.

    None where nobody says one, as in a container that runs under a user id of its own choice. It need not exist.
    """
    for named in ("" if env is None else env.get("HOME", ""), os.path.expandvars("$HOME")):
        if Path(named).is_absolute():
            return Path(named)
    return _home_of(None)


def _home_of(user: str | None) -> Path | None:
    """Return the home folder that the system knows of a user, by default of the one who runs this process."""
    if sys.platform == "win32":
        named = os.path.expanduser(f"~{user or ''}")  # noqa: PTH111  # Path.expanduser raises for an unknown user
    else:
        import pwd

        try:
            named = (pwd.getpwuid(os.getuid()) if user is None else pwd.getpwnam(user)).pw_dir
        except (KeyError, ValueError):
            return None
    return Path(named) if Path(named).is_absolute() else None


def expanded(path: Path | str, env: Mapping[str, str] | None = None) -> Path:
    """Return a path that a user named, with `~` and `~user` at its beginning replaced as a shell does.

    A shell leaves `~` as it is in quotes, after `--option=`, and in what a variable or a file holds. The name of a
    user that there is not stays as well.

    Args:
        path: the path.
        env: where HOME is looked up first.

    Raises:
        OSError: it begins with `~`, and nobody knows this user's home folder.
    """
    path = Path(path)
    first = path.parts[0] if path.parts else ""
    if not first.startswith("~"):
        return path
    home = home_folder(env) if first == "~" else _home_of(first[1:])
    if home is not None:
        return home.joinpath(*path.parts[1:])
    if first == "~":
        raise OSError(errno.EINVAL, "there is no home folder that ~ could be: set HOME, or write the whole path")
    return path


def read_input(path: Path | str, most: int = SMALL) -> bytes:
    """Return the bytes of a file, or of a pipe such as a shell's `<(...)`; `~` is the home folder.

    Raises:
        OSError: it cannot be read, or has more than `most` bytes.
        ValueError: `path` is none.
    """
    with expanded(path).open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most / 1e6:,.0f} MB")
    return data


def utf8_text(data: bytes) -> str:
    """Return what the bytes of a file or pipe say, without byte order marks (see `without_marks`).

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return without_marks(data.decode())


def without_marks(text: str) -> str:
    """Return `text` without the byte order marks that editors and shells of Windows begin a file with.

    Files that were joined have one at the beginning of a line.
    """
    return _MARKS.sub("", text) if "\ufeff" in text else text


def cause_of(error: BaseException) -> str:
    """Return why a file could not be read or understood, as the end of a sentence about it."""
    if isinstance(error, UnicodeDecodeError):
        if error.object.startswith(_WIDE):
            return "it is UTF-16 text, not UTF-8: convert it first, for example with `iconv -f UTF-16 -t UTF-8`"
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
