"""Model files in this process: real llama.cpp, small files with random weights."""

import asyncio
import gc
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.gguf_files import TOOL_TEMPLATE, Shape, write_gguf

from local_models import busy, idle, request_of, until
from mixtura import Mixture, Recipe
from mixtura.chat import ChatOptions, ChatRequest, Completion, Delta, JsonObject, Message
from mixtura.errors import ConfigError, RejectedError, TimedOutError, TooLargeError
from mixtura.models.local.model import LocalModel
from mixtura.models.local.provider import local_model
from mixtura.models.local.request import body_of
from mixtura.models.local.settings import RequestedSettings
from mixtura.models.registry import ModelRegistry
from mixtura.recipe import Aggregator, Layer, Proposer

pytestmark = pytest.mark.models

LONG = ChatOptions(extra={"ignore_eos": True})
SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2, 3]}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model small enough to load in a few milliseconds."""
    return write_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="module")
def slow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes a while: about 2 ms a token."""
    shape = Shape(width=512, layers=6, heads=8, kv_heads=8, hidden=1024, context=4096)
    return write_gguf(tmp_path_factory.mktemp("models") / "slow.gguf", shape)


async def test_a_file_answers_with_usage_times_and_no_price(file: Path) -> None:
    served = ModelRegistry(env={}).find("local", str(file))
    done = await served.chat.chat(request_of(options=LONG))  # by chance it may end sooner
    assert done.text
    assert (done.finish_reason, done.usage.completion_tokens, done.usage.prompt_tokens) == ("length", 16, 5)
    assert (done.cost, done.model, done.attempts, done.extra) == (0.0, "m", 1, {})
    assert 0 < done.usage.completion_time < done.timing.total
    assert done.timing.first_token is None
    assert not done.usage.estimated
    assert (served.card.window, served.accounting) == (2048, None)


async def test_a_mixture_of_three_drafts_from_one_file_is_answered(file: Path) -> None:
    at: dict[str, Any] = {"provider": "local", "model": str(file), "max_tokens": 12}
    recipe = Recipe(
        name="here",
        layers=(Layer(proposers=tuple(Proposer(**at) for _ in range(3))),),
        aggregator=Aggregator(**at),
    )
    answer = await Mixture(recipe, env={}).ask("hi")
    assert answer.text
    assert answer.cost == 0.0
    assert answer.n_calls == 4
    assert len({draft.text for draft in answer.drafts}) > 1


async def test_what_is_streamed_is_what_is_returned(file: Path) -> None:
    model = local_model(file, {})
    pieces: list[Delta] = []
    done = await model.chat(request_of(max_tokens=40), emit=pieces.append)
    assert "".join(piece.text for piece in pieces) == done.text
    assert len(pieces) > 5
    assert done.timing.first_token is not None
    assert 0 < done.timing.first_token <= done.timing.total


async def test_a_listener_that_raises_stops_the_call(file: Path) -> None:
    model = local_model(file, {})

    def emit(_: Delta) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await model.chat(request_of(max_tokens=1500, options=LONG), emit=emit)
    await until(lambda: idle(model.llama))


async def test_a_seed_gives_the_same_text_alone_and_among_others(file: Path) -> None:
    model = local_model(file, {})
    first = await model.chat(request_of(seed=7, temperature=1.0, max_tokens=40))
    others = [model.chat(request_of(f"other {n}", seed=n, temperature=1.0, max_tokens=60)) for n in range(3)]
    again, *rest = await asyncio.gather(model.chat(request_of(seed=7, temperature=1.0, max_tokens=40)), *others)
    assert again.text == first.text
    assert first.seed == 7
    assert len({done.text for done in [first, *rest]}) == 4


async def test_without_a_seed_drafts_differ(file: Path) -> None:
    model = local_model(file, {})
    drafts = await asyncio.gather(*(model.chat(request_of(temperature=1.0, max_tokens=30)) for _ in range(4)))
    assert len({done.text for done in drafts}) == 4


async def test_calls_beyond_the_slots_wait_in_the_queue(slow_file: Path) -> None:
    model = local_model(slow_file, {}, requested=RequestedSettings(slots=2, threads=1))
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.005)

    await model.chat(request_of(max_tokens=1))
    beating = asyncio.create_task(beat())
    calls = [asyncio.create_task(model.chat(request_of(max_tokens=60, options=LONG))) for _ in range(6)]
    most = 0
    while not all(call.done() for call in calls):
        most = max(most, sum(slot["is_processing"] for slot in await model.llama.slots()))
        await asyncio.sleep(0.01)
    beating.cancel()
    queued = sorted(call.result().usage.queue_time for call in calls)
    assert most == 2
    # On a busy machine a call may begin when an earlier one is over; the last of six cannot have done so.
    assert queued[0] < 0.02 < queued[5]
    assert beats > 10, "the event loop was blocked"


@pytest.mark.parametrize("watched", [False, True])
async def test_a_cancelled_call_stops_generating_and_frees_its_slot(slow_file: Path, watched: bool) -> None:
    model = local_model(slow_file, {}, requested=RequestedSettings(slots=1))
    await model.chat(request_of(max_tokens=1))
    call = asyncio.create_task(
        model.chat(request_of(max_tokens=4000, options=LONG), emit=(lambda _: None) if watched else None)
    )
    waiting = asyncio.create_task(model.chat(request_of(max_tokens=4000)))
    await until(lambda: busy(model.llama))
    waiting.cancel()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: idle(model.llama), 1.0)
    assert (await model.chat(request_of(max_tokens=3))).usage.completion_tokens == 3


async def test_a_cancelled_call_stops_while_its_prompt_is_read(slow_file: Path) -> None:
    model = local_model(slow_file, {}, requested=RequestedSettings(slots=1, threads=1))
    await model.chat(request_of(max_tokens=1))
    call = asyncio.create_task(model.chat(request_of("y" * 4000, max_tokens=4)))
    await until(lambda: busy(model.llama))
    call.cancel()
    await until(lambda: idle(model.llama), 1.0)


async def test_the_deadline_stops_running_and_queued_calls(slow_file: Path) -> None:
    model = local_model(slow_file, {}, requested=RequestedSettings(slots=1))
    await model.chat(request_of(max_tokens=1))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    calls = [model.chat(request_of(max_tokens=4000, options=LONG), deadline=begun + 0.2) for _ in range(2)]
    for problem in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(problem, TimedOutError)
    assert loop.time() - begun < 5.0, "4,000 tokens take far longer"
    await until(lambda: idle(model.llama), 5.0)


async def test_a_prompt_longer_than_a_slot_says_both_sizes(file: Path) -> None:
    model = local_model(file, {}, requested=RequestedSettings(context=256))
    with pytest.raises(TooLargeError, match="has 3003 tokens and a slot holds 256: shorten it") as caught:
        await model.chat(request_of("x" * 3000))
    assert caught.value.action == "drop"


async def test_json_follows_its_schema(file: Path) -> None:
    model = local_model(file, {})
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA}}
    for seed in range(3):
        done = await model.chat(
            request_of(max_tokens=200, seed=seed, options=ChatOptions(response_format=form)),
        )
        found = json.loads(done.text)
        assert isinstance(found["ok"], bool)
        assert found["n"] in (1, 2, 3)


async def test_an_invalid_schema_is_refused_with_the_reason(file: Path) -> None:
    model = local_model(file, {})
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": {"type": "nonsense"}}}
    with pytest.raises(RejectedError, match="unrecognized type"):
        await model.chat(request_of(options=ChatOptions(response_format=form)))
    assert (await model.chat(request_of(max_tokens=8, seed=1))).text


async def test_tools_reach_the_template(tmp_path: Path) -> None:
    # llama.cpp lets a model write text before a tool call, and random weights do that until their last token.
    model = local_model(write_gguf(tmp_path / "tools.gguf", template=TOOL_TEMPLATE), {})
    tool = {"type": "function", "function": {"name": "note", "description": "Note it.", "parameters": SCHEMA}}
    plain = await model.chat(request_of(max_tokens=4))
    for choice in ("auto", "required"):
        done = await model.chat(request_of(max_tokens=4, options=ChatOptions(tools=[tool], tool_choice=choice)))
        assert done.usage.prompt_tokens > plain.usage.prompt_tokens + len(json.dumps(tool)) / 2
    broken: JsonObject = {"type": "function", "function": {"name": "x", "parameters": {"type": "nonsense"}}}
    with pytest.raises(RejectedError):
        await model.chat(request_of(options=ChatOptions(tools=[broken], tool_choice="required")))


async def test_a_stop_word_ends_the_answer(file: Path) -> None:
    model = local_model(file, {})
    whole = await model.chat(request_of(seed=5, temperature=1.0, max_tokens=60))
    word = next(letter for letter in whole.text[3:] if letter.isascii() and letter.isprintable())
    cut = await model.chat(request_of(seed=5, temperature=1.0, max_tokens=60, options=ChatOptions(stop=[word])))
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.index(word)]


async def test_a_template_that_rejects_the_messages_gives_its_reason(tmp_path: Path) -> None:
    template = (
        "{%- for m in messages -%}{%- if 'please' in m.content -%}{{ raise_exception('no begging here') }}"
        "{%- endif -%}<|{{ m.role }}|>{{ m.content }}<|end|>{%- endfor -%}<|assistant|>"
    )
    model = local_model(write_gguf(tmp_path / "strict.gguf", template=template), {})
    assert (await model.chat(request_of())).text
    with pytest.raises(RejectedError, match="no begging here"):
        await model.chat(request_of("please"))


def test_sampling_is_plain_unless_asked_otherwise() -> None:
    body = json.loads(body_of(request_of(temperature=0.7)))
    assert (body["temperature"], body["top_k"], body["top_p"], body["min_p"]) == (0.7, 0, 1.0, 0.0)
    assert "cache_prompt" not in body
    assert "temperature" not in json.loads(body_of(request_of()))
    extra = ChatOptions(extra={"min_p": 0.1, "stream": False, "n": 3, "temperature": 0.1}, stop="x", user="me")
    body = json.loads(body_of(request_of(top_p=0.9, temperature=0.7, seed=3, options=extra)))
    assert (body["top_p"], body["min_p"], body["temperature"], body["stop"]) == (0.9, 0.1, 0.1, "x")
    assert (body["stream"], body["cache_prompt"], "n" in body) == (True, False, False)
    developer = ChatRequest(model="m", messages=(Message(role="developer", content="\ud800"),), reasoning_effort="low")
    body = json.loads(body_of(developer))
    assert body["messages"] == [{"role": "system", "content": "\ufffd"}]
    assert body["chat_template_kwargs"] == {"reasoning_effort": "low"}


async def test_tokens_and_template_can_be_asked(file: Path) -> None:
    llama = local_model(file, {}).llama
    assert len(await llama.tokenize("hello")) == 5
    assert len(await llama.tokenize("<|end|>", special=True)) == 1
    assert len(await llama.tokenize("<|end|>")) == 7
    assert await llama.tokenize("") == []
    assert await llama.apply_template([Message(role="user", content="hé")]) == "<|user|>hé<|end|><|assistant|>"


async def test_models_of_a_file_with_equal_settings_share_one_server(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.gguf"
    link.symlink_to(file)
    one, two = local_model(file, {}), local_model(link, {"MIXTURA_LOCAL_SLOTS": "4"})
    assert one.llama is two.llama
    assert local_model(file, {"MIXTURA_LOCAL_SLOTS": "2"}).llama is not one.llama
    assert local_model(file, {}, requested=RequestedSettings(slots=4)).llama is one.llama


async def test_a_file_without_references_is_freed(file: Path, folders: Callable[[], set[Path]]) -> None:
    before = folders()
    model: LocalModel | None = local_model(file, {}, requested=RequestedSettings(slots=3))
    assert model is not None
    await model.chat(request_of(max_tokens=1))
    assert len(folders() - before) == 1
    model = None
    for _ in range(100):
        # The thread of the call lets go of its last reference a moment after the call is over.
        gc.collect()
        if folders() == before:
            break
        await asyncio.sleep(0.01)
    assert folders() == before


async def test_a_file_that_was_replaced_is_loaded_anew(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf", seed=1)
    registry = ModelRegistry(env={})

    async def says(registry: ModelRegistry) -> Completion:
        return await registry.find("local", str(path)).chat.chat(request_of(seed=1))

    old = await says(registry)
    path.unlink()
    write_gguf(path, seed=2)
    assert (await says(registry)).text == old.text
    assert (await says(ModelRegistry(env={}))).text != old.text


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], set[Path]]]:
    """Return the private socket folders that exist now."""
    with tempfile.TemporaryDirectory(prefix="mx", dir="/tmp") as place:
        monkeypatch.setattr(tempfile, "tempdir", place)
        yield lambda: set(Path(place).glob("mixtura-local-*"))


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"MIXTURA_LOCAL_THREADS": "two"}, "MIXTURA_LOCAL_THREADS: expected a whole number, got 'two'"),
        ({"MIXTURA_LOCAL_SLOTS": "0"}, "slots: expected 1 to 64, got 0"),
        ({"MIXTURA_LOCAL_CONTEXT": "1"}, "context: expected 64 to"),
    ],
)
def test_settings_out_of_bounds_are_refused(file: Path, env: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ModelRegistry(env=env).find("local", str(file))


def test_the_context_is_the_file_s_and_no_more(file: Path) -> None:
    assert local_model(file, {"MIXTURA_LOCAL_CONTEXT": "100000"}).llama.settings.context == 2048
    assert local_model(file, {}).llama.settings.slots == 4


def test_a_card_never_fails(file: Path) -> None:
    registry = ModelRegistry(env={})
    assert registry.card("local", str(file)).window == 2048
    assert registry.card("local", "nobody").window is None
    assert registry.card("local", "nobody").price is not None


async def test_a_model_of_this_process_has_no_address() -> None:
    with pytest.raises(ConfigError, match="has no address"):
        ModelRegistry(env={}).endpoint("local")
