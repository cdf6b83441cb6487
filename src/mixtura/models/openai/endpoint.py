"""Where a provider is reached."""

from typing import TYPE_CHECKING

import msgspec

from mixtura._version import __version__

if TYPE_CHECKING:
    import yarl
    from multidict import CIMultiDict


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """Where a provider is reached: `url` is everything before /chat/completions, `key` may be empty.

    `proxy` is the address of an HTTP proxy.
    """

    provider: str
    url: str
    key: str = ""
    proxy: str | None = None

    def address(self, path: str) -> "tuple[yarl.URL, CIMultiDict[str]]":
        """Return the URL of `path`, and the headers that every call has in common."""
        import yarl
        from multidict import CIMultiDict

        headers = CIMultiDict(
            {
                "User-Agent": f"mixtura/{__version__}",
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                # A proxy that compresses a stream also holds its pieces back.
                "Accept-Encoding": "identity",
            }
        )
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return yarl.URL(self.url.rstrip("/") + path), headers
