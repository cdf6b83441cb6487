"""The signals that ask the command to end: SIGINT (Ctrl-C), SIGTERM, and SIGHUP of a closed terminal.

A signal that is ignored when the command starts, as `nohup` and shells do for work in the background, stays ignored.
"""

import os
import signal
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_ENDING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # Windows has no SIGHUP


class _State:
    """Of this process.

    Attributes:
        received: the signal that has come, None before the first.
        hasty: signals end it at once.
    """

    received: int | None = None
    hasty = False


def end_at_once() -> None:
    """From now on end the process on a signal, without a word and without tidying up."""
    _State.hasty = True
    _handle(lambda number, frame: os._exit(128 + number))


def end_in_order() -> None:
    """From now on raise KeyboardInterrupt on every signal, or cancel what an event loop runs, as Ctrl-C does.

    A signal other than Ctrl-C that comes a second time ends the process at once. Where signals did not end it at once
    before, they are the caller's and stay as they are.
    """
    if not _State.hasty:
        return
    _State.hasty = False
    _handle(_interrupt)
    if signal.getsignal(signal.SIGINT) is _interrupt:
        # An event loop sees to Ctrl-C only in place of Python's own handler.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def told_to_end() -> bool:
    """Say whether a signal other than Ctrl-C has come: nothing may be begun after it."""
    return _State.received is not None


def exit_code() -> int:
    """Return the exit code of a command that was interrupted, as shells count them: 128 and the signal's number."""
    return 128 + (_State.received or signal.SIGINT)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _State.received is not None:
        os._exit(128 + number)
    _State.received = number
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def _handle(handler: "signal._HANDLER") -> None:
    for number in _ENDING:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, handler)
