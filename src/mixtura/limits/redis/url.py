"""The address of a Redis server, and what went wrong there, written without the password in it."""

from urllib.parse import unquote, urlsplit

from mixtura.errors import scrub


def without_password(url: str) -> str:
    """Return an address without the user and password it may hold."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "the given address"
    if "@" in url and "@" not in parts.netloc:
        return "the given address"  # which part of it is the password is not known
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def failure_text(error: BaseException, url: str) -> str:
    """Return what a failure says, without the password of `url`."""
    text = scrub(str(error)).strip().rstrip(".") or type(error).__name__
    password = urlsplit(url).password
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, "***")
    return text
