"""Whether a text can be the base URL of a server, and why not."""

import re
import urllib.parse

_ADDRESS = re.compile(r"[/:@]|^localhost$|^\d+(\.\d+){3}$|\.[a-z]{2,}$", re.IGNORECASE)

_LONGEST_LABEL = 63


def looks_like_address(text: str) -> bool:
    """Return whether whoever wrote `text` meant an address rather than a provider's name."""
    return _ADDRESS.search(text) is not None


def shown(url: str) -> str:
    """Return `url` in quotes, without what may be a password."""
    head, at, tail = url.rpartition("@")
    if not at:
        return repr(url)
    scheme, separator, _ = head.partition("://")
    return repr(f"{scheme}://...@{tail}" if separator else f"...@{tail}")


def url_problem(url: str) -> str:
    """Return why `url` cannot be a base URL, as the end of a sentence about it; "" when it can."""
    if not url.lower().startswith(("http://", "https://")):
        return "it begins with neither http:// nor https://"
    if not url.isprintable() or " " in url:
        return "it holds a blank or a character that no address has"
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
    except ValueError as error:
        return f"it cannot be read ({error})"
    if parts.username is not None or parts.password is not None:
        return "it must not hold a user or password"
    if not host:
        return "it names no host"
    return _host_problem(host) or _port_problem(parts)


def _host_problem(host: str) -> str:
    try:
        # The codec is a file of its own, which most hosts need not have loaded.
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return "its host is no name"
    labels = () if ":" in host else name.removesuffix(".").split(".")  # IPv6 was checked by `urlsplit`
    return "" if all(0 < len(label) <= _LONGEST_LABEL for label in labels) else "its host is no name"


def _port_problem(parts: urllib.parse.SplitResult) -> str:
    try:
        sound = parts.port is None or parts.port > 0
    except ValueError:
        sound = False
    return "" if sound else "its port is no number from 1 to 65535"
