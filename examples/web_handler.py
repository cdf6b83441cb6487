"""Use a mixture where nothing can be awaited: a WSGI handler, as Flask and Django run them.

`ask_sync` runs in one background thread with an event loop; the proposers of a run still work at the same time.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from wsgiref.util import setup_testing_defaults

from mixtura import ConfigError, MixturaError, Mixture

MIXTURE = Mixture("toy")  # made once: it may be shared between threads


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """Answer the question in the query string."""
    question = parse_qs(environ.get("QUERY_STRING", "")).get("q", [""])[0]
    try:
        answer = MIXTURE.ask_sync(question, deadline=20)
        status, body = "200 OK", {"answer": answer.text, "warnings": answer.warnings}
    except ConfigError as error:
        status, body = "400 Bad Request", {"error": error.message}
    except MixturaError as error:
        status, body = "503 Service Unavailable", {"error": error.message}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


if __name__ == "__main__":
    for query in ("q=Leo+has+12+shells.+He+finds+30+more.+How+many+shells+does+Leo+have+now%3F", "q="):
        environ: dict[str, Any] = {"QUERY_STRING": query}
        setup_testing_defaults(environ)
        print(b"".join(app(environ, lambda status, headers: print(status))).decode())
