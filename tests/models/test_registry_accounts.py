"""Which calls are counted together: those of one key at one server, whichever way the server is reached."""

from collections.abc import Callable

import groq
import openai
import pytest

from mixtura.limits.limiter import Limiter
from mixtura.models.catalog import CatalogProvider
from mixtura.models.environment import server_address
from mixtura.models.openai.sdk import SdkClient
from mixtura.models.registry import ModelRegistry
from mixtura.models.served import Accounting

MODEL = "openai/gpt-oss-20b"
GROQ = CatalogProvider(title="Groq", base_url="https://api.groq.com/openai/v1", base_url_suffix="/openai/v1")
PLAIN = CatalogProvider(title="Mine", base_url="http://127.0.0.1:1/v1")


def accounting(provider: str, client: object | None = None, **env: str) -> Accounting:
    found = ModelRegistry(client=client, env=env).find(provider, MODEL).accounting
    assert found is not None
    return found


def at_groq(url: str = "", key: str = "gsk_same") -> Accounting:
    return accounting("groq", GROQ_API_KEY=key, **({"GROQ_BASE_URL": url} if url else {}))


@pytest.mark.parametrize(
    "other",
    [
        lambda: at_groq("https://api.groq.com"),
        lambda: at_groq("https://API.groq.com:443/openai/v1/"),
        lambda: accounting("groq", groq.AsyncGroq(api_key="gsk_same")),
        lambda: accounting("groq", groq.Groq(api_key="gsk_same", base_url="https://api.groq.com/")),
        lambda: accounting("groq", openai.OpenAI(api_key="gsk_same", base_url="https://api.groq.com/openai/v1")),
        lambda: accounting("https://api.groq.com/openai/v1", MIXTURA_API_KEY="gsk_same"),
        lambda: accounting("https://api.groq.com/openai/v1/", MIXTURA_API_KEY="gsk_same"),
    ],
)
def test_one_key_at_one_server_is_one_account(other: Callable[[], Accounting]) -> None:
    one, two = at_groq(), other()
    assert (two.key, two.group) == (one.key, one.group)
    assert one.key == f"{one.group}/{MODEL}"
    assert "gsk_same" not in one.key


@pytest.mark.parametrize(
    "other",
    [
        lambda: at_groq(key="gsk_other"),
        lambda: at_groq("http://127.0.0.1:1"),
        lambda: at_groq("http://api.groq.com"),
        lambda: accounting("https://api.groq.com/other/v1", MIXTURA_API_KEY="gsk_same"),
        lambda: accounting("groq", groq.AsyncGroq(api_key="gsk_other")),
    ],
)
def test_another_key_or_server_is_another_account(other: Callable[[], Accounting]) -> None:
    assert other().group != at_groq().group


class Create:
    """A client that says neither its address nor its key."""

    class chat:  # noqa: N801
        class completions:  # noqa: N801
            @staticmethod
            async def create(**_: object) -> object:
                return {}


def test_clients_that_say_nothing_of_themselves_are_told_apart() -> None:
    one, two = Create(), Create()
    assert SdkClient(one).base_url == ""
    assert accounting("groq", one).group != accounting("groq", two).group
    assert accounting("groq", one).group == accounting("groq", one).group
    assert accounting("groq", one).group.startswith("groq/")


@pytest.mark.parametrize(
    ("url", "row", "address"),
    [
        ("HTTP://Host:80/v1//", PLAIN, "http://host/v1"),
        ("https://host:8443/v1?x=1#y", PLAIN, "https://host:8443/v1"),
        ("http://[::1]:9/v1", PLAIN, "http://[::1]:9/v1"),
        ("https://me:s3cret@host/v1", PLAIN, "https://host/v1"),
        ("http://host", GROQ, "http://host/openai/v1"),
        ("http://host/openai/v1/", GROQ, "http://host/openai/v1"),
        ("http://host:port/v1", PLAIN, ""),
        ("", PLAIN, ""),
        ("nonsense", PLAIN, ""),
    ],
)
def test_a_server_has_one_address_however_it_is_written(url: str, row: CatalogProvider, address: str) -> None:
    assert server_address(url, row) == address


def test_the_limiter_of_a_registry_counts_its_calls_though_a_redis_is_named() -> None:
    limiter = Limiter()
    registry = ModelRegistry(env={"GROQ_API_KEY": "k", "MIXTURA_REDIS_URL": "redis://127.0.0.1:9/0"}, limiter=limiter)
    found = registry.find("groq", MODEL).accounting
    assert found is not None
    assert found.limiter() is limiter
