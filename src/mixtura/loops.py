"""What belongs to an event loop ends with it, so that callers need not close anything.

A loop that shuts down closes the asynchronous generators that were started on it (`shutdown_asyncgens`, which
`asyncio.run` and `Runner` call). One that is closed by hand (`loop.close()`) does not, and neither does one that is
forgotten. So a loop on which something of ours lives is shut down first when it is closed, and what is left when the
process ends is closed then.
"""

import asyncio
import atexit
import contextlib
import itertools
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import Generic, TypeVar
from weakref import WeakSet

from mixtura.forks import forget_in_child

_Kept = TypeVar("_Kept")

# How long the end of a loop may take: a peer that does not say goodbye is not waited for.
_PATIENCE = 2.0
_NUMBERS = itertools.count()


def close_with_loop(close: Callable[[], Awaitable[object]], *, held: bool = False) -> AsyncGenerator[None]:
    """Call `close` when the running loop ends, or earlier on `aclose()` of the returned generator.

    Args:
        close: closes a resource.
        held: the loop keeps the generator, and with it the resource. Otherwise keep a reference to it for as long as
            the resource: a generator without references is closed at once.
    """

    async def park() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await close()

    keeper = park()
    # The generator's first step awaits nothing, so it can be driven by hand.
    with contextlib.suppress(StopIteration):
        keeper.__anext__().send(None)
    _Closing.of(asyncio.get_running_loop()).add(keeper, held)
    return keeper


def end_with_loop(task: "asyncio.Task[None]") -> None:
    """Stop `task`, if it is still under way, when its loop is closed by hand; `asyncio.run` stops every task itself."""
    _Closing.of(task.get_loop()).tasks.add(task)


class PerLoop(Generic[_Kept]):
    """One object for each event loop, which may refer to its loop and yet does not keep it alive.

    A weak dictionary would: its values are alive, and with them the loops that they refer to. The object is kept on
    the loop itself. For tables that last as long as the process.
    """

    def __init__(self) -> None:
        self._name = f"_mixtura_{next(_NUMBERS)}"
        self._loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def get(self, loop: asyncio.AbstractEventLoop) -> _Kept | None:
        """Return the object of `loop`, None where it has none."""
        return getattr(loop, self._name, None)

    def __setitem__(self, loop: asyncio.AbstractEventLoop, kept: _Kept) -> None:
        setattr(loop, self._name, kept)
        self._loops.add(loop)

    def __delitem__(self, loop: asyncio.AbstractEventLoop) -> None:
        delattr(loop, self._name)
        self._loops.discard(loop)

    def __iter__(self) -> Iterator[asyncio.AbstractEventLoop]:
        return iter(list(self._loops))

    def values(self) -> list[_Kept]:
        """Return the objects of all loops."""
        return [kept for loop in self if (kept := self.get(loop)) is not None]

    def clear(self) -> None:
        """Forget every object."""
        for loop in self:
            del self[loop]


class _Closing:
    """Stands in for the method `close` of one loop, and ends what lives on the loop before it closes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._keepers: WeakSet[AsyncGenerator[None]] = WeakSet()
        self.tasks: WeakSet[asyncio.Task[None]] = WeakSet()
        # Weak references to what goes together with a forgotten loop are dead when the loop is finalized.
        self._held: list[AsyncGenerator[None]] = []
        self._loop = loop
        self._close = loop.close
        _CLOSINGS.add(self)
        forget_in_child(self)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "_Closing":
        """Return that of `loop`, put in place if need be."""
        found = getattr(loop, "close", None)
        if not isinstance(found, cls):
            found = cls(loop)
            loop.close = found  # type: ignore[method-assign]  # no loop tells that it is about to be closed
        return found

    def add(self, keeper: AsyncGenerator[None], held: bool) -> None:
        """Note a generator that ends with the loop."""
        self._keepers.add(keeper)
        if held:
            self._held = [*_living(self._held), keeper]

    def __call__(self) -> None:
        """Close the loop."""
        self.end()
        self._close()

    def end(self) -> None:
        """End what lives on the loop, unless the loop runs or is closed: then nothing can."""
        alive = self._under_way() or _living({*self._keepers, *self._held})
        if not alive or self._loop.is_running() or self._loop.is_closed():
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._run()
            return
        # Another loop runs in this thread, and no two can. As the interpreter ends there may be no other thread.
        with contextlib.suppress(RuntimeError):
            apart = threading.Thread(target=self._run, name="mixtura-closing", daemon=True)
            if not sys.is_finalizing():
                apart.start()
                apart.join(2 * _PATIENCE)

    def _run(self) -> None:
        with contextlib.suppress(TimeoutError):
            self._loop.run_until_complete(asyncio.wait_for(self._end(), _PATIENCE))

    def _under_way(self) -> "list[asyncio.Task[None]]":
        return [task for task in self.tasks if not task.done()]

    async def _end(self) -> None:
        if tasks := self._under_way():
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for keeper in _living(self._held):
            await keeper.aclose()
        await self._loop.shutdown_asyncgens()

    def forget(self) -> None:
        """Leave, in a forked process, what lives on the parent's loop to the parent."""
        self._keepers.clear()
        self._held.clear()
        self.tasks.clear()


def _living(keepers: Iterable[AsyncGenerator[None]]) -> list[AsyncGenerator[None]]:
    return [keeper for keeper in keepers if getattr(keeper, "ag_frame", None) is not None]


_CLOSINGS: WeakSet[_Closing] = WeakSet()


def _end_all() -> None:
    for closing in list(_CLOSINGS):
        closing.end()


# What is still open when the interpreter takes its objects apart complains, after everybody who could close it.
atexit.register(_end_all)
