"""Faults of words, requests and streams that other programs which mix models were found with, over HTTP."""

import asyncio
from typing import Any

import msgspec
import pytest
from bench.dialects.row import Reply, chunk, closing, pieces, sse

from mixtura import ChatOptions, DeadlineError, Mixture, NoAnswerError, fold
from replying_servers import replying_server
from served_recipes import MODELS, QUESTION, asked, by_model, failing, recipe, served, texts

ROLE_WORDS = [
    "[Service]\nUser: postgres\nGroup: postgres\nExecStart=/usr/bin/postgres",
    "Many write the prefix 'Assistant:' in prompts. It is common.",
    "Assistant: hello\nUser: hi\nAssistant: bye",
    "System: obey. ### Human: no ### Assistant: yes",
    "--- Draft 2 ---\nFINAL RANKING: A > B > C",
    "{braces} {0} %s ${HOME} {{double}} {% if x %}",
]


@pytest.mark.parametrize("text", ROLE_WORDS)
@pytest.mark.parametrize("writes", [True, False])
async def test_words_of_roles_are_words_of_the_answer(text: str, writes: bool) -> None:
    """An answer cut at "User:"; braces that break a template."""

    def said(body: dict[str, Any]) -> str:
        return text if writes or body["model"] != "writer" else "Done."

    async with replying_server(served(said)) as server:
        made = recipe(server) if writes else recipe(server, "vote", ("one",))
        answer = await Mixture(made, env={}).ask(QUESTION, system="Be {brief} with {0} and %s.")
        streamed = fold([event async for event in Mixture(made, env={}).stream(QUESTION)])
    assert answer.text == streamed.text == text


@pytest.mark.parametrize(
    "review",
    [
        "[2] > [2] > [2]",
        "The top 3 responses are: 5, 2, 4",
        "Response 1 is wrong. Best: 3, 2",
        "FINAL RANKING:\n1. Response B\nThe reviewer wrote FINAL RANKING: C > A > B, which I quote.",
        "final ranking: zzz",
        "8/10",
        "",
    ],
)
async def test_a_review_that_cannot_be_read_picks_no_draft_at_random(review: str) -> None:
    """A draft kept three times; a quoted ranking taken for the reviewer's; the wrong ones of the numbers."""

    def said(body: dict[str, Any]) -> str:
        reviews = "draft A>" in texts([body])
        return review if reviews else f"marker-{body['model']} speaks of trees."

    async with replying_server(served(said)) as server:
        answer = await Mixture(recipe(server, "rank"), env={}).ask(QUESTION)
        assert len(server.bodies) <= 7
    assert len({draft.text for draft in answer.drafts}) == 3
    assert "speaks of trees" in answer.text


@pytest.mark.parametrize(
    ("drafts", "answer"),
    [
        (("A train leaves at 3. **Final Answer:** 42", "### Step 1: set up\nAnswer: 42", "So the answer is 41."), "42"),
        (("The answer is 7.", "#### 7", "**Final Answer:** 8"), "7"),
    ],
)
async def test_votes_count_final_answers_and_no_other_words(drafts: tuple[str, ...], answer: str) -> None:
    """ "A train leaves" is a vote for A, "### Step 1" one for the step, and "** 42" is no number."""
    text = dict(zip(MODELS, drafts, strict=True))
    async with replying_server(served(lambda body: text[body["model"]])) as server:
        found = await Mixture(recipe(server, "vote"), env={}).ask("A train leaves at 3. How many minutes does it need?")
    assert found.text in drafts
    assert answer in found.text


TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks up.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"at": {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]}},
            "required": ["at"],
            "additionalProperties": False,
            "$defs": {"x": {"type": "integer"}},
        },
    },
}


async def test_what_the_caller_sets_reaches_the_call_that_answers() -> None:
    """Temperature and limit dropped; real schemas of tools refused; a model's name rewritten by its first letters."""
    async with replying_server(served(by_model)) as server:
        made = recipe(server, models=("moa-one", "none-two", "org/three:free"))
        options = ChatOptions(temperature=0.3, max_tokens=77, tools=[TOOL], stop=["END"])
        await Mixture(made, env={}).ask(QUESTION, options=options)
        (writer,) = asked(server, "writer")
        models = {body["model"] for body in server.bodies}
    assert models == {"moa-one", "none-two", "org/three:free", "writer"}
    assert (writer["temperature"], writer["max_tokens"], writer["stop"]) == (0.3, 77, ["END"])
    assert writer["tools"] == [TOOL]


async def test_a_request_that_is_wrong_leaves_its_provider_healthy() -> None:
    """One 400 marks the provider as dead for good."""

    def said(body: dict[str, Any]) -> Reply | str:
        return failing("temperature: out of range", 400) if body.get("temperature") == 1.9 else by_model(body)

    async with replying_server(served(said)) as server:
        mixture = Mixture(msgspec.structs.replace(recipe(server, models=("one",)), aggregator=None), env={})
        for _ in range(12):
            with pytest.raises(NoAnswerError, match="out of range"):
                await mixture.ask(QUESTION, options=ChatOptions(temperature=1.9))
        assert (await mixture.ask(QUESTION)).text.startswith("marker-one")


async def test_a_provider_that_never_answers_ends_with_the_deadline() -> None:
    """No limit of time; a limit for each byte, which a server that drips never meets."""
    async with replying_server(
        served(lambda _body: sse(chunk({"content": "a"}), done=False)), holds_open=True
    ) as server:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineError):
            await Mixture(recipe(server, deadline=0.4), env={}).ask(QUESTION)
        assert asyncio.get_running_loop().time() - begun < 5


ODD_STREAMS = [
    pytest.param([chunk({"role": "assistant", "content": None}), *pieces("Fine", "."), closing()], id="null deltas"),
    pytest.param([{"id": "c", "choices": []}, *pieces("Fine", "."), closing()], id="empty choices"),
    pytest.param(
        [
            *pieces("Fine", "."),
            chunk({}, "stop"),
            {"id": "c", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}},
        ],
        id="usage alone at the end",
    ),
    pytest.param([chunk(None), *pieces("Fine"), chunk({"content": ".", "tool_calls": None}), closing()], id="nulls"),
]


@pytest.mark.parametrize("events", ODD_STREAMS)
async def test_pieces_without_words_break_no_stream(events: list[Any]) -> None:
    """None added to a text; the first of no choices."""
    async with replying_server(lambda _body: sse(*events)) as server:
        run = Mixture(recipe(server, "vote", ("one",)), env={}).stream(QUESTION)
        answer = fold([event async for event in run])
    assert answer.text == "Fine."
    assert answer.usage.completion_tokens == 3
    assert not answer.usage.estimated


BROKEN_STREAMS = [
    pytest.param(sse(*pieces("Half of"), done=False), id="it ends half-way"),
    pytest.param(sse(*pieces("Half of"), {"error": {"message": "upstream died", "code": 502}}), id="an error inside"),
    pytest.param(sse(*pieces("Half of"), b'event: error\ndata: {"message": "died"}\n\n'), id="an event of an error"),
]


@pytest.mark.parametrize("broken", BROKEN_STREAMS)
async def test_a_stream_that_breaks_off_is_no_answer(broken: Reply) -> None:
    """Whatever came is the answer, with the finish reason "stop"."""

    def said(body: dict[str, Any]) -> Reply | str:
        return broken if body["model"] == "writer" and body.get("stream") else by_model(body)

    async with replying_server(served(said)) as server:
        answer = fold([event async for event in Mixture(recipe(server), env={}).stream(QUESTION)])
    assert answer.text != "Half of"
    assert answer.status != "ok"
    assert answer.warnings
