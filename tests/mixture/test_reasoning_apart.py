"""Reasoning never leaves its place for an answer, a draft's text, another model's prompt, or a piece that is shown."""

import asyncio
import json
from typing import Any, Literal

import pytest
from aiohttp import web
from bench.dialects.reasoning import ROWS
from bench.dialects.row import Reply, Row, closing, pieces, sse, whole
from msgspec.structs import replace

from local_servers import Handler, served
from mixtura import Aggregator, Answer, Layer, Mixture, Policy, Proposer, Recipe, fold
from mixtura.events import AnswerDelta, CallDelta, Event

Mode = Literal["whole", "late", "watched"]
SECRET = "SECRET"
OTHER = "It is four, as everybody knows."
FIRST, SECOND, LAST = "openai/gpt-oss-20b", "openai/gpt-oss-120b", "llama-3.3-70b-versatile"
TEXTS = [row for row in ROWS if row.expect.text == "4" and not row.options]
# What is shown of these is taken back: nothing says at their beginning that it is reasoning.
UNANNOUNCED = ("not-opened", "not-announced")


async def ask(answer: Handler, mode: Mode, quorum: int = 2, grace: float | None = None) -> tuple[Answer, list[Event]]:
    """Ask two proposers and an aggregator, all served by `answer`."""
    # With a quorum, a call that nobody watches is streamed and read late.
    policy = Policy(deadline=10.0, quorum=None if mode == "whole" else quorum)
    if grace is not None:
        policy = replace(policy, grace=grace)
    recipe = Recipe(
        layers=(Layer(proposers=tuple(Proposer(model=model, provider="groq") for model in (FIRST, SECOND))),),
        aggregator=Aggregator(kind="synthesize", model=LAST, provider="groq"),
        policy=policy,
    )
    async with served(answer) as url:
        mixture = Mixture(recipe, env={"GROQ_BASE_URL": url, "GROQ_API_KEY": "gsk_x"})
        if mode != "watched":
            return await mixture.ask("Two and two?"), []
        async with mixture.stream("Two and two?") as run:
            events = [event async for event in run]
        return fold(events), events


@pytest.mark.parametrize("mode", ["whole", "late", "watched"])
@pytest.mark.parametrize("row", TEXTS, ids=[row.name for row in TEXTS])
async def test_reasoning_of_any_dialect_is_in_no_answer_prompt_or_piece(row: Row, mode: Mode) -> None:
    sent: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        sent.append(body)
        streamed = body.get("stream")
        reply: Any = row.stream if streamed else row.whole
        if body["model"] == SECOND:
            reply = sse(*pieces(OTHER), closing()) if streamed else whole(OTHER)
        assert isinstance(reply, Reply)
        return web.Response(body=reply.body, headers={"Content-Type": reply.headers["Content-Type"]})

    found, events = await ask(answer, mode)
    assert found.text == "4"
    assert {draft.text for draft in found.drafts} == {"4", OTHER}
    assert [bool(body.get("stream")) for body in sent] == [mode != "whole"] * 2 + [mode == "watched"]
    assert SECRET not in json.dumps(sent)
    if not row.name.endswith(UNANNOUNCED):
        shown = [event.text for event in events if isinstance(event, CallDelta | AnswerDelta)]
        assert SECRET not in "".join(shown)
        assert bool(shown) is (mode == "watched")


@pytest.mark.parametrize(
    ("opened", "used"),
    [
        ("<think>SECRET</think>", True),
        ("<|channel|>analysis<|message|>SECRET<|end|><|start|>assistant<|channel|>final<|message|>", True),
        ("analysisSECRETassistantfinal", True),
        ("<think>a <think>SECRET</think> SECRET", False),
        ("Here is my thought process: SECRET", False),
    ],
)
async def test_reasoning_of_a_straggler_is_not_in_the_prompt_either(opened: str, used: bool) -> None:
    said, sent = "The sum of two and two is four. " * 20, dict[str, str]()

    async def answer(request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        sent[body["model"]] = json.dumps(body["messages"])
        if body["model"] != SECOND:
            reply = sse(*pieces(OTHER), closing()) if body.get("stream") else whole(OTHER)
            return web.Response(body=reply.body, headers={"Content-Type": reply.headers["Content-Type"]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(sse(*pieces(opened[:9], opened[9:], said), done=False).body)
        await asyncio.sleep(30)
        return response

    found, _ = await ask(answer, "late", quorum=1, grace=0.1)
    assert found.text == OTHER
    assert [draft.text.strip() for draft in found.drafts if draft.incomplete] == [said.strip()] * used
    assert SECRET not in json.dumps(sent)
    assert all(SECRET not in draft.text for draft in found.drafts)
