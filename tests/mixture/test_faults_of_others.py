"""Faults of drafts, failures and money that other programs which mix models were found with, over HTTP."""

import asyncio
import copy
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from bench.dialects.row import Reply, as_json, whole

from mixtura import ChatOptions, Layer, Mixture, NoAnswerError, Proposer
from mixtura.errors import RateLimitedError, UnauthorizedError
from mixtura.kinds import AggregatorKind
from replying_servers import replying_server
from served_recipes import MODELS, QUESTION, asked, by_model, failing, recipe, served, texts


@pytest.mark.parametrize("layers", [1, 2, 3])
async def test_every_draft_reaches_its_readers_once_and_whole(layers: int) -> None:
    """A final call without the drafts; drafts spelt letter by letter; dicts numbered by their keys."""
    async with replying_server(served(by_model)) as server:
        await Mixture(recipe(server, layers=layers), env={}).ask(QUESTION)
        assert len(server.bodies) == 3 * layers + 1
        for body in [*asked(server, "writer"), *(asked(server, "one")[1:])]:
            sent = texts([body])
            for model in MODELS:
                assert sent.count(f"marker-{model} speaks of trees.") == 1
            assert sent.count(QUESTION) == 1


async def test_what_the_caller_hands_in_is_not_changed_and_instructions_do_not_pile_up() -> None:
    """The caller's list edited in place, and the prompt put in front once a proposer."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Speak plainly {name} {0}."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look: "},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42 {braces}"},
        {"role": "user", "content": QUESTION},
    ]
    before = copy.deepcopy(messages)
    async with replying_server(served(by_model)) as server:
        made = recipe(server, layers=3)
        kept = msgspec.json.encode(made)
        await Mixture(made, env={}).ask(messages)
        assert msgspec.json.encode(made) == kept
        bodies = server.bodies
    assert messages == before
    for body in bodies:
        roles = Counter(message["role"] for message in body["messages"])
        assert roles["system"] == 1
        assert texts([body]).count("Speak plainly {name} {0}.") == 1
        # Nothing of the conversation is lost: neither the image nor what the tool said.
        assert texts([body]).count("https://x.example/a.png") == 1
        assert texts([body]).count("42 {braces}") == 1
        assert texts([body]).count(QUESTION) == 1


async def test_equal_models_give_each_its_own_draft_and_bill() -> None:
    """`n` ignored and one draft read three times; results kept by the model's name."""
    count = iter(range(1, 10))

    def said(body: dict[str, Any]) -> str:
        return "Done." if body["model"] == "writer" else f"draft number {next(count)}"

    async with replying_server(served(said)) as server:
        layer = Layer(
            proposers=(
                Proposer(model="one", provider=server.url, samples=2),
                Proposer(model="one", provider=server.url),
            )
        )
        made = msgspec.structs.replace(recipe(server), layers=(layer,))
        answer = await Mixture(made, env={}).ask(QUESTION)
        assert not [body for body in server.bodies if body.get("n", 1) != 1]
    assert sorted(draft.text for draft in answer.drafts) == [f"draft number {number}" for number in (1, 2, 3)]
    assert answer.usage.total_tokens == 4 * 12


@pytest.mark.parametrize("status", [400, 404, 413, 500, 503])
async def test_a_proposer_that_fails_costs_nobody_else(status: int) -> None:
    """One error ends all calls; a name that is never bound; the error's text handed to the next model."""
    leak = "org_secret_9 failed: your quota of gsk_abc is over"

    def said(body: dict[str, Any]) -> Reply | str:
        return failing(leak, status) if body["model"] == "two" else by_model(body)

    async with replying_server(served(said)) as server:
        answer = await Mixture(recipe(server, deadline=3.0), env={}).ask(QUESTION)
        sent = texts(server.bodies)
    assert answer.text == "The whole answer."
    assert [draft.model for draft in answer.drafts] == ["one", "three"]
    assert [failure.model for failure in answer.failures] == ["two"]
    assert "org_secret_9" not in sent
    assert "quota" not in sent
    assert "fail" not in sent.lower()


async def test_three_refusals_for_the_rate_are_waited_out_and_none_is_lost() -> None:
    """After three 429 the result was never bound."""
    refusals = Counter[str]()

    def said(body: dict[str, Any]) -> Reply | str:
        refusals[body["model"]] += 1
        if body["model"] == "two" and refusals["two"] <= 3:
            return failing("slow down", 429, Retry_After="0.01")
        return by_model(body)

    async with replying_server(served(said)) as server:
        answer = await Mixture(recipe(server), env={}).ask(QUESTION)
    assert [draft.model for draft in answer.drafts] == list(MODELS)
    assert answer.drafts[1].attempts == 4


@pytest.mark.parametrize(
    ("headers", "least"),
    [({"Retry_After": "0.05"}, 0.05), ({"Retry_After": "0"}, 0.0), ({"retry_after_ms": "60"}, 0.06), ({}, 0.0)],
)
async def test_a_wait_is_taken_as_it_was_said_in_fractions_too(headers: dict[str, str], least: float) -> None:
    """A wait with a fraction becomes sixty seconds, or none."""
    first: list[float] = []

    def said(body: dict[str, Any]) -> Reply | str:
        first.append(asyncio.get_running_loop().time())
        return failing("slow down", 429, **headers) if len(first) == 1 else "An answer."

    async with replying_server(served(said)) as server:
        answer = await Mixture(recipe(server, "vote", ("one",)), env={}).ask(QUESTION)
    assert answer.text == "An answer."
    assert least <= first[1] - first[0] < 5


@pytest.mark.parametrize("wait", ["61", "7.66", "420"])
async def test_a_wait_of_any_length_is_handed_on_where_the_deadline_is_sooner(wait: str) -> None:
    """A wait above sixty seconds is not obeyed; a failure comes as status 500, so that nobody sees 429."""
    async with replying_server(served(lambda _body: failing("slow down", 429, Retry_After=wait))) as server:
        with pytest.raises(NoAnswerError) as caught:
            await Mixture(recipe(server, deadline=2.0), env={}).ask(QUESTION)
        assert len(server.bodies) == 4  # the writer is asked alone, in the end
    assert caught.value.status == 429
    assert caught.value.retry_after is not None
    assert abs(caught.value.retry_after - float(wait)) < 2
    assert all(isinstance(failure, RateLimitedError) for failure in caught.value.failures)


async def test_a_key_that_is_refused_is_sent_once_a_proposer_and_is_an_error() -> None:
    """Four calls with a bad key, and then status 200 with the error as the answer; 401 tried again for a minute."""
    env = {"MIXTURA_API_KEY": "gsk_very_secret_key_9"}
    async with replying_server(served(lambda _body: failing("bad key gsk_very_secret_key_9", 401))) as server:
        with pytest.raises(NoAnswerError) as caught:
            await Mixture(recipe(server), env=env).ask(QUESTION)
        assert len(server.bodies) <= 3
        assert set(server.keys) == {"gsk_very_secret_key_9"}
    assert caught.value.status == 401
    assert all(isinstance(failure, UnauthorizedError) for failure in caught.value.failures)
    assert "very_secret" not in str(caught.value) + repr(caught.value.failures)


BAD_WRITERS = [
    pytest.param(lambda: failing("boom", 400), id="refused"),
    pytest.param(lambda: as_json({"id": "x", "choices": []}), id="without choices"),
    pytest.param(lambda: whole(None), id="null"),
    pytest.param(lambda: whole(""), id="empty"),
    pytest.param(lambda: whole("The best index is the", "length"), id="cut off"),
    pytest.param(lambda: whole("I'm sorry, but I can't help with that."), id="a refusal"),
    pytest.param(
        lambda: whole("", "length", message={"reasoning": "All show reasonable approaches"}), id="reasoning alone"
    ),
]


@pytest.mark.parametrize("reply", BAD_WRITERS)
async def test_a_writer_that_fails_gives_way_to_a_draft_and_says_so(reply: Callable[[], Reply]) -> None:
    """An invented sentence in place of a critique; draft one without a word; an error as the answer."""

    def said(body: dict[str, Any]) -> Reply | str:
        return reply() if body["model"] == "writer" else by_model(body)

    async with replying_server(served(said)) as server:
        answer = await Mixture(recipe(server), env={}).ask(QUESTION)
    assert re.fullmatch(r"marker-(one|two|three) speaks of trees\.", answer.text)
    assert answer.warnings
    assert "reasonable approaches" not in answer.text


async def test_where_every_call_fails_there_is_no_answer_and_an_error() -> None:
    """All dead becomes an empty text."""
    async with replying_server(served(lambda _body: failing("boom", 400))) as server:
        with pytest.raises(NoAnswerError) as caught:
            await Mixture(recipe(server), env={}).ask(QUESTION)
        assert len(server.bodies) == 4  # the writer is asked alone, in the end
    assert len(caught.value.failures) == 4
    assert caught.value.status == 400


@pytest.mark.parametrize("kind", ["synthesize", "vote", "select"])
async def test_no_call_is_made_or_billed_twice(kind: AggregatorKind) -> None:
    """Six calls for one, since nothing ended the loop after a success."""
    async with replying_server(served(by_model)) as server:
        answer = await Mixture(recipe(server, kind), env={}).ask(QUESTION)
        counts = Counter(body["model"] for body in server.bodies)
    assert all(count == 1 for count in counts.values())
    assert answer.usage.total_tokens == 12 * len(server.bodies)


async def test_questions_at_once_and_in_turn_know_nothing_of_each_other() -> None:
    """One conversation for all runs; results in the order in which they came; a request's settings kept for all."""

    def said(body: dict[str, Any]) -> str:
        (secret,) = set(re.findall(r"secret-[a-z]+", texts([body])))
        return f"{body['model']} heard {secret}."

    async with replying_server(served(said)) as server:
        mixture = Mixture(recipe(server), env={})
        names = ["secret-alpha", "secret-beta", "secret-gamma", "secret-delta"]
        asking = [
            mixture.ask(f"Say {name}.", options=ChatOptions(temperature=0.1 * place))
            for place, name in enumerate([*names, *names])
        ]
        answers = await asyncio.gather(*asking)
        plain = await mixture.ask("Say secret-omega.")
        assert "temperature" not in server.bodies[-1]
    for name, answer in zip([*names, *names], answers, strict=True):
        assert answer.text == f"writer heard {name}."
        assert [draft.text for draft in answer.drafts] == [f"{model} heard {name}." for model in MODELS]
    assert plain.text == "writer heard secret-omega."


async def test_drafts_keep_the_recipes_order_whichever_comes_first() -> None:
    """The order of completion decides whose draft is whose; labels are shuffled, and nobody can say who wrote what."""
    first = iter([True])

    def said(body: dict[str, Any]) -> Reply | str:
        late = body["model"] == "one" and next(first, False)
        return failing("busy", 503, Retry_After="0.05") if late else by_model(body)

    async with replying_server(served(said)) as server:
        answer = await Mixture(recipe(server), env={}).ask(QUESTION)
    assert [draft.model for draft in answer.drafts] == list(MODELS)
    assert [draft.text for draft in answer.drafts] == [f"marker-{model} speaks of trees." for model in MODELS]
