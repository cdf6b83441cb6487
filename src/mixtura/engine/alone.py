"""A call that no other call of its stage stands beside: the aggregator's, a selector's, a model that answers alone."""

import asyncio

from mixtura.chat import Completion
from mixtura.engine import calls, results
from mixtura.engine.ask import Ask
from mixtura.engine.calls import progress_of
from mixtura.engine.context import Run
from mixtura.engine.race import Race
from mixtura.errors import ModelError


async def call_within(race: Race) -> tuple[int, Completion]:
    """Run a race alone, protected as far as its run is; return the number of the call that won, and its completion.

    Raises:
        ModelError: it failed for good, `TimedOutError` when stopped; that has been said.
    """
    if not race.protected:
        return await _call_plainly(*race.plain)
    try:
        completion = await race.run()
    except asyncio.CancelledError:
        race.stop("the run was stopped")
        if race.completion is not None:
            results.emit_whole(race.plain[0], race.number, race.plain[1], race.completion)
        raise
    return race.number, completion


async def _call_plainly(run: Run, ask: Ask, until: float) -> tuple[int, Completion]:
    """Make one call without protection: it ends when it ends, or at `until`."""
    number, progress = run.next_call(), progress_of(run, ask)
    try:
        async with asyncio.timeout_at(until):
            return number, await calls.call(run, ask, number, until, progress)
    except TimeoutError:
        late = results.timeout_error(run, ask, until)
        results.emit_failed(run, number, ask, late, progress)
        raise late from None
    except ModelError as error:
        results.emit_failed(run, number, ask, error, progress)
        raise
    except asyncio.CancelledError:
        results.emit_abandoned(run, number, ask, "the run was stopped", progress)
        raise
