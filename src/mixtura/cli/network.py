"""What `mixtura doctor` says of the way to a provider: its proxy, and whose certificates are accepted."""

from mixtura.cli.checks import Check
from mixtura.models.openai.endpoint import Endpoint
from mixtura.models.openai.trust import FILE


def network(endpoint: Endpoint) -> list[Check]:
    """Return what is set, one check each; nothing where a provider is reached directly and without TLS."""
    checks = []
    proxy = endpoint.through
    if proxy is not None:
        user = "" if proxy.user is None else f", as user {proxy.user!r}"
        checks.append(Check(name=f"{endpoint.provider} proxy", ok=None, said=f"{proxy.name} is asked{user}"))
    if endpoint.secure:
        unread = endpoint.trust.unread
        said = f"certificates are accepted by {endpoint.trust.named}"
        said += f"; {unread} is set and not read" if unread else ""
        fix = f'export {FILE}="${unread}" if a company\'s authority is in it' if unread else ""
        checks.append(Check(name=f"{endpoint.provider} trust", ok=None, said=said, fix=fix))
    return checks
