"""Asks a server that sends what a row says, over HTTP and through `Mixture`, and compares what came of it."""

import asyncio
import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

from bench.dialects.row import Expected, Replies, Reply, Row
from mixtura import Answer, ConfigError, Layer, MixturaError, Mixture, ModelError, Policy, Proposer, Recipe, fold
from mixtura.models.openai.pool import close_pool

Mode = Literal["whole", "stream"]
_QUESTION = "Hello?"


class Outcome(NamedTuple):
    """What came of a question."""

    answer: Answer | None
    error: MixturaError | None
    paths: list[str]

    @property
    def cause(self) -> MixturaError | None:
        """The error of the call, where the run's error only says that no call gave an answer."""
        causes = getattr(self.error, "failures", ())
        return next((one for one in causes if isinstance(one, ModelError)), self.error)


class _Server:
    """Sends the replies of a row over its own socket, one connection a request."""

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self.paths: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            lengths = [int(line.split(":")[1]) for line in head if line.lower().startswith("content-length:")]
            body = await reader.readexactly(sum(lengths))
            self.paths.append(head[0].split(" ")[1])
            reply = self._reply(body)
            writer.write(_on_the_wire(reply))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _reply(self, body: bytes) -> Reply:
        replies = self._replies
        if callable(replies):
            return replies(json.loads(body))
        if isinstance(replies, Reply):
            return replies
        return replies[min(len(self.paths), len(replies)) - 1]


def _on_the_wire(reply: Reply) -> bytes:
    headers = {**reply.headers, "Connection": "close"}
    if reply.breaks:
        headers["Content-Length"] = str(len(reply.body) + 100)
    elif "event-stream" not in reply.headers.get("Content-Type", ""):
        headers["Content-Length"] = str(len(reply.body))
    lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body


def modes_of(row: Row) -> list[Mode]:
    """Return how a row is asked."""
    return [mode for mode in ("whole", "stream") if getattr(row, mode) is not None]


async def ask(row: Row, mode: Mode) -> Outcome:
    """Ask the question of a row."""
    replies: Replies = row.whole if mode == "whole" else row.stream  # type: ignore[assignment]  # by `modes_of`
    server = _Server(replies)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    root = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        proposer = Proposer(model="m", provider=row.path.format(root))
        mixture = Mixture(Recipe(layers=(Layer(proposers=(proposer,)),), policy=Policy(deadline=row.deadline)), env={})
        if mode == "whole":
            return Outcome(await mixture.ask(_QUESTION, **row.options), None, server.paths)
        async with mixture.stream(_QUESTION, **row.options) as run:
            return Outcome(fold([event async for event in run]), None, server.paths)
    except (MixturaError, ConfigError) as error:
        return Outcome(getattr(error, "answer", None), error, server.paths)
    finally:
        listening.close()
        await close_pool()


def differences(row: Row, outcome: Outcome) -> list[str]:
    """Return, in a line each, what came of a question that should not have."""
    return [
        f"{what}: {found!r}, not {wanted!r}"
        for what, found, wanted in _compared(row.expect, outcome)
        if wanted is not None and found != wanted
    ]


def _compared(expect: Expected, outcome: Outcome) -> Iterator[tuple[str, object, object]]:
    answer, cause = outcome.answer, outcome.cause
    yield "error", type(cause).__name__ if outcome.error is not None else "", expect.error
    said = [f"{outcome.error or ''}", f"{cause or ''}", *(answer.warnings if answer is not None else ())]
    if expect.says:
        yield f"said {said}, which speaks of {expect.says!r}", any(expect.says in one for one in said), True
    if expect.wait is not None:
        waited = getattr(cause, "retry_after", None)
        yield "wait", None if waited is None else round(waited, 1), expect.wait
    yield "requests", len(outcome.paths), expect.requests
    yield "path", outcome.paths[0] if outcome.paths else "", expect.sent
    if answer is not None:
        yield from _of_answer(expect, answer)
        said += [answer.text, answer.reasoning]
    if expect.unsaid:
        yield f"{expect.unsaid!r} is said", expect.unsaid in "\n".join(said[:-1] if answer is not None else said), False


def _of_answer(expect: Expected, answer: Answer) -> Iterator[tuple[str, object, object]]:
    draft = answer.drafts[0] if answer.drafts else None
    yield "text", answer.text, expect.text
    yield "reasoning", answer.reasoning, expect.reasoning
    yield "finish", answer.finish_reason, expect.finish
    calls = tuple((call["function"]["name"], call["function"]["arguments"]) for call in answer.tool_calls or ())
    yield "warned", bool(answer.warnings), expect.warned
    yield "tool calls", calls, expect.tool_calls
    usage = answer.usage if draft is None else draft.usage
    yield "prompt tokens", usage.prompt_tokens, expect.prompt
    yield "completion tokens", usage.completion_tokens, expect.completion
    yield "estimated", usage.estimated, expect.estimated
    yield "cost", "none" if answer.cost is None else answer.cost, expect.cost
