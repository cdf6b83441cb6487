"""Plays one scenario: a cloud, its runs in virtual time, and a record of everything that they leave."""

import asyncio
import datetime as dt
import random
from typing import Any, NamedTuple

from bench.chaos.bills import CloudBill
from bench.chaos.recipes import MODELS, MOST_DOLLARS, recipes, stages
from bench.chaos.scenarios import KEY, ChaosScenario, faults, stage_models
from bench.chaos.slow_stops import SlowToStop
from bench.chaos.speech import Question, Speaker, questions
from mixtura import Answer, Event, MixturaError, Mixture, Recipe, fold
from mixtura.chat import Message
from mixtura.engine.run import drive
from mixtura.limits.current import current_limiter
from mixtura.limits.latency import ENOUGH
from mixtura.limits.queue import Priority
from mixtura.models.registry import ModelRegistry
from mixtura.models.served import Models
from mixtura.planning.moving import moved_to
from mixtura.planning.options import RunOptions
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

_TODAY = dt.date(2026, 11, 21)
# The server needs a moment to notice cancelled calls.
_SETTLING = 0.2


class FinishedRun(NamedTuple):
    """A finished run: its events, the caller's answer or error, and the seconds it took.

    `left` is true if the caller cancelled the run.
    """

    events: list[Event]
    answer: Answer
    error: BaseException | None
    seconds: float
    left: bool


class PlayedScenario(NamedTuple):
    """The record of a played scenario.

    `still` lists the tasks that were left when the runs ended, `open_books` what the limiter still counts as in flight
    or held, and `complaints` the errors that the event loop reported.
    """

    scenario: ChaosScenario
    recipe: Recipe
    question: Question
    runs: list[FinishedRun]
    cloud: SimulatedCloud
    bill: CloudBill
    still: list[str]
    open_books: list[str]
    complaints: list[str]


def play(case: ChaosScenario) -> PlayedScenario:
    """Play a scenario on a new virtual clock, so that its limits, latencies and breakers are its own."""
    return run_virtual(_play(case))


async def _play(case: ChaosScenario) -> PlayedScenario:
    loop = asyncio.get_running_loop()
    complaints: list[str] = []
    loop.set_exception_handler(lambda _, context: complaints.append(f"{context}"))
    recipe, question = recipes()[case.recipe], questions()[case.question % len(questions())]
    if case.slots is not None:
        recipe = moved_to(recipe, case.provider)
    speaker = Speaker(question, case.quality, case.thinks, random.Random(f"chaos/{case.id}/speech"))
    options = SimOptions(
        plan="free" if case.limited else "enterprise",
        unlimited=not case.limited,
        extra_models=MODELS,
        reply=speaker.reply,
        profile=case.profile,
        slots=case.slots,
        faults=faults(case.aims, recipe, leaks=case.leaks),
        seed=case.number,
    )
    async with simulated_cloud(options) as cloud:
        bill = CloudBill(cloud)
        models: Models = ModelRegistry(
            env={
                "GROQ_API_KEY": KEY,
                "GROQ_BASE_URL": cloud.url,
                "VLLM_API_KEY": KEY,
                "VLLM_BASE_URL": cloud.base_url,
            },
            rng=random.Random(f"chaos/{case.id}/pauses"),
            plan="free" if case.plan_known else None,
            today=lambda: _TODAY,
        )
        if case.stops:
            models = SlowToStop(models, case.stops)
        if case.known:
            _teach_pace(recipe, models, case.provider)
        runs = await asyncio.gather(*(_run(case, recipe, question, models, place) for place in range(case.runs)))
        # Check at once: a caller with an answer may close the loop.
        still = [f"{task.get_coro()!r}" for task in asyncio.all_tasks() if _is_ours(task)]
        await asyncio.sleep(_SETTLING)
        return PlayedScenario(case, recipe, question, runs, cloud, bill, still, _open_books(), complaints)


async def _run(case: ChaosScenario, recipe: Recipe, question: Question, models: Models, place: int) -> FinishedRun:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    events: list[Event] = []
    error: BaseException | None = None
    most, seed = MOST_DOLLARS.get(case.recipe), case.number + place
    run = None
    try:
        if case.watched and case.leaves is None:
            mixture = Mixture(recipe, models=models)
            async for event in mixture.stream(question.text, deadline=case.deadline, max_cost=most, seed=seed):
                events.append(event)  # noqa: PERF401  # keep the events that came before an error
        else:
            # Like `Mixture.ask`, but with the events of a run without a listener.
            options = RunOptions(
                deadline=case.deadline, max_cost=most, seed=seed, watch="calls" if case.watched else "nothing"
            )
            said = (Message(role="user", content=question.text),)
            run = asyncio.create_task(drive(recipe, said, models, events.append, options))
            if case.leaves is not None:
                loop.call_later(case.leaves, run.cancel)
            await run
    except MixturaError as problem:
        error = problem
    except asyncio.CancelledError as problem:
        if run is None or not run.cancelled():
            raise
        error = problem
    seconds = loop.time() - begun
    return FinishedRun(events, fold(events), error, seconds, isinstance(error, asyncio.CancelledError))


def _teach_pace(recipe: Recipe, models: Models, provider: str) -> None:
    """Record past calls of about a third of a second in the limiter."""
    for model in {model for stage in stages(recipe) for model in stage_models(recipe, stage)}:
        accounting = models.find(provider, model).accounting
        assert accounting is not None
        for call in range(ENOUGH + 2):
            accounting.account(current_limiter()).latency.add(0.3 + call / 50, 0.05 + call / 100, 80)


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Return whether a task belongs to the library or its connections, not to the cloud or this scenario."""
    name = f"{task.get_coro()!r}"
    return not any(part in name for part in ("RequestHandler.", "_play"))


def _open_books() -> list[str]:
    limiter = current_limiter()
    found = []
    for key, account in limiter.accounts.items():
        counts = account.in_flight, account.held_tokens, account.held_requests
        if any(counts):
            found.append(f"{key}: in flight, held tokens, held requests {counts}")
        if any(limiter.queue.ahead(key, priority) != (0, 0) for priority in Priority):
            found.append(f"{key}: a call is still in the queue")
    return found
