"""Listeners of a run: who they are, what they watch, and what happens when one raises or blocks."""

import asyncio
import inspect
import logging
from collections.abc import Sequence

from mixtura.errors import ConfigError, InputError
from mixtura.events import Event, Listener
from mixtura.planning.options import Watch

_LOG = logging.getLogger("mixtura")
_ORDER: tuple[Watch, ...] = ("nothing", "answer", "calls")
# A listener that takes this many seconds over one event holds up every call of its process.
_BLOCKS = 0.1


def checked(listeners: Sequence[Listener]) -> tuple[Listener, ...]:
    """Return `listeners`.

    Raises:
        ConfigError: one is asynchronous, or watches what cannot be watched.
    """
    for listener in listeners:
        call = getattr(listener, "__call__", None)  # noqa: B004  # an object may be async in its __call__ alone
        if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(call):
            raise ConfigError(f"listener {_name(listener)} is async: listeners are called, not awaited")
        watches = getattr(listener, "watches", "nothing")
        if watches not in _ORDER:
            raise ConfigError(f"listener {_name(listener)} watches {watches!r}: expected one of {', '.join(_ORDER)}")
    return tuple(listeners)


def watched_by(listeners: Sequence[Listener], asked: Watch) -> Watch:
    """Return the most that the caller or any of `listeners` (by its attribute `watches`) wants to see written.

    Raises:
        InputError: `asked` is nothing that can be watched.
    """
    if asked not in _ORDER:
        raise InputError(f"watch: expected one of {', '.join(_ORDER)}, got {asked!r}")
    wanted: list[Watch] = [asked]
    wanted += [getattr(listener, "watches", "nothing") for listener in listeners]
    return max(wanted, key=_ORDER.index)


class ListenerGroup:
    """Hands the events of one run on.

    A listener that raises is logged and not called again in that run, since a run must not be lost to it. One that
    blocks is logged once.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = list(listeners)
        self._slow: set[int] = set()

    def __call__(self, event: Event) -> None:
        """Hand the next event to every listener."""
        clock = asyncio.get_running_loop().time
        for listener in tuple(self._listeners):
            begun = clock()
            try:
                listener(event)
            except (Exception, asyncio.CancelledError, GeneratorExit):  # noqa: BLE001  # anybody's code; logged below
                # Nothing is awaited here, so a cancellation is the listener's own, not that of the run.
                self._listeners = [other for other in self._listeners if other is not listener]
                _LOG.exception("listener %s raised and is not called again in this run", _name(listener))
            took = clock() - begun
            if took > _BLOCKS and id(listener) not in self._slow:
                self._slow.add(id(listener))
                name, kind = _name(listener), type(event).__name__
                _LOG.warning(
                    "listener %s took %.2f s over a %s: it holds up every call of this process; "
                    "let it put events into a queue that a thread reads",
                    *(name, took, kind),
                )


def _name(listener: object) -> str:
    inner = getattr(listener, "func", listener)
    return repr(getattr(inner, "__name__", type(inner).__name__))
