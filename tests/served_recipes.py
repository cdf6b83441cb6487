"""Recipes of one server on a socket, whose models "one", "two" and "three" draft and "writer" answers."""

import json
import re
from collections.abc import Callable
from typing import Any

from bench.dialects.row import Reply, as_json, closing, pieces, sse, whole

from mixtura import Aggregator, Layer, Policy, Proposer, Recipe
from mixtura.kinds import AggregatorKind
from replying_servers import ReplyingServer

QUESTION = "Which index suits heavy writes?"
MODELS = ("one", "two", "three")
Said = Callable[[dict[str, Any]], Reply | str]


def recipe(
    server: ReplyingServer,
    kind: AggregatorKind = "synthesize",
    models: tuple[str, ...] = MODELS,
    layers: int = 1,
    **policy: Any,
) -> Recipe:
    layer = Layer(proposers=tuple(Proposer(model=model, provider=server.url) for model in models))
    writer: dict[str, Any] = {"model": "writer", "provider": server.url} if kind in ("synthesize", "select") else {}
    given = {"deadline": 10.0, "seed": 1, **policy}
    return Recipe(layers=(layer,) * layers, aggregator=Aggregator(kind=kind, **writer), policy=Policy(**given))


def served(said: Said) -> Callable[[dict[str, Any]], Reply]:
    """Return a server's answer: a text in the form that was asked for, or the reply itself."""

    def answer(body: dict[str, Any]) -> Reply:
        found = said(body)
        if isinstance(found, Reply):
            return found
        return sse(*pieces(*re.findall(r"(?s).{1,7}", found)), closing()) if body.get("stream") else whole(found)

    return answer


def asked(server: ReplyingServer, model: str) -> list[dict[str, Any]]:
    return [body for body in server.bodies if body["model"] == model]


def texts(bodies: list[dict[str, Any]]) -> str:
    return json.dumps([body["messages"] for body in bodies])


def by_model(body: dict[str, Any]) -> str:
    return "The whole answer." if body["model"] == "writer" else f"marker-{body['model']} speaks of trees."


def failing(message: str, status: int, **headers: str) -> Reply:
    return as_json({"error": {"message": message}}, status, **headers)
