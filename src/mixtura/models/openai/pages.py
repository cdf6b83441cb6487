"""Web pages where JSON is meant: a login page of the network, a filter, a proxy, or the front of a provider.

What stands between this machine and a provider answers in HTML. No key and no base URL is wrong then.
"""

import html
import re

_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})</title>", re.IGNORECASE)
_BEGINS = ("<!doctype html", "<html", "<head", "<?xml")
# As much of a text as is looked at.
_READ = 4000
BETWEEN = (
    "so something between this machine and the provider answered, such as a network's login page, a filter or a proxy; "
    "open the provider's address in a browser here, or ask whoever runs the network"
)
TLS_WANTED = re.compile(r"plain HTTP request was sent to HTTPS port|HTTP request to an HTTPS server", re.IGNORECASE)
"""What servers of TLS say to a request without."""


def page_in(data: bytes | bytearray) -> str | None:
    """Return a web page in words, with its title where it has one; None where `data` is none."""
    text = data[:_READ].decode("utf-8", "replace")
    if not text[:200].lstrip("\ufeff \t\r\n").lower().startswith(_BEGINS):
        return None
    title = _TITLE.search(text)
    said = " ".join(html.unescape(title[1]).split()) if title else ""
    return f"a web page ({said!r})" if said else "a web page"
