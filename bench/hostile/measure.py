"""One run of three drafts, one of them hostile, in a process of its own: memory, time, and the event loop's gaps."""

import asyncio
import contextlib
import multiprocessing
import resource
import time
from multiprocessing.connection import Connection

import msgspec

from bench.hostile.bodies import REPLIES
from bench.hostile.server import USUAL, serving
from mixtura import Aggregator, Layer, MixturaError, Mixture, Policy, Proposer, Recipe
from mixtura.chat import ChatOptions

_TICK = 0.005


class Measured(msgspec.Struct, frozen=True):
    """What one hostile reply cost a run.

    Attributes:
        name: the kind of reply.
        mode: how it was asked for: whole, watched, or streamed and unwatched.
        size: bytes of its body.
        memory: bytes of the process's peak above that of a usual run.
        seconds: of the run; `over` are those beyond its deadline.
        lag: the longest time in seconds for which the event loop did nothing else, as CPU time of the process: other
            programs on the machine do not count.
        drafts: how many drafts the answer was made of.
        said: what the answer or the error says of the hostile draft.
    """

    name: str
    mode: str
    size: int
    memory: int
    seconds: float
    over: float
    lag: float
    drafts: int
    said: str


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of which reply.

    Attributes:
        name: a name of `REPLIES`.
        mode: "whole", "watched" or "unwatched".
        size: bytes of the body.
        deadline: seconds that the run has.
        max_tokens: tokens that the request allows.
        anything: ask in a field of `extra` for what may make replies large.
    """

    name: str
    mode: str
    size: int
    deadline: float = 3.0
    max_tokens: int = 1024
    anything: bool = False


def measured(question: Question) -> Measured:
    """Run against a hostile reply in a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with serving(question.name, question.size) as hostile, serving(USUAL) as usual:
        process = context.Process(target=_measure, args=(theirs, question, hostile, usual), daemon=True)
        process.start()
        try:
            found: Measured = ours.recv()
        finally:
            process.kill()
            process.join()
    return found


def _measure(told: Connection, question: Question, hostile: str, usual: str) -> None:
    told.send(asyncio.run(_run(question, hostile, usual)))


async def _run(question: Question, hostile: str, usual: str) -> Measured:
    await _ask(question, usual, usual)
    gaps = [0.0]
    ticking = asyncio.create_task(_tick(gaps))
    # The baseline: what a run of usual replies takes at its most.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    drafts, said = await _ask(question, hostile, usual)
    seconds = time.monotonic() - begun
    ticking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await ticking
    # A thread that still decodes is part of the cost.
    await asyncio.sleep(0.5)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    over = max(0.0, seconds - question.deadline)
    return Measured(question.name, question.mode, question.size, memory, seconds, over, max(gaps), drafts, said)


async def _ask(question: Question, first: str, usual: str) -> tuple[int, str]:
    """Return how many drafts there were, and what is said of those that there were not."""
    unwatched = question.mode == "unwatched"
    proposers = tuple(
        Proposer(model=f"m{place}", provider=url, max_tokens=question.max_tokens)
        for place, url in enumerate((first, usual, usual))
    )
    recipe = Recipe(
        layers=(Layer(proposers=proposers),),
        aggregator=Aggregator(model="writer", provider=usual),
        # A quorum makes drafts that nobody watches streams.
        policy=Policy(deadline=question.deadline, quorum=3 if unwatched else None, grace=question.deadline),
    )
    mixture = Mixture(recipe, env={})
    options = ChatOptions(extra={"modalities": ["text"]} if question.anything else {})
    try:
        if question.mode == "watched":
            async with mixture.stream("Why is the sky blue?", options=options) as stream:
                async for _ in stream:
                    pass
            answer = stream.answer
        else:
            answer = await mixture.ask("Why is the sky blue?", options=options)
    except MixturaError as error:
        return 0, str(error)
    assert answer is not None
    return len(answer.drafts), "; ".join(failure.reason for failure in answer.failures)


async def _tick(gaps: list[float]) -> None:
    while True:
        begun, worked = time.monotonic(), time.process_time()
        await asyncio.sleep(_TICK)
        gaps.append(min(time.monotonic() - begun - _TICK, time.process_time() - worked))


def modes_of(name: str) -> tuple[str, ...]:
    """Return how the reply of this name can be asked for."""
    return ("watched", "unwatched") if REPLIES[name].streamed else ("whole",)
