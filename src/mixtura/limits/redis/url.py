"""The address of a Redis server, and what went wrong there, written without the password in it."""

from urllib.parse import unquote, urlsplit

from mixtura.secret import Secret, scrub


def without_password(address: Secret) -> str:
    """Return an address without the user and password it may hold."""
    url = address.reveal()
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "the given address"
    if "@" in url and "@" not in parts.netloc:
        return "the given address"  # which part of it is the password is not known
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def failure_text(error: BaseException, address: Secret) -> str:
    """Return what a failure says, without the password of `address`."""
    text = scrub(str(error)).strip().rstrip(".") or type(error).__name__
    password = urlsplit(address.reveal()).password
    for secret in {password, unquote(password)} if password else ():
        text = text.replace(secret, "***")
    return text
