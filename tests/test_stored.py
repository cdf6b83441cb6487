"""Events that can be kept: a stored run is told, priced and asked again from its events alone."""

import hashlib

import msgspec
import pytest

from asking import World
from mixtura import ConfigError, Mixture, Recipe, fold
from mixtura.decisions import Detail, SynthesizedDetail
from mixtura.events import (
    SCHEMA,
    AnswerFinished,
    CallFinished,
    CallStarted,
    Decision,
    Event,
    RunStarted,
    UnknownEvent,
)
from mixtura.stored import decode_event, encode_event, read_events, write_events


@pytest.mark.parametrize("recipe", ["classic", "council", "vote", "cascade", "deep", "single", "self"])
def test_a_stored_run_folds_to_the_same_answer(world: World, recipe: str) -> None:
    ran = world(recipe, reply=world.by_model(llama="The answer is {n}.", gemma="The answer is 2.", seventy="It is 2."))
    again = list(read_events(write_events(ran.events)))
    assert again == ran.events
    assert fold(again) == ran.answer
    assert fold(again).to_json() == ran.answer.to_json()
    # By the type alone as well, as a reader without this module would do it.
    assert [msgspec.json.decode(encode_event(event), type=Event) for event in ran.events] == ran.events


def test_a_stored_run_says_what_was_run_and_what_was_asked(world: World) -> None:
    ran = world("classic", "Which index?", system="Be brief.", seed=3)
    started, calls = ran.events[0], [event for event in ran.events if isinstance(event, CallStarted)]
    assert isinstance(started, RunStarted)
    assert (started.recipe, started.schema) == (Recipe.named("classic"), SCHEMA)
    assert started.conversation is not None
    assert [said.text for said in started.conversation] == ["Be brief.", "Which index?"]
    assert [call.parameters.temperature for call in calls] == [0.7, 0.7, 0.7, 0.3]
    sent = [body["max_completion_tokens"] for body in ran.cloud.requests]
    assert [call.parameters.max_tokens for call in calls] == sent
    order = next(
        event.detail.order
        for event in ran.events
        if isinstance(event, Decision) and isinstance(event.detail, SynthesizedDetail)
    )
    assert calls[-1].reads == order
    # Asked again from what is stored, the run takes the same course.
    again = world(started.recipe, list(started.conversation), seed=3)
    assert [draft.text for draft in again.answer.drafts] == [draft.text for draft in ran.answer.drafts]


def test_a_stored_run_is_priced_from_its_events(world: World) -> None:
    from mixtura.models.registry import ModelRegistry

    ran = world("classic")
    cards = ModelRegistry(env={})
    total = 0.0
    for event in read_events(write_events(ran.events)):
        if isinstance(event, CallFinished):
            price = cards.card(event.done.provider, event.done.model).price
            assert price is not None
            total += price.cost(event.done.usage)
    assert total == pytest.approx(ran.answer.cost)


def test_a_reduced_run_stores_the_recipe_that_was_run(world: World) -> None:
    whole = Mixture("classic", env={}).forecast("Which index suits heavy writes?").cost
    assert whole is not None
    ran = world("classic", max_cost=whole / 2)
    started = ran.events[0]
    assert isinstance(started, RunStarted)
    assert "reduced" in ran.kinds
    assert started.recipe != Recipe.named("classic")
    assert started.recipe.layers[0].proposers[0].max_tokens is not None


def test_a_conversation_can_be_kept_out_of_the_events(world: World) -> None:
    import asyncio

    from mixtura.sim import SimOptions, simulated_cloud

    async def main() -> RunStarted:
        async with simulated_cloud(SimOptions(unlimited=True)) as cloud:
            env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}
            async with Mixture("single", env=env, record="digest").stream("A secret") as run:
                events = [event async for event in run]
        assert isinstance(events[0], RunStarted)
        assert b"A secret" not in write_events(events)
        return events[0]

    started = asyncio.run(main())
    assert started.conversation is None
    assert started.digest == hashlib.sha256(b'[{"role":"user","content":"A secret"}]').hexdigest()
    with pytest.raises(ConfigError, match="record: expected 'conversation' or 'digest', got 'all'"):
        Mixture("single", env={}, record="all")  # type: ignore[arg-type]  # what a caller without types writes


def test_an_answer_that_is_a_calls_text_is_stored_once(world: World) -> None:
    ran = world("classic", reply=world.by_model(llama="Draft {n}.", gemma="x", seventy="The one answer."))
    assert write_events(ran.events).count(b"The one answer.") == 1, "its pieces are single words"
    finished = next(event for event in ran.events if isinstance(event, AnswerFinished))
    assert (finished.text, finished.source) == (None, 3)
    assert ran.answer.text == "The one answer."
    # Where words were taken off its front it is not the call's text any more.
    led = world("classic", reply=world.by_model(llama="a", gemma="b", seventy="Based on the drafts, use a heap."))
    edited = next(event for event in led.events if isinstance(event, AnswerFinished))
    assert edited.text == led.answer.text == "Use a heap."


def test_fields_of_a_newer_schema_are_kept_when_an_older_version_writes_the_event_again(world: World) -> None:
    ran = world("council")
    for event in ran.events:
        raw = msgspec.json.decode(encode_event(event))
        raw["new"] = {"a": [1, {"b": 2}]}
        if isinstance(event, RunStarted):
            raw["schema"] = 99
            raw["recipe"]["layers"][0]["proposers"][1]["persona"] = "a critic"
            raw["recipe"]["policy"]["patience"] = 3
            raw["conversation"][0]["mood"] = "curious"
        if isinstance(event, CallFinished):
            raw["done"]["usage"]["audio_tokens"] = 7
        read = decode_event(msgspec.json.encode(raw))
        assert type(read) is type(event)
        assert msgspec.structs.replace(read, unknown=None, **({"schema": SCHEMA} if "schema" in raw else {})) == event
        assert msgspec.json.decode(encode_event(read)) == raw


@pytest.mark.parametrize("name", ["a`b", "` - at `$.recipe", "line\nend", "", "é"])
def test_a_field_of_any_name_is_read(world: World, name: str) -> None:
    raw = msgspec.json.decode(encode_event(world("classic").events[0]))
    raw["recipe"]["policy"][name] = 1
    line = msgspec.json.encode(raw)
    read = decode_event(line)
    assert msgspec.json.decode(encode_event(read)) == raw


def test_events_and_decisions_of_a_newer_schema_are_kept_and_named_in_the_answer(world: World) -> None:
    ran = world("classic")
    lines = write_events(ran.events).splitlines()
    newer = [b'{"event":"tool_ran","at":0.5,"tool":"search"}', b'{"event":"decision","kind":"debated","rounds":2}']
    events = list(read_events(b"\n".join([lines[0], *newer, b"", *lines[1:]])))
    assert [type(event) for event in events[1:3]] == [UnknownEvent, UnknownEvent]
    assert [encode_event(event) for event in events[1:3]] == newer
    answer = fold(events)
    assert answer.text == ran.answer.text
    assert answer.warnings == [
        "2 events are of a newer schema than this version reads and are left out: tool_ran, decision"
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not JSON"),
        (b"[1]", "expected an object with the key 'event'"),
        (b'{"event": "x", "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"event": 5}', "expected an object with the key 'event'"),
    ],
)
def test_a_line_that_is_no_event_is_refused_by_its_number(line: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match="line 2: ") as error:
        list(read_events(b'{"event":"answer_restarted"}\n' + line))
    assert said in error.value.message


def test_every_kind_of_decision_has_a_detail_of_its_own() -> None:
    from typing import get_args

    from mixtura.decisions import DecisionKind, kind_of

    assert {kind_of(detail()) for detail in get_args(Detail)} == set(get_args(DecisionKind))
