"""One slot's call, protected: second tries of what is slow, an end to what is silent, and what a straggler had written.

sent ---------- late: slower than 19 of 20 of its model's calls ---------- silent: first_token, between_tokens
 |                |                                                          |
 first try        a second try beside it (hedge); the first whole reply      the try is given up; the other goes on,
                  wins, the other is stopped                                 or a last one is made if none was yet
"""

import asyncio
import math

from mixtura.chat import Completion, Delta
from mixtura.decisions import HedgedDetail
from mixtura.engine import calls, hedging, results
from mixtura.engine.ask import Ask
from mixtura.engine.calls import OnDelta
from mixtura.engine.context import Run
from mixtura.engine.progress import Progress
from mixtura.engine.tries import Try
from mixtura.errors import LoopedError, ModelError, TimedOutError
from mixtura.events import CallFinished, Draft
from mixtura.models.place import Place
from mixtura.recipe import Fallback

_SOONEST_HEDGE = 0.05


class Race:
    """The tries of one slot.

    Attributes:
        completion, number: the reply that won and its call, from the moment at which it was whole: a race that is
            cancelled while it stops the other tries has won all the same.
        partial: what is left of the tries that were lost.

    Args:
        run: the run it belongs to.
        ask: what to ask of whom.
        until: event-loop time at which everything stops.
        on_delta: gets the number and each piece of every try; None shows them to nobody.
        exclusive: pieces are an answer that a reader sees: the first try that writes goes on alone.
    """

    def __init__(
        self, run: Run, ask: Ask, until: float, on_delta: OnDelta | None = None, *, exclusive: bool = False
    ) -> None:
        self.number = -1
        self.completion: Completion | None = None
        self.partial: Draft | None = None
        self._run = run
        self._ask = ask
        self._until = until
        self._on_delta = on_delta
        self._exclusive = exclusive
        self._leader: int | None = None
        self._open: list[Try] = []
        # Given up with something written, which may yet be used: what they took is said when that is decided.
        self._cut: list[tuple[Try, ModelError]] = []
        self._tries = 0
        self._news: asyncio.Future[None] | None = None
        self._dirty = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def protected(self) -> bool:
        """Whether there is anything to protect: a race costs a task a try."""
        return self._run.protected or self._on_delta is not None

    @property
    def progress(self) -> Progress | None:
        """How far the first try has come that is still under way; None when none is."""
        return self._open[0].progress if self._open else None

    @property
    def plain(self) -> tuple[Run, Ask, float]:
        """What is to be done, for who does it without protection."""
        return self._run, self._ask, self._until

    async def run(self) -> Completion:
        """Return the completion of the first try that is whole.

        Raises:
            ModelError: every try failed or fell silent, and that has been said; see `partial`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._start(group, self._ask)
                while True:
                    await self._wait()
                    over = await self._look(group)
                    if over is not None:
                        break
        except BaseExceptionGroup as errors:
            self.stop("the run failed")
            raise errors.exceptions[0] from errors
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if isinstance(over, Completion):
            self._say_lost()
            return over
        self._use_what_is_left(over.reason if isinstance(over, LoopedError) else over.kind.replace("_", " "))
        raise over

    def stop(self, why: str, error: ModelError | None = None) -> None:
        """Say what became of the tries that were open when the race was cancelled.

        One that was whole by then is the `completion`, which the caller says; else the best may become `partial`.

        Args:
            why: the reason, in words.
            error: what to call it, None when nobody waited for it any more.
        """
        for left in list(self._open):
            result = left.result
            if isinstance(result, Completion) and self.completion is None:
                self._win(left, result)
            elif isinstance(result, ModelError):
                self._open.remove(left)
                self._cut.append((left, result))
        if self.completion is not None:
            self._say_lost()
            return
        for left in self._open:
            self._cut.append((left, error or _AbandonedError(left.ask.slot.provider, left.ask.slot.model, why)))
        self._open.clear()
        self._use_what_is_left(why)

    def _win(self, begun: Try, completion: Completion) -> None:
        self._open.remove(begun)
        self.number, self.completion = begun.number, completion

    def _say_lost(self) -> None:
        """Say what became of the tries that did not win."""
        for left in self._open:
            results.emit_abandoned(
                self._run, left.number, left.ask, "another try was faster", left.progress, left.result
            )
        self._open.clear()
        for lost, error in self._cut:
            results.emit_failed(self._run, lost.number, lost.ask, error, lost.progress)
        self._cut.clear()

    def _use_what_is_left(self, why: str) -> None:
        """Make the longest text of the lost tries an incomplete draft, where the role can use one, and say the rest."""
        run = self._run
        self._cut.sort(key=lambda cut: len(cut[0].progress.text), reverse=True)
        for lost, error in self._cut:
            shown = self._leader is None or lost.number == self._leader
            if self.partial is None and shown and self._ask.role in ("proposer", "escalation"):
                self.partial = results.partial_draft(run, lost.number, lost.ask, lost.progress, why)
                if self.partial is not None:
                    run.emit(CallFinished(at=run.now, done=self.partial))
                    continue
            if isinstance(error, _AbandonedError):
                results.emit_abandoned(run, lost.number, lost.ask, error.reason, lost.progress)
            else:
                results.emit_failed(run, lost.number, lost.ask, error, lost.progress)
        self._cut.clear()

    def _start(self, group: asyncio.TaskGroup, ask: Ask) -> None:
        begun = Try(self._run, ask)
        self._tries += 1
        self._open.append(begun)
        # From when it is sent, and not from now on, it can be late or silent.
        begun.progress.on_begin = self._set_timer
        begun.progress.on_loop = self._tell
        begun.task = group.create_task(self._call(begun))
        begun.task.add_done_callback(self._tell)

    async def _call(self, begun: Try) -> Completion | ModelError:
        shown = None if self._on_delta is None else self._show
        try:
            return await calls.call(self._run, begun.ask, begun.number, self._until, begun.progress, shown)
        except ModelError as error:
            return error

    def _show(self, number: int, delta: Delta) -> None:
        if self._exclusive:
            if self._leader is None:
                self._leader = number
                self._tell()
            if self._leader != number:
                return
        if self._on_delta is not None:
            self._on_delta(number, delta)

    async def _look(self, group: asyncio.TaskGroup) -> Completion | ModelError | None:
        """Act on what has happened; return how the race ended, None while it goes on."""
        failure: ModelError | None = None
        for begun in list(self._open):
            failure = await self._end_of(begun) or failure
            if self.completion is not None:
                await self._stop_open()
                return self.completion
        now = self._run.loop.time()
        if self._open and now >= self._until:
            return await self._run_out()
        if self._open:
            if now >= self._late_at():
                self._open[0].progress.catch_up()
                if now >= self._late_at():
                    self._hedge(group)
            return None
        assert failure is not None
        if self._leader is None and self._tries < 2 and now < self._until and self._may_begin_anew(failure):
            return None if self._hedge(group) else failure
        return failure

    async def _end_of(self, begun: Try) -> ModelError | None:
        """End a try that is done, beaten or silent; return why it failed, None when it did not or goes on."""
        result = begun.result
        if isinstance(result, Completion):
            self._win(begun, result)
            return None
        if result is not None:
            self._open.remove(begun)
            self._cut.append((begun, result))
            return result
        if self._leader is not None and begun.number != self._leader:
            await self._give_up(begun)
            if self.completion is None:
                results.emit_abandoned(self._run, begun.number, begun.ask, "another try was faster", begun.progress)
            return None
        error = self._silence(begun, self._run.loop.time())
        if error is None or (isinstance(error, TimedOutError) and await begun.patience.is_renewed(self._until)):
            return None
        await self._give_up(begun)
        if self.completion is not None:
            return None
        self._cut.append((begun, error))
        return error

    async def _run_out(self) -> Completion | ModelError:
        """Stop every try: the time is up. One that becomes whole while another is being stopped still wins."""
        for begun in list(self._open):
            await self._give_up(begun)
            if self.completion is not None:
                await self._stop_open()
                return self.completion
            self._cut.append((begun, results.timeout_error(self._run, begun.ask, self._until)))
        return self._cut[-1][1]

    def _may_begin_anew(self, failure: ModelError) -> bool:
        """Say whether the try that failed last may be made once more: it fell silent, or broke off while it was read.

        Other failures have been tried again as often as they may be; after the first piece was shown none is. Who fell
        silent in a queue would only stand in it again.
        """
        progress = self._cut[-1][0].progress
        if isinstance(failure, TimedOutError):
            return not self._would_queue(progress.place)
        return failure.action == "retry" and progress.pieces > 0

    async def _stop_open(self) -> None:
        for begun in self._open:
            self._cancel(begun)
        if self._open:
            await asyncio.wait([begun.task for begun in self._open if begun.task is not None])

    async def _give_up(self, begun: Try) -> None:
        """Stop a try; if it is whole before it can be stopped, it wins."""
        self._cancel(begun)
        assert begun.task is not None
        await asyncio.wait([begun.task])
        result = begun.result
        if isinstance(result, Completion):
            self._win(begun, result)
        else:
            self._open.remove(begun)

    def _cancel(self, begun: Try) -> None:
        """Cancel a try; how long it had been silent counts among the waits for a first token.

        Were only those counted that were answered, the percentile beyond which a call is late would be taken of a
        distribution without its tail, and fall, and more would be called late.
        """
        progress = begun.progress
        progress.catch_up()
        account = self._run.account(progress.provider, progress.model)
        since = progress.since
        # A second try that is stopped has had no time to be late.
        if account is not None and since is not None and not progress.pieces and not begun.ask.again:
            waits = account.latency.first if progress.streamed else account.latency.total
            waits.add(self._run.loop.time() - since)
        if begun.task is not None:
            begun.task.cancel()

    def _silence(self, begun: Try, now: float) -> ModelError | None:
        """Return the error of a try that has been silent for too long or repeats itself, None for one that has not."""
        begun.progress.catch_up()
        if (error := results.loop_error(begun.progress)) is not None:
            return error
        if now < begun.patience.silent_at:
            return None
        progress = begun.progress
        what = "next" if progress.pieces else "first"
        # Where calls wait for each other, silence counts from the last sign of their server.
        after = " of the last sign of its server" if progress.shared is not None else ""
        said = f"its {what} token did not come within {begun.patience.seconds:.3g} s{after}"
        return TimedOutError(progress.provider, progress.model, said)

    def _late_at(self) -> float:
        """Return the moment at which the one open try is slower than it should be; inf when there is no second try."""
        if not self._run.hedges or self._tries > 1 or len(self._open) != 1:
            return math.inf
        begun = self._open[0]
        if self._would_queue(begun.progress.place):
            return math.inf
        late = begun.patience.late_at
        return late if begun.progress.since is None else max(late, begun.progress.since + _SOONEST_HEDGE)

    def _would_queue(self, place: Place) -> bool:
        """Say whether a second try would only wait for the first, or for what the first waits for."""
        if not place.queues:
            return False
        asked = self._instead or self._ask.slot
        return self._run.models.find(asked.provider, asked.model).place.name == place.name

    @property
    def _instead(self) -> Fallback | None:
        """The fall-back that a second try asks; None where it asks the same model."""
        return next(iter(self._ask.slot.fallbacks), None)

    def _hedge(self, group: asyncio.TaskGroup) -> bool:
        """Make the second try, and say whether it was made.

        While the first goes on it needs room; and always the money.
        """
        run, ask = self._run, self._ask
        slot, instead = ask.slot, self._instead
        asked = instead or slot
        racing = bool(self._open)
        # A second try may take room that is free, not what others wait for; and the money that the run has left.
        if (racing and not hedging.has_room(run, ask, asked)) or not hedging.pay(run, ask, asked, racing=racing):
            self._tries += 1
            return False
        what = f", {instead.model} in its place" if instead else ""
        why = "is slower than usual" if self._open else "broke off"
        said = f"{slot.model} {why}; asked a second time{what}"
        run.decide(HedgedDetail(model=slot.model, by=asked.model), said)
        self._start(group, ask._replace(instead=instead, again=True))
        return True

    def _wake(self) -> float:
        """Return the next moment at which something may be due."""
        moments = [begun.patience.silent_at for begun in self._open]
        now = self._run.loop.time()
        # The first token may come the next moment, and be the last one.
        moments += [
            now + begun.patience.longest_gap
            for begun in self._open
            if begun.progress.streamed and not begun.progress.pieces
        ]
        return min(*moments, self._late_at(), self._until)

    def _set_timer(self) -> None:
        """Have the race wake at the next moment at which something may be due."""
        moment = self._wake()
        if self._timer is not None:
            if self._timer.when() == moment:
                return
            self._timer.cancel()
        self._timer = self._run.loop.call_at(moment, self._due)

    def _due(self) -> None:
        # Forgotten once it fired: a timer may fire a moment early, and is then needed again for the same one.
        self._timer = None
        self._tell()

    async def _wait(self) -> None:
        """Return when something may be due, or has happened."""
        if self._dirty:
            self._dirty = False
            return
        self._news = self._run.loop.create_future()
        if any(begun.progress.since is not None for begun in self._open):
            self._set_timer()
        elif self._timer is None:
            # Nothing is sent yet, so nothing can be late: only the end of the time counts.
            self._timer = self._run.loop.call_at(self._until, self._due)
        try:
            await self._news
        finally:
            self._news, self._dirty = None, False

    def _tell(self, _: object = None) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        else:
            self._dirty = True


class _AbandonedError(ModelError):
    """A try that nobody waited for any more."""
