"""Who watches what: no call is streamed for a listener that does not say so; an unseen stream is read late."""

import asyncio
import logging
import time
from typing import Any

import pytest

from asking import GEMMA, LLAMA, SEVENTY, World
from mixtura import Aggregator, ConfigError, InputError, Layer, Mixture, Policy, Proposer, Recipe
from mixtura.chat import JsonObject
from mixtura.events import AnswerDelta, CallDelta, Decision, Event, Listener, RunFinished
from mixtura.sim import Reply, SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

PLAIN = Recipe(
    layers=(Layer(proposers=(Proposer(model=LLAMA, samples=2), Proposer(model=GEMMA))),),
    aggregator=Aggregator(model=SEVENTY),
)


def ask(
    recipe: Recipe = PLAIN, *listeners: Listener, sim: SimOptions | None = None, stream: bool = False, **asked: Any
) -> tuple[list[Event], SimulatedCloud]:
    """Ask once, by `ask` or by `stream`; return the events that a reader got, and the cloud."""
    read: list[Event] = []

    async def main() -> SimulatedCloud:
        async with simulated_cloud(sim or SimOptions(unlimited=True, tokens=30, profile="rate:100")) as cloud:
            env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}
            mixture = Mixture(recipe, env=env, listeners=listeners)
            if stream:
                async with mixture.stream("Why?", **asked) as run:
                    read.extend([event async for event in run])
            else:
                await mixture.ask("Why?", **asked)
            return cloud

    cloud = run_virtual(main())
    return read, cloud


def streamed(cloud: SimulatedCloud) -> list[str]:
    """The models whose calls were streamed, in order."""
    return [body["model"] for body in cloud.requests if body.get("stream")]


class Watcher:
    """A listener that says what it watches."""

    def __init__(self, watches: str) -> None:
        self.watches = watches
        self.heard: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.heard.append(event)


def test_a_listener_has_no_call_streamed_unless_it_says_so() -> None:
    heard: list[Event] = []
    _, cloud = ask(PLAIN, heard.append)
    assert streamed(cloud) == []
    assert not any(isinstance(event, CallDelta | AnswerDelta) for event in heard)
    assert isinstance(heard[-1], RunFinished)
    answer, calls = Watcher("answer"), Watcher("calls")
    _, cloud = ask(PLAIN, answer)
    assert streamed(cloud) == [SEVENTY]
    assert len([event for event in answer.heard if isinstance(event, AnswerDelta)]) > 5
    _, cloud = ask(PLAIN, calls, answer)
    assert len(streamed(cloud)) == 4
    with pytest.raises(ConfigError, match="listener 'Watcher' watches 'all': expected one of nothing, answer, calls"):
        Mixture(PLAIN, env={}, listeners=[Watcher("all")])


@pytest.mark.parametrize(("watch", "calls", "answers"), [("calls", True, True), ("answer", False, True)])
def test_a_reader_of_the_answer_pays_for_no_draft(watch: str, calls: bool, answers: bool) -> None:
    events, cloud = ask(stream=True, watch=watch)
    assert len(streamed(cloud)) == (4 if calls else 1)
    assert any(isinstance(event, CallDelta) for event in events) is calls
    assert (sum(isinstance(event, AnswerDelta) for event in events) > 5) is answers


def test_a_stream_that_nobody_reads_as_it_is_written_has_whole_events_only() -> None:
    events, cloud = ask(stream=True, watch="nothing")
    assert streamed(cloud) == []
    assert not any(isinstance(event, CallDelta | AnswerDelta) for event in events)
    with pytest.raises(InputError, match="watch: expected one of nothing, answer, calls, got 'all'"):
        ask(watch="all")


def slow(request: JsonObject, _call: int) -> Reply:
    if request["model"] == GEMMA:
        return Reply(text="<think>A short thought.</think>" + "It is a long story, and it goes on and on. " * 40)
    return Reply(text="A whole draft, quickly written.")


PROTECTED = Policy(deadline=60.0, quorum=2, grace=3.0)


@pytest.mark.parametrize("watch", ["nothing", "answer", "calls"])
def test_what_a_straggler_had_written_is_the_same_whoever_watches(watch: str) -> None:
    recipe = Recipe(layers=PLAIN.layers, aggregator=PLAIN.aggregator, policy=PROTECTED)
    kept: list[Event] = []

    async def main() -> tuple[Any, int]:
        sim = SimOptions(unlimited=True, reply=slow, profile=f"rate:200,{GEMMA}=rate:20")
        async with simulated_cloud(sim) as cloud:
            env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}
            answer = await Mixture(recipe, env=env, listeners=[kept.append]).ask("Why?", watch=watch)  # type: ignore[arg-type]
            await cloud.ledger.wait_idle()
            return answer, cloud.ledger.completion_tokens[GEMMA]

    answer, billed = run_virtual(main())
    (cut,) = [draft for draft in answer.drafts if draft.incomplete]
    assert cut.text.startswith("It is a long story")
    assert cut.reasoning == "A short thought."
    # Pieces of a tag that opens or closes thinking are held back until it is whole, and not counted one by one.
    assert 50 < cut.usage.completion_tokens <= billed <= cut.usage.completion_tokens + 8


@pytest.mark.parametrize("watch", ["nothing", "calls"])
@pytest.mark.parametrize(("fault", "words"), [("stall=12", "next"), ("silent", "first")])
def test_silence_is_noticed_at_the_same_moment_whoever_watches(watch: str, fault: str, words: str) -> None:
    policy = Policy(deadline=60.0, first_token=4.0, between_tokens=2.0)
    recipe = Recipe(
        layers=(Layer(proposers=(Proposer(model=LLAMA), Proposer(model=GEMMA))),),
        aggregator=PLAIN.aggregator,
        policy=policy,
    )
    sim = SimOptions(unlimited=True, tokens=60, profile="rate:20", faults=f"{fault}:{GEMMA}")
    events, _ = ask(recipe, sim=sim, stream=True, watch=watch)
    failed = [event for event in events if type(event).__name__ == "CallFailed"]
    assert f"its {words} token did not come within" in failed[-1].failure.reason  # type: ignore[union-attr]
    # Twelve tokens at 20 a second, then two seconds of silence; or four seconds without a first one; tried twice.
    again = next(event.at for event in events if isinstance(event, Decision) and event.kind == "hedged")
    expected = [2.6, 5.2] if words == "next" else [4.0, 8.0]
    assert [again, failed[-1].at] == pytest.approx(expected, abs=0.3)


def test_a_listener_hears_how_a_run_ends_that_its_reader_left() -> None:
    heard: list[Event] = []

    async def main() -> None:
        async with simulated_cloud(SimOptions(unlimited=True, tokens=50, profile="rate:50")) as cloud:
            env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}
            async with Mixture(PLAIN, env=env, listeners=[heard.append]).stream("Why?") as run:
                async for event in run:
                    if isinstance(event, CallDelta):
                        break

    run_virtual(main())
    names = [type(event).__name__ for event in heard]
    assert names.count("CallStarted") == names.count("CallFinished") + names.count("CallFailed") == 3
    assert heard[-1] == RunFinished(at=heard[-1].at, status="failed", error="the run was stopped")


def test_a_listener_that_blocks_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    class Blocks:
        def __call__(self, event: Event) -> None:
            time.sleep(0.15)

    async def main() -> None:
        async with simulated_cloud(SimOptions(unlimited=True)) as cloud:
            env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}
            await Mixture("single", env=env, listeners=[Blocks()]).ask("Why?")

    with caplog.at_level(logging.WARNING, "mixtura"):
        asyncio.run(main())
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("listener 'Blocks' took 0.")
    assert "it holds up every call of this process" in said


def test_an_asynchronous_listener_is_refused_in_every_form() -> None:
    import functools

    async def listen(where: str, event: Event) -> None: ...

    class Async:
        async def __call__(self, event: Event) -> None: ...

    for listener, name in ((functools.partial(listen, "log"), "listen"), (Async(), "Async")):
        with pytest.raises(ConfigError, match=f"listener '{name}' is async"):
            Mixture(PLAIN, env={}, listeners=[listener])  # type: ignore[list-item]  # what a caller without types writes


def test_stream_and_ask_raise_the_same_error_with_the_same_answer(world: World) -> None:
    def failed(watched: bool) -> tuple[type, str, Any]:
        ran = world("classic", faults="400", watched=watched)
        assert ran.error is not None
        assert ran.error.answer is not None
        return type(ran.error), ran.error.message, ran.error.answer

    asked, streamed_ = failed(watched=False), failed(watched=True)
    assert asked[:2] == streamed_[:2]
    one, other = asked[2], streamed_[2]
    assert (one.status, one.error, one.usage, one.cost) == (other.status, other.error, other.usage, other.cost)
    assert [lost.kind for lost in one.failures] == [lost.kind for lost in other.failures]


def test_a_stream_knows_its_answer_at_any_time() -> None:
    async def main() -> None:
        async with simulated_cloud(SimOptions(unlimited=True, tokens=40, profile="rate:50")) as cloud:
            env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}
            async with Mixture(PLAIN, env=env).stream("Why?") as run:
                assert run.answer.status == "failed"
                async for event in run:
                    if isinstance(event, AnswerDelta):
                        break
                assert len(run.answer.drafts) == 3
                assert run.answer.text
                assert run.answer.error == "the run has not finished"
            assert run.answer.error == "the run was stopped"
            async with Mixture(PLAIN, env=env).stream("Why?") as run:
                async for _ in run:
                    pass
            assert run.answer.status == "ok"

    run_virtual(main())


class Heard(list[Event]):
    """A listener that equals every other one while both are empty."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self._error = error

    def __call__(self, event: Event) -> None:
        if self._error is not None:
            raise self._error
        self.append(event)


@pytest.mark.parametrize("error", [RuntimeError("x"), asyncio.CancelledError(), GeneratorExit()])
def test_the_listener_that_raises_is_the_one_left_out_whatever_it_raises(error: BaseException) -> None:
    good = Heard()
    ask(PLAIN, Heard(), good, Heard(error))
    assert [event for event in good if isinstance(event, RunFinished)] == good[-1:]
    assert isinstance(good[-1], RunFinished)
    assert good[-1].status == "ok"
