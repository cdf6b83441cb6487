"""Fan-out: the proposers of a layer at the same time, each on its own, none able to lose the others.

A layer is over when every slot has answered or failed, when its time is up, or when the quorum is there and the
stragglers' grace is over. What a straggler had written by then is used as an incomplete draft.
"""

import asyncio
from collections.abc import Iterable, Sequence

from mixtura import prompts
from mixtura.chat import Delta
from mixtura.decisions import CutDetail, DroppedDetail, NoticedDetail
from mixtura.engine import answers, calls, results
from mixtura.engine.ask import Ask
from mixtura.engine.context import Run
from mixtura.engine.draft_check import check_draft
from mixtura.engine.draft_prompt import Reader, Reading, read_drafts
from mixtura.engine.form import ended_by_caller
from mixtura.engine.grace import Grace
from mixtura.engine.race import Race
from mixtura.errors import ModelError
from mixtura.events import CallDelta, CallFinished, Draft, Role
from mixtura.kinds import KINDS
from mixtura.planning.schedule import draft_options, schedule
from mixtura.recipe import Layer, Proposer, Slot

_STOPPED = "the run was stopped"
# Of the time that calls to come need by what a draft took, what is kept on top.
_RESERVE = 1.2


class Drafting:
    """One layer at work: the calls, what came of them, and when enough has come."""

    def __init__(self, run: Run, role: Role, layer: int, until: float) -> None:
        self.run = run
        self.role = role
        self.layer = layer
        self.until = until
        self.drafts: list[Draft] = []
        self.errors: list[ModelError] = []
        self._previous: Sequence[Draft] = ()
        self._enough = self._whole = 0
        # Why a task was stopped, where it was not the run that was; "" means that its time was up.
        self._stopped: dict[asyncio.Task[None], str] = {}
        self._running: list[asyncio.Task[None]] = []
        self._grace = Grace(self)
        self._timer: asyncio.TimerHandle | None = None
        self._latest = run.loop.time()  # when the layer began, or its latest draft was there
        # A race costs a task a call; where nothing is hedged and nothing streamed it would have nothing to do.
        self._watched = run.options.watch == "calls"
        self._protected = run.protected or self._watched
        last = role == "escalation" or layer == len(run.recipe.layers) - 1
        self._options = draft_options(run.recipe, run.options.chat, last=last)
        self._form = run.form if self._options.response_format is not None else None
        # Counted answers may end in a bare number, or be a bare value of code, where the question asks for one.
        aggregator = run.recipe.aggregator
        counts = aggregator is not None and KINDS[aggregator.kind].counts
        self._expected = answers.expected_by(run.question) if counts else ""

    async def ask_all(self, layer: Layer, previous: Sequence[Draft]) -> None:
        """Ask every slot of `layer`; return when all are answered, failed, out of time, or a quorum is there."""
        slots, self._previous = layer.slots, previous
        quorum = self.run.recipe.policy.quorum
        # Without a quorum there are no stragglers.
        self._enough = 0 if quorum is None or quorum >= len(slots) or self.role == "escalation" else quorum
        # One timer for the layer instead of one a call; the tasks it stops say which calls those were.
        self._timer = self.run.loop.call_at(self.until, self.stop, "")
        try:
            async with asyncio.TaskGroup() as group:
                self._running += [
                    group.create_task(self._propose(slot, place, previous)) for place, slot in enumerate(slots)
                ]
        except BaseExceptionGroup as errors:
            # Failures of models are kept above; what is left is one mistake, and the caller should see it plainly.
            raise errors.exceptions[0] from errors
        finally:
            self._timer.cancel()
            self._grace.cancel()
            # Tasks know this object: it is freed at once where it does not know them any more.
            self._running.clear()
        self.drafts.sort(key=lambda draft: draft.call)

    async def _propose(self, slot: Proposer, place: int, previous: Sequence[Draft]) -> None:
        run = self.run
        reading = self._reading(slot, previous)
        ask = Ask(self.role, slot, reading.messages, self.layer, self._options, reads=reading.calls, place=place)
        if self._protected:
            await self._race(ask)
            return
        number, progress = run.next_call(), calls.progress_of(run, ask)
        try:
            completion = await calls.call(run, ask, number, self.until, progress)
        except ModelError as error:
            self.errors.append(error)
            results.emit_failed(run, number, ask, error, progress)
            return
        except asyncio.CancelledError:
            why = self._why_stopped()
            if why:
                results.emit_abandoned(run, number, ask, why, progress)
            else:
                late = results.timeout_error(run, ask, self.until)
                self.errors.append(late)
                results.emit_failed(run, number, ask, late, progress)
            raise
        except BaseException:
            results.emit_abandoned(run, number, ask, "the run failed", progress)
            raise
        self._keep(results.make_draft(number, ask, completion, expected=self._expected, form=self._form), ask)

    async def _race(self, ask: Ask) -> None:
        """Ask one slot, protected against what is slow or silent."""
        race = Race(self.run, ask, self.until, self._watch if self._watched else None)
        self._grace.watch(race)
        try:
            completion = await race.run()
        except ModelError as error:
            self._keep_partial(race, ask)
            if race.partial is None:
                self.errors.append(error)
            return
        except asyncio.CancelledError:
            why = self._why_stopped()
            late = None if why else results.timeout_error(self.run, ask, self.until)
            race.stop(why or "its time was up", late)
            if race.completion is not None:
                self._keep(
                    results.make_draft(race.number, ask, race.completion, expected=self._expected, form=self._form), ask
                )
                raise
            if why != _STOPPED:
                self._keep_partial(race, ask)
            if late is not None and race.partial is None:
                self.errors.append(late)
            raise
        self._keep(results.make_draft(race.number, ask, completion, expected=self._expected, form=self._form), ask)

    def _keep_partial(self, race: Race, ask: Ask) -> None:
        """Take what a straggler had written; nobody waits for it, so it does not count for the quorum."""
        draft = race.partial
        if draft is not None:
            said = f"was stopped after {len(draft.text.split())} words ({draft.incomplete}); they are used"
            self._keep_incomplete(draft, ask, f"{draft.model} {said} as an incomplete draft")

    def _keep_incomplete(self, draft: Draft, ask: Ask, reason: str) -> None:
        self.run.decide(CutDetail(call=draft.call), reason)
        self.run.authors[draft.call] = ask.slot
        self.drafts.append(draft)

    def _keep(self, draft: Draft, ask: Ask) -> None:
        run = self.run
        draft = check_draft(run, draft, reads=self._previous if ask.reads else ())
        run.emit(CallFinished(at=run.now, done=draft))
        if draft.incomplete:
            if draft.text:
                reason = f"the draft of {draft.model} counts as an incomplete one: {draft.incomplete}"
                self._keep_incomplete(draft, ask, reason)
            else:
                said = f"the draft of {draft.model} was left out: {draft.incomplete}"
                run.decide(DroppedDetail(call=draft.call), said, warning=True)
            return
        # A draft that the caller's own limit ended before its first word may be the answer that was asked for.
        capped = self._options.max_tokens is not None and ended_by_caller(
            run, draft.finish_reason, draft.usage.completion_tokens
        )
        if not draft.text.strip() and not draft.tool_calls and not capped:
            why = " (it spent them on reasoning)" if draft.reasoning and draft.finish_reason == "length" else ""
            why = " (it refused to answer)" if draft.extra.get("refusal") else why
            run.decide(DroppedDetail(call=draft.call), f"{draft.model} wrote an empty draft{why}", warning=True)
            return
        if draft.finish_reason == "length":
            said = f"the draft of {draft.model} is cut off at its output limit"
            run.decide(NoticedDetail(call=draft.call), said)
        run.authors[draft.call] = ask.slot
        self.drafts.append(draft)
        self._whole += 1
        self._grace.note(draft.timing.total)
        self._keep_time(ask.slot)
        if self._whole == self._enough:
            self._grace.begin(self.run.recipe.policy.grace)

    def _keep_time(self, slot: Slot) -> None:
        """Leave the stages to come the time that they need by what this draft took, where calls wait for each other."""
        run, now = self.run, self.run.loop.time()
        took, self._latest = now - self._latest, now
        if self._timer is None or not run.models.find(slot.provider, slot.model).place.queues:
            return
        calls_to_come = sum(
            call.certain and run.models.find(call.slot.provider, call.slot.model).place.queues
            for call in schedule(run.recipe, run.options.chat).calls
            if call.stage > self.layer
        )
        until = max(now, run.deadline - _RESERVE * took * calls_to_come / (1 + self._grace.writing))
        if until < self.until:
            self.until = until
            self._timer.cancel()
            self._timer = run.loop.call_at(until, self.stop, "")

    def _why_stopped(self) -> str:
        task = asyncio.current_task()
        return _STOPPED if task is None else self._stopped.get(task, _STOPPED)

    def stop(self, reason: str, tasks: Iterable[asyncio.Task[None]] | None = None) -> None:
        """Stop what still runs, or of that `tasks` alone; no reason means that its time is up."""
        current = asyncio.current_task()
        for task in self._running if tasks is None else tasks:
            if task is not current and not task.done():
                self._stopped.setdefault(task, reason)
                task.cancel()

    def _watch(self, number: int, delta: Delta) -> None:
        run = self.run
        run.emit(
            CallDelta(at=run.now, call=number, text=delta.text, reasoning=delta.reasoning, tool_calls=delta.tool_calls)
        )

    def _reading(self, slot: Proposer, previous: Sequence[Draft]) -> Reading:
        conversation = prompts.with_system(self.run.conversation_for(self._options), slot.system)
        if not previous:
            return Reading(conversation)
        return read_drafts(self.run, Reader(slot, self.role, prompts.SYNTHESIZE), previous, conversation)
