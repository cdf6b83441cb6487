"""Base URLs as people write them: what is asked, and what is said of those that are none."""

from bench.dialects.row import Expected, Reply, Row, as_json, closing, pieces, sse, whole

_OK = whole("Paris.")
_CHAT = "/v1/chat/completions"
_AZURE = "/openai/deployments/gpt/chat/completions"
_KEY = "k3y-of-mine-0123456789"
_NOT_FOUND = as_json({"error": {"message": "Not Found"}}, 404)


def _asked(
    name: str,
    path: str,
    sent: str,
    *,
    servers: tuple[str, ...] = ("any server",),
    sends: str,
    becomes: str = "it is asked there, once",
    source: str = "",
    unsaid: str = "",
) -> Row:
    """Return the row of a base URL that is one."""
    expect = Expected(text="Paris.", sent=sent, requests=1, unsaid=unsaid)
    stream = sse(*pieces("Par", "is."), closing())
    return Row(
        name=name,
        servers=servers,
        sends=sends,
        becomes=becomes,
        source=source,
        whole=_OK,
        stream=stream,
        path=path,
        expect=expect,
    )


def _refused(name: str, path: str, says: str, *, sends: str, unsaid: str = "") -> Row:
    """Return the row of a text that is no base URL."""
    return Row(
        name=name,
        servers=("any server",),
        sends=sends,
        becomes="an error that says what to write; nothing is sent",
        whole=_OK,
        path=path,
        expect=Expected(error="ConfigError", says=says, requests=0, unsaid=unsaid),
    )


def _failed(name: str, path: str, reply: Reply, says: str, *, sends: str, servers: tuple[str, ...]) -> Row:
    """Return the row of a base URL whose server knows no such path."""
    return Row(
        name=name,
        servers=servers,
        sends=sends,
        becomes="an error that says what may be wrong with the base URL",
        whole=reply,
        path=path,
        expect=Expected(error="RejectedError", says=says, requests=1),
    )


ROWS = (
    _asked(
        "address-query",
        "{}/openai/v1?api-version=2024-10-21",
        "/openai/v1/chat/completions?api-version=2024-10-21",
        servers=("Azure",),
        sends="a base URL with a query",
        becomes="the path goes before the query",
        source="NousResearch/hermes-agent#8766",
    ),
    _asked(
        "address-query-of-several",
        "{}/v1/?b=2&a=%2F1&b=3",
        f"{_CHAT}?b=2&a=%2F1&b=3",
        servers=("gateways",),
        sends="a query of several parameters, one twice",
        becomes="all of them are sent, in their order and spelling",
    ),
    _asked(
        "address-query-with-a-key",
        "{}/v1?api_key=" + _KEY,
        f"{_CHAT}?api_key={_KEY}",
        servers=("gateways",),
        sends="a base URL whose query holds a key",
        becomes="the key is sent and shown nowhere",
        unsaid=_KEY,
    ),
    _asked(
        "address-azure-deployment",
        "{}/openai/deployments/gpt?api-version=2024-10-21",
        f"{_AZURE}?api-version=2024-10-21",
        servers=("Azure",),
        sends="the address of a deployment",
        becomes="the deployment is asked, its key in the header `api-key`",
        source="ax-llm/ax#19",
    ),
    _asked(
        "address-azure-as-its-portal-shows-it",
        "{}/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        f"{_AZURE}?api-version=2024-10-21",
        servers=("Azure",),
        sends="the address of a request, as Azure shows it",
    ),
    _asked(
        "address-of-a-request",
        "{}/v1/chat/completions",
        _CHAT,
        sends="a base URL that ends in `/chat/completions`",
        becomes="it is asked there, once, which a note says",
        source="harry0703/MoneyPrinterTurbo#57",
    ),
    _asked(
        "address-of-a-request-at-the-root",
        "{}/chat/completions",
        "/chat/completions",
        sends="`/chat/completions` below the host",
        becomes="it is asked there: no `/v1` is added",
    ),
    _asked("address-of-completions", "{}/v1/completions/", _CHAT, sends="a base URL that ends in `/completions/`"),
    _asked("address-of-responses", "{}/v1/responses", _CHAT, sends="a base URL that ends in `/responses`"),
    _asked("address-of-models", "{}/v1/models", _CHAT, sends="a base URL that ends in `/v1/models`"),
    _asked(
        "address-below-models",
        "{}/models",
        "/models/chat/completions",
        servers=("Azure AI Foundry",),
        sends="a base URL whose path is `/models`",
        becomes="that is its path, without a version before it",
    ),
    _asked("address-slashes", "{}//v1///", _CHAT, sends="doubled slashes, and some at the end"),
    _asked("address-dots", "{}/api/./../v1", _CHAT, sends="steps up in the path"),
    _asked("address-fragment", "{}/v1#top", _CHAT, sends="a fragment", becomes="it is left out, which a note says"),
    _asked("address-without-a-path", "{}", _CHAT, sends="a host and a port alone", becomes="`/v1` is added"),
    _asked(
        "address-query-without-a-path",
        "{}?tenant=a",
        f"{_CHAT}?tenant=a",
        sends="a host, a port and a query",
        becomes="`/v1` is added before the query",
    ),
    _asked("address-blanks", "  {}/v1  ", _CHAT, sends="blanks round it"),
    _asked(
        "address-path-of-its-own",
        "{}/api/v3",
        "/api/v3/chat/completions",
        servers=("Volcengine Ark",),
        sends="another version than 1",
        becomes="its path is kept",
    ),
    _refused("address-port-alone", ":8000", "write http://127.0.0.1:8000/v1", sends="a port alone"),
    _refused("address-number", "127.0.0.1:8000", "write http://127.0.0.1:8000/v1", sends="no scheme"),
    _refused("address-localhost", "localhost:11434/v1", "write http://localhost:11434/v1", sends="no scheme"),
    _refused("address-host-alone", "api.example.com", "write https://api.example.com/v1", sends="a host alone"),
    _refused("address-of-a-provider", "api.groq.com", "write https://api.groq.com/openai/v1", sends="a known host"),
    _refused("address-quoted", '"http://box:8000/v1"', "write http://box:8000/v1", sends="quotes round it"),
    _refused(
        "address-no-scheme-and-a-key",
        "box:8000/v1?api_key=" + _KEY,
        "write http://box:8000/v1?api_key=***",
        sends="no scheme, and a key in its query",
        unsaid=_KEY,
    ),
    _refused(
        "address-password",
        "http://me:hunter22@box:8000/v1",
        "must not hold a user or password",
        sends="a user and a password",
        unsaid="hunter22",
    ),
    _failed(
        "address-without-v1",
        "{}/api",
        _NOT_FOUND,
        "/api/v1",
        sends="404, at a base URL without a version",
        servers=("vLLM", "LM Studio"),
    ),
    _failed(
        "address-azure-without-a-version",
        "{}/openai/deployments/gpt",
        as_json({"error": {"code": "404", "message": "Resource not found"}}, 404),
        "?api-version=",
        sends="404, at a deployment without `api-version`",
        servers=("Azure",),
    ),
    _failed(
        "address-of-a-page",
        "{}/v1",
        Reply(b"405 method not allowed", 405, {"Content-Type": "text/plain"}),
        "is the base URL right?",
        sends="405, from a server that is no model's",
        servers=("nginx",),
    ),
)
