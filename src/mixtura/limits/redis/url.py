"""Writing the address of a server, and what went wrong there, without the password in it."""

from urllib.parse import unquote, urlsplit

from mixtura.errors import scrub


def shown(url: str) -> str:
    """Return an address without the user and password it may hold."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "the given address"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def reason(error: BaseException, url: str) -> str:
    """Return what a failure says, without the password of `url`."""
    said = scrub(str(error)).strip().rstrip(".") or type(error).__name__
    password = urlsplit(url).password
    for secret in {password, unquote(password)} if password else ():
        said = said.replace(secret, "***")
    return said
