"""One replica: continuous batching, walked from event to event and not from step to step.

Between two events (a request ends, a prompt is read, a request comes that can join) the batch does not change. So all
running requests share one counter of decode steps, a request that joins at count v and wants o tokens ends at count
v + o - 1, and the time of the steps up to then is the sum of an arithmetic series (see `pace`). A request that comes
in the middle of such a run of steps joins at the next step's edge, which is found by solving the same sum for the
number of steps.
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
    """Whoever does something at a time of its own."""

    number: int
    due: float

    def settle(self, time: float) -> None:
        """Account for what ends at `time`."""
        ...

    def plan(self, time: float) -> None:
        """Begin what comes next, and tell the agenda when it ends."""
        ...


class StepTable(NamedTuple):
    """A pace as lists, which Python reads faster than arrays; row 0 of a piece is a batch of none."""

    base: list[list[float]]
    slope: list[list[float]]
    knots: list[float]

    @classmethod
    def of(cls, step_times: StepTimes) -> "StepTable":
        """Return the table of a pace, a last knot that is never reached at its end."""
        base, slope = ([[0.0, *row] for row in values.tolist()] for values in (step_times.base, step_times.slope))
        return cls(base, slope, [*step_times.knots.tolist(), NEVER])


class RequestTable(NamedTuple):
    """The requests and where their fate is noted; all by the request's number.

    Attributes:
        prompts: tokens of each prompt.
        outputs: tokens of each answer.
        seconds: what each prompt takes to read, in all.
        read: seconds to read the first n tokens of a prompt, by n; only where prompts are cut into chunks.
        pace: seconds of decode steps, as lists by piece and batch.
        started: when reading the prompt began, to be filled.
        first: when the first token was there, to be filled.
        finish: called with the request and the time when its last token is there.
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
    """One replica; `loads[number]` is how many requests it has, and `agenda` the heap of (time, number) of all actors.

    Admission is in order of arrival. A request gets its slot in the batch and room for all its tokens, prompt and
    output, before its prompt is read, and keeps them to its end: nobody is evicted. While the first in the queue does
    not fit, nobody passes it.
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
            # Not begun at once: others may come at the same time, and share the first step.
            self._state = _EDGE
            self._wake(time)
        elif self._state == _DECODING and len(waiting) == 1 and self._fits(request):
            self._cut(time)

    def settle(self, time: float) -> None:
        """Account for the steps that end at `time`: tokens made, prompts read, requests ended."""
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
        """Begin the next steps at `time`: as many as pass without anything to decide."""
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
            self._wake(time + self._sum_up_to_bend())
        else:
            self._state = _IDLE
            self.due = NEVER

    def _fits(self, request: int) -> bool:
        work = self._work
        return self._slots > 0 and self._room >= work.prompts[request] + work.outputs[request]

    def _next(self) -> bool:
        """Admit the first of the queue, when it fits, as the one whose prompt is read."""
        if not self._waiting or not self._fits(self._waiting[0]):
            return False
        request = self._head = self._waiting.popleft()
        self._done = 0
        self._slots -= 1
        self._room -= self._work.prompts[request] + self._work.outputs[request]
        return True

    def _read(self, time: float) -> None:
        """Read one whole prompt while everybody else stands still."""
        request = self._head
        self._head = -1
        self._work.started[request] = time
        self._ready = [request]
        self._state = _READING
        self._wake(time + self._work.seconds[request])

    def _mix(self, time: float) -> None:
        """Decode, and read up to a chunk of prompts in each step."""
        work, head = self._work, self._head
        read, chunk = work.read, self._chunk
        self._state = _MIXED
        if not self._done:
            work.started[head] = time
        full = (work.prompts[head] - self._done - 1) // chunk
        if full > 0:
            # Steps that belong to this prompt alone; its last piece may share a step with the next prompt.
            self._steps = min(full, self._running[0][0] - self._clock) if self._batch else full
            seconds = self._sum_up_to_bend() if self._batch else 0.0
            before = self._done
            self._done += self._steps * chunk
            self._wake(time + seconds + (read[self._done] - read[before]))
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
        self._wake(time + seconds + (self._sum_up_to_bend() if self._batch else 0.0))

    def _sum_up_to_bend(self) -> float:
        """Return the seconds of the planned steps; where the pace bends before their end, of the steps up to there."""
        batch, piece = self._batch, 0
        mean = self._context / batch
        if self._bends:
            piece = bisect_right(self._knots, mean) - 1
            self._steps = min(self._steps, math.ceil(min(self._knots[piece + 1] - mean, self._steps)))
        self._rise = rise = self._slope[piece][batch]
        self._first_step = first = self._base[piece][batch] + rise * mean
        return self._steps * (first + rise * (self._steps - 1) * 0.5)

    def _cut(self, time: float) -> None:
        """Let the planned decode steps end at the first edge at or after `time`."""
        begun, first, rise = self._begun, self._first_step, self._rise
        gone = time - begun
        steps = 0
        if gone > 0:
            # Solves steps * first + rise * steps * (steps - 1) / 2 = gone; rounding may put it one beside.
            half = first - rise * 0.5
            steps = int(2 * gone / (half + math.sqrt(half * half + 2 * rise * gone)))
            while begun + steps * (first + rise * (steps - 1) * 0.5) < time:
                steps += 1
            while steps and begun + (steps - 1) * (first + rise * (steps - 2) * 0.5) >= time:
                steps -= 1
        if steps < self._steps:
            self._steps = steps
            self._wake(max(time, begun + steps * (first + rise * (steps - 1) * 0.5)))

    def _join(self, request: int, time: float) -> None:
        """Let a request whose first token is there decode, or end when it wants no more."""
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

    def _wake(self, time: float) -> None:
        self.due = time
        heappush(self.agenda, (time, self.number))
