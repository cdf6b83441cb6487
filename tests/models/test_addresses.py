"""Where requests go that are sent to an address: over TCP and Unix sockets, with its query, its key and its name."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mixtura import Aggregator, Answer, ConfigError, Event, Fallback, Layer, MixturaError, Mixture, Proposer, Recipe
from mixtura.chat import ChatRequest, Message
from mixtura.errors import ModelError
from mixtura.limits.limiter import Limiter
from mixtura.models.catalog import Catalog
from mixtura.models.environment import key_variables, server_address
from mixtura.models.openai.pool import close_pool
from mixtura.models.registry import ModelRegistry
from mixtura.models.wrappers.retry import RetryPolicy
from mixtura.temporary import temporary_folder
from networks import COMPLETION, answer, listening, read_request

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
KEY = "k3y-of-mine-0123456789"


class Seen:
    """A server that keeps the head and body of every request."""

    def __init__(self, reply: bytes | None = None) -> None:
        self.lines: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self._reply = answer() if reply is None else reply

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, headers, body = await read_request(reader)
        self.lines.append(line)
        self.headers.append(headers)
        self.bodies.append(json.loads(body) if body else {})
        writer.write(self._reply)


class Kept(Seen):
    """One that keeps its connections open."""

    connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            await read_request(reader)
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(COMPLETION)}\r\n\r\n{COMPLETION}".encode())


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for a socket's."""
    with temporary_folder("t-") as made:
        yield made


@asynccontextmanager
async def at_socket(path: Path, server: Seen) -> AsyncGenerator[None]:
    """Serve at a Unix socket."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await server.serve(reader, writer)
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_unix_server(connected, path)
    try:
        yield
    finally:
        await close_pool()
        listener.close()


def registry(**env: str) -> ModelRegistry:
    return ModelRegistry(env=env, policy=RetryPolicy(base=0.001, attempts=1), limiter=Limiter())


async def failure(provider: str, **env: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await registry(**env).find(provider, "m").chat.chat(REQUEST)
    await close_pool()
    return caught.value


FORMS = ["unix:{0}", "unix://{0}", "unix:{0}:/v1", "http+unix://{1}/v1", "http+unix://{0}", "http://unix:{0}:/v1"]


@pytest.mark.parametrize("form", FORMS)
async def test_a_server_behind_a_unix_socket_is_asked_whichever_way_it_is_written(form: str, folder: Path) -> None:
    path, server = folder / "server.sock", Seen()
    async with at_socket(path, server):
        # No proxy has a way to it.
        models = registry(ALL_PROXY="http://127.0.0.1:1", MIXTURA_API_KEY="secret-key")
        done = await models.find(form.format(path, str(path).replace("/", "%2F")), "m").chat.chat(REQUEST)
    assert done.text == "hello"
    assert server.lines == ["POST /v1/chat/completions HTTP/1.1"]
    assert server.headers[0]["host"] == "localhost"
    assert server.headers[0]["authorization"] == "Bearer secret-key"


async def test_a_connection_to_a_socket_is_used_again_and_never_for_another_one(folder: Path) -> None:
    first, second = Kept(), Kept()
    one, other = folder / "one.sock", folder / "other.sock"
    async with at_socket(one, first), at_socket(other, second):
        models = registry()
        for _ in range(3):
            for path in (one, other):
                await models.find(f"unix:{path}", "m").chat.chat(REQUEST)
    assert (first.connections, second.connections) == (1, 1)


async def test_a_large_request_and_the_list_of_models_go_to_the_socket_as_well(folder: Path) -> None:
    rows = answer("200 OK", json.dumps({"data": [{"id": "m"}]}))
    path, server = folder / "server.sock", Seen(rows)
    async with at_socket(path, server):
        assert await registry().list_models(f"unix:{path}") == [{"id": "m"}]
    large = msgspec.structs.replace(REQUEST, messages=(Message(role="user", content="x" * 100_000),))
    server = Seen()
    async with at_socket(folder / "other.sock", server):
        done = await registry().find(f"unix:{folder / 'other.sock'}", "m").chat.chat(large)
    assert (done.text, server.lines) == ("hello", ["POST /v1/chat/completions HTTP/1.1"])


async def test_a_socket_at_which_nobody_listens_is_said(folder: Path) -> None:
    missing = folder / "missing.sock"
    error = await failure(f"unix:{missing}")
    assert error.reason == f"nothing answers at {missing} (No such file or directory); is it running?"
    assert error.kind == "unreachable"


async def test_a_provider_s_variable_may_name_a_socket(folder: Path) -> None:
    path, server = folder / "server.sock", Seen()
    async with at_socket(path, server):
        models = registry(OPENAI_BASE_URL=f"unix:{path}:/v1", OPENAI_API_KEY="k")
        found = models.find("openai", "m")
        await found.chat.chat(REQUEST)
    assert found.place.served_by == "machine"
    assert server.lines == ["POST /v1/chat/completions HTTP/1.1"]


AZURE = "/openai/deployments/gpt?api-version={}"


@pytest.mark.parametrize(
    ("path", "limit", "asked"),
    [
        (AZURE.format("2024-10-21"), "max_completion_tokens", "/openai/deployments/gpt/chat/completions"),
        (AZURE.format("2023-05-15"), "max_tokens", "/openai/deployments/gpt/chat/completions"),
        ("/openai/deployments/gpt/chat/completions?api-version=2025-01-01-preview", "max_completion_tokens", ""),
    ],
)
async def test_a_deployment_at_azure_is_asked_at_its_address(path: str, limit: str, asked: str) -> None:
    server = Seen()
    async with listening(server.serve) as port:
        found = registry(MIXTURA_API_KEY="azure-key").find(f"http://127.0.0.1:{port}{path}", "m")
        await found.chat.chat(msgspec.structs.replace(REQUEST, max_tokens=50))
    await close_pool()
    query = path.partition("?")[2]
    assert server.lines == [f"POST {asked or path.partition('?')[0]}?{query} HTTP/1.1"]
    assert server.headers[0]["api-key"] == "azure-key"
    assert "authorization" not in server.headers[0]
    assert server.bodies[0][limit] == 50
    # Many machines serve it, so a second try need not wait behind the first.
    assert found.place.served_by == "many"


async def test_a_token_of_azure_s_directory_is_sent_as_a_token() -> None:
    server, token = Seen(), "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"
    async with listening(server.serve) as port:
        url = f"http://127.0.0.1:{port}{AZURE.format('2024-10-21')}"
        await registry(MIXTURA_API_KEY=token).find(url, "m").chat.chat(REQUEST)
    await close_pool()
    assert server.headers[0]["authorization"] == f"Bearer {token}"
    assert "api-key" not in server.headers[0]


@pytest.mark.parametrize("host", ["me.openai.azure.com", "me.services.ai.azure.com", "me.openai.azure.us"])
def test_azure_is_known_by_its_hosts(host: str) -> None:
    row = Catalog.load().provider(f"https://{host}/openai/v1/")
    assert (row.title, row.key_header, row.usage_option) == ("Azure", "api-key", True)
    assert not Catalog.load().provider(f"https://{host}.example.org/v1").key_header


async def test_a_key_in_a_query_is_sent_and_shown_nowhere() -> None:
    refused = answer("401 Unauthorized", json.dumps({"error": {"message": f"wrong api_key {KEY}"}}))
    for server in (Seen(), Seen(refused)):
        async with listening(server.serve) as port:
            url = f"http://127.0.0.1:{port}/v1?api-version=1&api_key={KEY}"
            proposer = Proposer(model="m", provider=url, fallbacks=(Fallback(model="n", provider=url),))
            recipe = Recipe(
                layers=(Layer(proposers=(proposer,)),),
                aggregator=Aggregator(kind="synthesize", model="m", provider=url),
            )
            events: list[Event] = []
            mixture = Mixture(recipe, env={}, listeners=[events.append])
            said: list[object] = [mixture.recipe]
            try:
                found: Answer | None = await mixture.ask("Hello?")
            except MixturaError as error:
                found = error.answer
                said += [str(error), repr(vars(error))]
        await close_pool()
        assert found is not None
        said += [found.to_dict(), *events]
        assert KEY not in "".join(map(repr, said))
        assert set(server.lines) == {f"POST /v1/chat/completions?api-version=1&api_key={KEY} HTTP/1.1"}
        assert "api_key=***" in repr(found.to_dict())


async def test_two_keys_at_one_address_are_told_apart() -> None:
    server = Seen()
    async with listening(server.serve) as port:
        urls = [f"http://127.0.0.1:{port}/v1?key={KEY}{number}" for number in range(2)]
        models = registry()
        names = [models.known_as(url) for url in urls]
        assert [models.known_as(name) for name in names] == names == [models.known_as(url) for url in urls]
        for name in names:
            await models.find(name, "m").chat.chat(REQUEST)
    await close_pool()
    assert [line.split("=")[-1].split()[0] for line in server.lines] == [f"{KEY}0", f"{KEY}1"]


async def test_a_key_in_the_query_of_a_variable_is_in_no_error() -> None:
    server = Seen(answer("400 Bad Request", json.dumps({"error": {"message": f"no such tenant: ?sig={KEY}"}})))
    async with listening(server.serve) as port:
        url = f"http://127.0.0.1:{port}/v1?sig={KEY}"
        error = await failure("openai", OPENAI_BASE_URL=url, OPENAI_API_KEY="k")
    assert server.lines == [f"POST /v1/chat/completions?sig={KEY} HTTP/1.1"]
    assert "no such tenant" in str(error)
    assert KEY not in f"{error}{vars(error)!r}"
    refused = await failure("openai", OPENAI_BASE_URL=f"http://127.0.0.1:1/v1?sig={KEY}", OPENAI_API_KEY="k")
    assert KEY not in f"{refused}{refused.__cause__!r}{vars(refused.__cause__)!r}"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("", "is the base URL right? Most servers answer below /v1: http://127.0.0.1:{}/v1"),
        ("/api?a=1", "is the base URL right? Most servers answer below /v1: http://127.0.0.1:{}/api/v1?a=1"),
        ("/v1", "is the base URL right?"),
        ("/openai", "is the base URL right?"),
    ],
)
@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
async def test_a_path_that_no_server_knows_gets_a_hint_and_no_other_request(path: str, said: str, status: str) -> None:
    server = Seen(answer(status, "404 page not found", "text/plain"))
    async with listening(server.serve) as port:
        error = await failure("openai", OPENAI_BASE_URL=f"http://127.0.0.1:{port}{path}", OPENAI_API_KEY="k")
    assert str(error).endswith(said.format(port))
    assert len(server.lines) == 1


async def test_what_was_left_out_of_an_address_is_said_once() -> None:
    server = Seen()
    async with listening(server.serve) as port:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        recipe = Recipe(
            layers=(Layer(proposers=(Proposer(model="m", provider=url, samples=2),)),),
            aggregator=Aggregator(kind="vote"),
        )
        found = await Mixture(recipe, env={}).ask("Hello?")
    await close_pool()
    notes = [note.reason for note in found.decisions if note.kind == "noticed"]
    assert [note for note in notes if "base URL" in note] == [
        f"the base URL ends in '/chat/completions', which is no part of it; Mixtura asks {url}"
    ]
    assert server.lines == ["POST /v1/chat/completions HTTP/1.1"] * 2
    assert not [warning for warning in found.warnings if "base URL" in warning]


async def test_the_note_on_a_variable_names_it() -> None:
    models = registry(OPENAI_BASE_URL="http://127.0.0.1:1/v1/models", OPENAI_API_KEY="k")
    [note] = models.find("openai", "m").notes
    assert note.startswith("OPENAI_BASE_URL: the base URL ends in '/models'")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("127.0.0.1:8000", "write http://127.0.0.1:8000/v1"),
        ("api.openai.com", "write https://api.openai.com/v1"),
        ("'http://box:8000/v1'", "write http://box:8000/v1"),
    ],
)
def test_a_variable_that_is_no_base_url_is_told_what_it_means(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL: ") as caught:
        registry(OPENAI_BASE_URL=given, OPENAI_API_KEY="k").endpoint("openai")
    assert str(caught.value).endswith(said)


def test_a_host_alone_is_told_what_an_address_looks_like() -> None:
    with pytest.raises(ConfigError, match=r"A base URL works too, such as http://box:8000/v1$"):
        Catalog.load().provider("box")


SAME = [
    "http://box:8000/v1",
    "HTTP://BOX:8000//v1/",
    "http://box:8000/v1/chat/completions",
    "http://box:8000/v1?tenant=a",
    "http://box:8000/v1/models#top",
]


@pytest.mark.parametrize("written", SAME)
def test_all_ways_to_write_an_address_are_one_server(written: str) -> None:
    row = Catalog.load().provider(written)
    assert server_address(written, row) == "http://box:8000/v1"
    assert key_variables(written, row) == ("MIXTURA_API_KEY_HTTP_BOX_8000_V1", "MIXTURA_API_KEY")
    assert ModelRegistry(env={"MIXTURA_API_KEY_HTTP_BOX_8000_V1": "k"}).endpoint(written).key.reveal() == "k"


@pytest.mark.parametrize("written", ["unix:/run/server.sock:/v1", "http+unix://%2Frun%2Fserver.sock/v1"])
def test_a_socket_has_a_key_of_its_own(written: str) -> None:
    row = Catalog.load().provider(written)
    assert server_address(written, row) == "http+unix://%2Frun%2Fserver.sock/v1"
    assert key_variables(written, row)[0] == "MIXTURA_API_KEY_HTTP_UNIX_RUN_SERVER_SOCK_V1"
