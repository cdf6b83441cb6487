"""How much of the drafts a reader is shown: all that its window holds, and no more."""

import random
import re

import pytest

from asking import World
from mixtura import (
    Aggregator,
    Answer,
    ChatOptions,
    ChatRequest,
    Completion,
    Layer,
    Mixture,
    ModelCard,
    Policy,
    Price,
    Proposer,
    Recipe,
    Usage,
)
from mixtura.chat import JsonObject
from mixtura.decisions import TrimmedDetail
from mixtura.errors import TooLargeError
from mixtura.models.base import Emit
from mixtura.models.served import Served
from mixtura.recipe import Tools
from mixtura.sim import Reply, ToolCall
from mixtura.tokens import estimate_messages, estimate_tokens
from mixtura.virtual import run_virtual

WORDS = ["index", "disk", "row", "page", "tree", "log", "write", "read", "merge", "sort", "key", "value", "block"]
TEXTS = [" ".join(random.Random(seed).choices(WORDS, k=1500)) for seed in range(3)]


class Readers:
    """Three writers of long drafts, and a reader whose window and output are what a test says."""

    def __init__(self, window: int | None, output: int | None = None, refuses: int = 0) -> None:
        self.window = window
        self.output = output
        self.refuses = refuses
        self.read: list[str] = []
        self.tokens: list[int] = []
        self.asked: list[int | None] = []

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        if request.model.startswith("writer"):
            text = TEXTS[int(request.model[-1])]
            return Completion(model=request.model, text=text, usage=Usage(completion_tokens=9))
        self.read.append(request.messages[-1].text)
        self.tokens.append(estimate_messages(request.messages))
        self.asked.append(request.max_tokens)
        if len(self.read) <= self.refuses:
            raise TooLargeError("own", "reader", "too large")
        return Completion(model="reader", text="Short.", usage=Usage(completion_tokens=9))

    def find(self, provider: str, model: str) -> Served:
        return Served(self, self.card(provider, model))

    def card(self, provider: str, model: str) -> ModelCard:
        reads = model == "reader"
        return ModelCard(
            id=model,
            provider=provider,
            window=self.window if reads else None,
            max_output=self.output if reads else None,
            price=Price(input=0.0, output=0.0),
        )

    def replacement(self, provider: str, model: str) -> str | None:
        return None


def ask(
    models: Readers, *, kind: str = "synthesize", most: int | None = None, options: ChatOptions | None = None
) -> Answer:
    slots = tuple(Proposer(model=f"writer{n}", provider="own") for n in range(3))
    told = Recipe(
        layers=(Layer(proposers=slots),),
        aggregator=Aggregator(kind=kind, model="reader", provider="own", max_tokens=most),  # type: ignore[arg-type]
        policy=Policy(hedge=False, deadline=60.0),
    )
    return run_virtual(Mixture(told, models=models).ask("Which index?", options=options or ChatOptions()))


@pytest.mark.parametrize(
    ("window", "output", "most", "options", "reply"),
    [
        (4000, None, 700, None, 700),
        # Without any limit a quarter of the window is left for the reply.
        (4000, None, None, None, 1000),
        (6000, 100_000, None, None, 2048),
        (4000, 600, 900, None, 600),
        (4000, None, 700, ChatOptions(max_tokens=300), 300),
    ],
)
def test_drafts_fill_what_the_window_leaves_beside_the_prompt_and_the_reply(
    window: int, output: int | None, most: int | None, options: ChatOptions | None, reply: int
) -> None:
    models = Readers(window, output)
    answer = ask(models, most=most, options=options)
    (tokens,) = models.tokens
    assert int(window * 0.94) - reply - 120 < tokens <= int(window * 0.94) - reply
    (trimmed,) = [said for said in answer.decisions if said.kind == "trimmed"]
    assert isinstance(trimmed.detail, TrimmedDetail)
    assert trimmed.detail.model == "reader"
    assert trimmed.reason == "3 of 3 drafts shortened to fit what reader reads"
    assert not trimmed.warning
    assert sorted(trimmed.detail.characters_left_out) == [0, 1, 2]
    for call, count in trimmed.detail.characters_left_out.items():
        (shown,) = re.findall(rf"(?s)draft \w>\n({TEXTS[call][:40]}.*?)\n</", models.read[0])
        head, _, tail = shown.partition(f"\n[... {count} characters left out ...]\n")
        assert TEXTS[call].startswith(head)
        assert TEXTS[call].endswith(tail)
        assert len(head) + len(tail) + count == len(TEXTS[call])


def test_a_selector_leaves_room_for_the_reply_of_a_draft() -> None:
    models = Readers(5000, 100_000)
    ask(models, kind="select")
    assert models.asked == [1024]
    assert int(5000 * 0.94) - 1024 - 120 < models.tokens[0] <= int(5000 * 0.94) - 1024


@pytest.mark.parametrize("window", [None, 40_000])
def test_a_reader_that_finds_the_drafts_too_large_is_shown_two_fifths_of_them(window: int | None) -> None:
    models = Readers(window, refuses=1)
    answer = ask(models, most=500)
    whole = sum(map(estimate_tokens, TEXTS))
    first, second = models.tokens
    assert first > whole
    assert 0.6 * whole - 100 < first - second < 0.6 * whole + 100
    assert (answer.text, answer.status) == ("Short.", "ok")


def test_a_reader_whose_window_is_smaller_than_two_fifths_is_shown_what_it_holds() -> None:
    models = Readers(2500, refuses=1)
    ask(models, most=500)
    assert models.tokens[0] == models.tokens[1]


def test_a_reader_that_refuses_twice_is_not_asked_again() -> None:
    models = Readers(None, refuses=9)
    assert ask(models, most=500).status == "partial"
    assert len(models.read) == 2


def test_what_fits_is_shown_whole() -> None:
    models = Readers(20_000)
    answer = ask(models, most=500)
    assert "trimmed" not in [said.kind for said in answer.decisions]
    assert all(text in models.read[0] for text in TEXTS)


def test_text_and_calls_of_a_draft_are_shown_one_below_the_other(world: World) -> None:
    tool: JsonObject = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    large = "openai/gpt-oss-120b"

    def reply(request: JsonObject, call: int) -> Reply | str:
        if request["model"] == large:
            return "Sunny."
        arguments = f'{{"day":{call}}}'
        return Reply(text=f"Let me look ({call}).", tool_calls=(ToolCall(name="weather", arguments=arguments),))

    told = Recipe(
        layers=(Layer(proposers=(Proposer(model="openai/gpt-oss-20b", samples=2),)),),
        aggregator=Aggregator(model=large),
        tools=Tools(policy="agree"),
    )
    ran = world(told, "Weather?", reply=reply, options=ChatOptions(tools=[tool]))
    shown = ran.prompts(large)[0][-1]["content"]
    assert 'Let me look (1).\n[Calls weather({"day":1})]\n</' in shown
    assert 'Let me look (2).\n[Calls weather({"day":2})]\n</' in shown
