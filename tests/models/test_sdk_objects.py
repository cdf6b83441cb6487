"""Which server a client that was handed in asks, and what is said about an object that is no client."""

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mixtura.models.catalog import Catalog, CatalogProvider
from mixtura.models.openai.sdk_objects import advice, create_of, server_of

CATALOG = Catalog.load()


def client(url: Any = None, **more: Any) -> Any:
    return SimpleNamespace(**({} if url is None else {"base_url": url}), **more)


class AsyncAzureThing:
    """A client of Azure by its class alone."""

    def __init__(self, **more: Any) -> None:
        self.__dict__.update(more)


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.groq.com", "groq"),
        ("https://api.groq.com/openai/v1/", "groq"),
        ("https://API.GROQ.COM/v1", "groq"),
        ("https://api.openai.com/v1", "openai"),
    ],
)
def test_a_client_asks_the_provider_whose_host_it_names(url: str, provider: str) -> None:
    assert server_of(client(url), CATALOG) == CATALOG.provider(provider)


@pytest.mark.parametrize(
    "thing",
    [
        client(),
        client(""),
        client("nowhere"),
        client("https://groq.com"),
        client("http://localhost:11434/v1"),
        object(),
    ],
)
def test_where_neither_class_nor_address_tells_the_server_is_not_known(thing: object) -> None:
    # On localhost anything may answer: which program it is no address says.
    assert server_of(thing, CATALOG) is None


def azure(recent: bool, url: str) -> CatalogProvider:
    limit = "max_completion_tokens" if recent else "max_tokens"
    return CatalogProvider(title="Azure", base_url=url, max_tokens=limit, usage_option=recent)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["me.openai.azure.com", "me.openai.azure.us", "me.openai.azure.cn", "ME.AZURE.COM"])
def test_azure_is_known_by_its_hosts(host: str) -> None:
    url = f"https://{host}/openai/deployments/m"
    assert server_of(client(url), CATALOG) == azure(False, url)


@pytest.mark.parametrize(
    ("more", "recent"),
    [
        ({"default_query": {"api-version": "2024-09-01"}}, True),
        ({"default_query": {"api-version": "2024-08-31"}}, False),
        ({"default_query": {"api-version": "2025-01-01-preview"}}, True),
        ({"default_query": {"other": "2025-01-01"}, "_api_version": "2024-10-01"}, True),
        ({"_api_version": "2023-05-15"}, False),
        ({"default_query": {"api-version": "2023-05-15"}, "_api_version": "2025-01-01"}, False),
        ({"default_query": "?api-version=2025-01-01"}, False),
        ({}, False),
        ({"base_url": "https://gateway.example/openai/v1/"}, True),
        ({"base_url": "https://gateway.example/openai/v1/", "_api_version": "2023-05-15"}, False),
    ],
)
def test_what_azure_takes_follows_from_the_version_that_the_client_asks_for(more: Any, recent: bool) -> None:
    found = server_of(AsyncAzureThing(**more), CATALOG)
    assert found == azure(recent, more.get("base_url", ""))


def with_create(create: object) -> Any:
    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


def test_a_client_is_what_has_a_function_that_makes_completions() -> None:
    def create() -> None: ...

    assert create_of(with_create(create)) is create
    assert create_of(with_create("text")) is None
    assert create_of(SimpleNamespace(chat=SimpleNamespace(create=create))) is None
    assert create_of(SimpleNamespace(chat=create)) is None
    assert create_of(None) is None


NONE = "it has no chat.completions.create; "
ONE = "client=openai.AsyncOpenAI(base_url=..., api_key=...)"


@pytest.mark.parametrize("path", ["root_async_client", "client", "_openai_client", "model.client", "model._client"])
def test_a_client_that_an_object_hides_is_named(path: str) -> None:
    found: Any = with_create(print)
    for name in reversed(path.split(".")):
        found = SimpleNamespace(**{name: found})
    assert advice(found) == (
        f"{NONE}hand in the client that it asks through: its `.{path}`, which is a SimpleNamespace"
    )


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (type("ChatGroq", (), {"__module__": "langchain_groq.chat_models"})(), "its SDK client is not kept"),
        (ModuleType("litellm"), "LiteLLM is asked through its proxy"),
        (ModuleType("litellm.main"), "LiteLLM is asked through its proxy"),
        (type("Router", (), {"__module__": "litellm.router"})(), "LiteLLM is asked through its proxy"),
        (type("Mine", (), {"__module__": "mine.litellm"})(), f"hand in a client of an SDK, such as {ONE}"),
        (ModuleType("json"), f"hand in a client of an SDK, such as {ONE}"),
        (3, f"hand in a client of an SDK, such as {ONE}"),
    ],
)
def test_an_object_that_hides_none_is_told_what_works_in_its_place(thing: object, said: str) -> None:
    assert advice(thing).startswith(NONE + said)
