"""Fan-out: the proposers of a layer at the same time, each on its own, none able to lose the others."""

import asyncio
from collections.abc import Sequence

from mixtura.chat import Delta, Message
from mixtura.engine import answers, calls, prompts
from mixtura.engine.context import Run
from mixtura.engine.reading import Reader, read_drafts
from mixtura.errors import ModelError
from mixtura.events import CallDelta, CallFinished, Draft, Role
from mixtura.recipe import Layer, Proposer


class Drafting:
    """One layer at work: the calls, what came of them, and when enough has come."""

    def __init__(self, run: Run, role: Role, layer: int, until: float) -> None:
        self.run = run
        self.role = role
        self.layer = layer
        self.until = until
        self.drafts: list[Draft] = []
        self.errors: list[ModelError] = []
        self._enough = 0
        self._stopping = "the run was stopped"
        self._running: list[asyncio.Task[None]] = []
        # Counted answers may end in a bare number where the question asks for one.
        aggregator = run.recipe.aggregator
        counts = aggregator is not None and aggregator.kind in ("vote", "auto")
        self._lenient = counts and answers.asks_number(run.question)

    async def ask_all(self, layer: Layer, previous: Sequence[Draft]) -> None:
        """Ask every seat of `layer`; return when all are answered, failed, out of time, or a quorum is there."""
        seats = layer.seats
        quorum = self.run.recipe.policy.quorum
        self._enough = len(seats) if quorum is None or self.role == "escalation" else min(quorum, len(seats))
        # One timer for the layer instead of one a call; the tasks it stops say which calls those were.
        timer = self.run.loop.call_at(self.until, self._stop, "")
        try:
            async with asyncio.TaskGroup() as group:
                self._running += [group.create_task(self._propose(seat, previous)) for seat in seats]
        except BaseExceptionGroup as errors:
            # Failures of models are kept above; what is left is one mistake, and the caller should see it plainly.
            raise errors.exceptions[0] from errors
        finally:
            timer.cancel()
        self.drafts.sort(key=lambda draft: draft.call)

    async def _propose(self, seat: Proposer, previous: Sequence[Draft]) -> None:
        run = self.run
        options = calls.without_tools(run.options.chat)
        ask = calls.Ask(self.role, seat, self._messages(seat, previous), self.layer, options)
        number = run.next_call()
        try:
            completion = await calls.call(run, ask, number, self.until, self._watch if run.options.watched else None)
        except ModelError as error:
            self.errors.append(error)
            return
        except asyncio.CancelledError:
            if self._stopping:
                calls.abandoned(run, number, ask, self._stopping)
            else:
                late = calls.timed_out(run, ask, self.until)
                self.errors.append(late)
                calls.failed(run, number, ask, late)
            raise
        self._keep(calls.draft(number, ask, completion, lenient=self._lenient))

    def _keep(self, draft: Draft) -> None:
        run = self.run
        run.say(CallFinished(at=run.now, done=draft))
        if not draft.text.strip():
            why = " (it spent them on reasoning)" if draft.reasoning and draft.finish_reason == "length" else ""
            run.decide("dropped", f"{draft.model} wrote an empty draft{why}", warning=True, call=draft.call)
            return
        if draft.finish_reason == "length":
            run.decide("noticed", f"the draft of {draft.model} is cut off at its output limit", call=draft.call)
        self.drafts.append(draft)
        if len(self.drafts) == self._enough:
            self._stop("enough drafts were there without it")

    def _stop(self, reason: str) -> None:
        """Stop what still runs; no reason means that its time is up."""
        self._stopping = reason
        current = asyncio.current_task()
        for task in self._running:
            if task is not current and not task.done():
                task.cancel()

    def _watch(self, number: int, delta: Delta) -> None:
        run = self.run
        run.say(CallDelta(at=run.now, call=number, text=delta.text, reasoning=delta.reasoning))

    def _messages(self, seat: Proposer, previous: Sequence[Draft]) -> tuple[Message, ...]:
        conversation = prompts.with_system(self.run.conversation, seat.system)
        if not previous:
            return conversation
        return read_drafts(self.run, Reader(seat, self.role, prompts.SYNTHESIZE), previous, conversation).messages
