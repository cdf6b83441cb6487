"""Calls of a model that one machine serves wait their turn, know of each other, and leave the queue at their end."""

import asyncio
from typing import Any

import pytest

from mixtura import ChatRequest, Completion, Delta
from mixtura.engine.progress import Progress
from mixtura.limits.limiter import Limiter
from mixtura.models.base import Emit
from mixtura.models.served import Accounting
from mixtura.models.wrappers.queued import Queued
from mixtura.virtual import run_virtual


class Desk:
    """A model on one machine: writes three pieces, a second each, or fails after them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.seen: list[tuple[float, str, float | None]] = []
        self.contexts: list[Any] = []

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        self.seen.append((asyncio.get_running_loop().time(), request.model, deadline))
        for _ in range(3):
            await asyncio.sleep(1.0)
            if emit is not None:
                emit(Delta("a"))
        shared = request.context.shared if isinstance(request.context, Progress) else None
        self.contexts.append(None if shared is None else (shared.streamed, shared.busy, shared.waiting))
        if self.error is not None:
            raise self.error
        return Completion(model=request.model, text="aaa")


def queued(desk: Desk, limiter: Limiter, width: int | None = 1) -> Queued:
    return Queued(desk, Accounting(key="k", group="g", keeper=limiter), "desk", width)


def request(context: Progress | None = None) -> ChatRequest:
    return ChatRequest(model="m", messages=(), context=context)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_call_is_passed_on_in_its_turn_with_its_pieces_and_deadline(streamed: bool) -> None:
    async def main() -> None:
        desk, limiter, pieces = Desk(), Limiter(), list[Delta]()
        model, one, other = queued(desk, limiter), Progress("p", "m"), Progress("p", "m")
        emit = pieces.append if streamed else None
        calls = [
            asyncio.create_task(model.chat(request(context), emit=emit, deadline=90.0)) for context in (one, other)
        ]
        await asyncio.sleep(2.5)
        visits = limiter.server_queue("desk").visits
        assert len(visits) == 1
        (visit,) = visits
        assert one.shared is visit
        assert other.shared is None
        assert (visit.streamed, visit.pieces, visit.last) == (streamed, 2 * streamed, 2.0 * streamed)
        await asyncio.gather(*calls)
        assert [(at, deadline) for at, _, deadline in desk.seen] == [(0.0, 90.0), (3.0, 90.0)]
        assert len(pieces) == 6 * streamed
        assert desk.contexts == [(streamed, False, 1 - streamed)] * 2
        assert [context.shared for context in (one, other)] == [None, None]
        assert not limiter.server_queue("desk").visits
        assert limiter.server_queue("desk").ended == 6.0

    run_virtual(main())


@pytest.mark.parametrize("how", ["raises", "cancelled"])
def test_a_call_leaves_the_queue_however_it_ends(how: str) -> None:
    async def main() -> None:
        limiter, context = Limiter(), Progress("p", "m")
        model = queued(Desk(ValueError("it broke") if how == "raises" else None), limiter)
        call = asyncio.create_task(model.chat(request(context)))
        await asyncio.sleep(1.5)
        assert limiter.server_queue("desk").visits
        if how == "cancelled":
            call.cancel()
        await asyncio.wait([call])
        assert not limiter.server_queue("desk").visits
        assert context.shared is None

    run_virtual(main())


def test_a_call_that_nobody_accounts_for_waits_as_well() -> None:
    async def main() -> float:
        desk, limiter = Desk(), Limiter()
        await asyncio.gather(queued(desk, limiter).chat(request()), queued(desk, limiter).chat(request()))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 6.0


def test_models_of_one_server_share_its_queue_and_its_width_is_learned_where_none_is_stated() -> None:
    async def main() -> None:
        limiter = Limiter()
        assert queued(Desk(), limiter, 3)._queue() is queued(Desk(), limiter, 1)._queue()
        assert limiter.server_queue("desk").width == 3
        assert queued(Desk(), Limiter(), None)._queue().width is None

    run_virtual(main())
