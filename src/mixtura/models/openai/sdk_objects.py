"""What a user handed in as a client: whether it is one, where else one hides, and which server it asks."""

import urllib.parse
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from mixtura.models.catalog import Catalog, CatalogProvider, azure
from mixtura.models.urls import AZURE_HOSTS

# Where the objects of other libraries keep the SDK client that they ask through.
_HIDDEN = (
    "root_async_client",
    "root_client",
    "async_client",
    "client",
    "_async_client",
    "_client",
    "_openai_client",
    "model.client",
    "model._client",
)
_MAKE_ONE = "client=openai.AsyncOpenAI(base_url=..., api_key=...)"
_HOW = f"hand in a client of an SDK, such as {_MAKE_ONE}, or models of your own (models=, see docs/library.md)"
# By the package that an object comes from.
_INSTEAD = {
    "langchain_groq": "its SDK client is not kept: make one, client=groq.AsyncGroq(api_key=...)",
    "litellm": f"LiteLLM is asked through its proxy: run `litellm --config FILE`, hand in {_MAKE_ONE} with its address",
}


def server_of(client: object, catalog: Catalog) -> CatalogProvider | None:
    """Return the provider that a client asks, by its class and its address; None where neither tells.

    What a server is decides which fields it takes, whichever provider a recipe names.
    """
    url = str(getattr(client, "base_url", None) or "")
    host = urllib.parse.urlsplit(url).hostname or ""
    if "Azure" in type(client).__name__ or host.endswith(AZURE_HOSTS):
        return azure(url, _azure_version(client, url))
    for row in catalog.providers.values():
        if row.base_url and host and urllib.parse.urlsplit(row.base_url).hostname == host and not row.key_optional:
            return row
    return None


def _azure_version(client: object, url: str) -> str:
    """Return the version of Azure's API that a client asks for, a day; the latest where its path has the version."""
    query = getattr(client, "default_query", None)
    version = query.get("api-version") if isinstance(query, Mapping) else None
    version = version or getattr(client, "_api_version", None) or ("9" if "/openai/v1" in url else "")
    return str(version)


def create_of(client: object) -> Callable[..., Any] | None:
    """Return the client's `chat.completions.create`; None where it has none."""
    found: object = client
    for name in ("chat", "completions", "create"):
        found = getattr(found, name, None)
    return found if callable(found) else None


def advice(client: object) -> str:
    """Return why an object is no client and what works in its place, as the end of a sentence about it."""
    why = "it has no chat.completions.create"
    for path in _HIDDEN:
        hidden: object = client
        for name in path.split("."):
            hidden = getattr(hidden, name, None)
        if create_of(hidden) is not None:
            return f"{why}; hand in the client that it asks through: its `.{path}`, which is a {type(hidden).__name__}"
    package = _module_of(client).partition(".")[0]
    return f"{why}; {_INSTEAD.get(package, _HOW)}"


def _module_of(client: object) -> str:
    return str(client.__name__) if isinstance(client, ModuleType) else type(client).__module__
