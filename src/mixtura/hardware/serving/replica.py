"""One replica with continuous batching, simulated from event to event instead of step by step.

Between two events (a request ends, a prompt has been read, a request arrives that can join) the batch does not change.
So all running requests share one counter of decode steps: a request of o output tokens that joins at count v ends at
count v + o - 1, and the time of the steps up to then is the sum of an arithmetic series (see `step_times`). A request
that arrives within such a run of steps joins at the next step boundary, found by solving the same sum for the number of
steps.
"""

import math
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Literal, NamedTuple, Protocol

from mixtura.hardware.serving.step_times import StepTimes

Prefilling = Literal["mixed", "first", "apart"]

_IDLE, _EDGE, _DECODING, _READING, _MIXED = range(5)
NEVER = math.inf


class TimedActor(Protocol):
    """A part of the simulation that schedules its own events."""

    number: int
    due: float

    def settle(self, time: float) -> None:
        """Apply the effects of the event that ends at `time`."""
        ...

    def plan(self, time: float) -> None:
        """Begin the next activity and put its end on the agenda."""
        ...


class StepTable(NamedTuple):
    """Step times as lists, which Python indexes faster than arrays; entry 0 of a piece is an empty batch."""

    base: list[list[float]]
    slope: list[list[float]]
    knots: list[float]

    @classmethod
    def of(cls, step_times: StepTimes) -> "StepTable":
        """Return the table of `step_times`, with an unreachable knot appended."""
        base, slope = ([[0.0, *row] for row in values.tolist()] for values in (step_times.base, step_times.slope))
        return cls(base, slope, [*step_times.knots.tolist(), NEVER])


class RequestTable(NamedTuple):
    """All requests and the arrays that record their times, indexed by the request's number.

    Attributes:
        prompts: tokens of each prompt.
        outputs: tokens of each answer.
        seconds: total seconds to read each prompt.
        read: seconds to read the first n tokens of a prompt, by n; only used if prompts are read in chunks.
        step_times: seconds of decode steps, as lists by piece and batch.
        started: time at which reading the prompt began, filled in by the simulation.
        first: time of the first token, filled in by the simulation.
        finish: called with the request and the time of its last token.
    """

    prompts: list[int]
    outputs: list[int]
    seconds: list[float]
    read: "array[float]"
    step_times: "StepTable"
    started: "array[float]"
    first: "array[float]"
    finish: Callable[[int, float], None]


class Replica:
    """One replica; `loads[number]` counts its requests, and `agenda` is the heap of (time, number) of all actors.

    Requests are admitted in order of arrival. Before its prompt is read a request gets a slot in the batch and KV
    cache for all its tokens, prompt and output; it keeps both to its end, and no request is evicted. A request that
    does not fit blocks all requests behind it.
    """

    __slots__ = (
        "_base",
        "_batch",
        "_begun",
        "_bends",
        "_chunk",
        "_clock",
        "_context",
        "_done",
        "_first_step",
        "_head",
        "_how",
        "_knots",
        "_ready",
        "_rise",
        "_room",
        "_running",
        "_slope",
        "_slots",
        "_state",
        "_steps",
        "_waiting",
        "_work",
        "agenda",
        "busy",
        "decoded",
        "due",
        "loads",
        "number",
        "steps",
    )

    def __init__(
        self,
        number: int,
        step_times: StepTimes,
        how: tuple[Prefilling, int],
        work: RequestTable,
        shared: tuple[list[tuple[float, int]], list[int]],
    ) -> None:
        self.number = number
        self.agenda, self.loads = shared
        self._how, self._chunk = how
        self._work = work
        self._base, self._slope, self._knots = work.step_times
        self._bends = len(step_times.knots) > 1
        self._slots, self._room = step_times.max_batch, step_times.capacity
        self._waiting: deque[int] = deque()
        self._running: list[tuple[int, int]] = []
        self._ready: list[int] = []
        self._head, self._done = -1, 0
        self._batch = self._context = self._clock = self._steps = 0
        self._begun = self._first_step = self._rise = 0.0
        self._state = _IDLE
        self.due = NEVER
        self.busy = 0.0
        self.steps = self.decoded = 0

    def arrive(self, request: int, time: float) -> None:
        """Take a request into the queue."""
        self.loads[self.number] += 1
        waiting = self._waiting
        waiting.append(request)
        if self._state == _IDLE:
            # Not begun at once: other requests may arrive at the same time and share the first step.
            self._state = _EDGE
            self._schedule(time)
        elif self._state == _DECODING and len(waiting) == 1 and self._fits(request):
            self._cut(time)

    def settle(self, time: float) -> None:
        """Apply the steps that end at `time`: generated tokens, read prompts, finished requests."""
        state = self._state
        if self._steps and self._batch:
            steps, batch = self._steps, self._batch
            self.steps += steps
            self.decoded += steps * batch
            self._clock += steps
            self._context += steps * batch
            running = self._running
            while running and running[0][0] <= self._clock:
                self._end(heappop(running)[1], time)
        if state != _EDGE:
            self.busy += time - self._begun
            if state != _DECODING and self._ready:
                first = self._work.first
                for request in self._ready:
                    first[request] = time
                    self._join(request, time)
                self._ready = []
        self._state = _EDGE
        self._steps = 0

    def plan(self, time: float) -> None:
        """Begin the next steps at `time`: all steps up to the next change of the batch."""
        self._begun = time
        if self._how == "mixed":
            if self._head >= 0 or self._next():
                self._mix(time)
                return
        elif self._how == "first":
            if self._next():
                self._read(time)
                return
        else:
            while self._next():
                self._join(self._head, time)
                self._head = -1
        if self._batch:
            self._state = _DECODING
            self._steps = self._running[0][0] - self._clock
            self._schedule(time + self._sum_up_to_bend())
        else:
            self._state = _IDLE
            self.due = NEVER

    def _fits(self, request: int) -> bool:
        work = self._work
        return self._slots > 0 and self._room >= work.prompts[request] + work.outputs[request]

    def _next(self) -> bool:
        """Admit the first request of the queue, if it fits, as the one whose prompt is read next."""
        if not self._waiting or not self._fits(self._waiting[0]):
            return False
        request = self._head = self._waiting.popleft()
        self._done = 0
        self._slots -= 1
        self._room -= self._work.prompts[request] + self._work.outputs[request]
        return True

    def _read(self, time: float) -> None:
        """Read one whole prompt while all other requests pause."""
        request = self._head
        self._head = -1
        self._work.started[request] = time
        self._ready = [request]
        self._state = _READING
        self._schedule(time + self._work.seconds[request])

    def _mix(self, time: float) -> None:
        """Decode, and read up to a chunk of prompts in each step."""
        work, head = self._work, self._head
        read, chunk = work.read, self._chunk
        self._state = _MIXED
        if not self._done:
            work.started[head] = time
        full = (work.prompts[head] - self._done - 1) // chunk
        if full > 0:
            # Steps filled by this prompt alone; its last chunk may share a step with the next prompt.
            self._steps = min(full, self._running[0][0] - self._clock) if self._batch else full
            seconds = self._sum_up_to_bend() if self._batch else 0.0
            before = self._done
            self._done += self._steps * chunk
            self._schedule(time + seconds + (read[self._done] - read[before]))
            return
        seconds, left = 0.0, chunk
        while left and (self._head >= 0 or self._next()):
            head = self._head
            if not self._done:
                work.started[head] = time
            before, size = self._done, work.prompts[head]
            if size - before <= left:
                seconds += read[size] - read[before]
                left -= size - before
                self._ready.append(head)
                self._head = -1
            else:
                self._done = before + left
                seconds += read[self._done] - read[before]
                left = 0
        self._steps = 1
        self._schedule(time + seconds + (self._sum_up_to_bend() if self._batch else 0.0))

    def _sum_up_to_bend(self) -> float:
        """Return the seconds of the planned steps, cutting them at the next knot of the step times."""
        batch, piece = self._batch, 0
        mean = self._context / batch
        if self._bends:
            piece = bisect_right(self._knots, mean) - 1
            self._steps = min(self._steps, math.ceil(min(self._knots[piece + 1] - mean, self._steps)))
        self._rise = rise = self._slope[piece][batch]
        self._first_step = first = self._base[piece][batch] + rise * mean
        return self._steps * (first + rise * (self._steps - 1) * 0.5)

    def _cut(self, time: float) -> None:
        """End the planned decode steps at the first step boundary at or after `time`."""
        begun, first, rise = self._begun, self._first_step, self._rise
        gone = time - begun
        steps = 0
        if gone > 0:
            # Solves steps * first + rise * steps * (steps - 1) / 2 = gone; rounding may be off by one step.
            half = first - rise * 0.5
            steps = int(2 * gone / (half + math.sqrt(half * half + 2 * rise * gone)))
            while begun + steps * (first + rise * (steps - 1) * 0.5) < time:
                steps += 1
            while steps and begun + (steps - 1) * (first + rise * (steps - 2) * 0.5) >= time:
                steps -= 1
        if steps < self._steps:
            self._steps = steps
            self._schedule(max(time, begun + steps * (first + rise * (steps - 1) * 0.5)))

    def _join(self, request: int, time: float) -> None:
        """Add a request with its first token to the batch, or end it if that was its only token."""
        work = self._work
        outputs = work.outputs[request]
        self._batch += 1
        self._context += work.prompts[request] + 1
        if outputs == 1:
            self._end(request, time)
        else:
            heappush(self._running, (self._clock + outputs - 1, request))

    def _end(self, request: int, time: float) -> None:
        work = self._work
        tokens = work.prompts[request] + work.outputs[request]
        self._batch -= 1
        self._context -= tokens
        self._slots += 1
        self._room += tokens
        self.loads[self.number] -= 1
        work.finish(request, time)

    def _schedule(self, time: float) -> None:
        self.due = time
        heappush(self.agenda, (time, self.number))
