"""An event loop with a virtual clock: its time jumps to the next timer when no task can run.

    from mixtura.virtual import run_virtual

    async def main() -> None:
        async with simulated_cloud(SimOptions()) as cloud:
            ...                       # ten minutes of calls, retries and timeouts

    run_virtual(main())               # takes about a second, and runs the same way every time

Sockets are real. Both ends of every connection must be in this loop: the kernel delivers data sent to 127.0.0.1 before
`send` returns, so when no socket is ready no task in this loop has data to receive, and the clock may jump. A peer in
another process or on another machine would be too slow for the clock. While a job is in an executor
(`run_in_executor`, `asyncio.to_thread`, name lookups) the clock stands still, so a job must not wait for one of this
loop's timers. The clock does not wait for subprocesses.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from mixtura.limits.current import own_limiter

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A jump this long (seconds) most often fires a timeout: check the sockets once more, for a millisecond of real time,
# before concluding that no data will come.
_FAR = 1.0
_SECOND_LOOK = 0.001


class _JumpingSelector(selectors.BaseSelector):
    """Wraps a real selector. Instead of sleeping until a timer, it calls `jump` with the seconds to skip."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.jump: Callable[[float], None] = lambda seconds: None
        self.may_jump: Callable[[], bool] = lambda: True

    def register(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: "FileDescriptorLike") -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: "FileDescriptorLike", events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> "Mapping[FileDescriptorLike, selectors.SelectorKey]":
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return self._real.select(0)
        if not self.may_jump() or timeout is None:
            # There is no timer to jump to, or a thread has not reported yet: wait in real time.
            return self._real.select(None)
        ready = self._real.select(0)
        if not ready and timeout >= _FAR:
            ready = self._real.select(_SECOND_LOOK)
        if not ready:
            self.jump(timeout)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose `time()` starts at 0 and advances only when every task in it waits for a timer."""

    def __init__(self) -> None:
        self._virtual_now = 0.0
        self._jobs = 0
        selector = _JumpingSelector()
        selector.jump = self._jump
        selector.may_jump = lambda: self._jobs == 0
        super().__init__(selector)

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return self._virtual_now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` in a thread. The clock stands still until it returns."""
        future = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads in real time. A timeout in virtual time would expire before they could end."""
        await super().shutdown_default_executor()

    def _job_done(self, _: asyncio.Future[Any]) -> None:
        self._jobs -= 1

    def _jump(self, seconds: float) -> None:
        self._virtual_now += seconds


def run_virtual(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new `VirtualClockLoop`, as `asyncio.run` does on a real loop.

    The loop has a limiter of its own for rate limits. The limiter of the process and that of a Redis server count in
    real time, so they are not used.
    """
    loop = VirtualClockLoop()
    # The limiter also covers what the loop ends while it closes.
    with own_limiter(loop), asyncio.Runner(debug=debug, loop_factory=lambda: loop) as runner:
        return runner.run(main)
