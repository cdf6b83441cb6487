"""The one door: ask, stream, sync, forecasts, budgets, conversations; in any loop, thread or none."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import groq
import msgspec
import pytest

import mixtura
from asking import World
from mixtura import (
    Answer,
    BudgetError,
    ChatRequest,
    Completion,
    Event,
    InputError,
    Message,
    MissingKeyError,
    Mixture,
    Policy,
    Recipe,
    RecipeError,
    fold,
)
from mixtura.models.base import Emit
from mixtura.models.served import Served
from mixtura.planning.schedule import count_calls
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual
from own_models import Echo, Echoes


@pytest.fixture
async def cloud() -> AsyncIterator[SimulatedCloud]:
    async with simulated_cloud(SimOptions(unlimited=True, profile="fixed:0.05")) as running:
        yield running


@pytest.fixture
def threaded_cloud() -> Iterator[SimulatedCloud]:
    """A cloud in a loop of its own, for code that has none."""
    ready: list[Any] = []
    up = threading.Event()

    async def main() -> None:
        async with simulated_cloud(SimOptions(unlimited=True, profile="fixed:0.3")) as running:
            stop = asyncio.Event()
            ready.extend([running, asyncio.get_running_loop(), stop])
            up.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    up.wait(10)
    yield ready[0]
    ready[1].call_soon_threadsafe(ready[2].set)
    thread.join(10)


def env(cloud: SimulatedCloud) -> dict[str, str]:
    return {"GROQ_API_KEY": "gsk_test", "GROQ_BASE_URL": cloud.url}


async def test_three_lines_give_an_answer(cloud: SimulatedCloud) -> None:
    answer = await Mixture("classic", env=env(cloud)).ask("Why is the sky blue?")
    assert answer.text
    assert answer.status == "ok"
    assert answer.run
    assert answer.started_at > 1.7e9
    assert 0.1 <= answer.seconds < 5


async def test_streaming_and_asking_come_to_the_same(cloud: SimulatedCloud) -> None:
    mixture = Mixture("classic", env=env(cloud))
    events = [event async for event in mixture.stream("Why?", seed=1)]
    streamed, asked = fold(events), await mixture.ask("Why?", seed=1)
    assert [draft.model for draft in streamed.drafts] == [draft.model for draft in asked.drafts]
    assert streamed.usage.prompt_tokens == asked.usage.prompt_tokens


async def test_listeners_hear_every_event_in_order(cloud: SimulatedCloud) -> None:
    heard: list[Event] = []
    mixture = Mixture("classic", env=env(cloud), listeners=[heard.append])
    answer = await mixture.ask("Why?")
    assert fold(heard) == answer
    heard.clear()
    events = [event async for event in mixture.stream("Why?")]
    assert heard == events


def test_the_sync_door_runs_proposers_in_parallel(threaded_cloud: SimulatedCloud) -> None:
    answer = Mixture("classic", env=env(threaded_cloud)).ask_sync("Why?")
    assert len(answer.drafts) == 3
    assert threaded_cloud.ledger.max_in_flight == 3


async def test_the_sync_door_works_inside_a_running_loop(threaded_cloud: SimulatedCloud) -> None:
    # As in a notebook: a loop is running, and the caller cannot await.
    assert Mixture("classic", env=env(threaded_cloud)).ask_sync("Why?").text


@pytest.mark.slow
def test_sync_from_many_threads_at_once(threaded_cloud: SimulatedCloud) -> None:
    mixture = Mixture("classic", env=env(threaded_cloud))
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(mixture.ask_sync("Why?"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(answers) == 8
    assert threaded_cloud.ledger.max_in_flight > 8


@pytest.mark.slow
def test_asyncio_run_leaves_nothing_open_and_warns_of_nothing(threaded_cloud: SimulatedCloud) -> None:
    program = (
        "import asyncio\nfrom mixtura import Mixture\n"
        "print(asyncio.run(Mixture('classic').ask('Why?')).status)\n"
        "print(asyncio.run(Mixture('classic').ask('Why?')).status)\n"
        "import mixtura\nprint(mixtura.ask('Why?', 'classic').status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=env(threaded_cloud),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("ok\nok\nok\n", "")


def test_the_sync_function_takes_keys_from_the_environment(
    threaded_cloud: SimulatedCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env(threaded_cloud).items():
        monkeypatch.setenv(name, value)
    assert mixtura.ask("Why?", "classic").status == "ok"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("", "the question is empty"),
        (" \n\t", "the question is empty"),
        ([], "the question is empty"),
        ("half a \ud83d pair", "a lone surrogate at character 8"),
        ([{"role": "wizard", "content": "hi"}], "message 1 of the conversation"),
        ([{"role": "user", "content": "hi"}, {"content": "no role"}], "message 2 of the conversation"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_one_sentence(cloud: SimulatedCloud, question: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        await Mixture("classic", env=env(cloud)).ask(question)
    assert cloud.requests == []


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
async def test_a_deadline_that_is_none_is_refused(cloud: SimulatedCloud, value: float) -> None:
    with pytest.raises(InputError, match="deadline: expected seconds above 0"):
        await Mixture("classic", env=env(cloud)).ask("Why?", deadline=value)


async def test_a_question_no_model_can_read_is_not_sent(cloud: SimulatedCloud) -> None:
    with pytest.raises(mixtura.NoAnswerError, match=r"the prompt is about [\d,]+ tokens and the model reads at most"):
        await Mixture("classic", env=env(cloud)).ask("word " * 400_000)
    assert cloud.requests == []


async def test_a_run_that_could_cost_too_much_sends_nothing(cloud: SimulatedCloud) -> None:
    strict = msgspec.structs.replace(Recipe.named("classic"), policy=Policy(when_limited=()))
    mixture = Mixture(strict, env=env(cloud))
    worst = mixture.forecast("Why?").cost
    assert worst is not None
    with pytest.raises(BudgetError, match="nothing was sent"):
        await mixture.ask("Why?", max_cost=worst * 0.99)
    with pytest.raises(BudgetError, match="nothing was sent"):
        await Mixture("classic", env=env(cloud)).ask("Why?", max_cost=1e-6)
    assert cloud.requests == []
    answer = await mixture.ask("Why?", max_cost=worst)
    assert answer.cost is not None
    assert answer.cost <= worst


async def test_a_budget_with_unknown_prices_sends_nothing(cloud: SimulatedCloud) -> None:
    recipe = Recipe.from_toml('[[proposers]]\nmodel = "deepseek-r1-distill-llama-70b"')
    with pytest.raises(BudgetError, match="no known price"):
        await Mixture(recipe, env=env(cloud)).ask("Why?", max_cost=100)
    assert cloud.requests == []


def test_a_forecast_counts_the_substitutes_that_may_be_asked() -> None:
    text = '[[proposers]]\nmodel = "llama-3.1-8b-instant"\n'
    plain = Mixture(Recipe.from_toml(text), env={}).forecast("Hi")
    replaced = Mixture(Recipe.from_toml(text + "[policy]\nsubstitute = true"), env={}).forecast("Hi")
    assert plain.cost is not None
    assert replaced.cost is not None
    assert replaced.cost > 5 * plain.cost
    assert replaced.completion_tokens == 4096


def test_a_forecast_needs_no_key_and_adds_up() -> None:
    forecast = Mixture("council", env={}).forecast("Why is the sky blue?")
    assert forecast.calls == count_calls(Recipe.named("council")) == 7
    assert sum(row.count for row in forecast.rows) == 7
    assert forecast.cost == pytest.approx(sum(row.cost or 0 for row in forecast.rows))
    assert [row.role for row in forecast.rows] == ["proposer"] * 3 + ["reviewer"] * 3 + ["aggregator"]


@pytest.mark.parametrize("name", [name for name in mixtura.recipe_names() if name != "toy"])
def test_a_forecast_is_never_below_what_the_run_takes(world: World, name: str) -> None:
    def reply(_request: object, call: int) -> str:
        return f"Number {call} " * 200

    sim = SimOptions(unlimited=True, reply=reply, plan="enterprise")
    ran = world(name, "Why is the sky blue?", sim=sim)
    forecast = Mixture(name, env={}).forecast("Why is the sky blue?")
    assert forecast.calls == ran.answer.n_calls
    assert ran.answer.usage.completion_tokens <= forecast.completion_tokens
    assert ran.answer.cost is not None
    assert forecast.cost is not None
    assert ran.answer.cost <= forecast.cost


async def test_a_missing_key_is_one_sentence_before_anything_is_sent() -> None:
    with pytest.raises(MissingKeyError, match="set GROQ_API_KEY"):
        await Mixture("balanced", env={}).ask("Why?")


def test_an_unknown_recipe_is_known_at_once() -> None:
    with pytest.raises(RecipeError, match="did you mean 'classic'"):
        Mixture("clasic")


async def test_a_model_of_your_own_that_breaks_costs_only_itself() -> None:
    recipe = Recipe.from_toml(
        '[[proposers]]\nmodel = "broken"\n[[proposers]]\nmodel = "a"\nsamples = 2\nseed = 1\n[aggregator]\nmodel = "b"'
    )
    answer = await Mixture(recipe, models=Echoes()).ask("Hi")
    assert [draft.text for draft in answer.drafts] == ["Echo: Hi 1", "Echo: Hi 2"]
    assert answer.failures[0].reason == "the model raised ValueError: a bug of mine"
    assert answer.text.startswith("Echo: Hi")


def test_cancelling_an_ask_closes_its_calls() -> None:
    run_virtual(_cancel_an_ask())


async def _cancel_an_ask() -> None:
    async with simulated_cloud(SimOptions(unlimited=True, profile="fixed:30")) as cloud:
        task = asyncio.create_task(Mixture("classic", env=env(cloud)).ask("Why?"))
        await asyncio.sleep(1)
        assert cloud.ledger.in_flight == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cloud.ledger.wait_idle()
        assert cloud.ledger.aborted == 3


async def test_messages_and_a_system_prompt_are_put_together(cloud: SimulatedCloud) -> None:
    await Mixture("classic", env=env(cloud)).ask([Message(role="user", content="Hi")], system="Be brief.")
    assert cloud.requests[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


class Misconfigured(Echoes):
    """Models one of which turns out to be set up wrongly only when it is called."""

    def find(self, provider: str, model: str) -> Served:
        return Served(
            Echo(mixtura.ConfigError("set me up")) if model == "broken" else Echo(), self.card(provider, model)
        )


async def test_a_mistake_in_the_set_up_is_raised_plainly() -> None:
    recipe = Recipe.from_toml('[[proposers]]\nmodel = "broken"\n[[proposers]]\nmodel = "a"\n[aggregator]\nmodel = "b"')
    with pytest.raises(mixtura.ConfigError, match="set me up"):
        await Mixture(recipe, models=Misconfigured()).ask("Hi")


def test_a_listener_that_raises_is_logged_and_loses_no_run(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []
    recipe = Recipe.from_toml('[[proposers]]\nmodel = "a"')
    inner = Mixture(recipe, models=Echoes())

    def walk_in(event: Event) -> None:
        inner.ask_sync("And now?")

    answer = Mixture(recipe, models=Echoes(), listeners=[walk_in, heard.append]).ask_sync("Hi")
    assert answer.status == "ok"
    assert len(heard) > 3
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "from a listener" in str(record.exc_info[1])


async def test_listeners_that_would_have_to_be_awaited_are_refused() -> None:
    async def listen(event: Event) -> None: ...

    with pytest.raises(mixtura.ConfigError, match="listener 'listen' is async"):
        Mixture("balanced", env={}, listeners=[listen])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"question": None}, "expected a question as text or a list of messages, got NoneType"),
        ({"question": 5}, "got int"),
        ({"question": "Hi", "system": 5}, "system: expected text, got int"),
        ({"question": "Hi", "deadline": "5"}, "deadline: expected seconds above 0, got '5'"),
        ({"question": "Hi", "deadline": True}, "deadline: expected seconds above 0, got True"),
        ({"question": "Hi", "max_cost": "1"}, "max_cost: expected dollars"),
        ({"question": "Hi", "seed": 1.5}, "seed: expected a whole number, got 1.5"),
        ({"question": "Hi", "options": {"stop": "x"}}, "options: expected ChatOptions, got dict"),
    ],
)
async def test_arguments_of_the_wrong_kind_are_named(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        await Mixture(Recipe.from_toml('[[proposers]]\nmodel = "a"'), models=Echoes()).ask(**asked)


class Odd(Echoes):
    """Models one of which returns what is no completion, and one of which raises an error of ours that is no call's."""

    def find(self, provider: str, model: str) -> Served:
        if model == "none":
            return Served(Nothing(), self.card(provider, model))
        error = mixtura.NoAnswerError([], "a mixture inside") if model == "inner" else None
        return Served(Echo(error), self.card(provider, model))


class Nothing:
    """A model that forgets to return."""

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        return None  # type: ignore[return-value]


@pytest.mark.parametrize("odd", ["none", "inner"])
async def test_an_odd_model_of_your_own_costs_only_its_call(odd: str) -> None:
    recipe = Recipe.from_toml(f'[[proposers]]\nmodel = "{odd}"\n[[proposers]]\nmodel = "a"\n[aggregator]\nmodel = "b"')
    answer = await Mixture(recipe, models=Odd()).ask("Hi")
    assert answer.status == "ok"
    assert [failure.kind for failure in answer.failures] == ["broken_reply"]


@pytest.mark.slow
def test_a_forked_process_has_a_sync_door_of_its_own() -> None:
    program = (
        "import os, sys\nsys.path.insert(0, sys.argv[1])\nfrom own_models import Echoes\n"
        "from mixtura import Mixture, Recipe\n"
        "mixture = Mixture(Recipe.from_toml('[[proposers]]\\nmodel = \"a\"'), models=Echoes())\n"
        "print(mixture.ask_sync('Hi').status, flush=True)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n    print(mixture.ask_sync('Hi').status, flush=True)\n    os._exit(0)\n"
        "print(os.waitpid(pid, 0)[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "ok\nok\n0\n", done.stderr


def test_who_leaves_before_the_error_is_not_told_of_it_later(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with (
            simulated_cloud(SimOptions(unlimited=True, faults="401")) as cloud,
            Mixture("classic", env=env(cloud)).stream("Why?") as events,
        ):
            async for _ in events:
                await asyncio.sleep(1)
                break
        gc.collect()

    run_virtual(main())
    assert caplog.records == []


async def test_a_synchronous_client_lets_go_of_its_connections_at_the_deadline() -> None:
    async with simulated_cloud(SimOptions(unlimited=True, faults="silent")) as cloud:
        with groq.Groq(api_key="gsk_test", base_url=cloud.url) as client:
            with pytest.raises(mixtura.DeadlineError):
                await Mixture("classic", client=client).ask("Hi", deadline=0.5)
            async with asyncio.timeout(10):
                await cloud.ledger.wait_idle()
