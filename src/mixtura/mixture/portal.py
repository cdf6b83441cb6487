"""An event loop in a thread of its own, for callers that have none."""

import asyncio
import atexit
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Protocol

from mixtura.ending import imports_end, interpreter_ends
from mixtura.errors import ConfigError, MixturaError
from mixtura.events import Answer
from mixtura.forks import forget_in_child, never_finalize

Work = Coroutine[Any, Any, Answer]
_Outcome = concurrent.futures.Future[Answer]

# Seconds after which a caller looks whether the loop still turns, and after which one that does not is given up: a
# debugger in a listener may take its time.
_LOOK = 1.0
_STUCK = 300.0
# How long the runs under way may take to stop when the process ends.
_PATIENCE = 2.0


class RunsWork(Protocol):
    """Runs a coroutine for a caller without a loop."""

    def run(self, work: Work) -> Answer:
        """Run `work` and return its answer; an interrupt of the caller stops it."""
        ...


class Portal:
    """An event loop in a daemon thread, for callers that have none; one per process, started on first use.

    Raises:
        RuntimeError: no thread can be started.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._open: set[_Outcome] = set()
        self._ending = False
        self._closing = False
        self._stuck = False
        self._thread = threading.Thread(target=self._serve, name="mixtura", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise
        atexit.register(self._close)
        forget_in_child(self)

    @property
    def usable(self) -> bool:
        """Whether it takes more work."""
        return not (self._ending or self._stuck) and self._thread.is_alive()

    def run(self, work: Work) -> Answer:
        """Run `work` on the loop and wait for its answer; an interrupt of the caller cancels it there.

        Raises:
            MixturaError: the loop was ended, or something on it does not return.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise ConfigError(
                "ask_sync was called from a listener, a model or a destructor in the thread that it would have to wait "
                "for; use ask there"
            )
        outcome, tasks = _Outcome(), list[asyncio.Task[Answer]]()

        def begin() -> None:
            task = self._loop.create_task(work)
            tasks.append(task)
            task.add_done_callback(lambda done: self._settle(outcome, done))

        self._open.add(outcome)
        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            # It was closed a moment ago.
            self._open.discard(outcome)
            return CALLERS_THREAD.run(work)
        try:
            self._wait(outcome)
            return outcome.result()
        finally:
            self._open.discard(outcome)
            if not outcome.done():
                # Ctrl-C lands here, in the caller's thread; the run must not go on (and cost money) without it.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])

    def _wait(self, outcome: _Outcome) -> None:
        silent, heard = 0.0, threading.Event()
        while not concurrent.futures.wait([outcome], timeout=_LOOK).done:
            if self._closing:
                # Only daemon threads wait so long. They end with the process; if it waits for them, they must be told.
                raise _stopped()
            silent = 0.0 if heard.is_set() else silent + _LOOK
            if silent > _STUCK:
                self._stuck = True
                raise MixturaError(
                    f"the thread of ask_sync has been held up for {silent:.0f} s by a listener or a model that does "
                    "not return: let it put its work into a thread of its own"
                )
            heard.clear()
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(heard.set)

    def _settle(self, outcome: _Outcome, done: "asyncio.Task[Answer]") -> None:
        if done.cancelled():
            # Nobody but the end of the process cancels a run whose caller waits, or its own code.
            if self._closing:
                return
            error: BaseException = concurrent.futures.CancelledError()
        elif (raised := done.exception()) is not None:
            error = raised
        else:
            outcome.set_result(done.result())
            return
        _fail(outcome, error)

    def _serve(self) -> None:
        """Run the loop until the process ends.

        A SystemExit or KeyboardInterrupt of anybody's code leaves the loop, as asyncio has it. It belongs to the caller
        whose run it ended and who is told by the next turn of the loop; the other runs go on.
        """
        try:
            while not self._ending:
                with contextlib.suppress(SystemExit, KeyboardInterrupt):
                    self._loop.run_forever()
        finally:
            self._ending = True
            for outcome in () if self._closing else list(self._open):
                _fail(outcome, _stopped())

    def forget(self) -> None:
        """Leave, in a forked process, the parent's loop alone: its thread does not run here."""
        atexit.unregister(self._close)
        never_finalize(self)

    def _close(self) -> None:
        self._ending = self._closing = True
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._begin_winding_up)
            # A listener that blocks the loop must not keep the process from ending: nothing here waits for ever.
            self._thread.join(timeout=2 * _PATIENCE)
        if not self._loop.is_running():
            self._loop.close()

    def _begin_winding_up(self) -> None:
        # Referred to, so that it is not collected half-way.
        self._last = self._loop.create_task(self._wind_up())

    async def _wind_up(self) -> None:
        """Stop the runs under way, then the loop."""
        runs = asyncio.all_tasks() - {asyncio.current_task()}
        for run in runs:
            run.cancel()
        if runs:
            await asyncio.wait(runs, timeout=_PATIENCE)
        await self._loop.shutdown_asyncgens()
        self._loop.stop()


class CallersThread:
    """Runs work in its caller's own thread, where no other can be started: as the interpreter ends."""

    def run(self, work: Work) -> Answer:
        """Run `work` and return its answer.

        Raises:
            ConfigError: a loop runs in this thread already, or the interpreter is too far gone.
        """
        if imports_end():
            work.close()
            raise ConfigError("ask_sync was called when the interpreter had ended; ask before, or in atexit")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            work.close()
            raise ConfigError("ask_sync can start no thread, and an event loop runs in this one: await ask there")
        loop = asyncio.new_event_loop()
        task = loop.create_task(work)
        try:
            return loop.run_until_complete(task)
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)
            loop.close()


CALLERS_THREAD = CallersThread()


class _Portals:
    """The portal of this process, if one has been started."""

    def __init__(self) -> None:
        self._portal: Portal | None = None
        self._lock = threading.RLock()
        forget_in_child(self, self._lock)

    def forget(self) -> None:
        """Begin a forked process without a portal."""
        self._portal = None

    def get(self) -> RunsWork:
        """Return the portal, started if need be; what runs work in the caller's thread where none can be."""
        # Two threads asking first must not start two loops.
        with self._lock:
            if self._portal is None or not self._portal.usable:
                try:
                    # One that is started as the interpreter ends would be closed by nobody.
                    self._portal = None if interpreter_ends() else Portal()
                except RuntimeError:
                    self._portal = None
            return self._portal or CALLERS_THREAD


def _stopped() -> MixturaError:
    return MixturaError("the run was stopped: the process ends")


def _fail(outcome: _Outcome, error: BaseException) -> None:
    # The end of the process and the end of the run may come at once.
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        outcome.set_exception(error)


_PORTALS = _Portals()
portal = _PORTALS.get
"""Return what runs a coroutine for a caller without a loop."""
