"""A reader who is slower than a run: what waits is bounded, and nothing is lost."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asking import World
from mixtura import Mixture
from mixtura.engine.delivery import EventQueue
from mixtura.events import AnswerDelta, AnswerRestarted, CallDelta, CallStarted, Event
from mixtura.folding import fold
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual

pieces = st.one_of(
    st.builds(CallDelta, call=st.integers(0, 3), text=st.text(max_size=3), reasoning=st.text(max_size=2)),
    st.builds(AnswerDelta, text=st.text(max_size=3), reasoning=st.text(max_size=2)),
)
others = st.one_of(
    st.just(AnswerRestarted()),
    st.builds(CallStarted, call=st.integers(0, 3), role=st.just("proposer"), model=st.just("m"), provider=st.just("p")),
)


def texts(events: list[Event]) -> list[object]:
    """What a reader learns: between two events of another kind, the text of each call and of the answer."""
    learnt: list[object] = []
    said: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, CallDelta | AnswerDelta):
            kept = said.setdefault(event.call if isinstance(event, CallDelta) else -1, ["", ""])
            kept[0] += event.text
            kept[1] += event.reasoning
        else:
            learnt += [{call: kept for call, kept in said.items() if any(kept)}, event]
            said = {}
    return [*learnt, {call: kept for call, kept in said.items() if any(kept)}]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(*[pieces] * 99, others), min_size=80, max_size=300),
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 60)), max_size=20),
)
def test_whatever_the_pace_of_the_reader_it_learns_the_same(events: list[Event], turns: list[tuple[int, int]]) -> None:
    async def read() -> list[Event]:
        queue, taken = EventQueue(), []
        left = list(events)
        for put, take in [*turns, (len(events), 0)]:
            for event in left[:put]:
                queue.put(event)
            del left[:put]
            taken += [await queue.get() for _ in range(min(take, len(queue)))]
        queue.close()
        while (last := await queue.get()) is not None:
            taken.append(last)
        return [event for event in taken if event is not None]

    assert texts(asyncio.run(read())) == texts(events)


async def test_what_waits_for_a_reader_does_not_grow_with_the_text() -> None:
    queue = EventQueue()
    for place in range(100_000):
        queue.put(CallDelta(call=place % 3, text="word "))
    assert len(queue) <= 64 + 3
    taken = [await queue.get() for _ in range(len(queue))]
    assert sum(len(event.text) for event in taken if isinstance(event, CallDelta)) == 500_000


async def test_a_merged_piece_has_the_time_of_its_last_and_all_that_was_said() -> None:
    queue = EventQueue()
    for _ in range(64):
        queue.put(AnswerRestarted())
    call = {"index": 0, "function": {"name": "look_up"}}
    for at in (1.0, 2.0, 3.0):
        queue.put(AnswerDelta(at=at, text=f"answer {at} ", reasoning=f"why {at} "))
        queue.put(CallDelta(at=at + 10.0, call=2, text=f"draft {at} ", tool_calls=[call] if at < 3.0 else None))
    queue.put(AnswerRestarted(at=20.0))
    queue.put(AnswerDelta(at=21.0, text="anew"))
    queue.close()
    taken = [await queue.get() for _ in range(69)]
    assert taken[64:] == [
        AnswerDelta(at=3.0, text="answer 1.0 answer 2.0 answer 3.0 ", reasoning="why 1.0 why 2.0 why 3.0 "),
        CallDelta(at=13.0, call=2, text="draft 1.0 draft 2.0 draft 3.0 ", tool_calls=[call, call]),
        AnswerRestarted(at=20.0),
        AnswerDelta(at=21.0, text="anew"),
        None,
    ]


async def test_merged_pieces_keep_the_reasoning_and_the_calls_of_every_text() -> None:
    queue = EventQueue()
    for _ in range(64):
        queue.put(AnswerRestarted())
    call = {"index": 0, "function": {"name": "look_up"}}
    for _ in range(2):
        queue.put(CallDelta(call=1, reasoning="hm "))
        queue.put(AnswerDelta(tool_calls=[call]))
    taken = [await queue.get() for _ in range(66)]
    assert taken[64:] == [CallDelta(call=1, reasoning="hm hm "), AnswerDelta(tool_calls=[call, call])]


async def test_a_piece_that_comes_when_the_ones_before_it_were_taken_is_an_event_of_its_own() -> None:
    queue = EventQueue()
    for _ in range(64):
        queue.put(AnswerRestarted())
    for text in ("one ", "two "):
        queue.put(CallDelta(call=1, text=text))
        queue.put(CallDelta(call=2, text=text))
    assert [await queue.get() for _ in range(66)][64:] == [
        CallDelta(call=1, text="one two "),
        CallDelta(call=2, text="one two "),
    ]
    queue.put(CallDelta(call=1, text="three"))
    queue.close()
    assert [await queue.get(), await queue.get()] == [CallDelta(call=1, text="three"), None]


async def test_sixty_three_events_wait_as_they_are() -> None:
    queue = EventQueue()
    for place in range(70):
        queue.put(CallDelta(call=0, text=f"{place} "))
    assert len(queue) == 65
    taken = [await queue.get() for _ in range(65)]
    assert taken[63] == CallDelta(call=0, text="63 ")
    assert taken[64] == CallDelta(call=0, text="64 65 66 67 68 69 ")


def test_a_reader_who_sleeps_gets_every_event_and_the_whole_text(world: World) -> None:
    async def main() -> tuple[list[Event], int]:
        options = SimOptions(unlimited=True, tokens=800, profile="rate:400")
        async with simulated_cloud(options) as cloud:
            env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}
            events: list[Event] = []
            async with Mixture("classic", env=env).stream("Why?") as run:
                async for event in run:
                    events.append(event)
                    await asyncio.sleep(0.2)
            return events, cloud.ledger.completion_tokens.total()

    events, billed = run_virtual(main())
    assert billed > 3000
    assert len(events) < 400
    answer = fold(events)
    assert answer.status == "ok"
    drafts = {draft.call: draft.text for draft in answer.drafts if not draft.incomplete}
    assert len(drafts) >= 2
    for call, text in drafts.items():
        assert "".join(event.text for event in events if isinstance(event, CallDelta) and event.call == call) == text
    assert "".join(event.text for event in events if isinstance(event, AnswerDelta)) == answer.text
