"""What a forked process must not take over from its parent: calls under way, connections, threads, random numbers.

A web server that loads an application, asks something and then forks its workers copies all of this process's memory
into each of them. What was learned is as true there as here. What is under way is the parent's alone: a worker that
counted it too would wait for calls that never end there, or speak on a connection that two processes share.
"""

import contextlib
import ctypes
import os
import random
import threading
import weakref
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol


class Forgets(Protocol):
    """An object that holds something of this process."""

    def forget(self) -> None:
        """Drop, in a forked process, what belongs to its parent. Nothing may be sent and nothing awaited."""
        ...


_OWNERS: "weakref.WeakKeyDictionary[Forgets, AbstractContextManager[object]]" = weakref.WeakKeyDictionary()
_GENERATORS: "weakref.WeakSet[random.Random]" = weakref.WeakSet()
_FORKING = threading.Lock()
# The owners and their locks, held while the process is copied.
_HELD = ExitStack()
_COPIED: list[Forgets] = []


def forget_in_child(owner: Forgets, lock: AbstractContextManager[object] | None = None) -> None:
    """Call `owner.forget()` in every process that is forked while `owner` lives.

    Args:
        owner: only a weak reference to it is kept.
        lock: guards it. It is held during the fork, so that no other thread is in the middle of a change when the
            memory is copied. Hold it for microseconds, or while modules are imported that are needed late: what
            another thread has imported by half stays half in the child.
    """
    _OWNERS[owner] = contextlib.nullcontext() if lock is None else lock


def random_generator() -> random.Random:
    """Return a new random generator whose numbers differ in every forked process."""
    generator = random.Random()
    _GENERATORS.add(generator)
    return generator


def never_finalize(inherited: object) -> None:
    """Keep an object of the parent, and all that it refers to, from ever being destroyed in this process.

    The destructors of connections and event loops act on the operating system's objects, which both processes share:
    they would take the parent's sockets out of its own selector.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _before() -> None:
    _FORKING.acquire()
    _COPIED.extend(_OWNERS)
    for owner in _COPIED:
        _HELD.enter_context(_OWNERS[owner])


def _after_in_parent() -> None:
    _HELD.close()
    _COPIED.clear()
    _FORKING.release()


def _after_in_child() -> None:
    owners = list(_COPIED)
    _after_in_parent()
    for owner in owners:
        owner.forget()
    for generator in list(_GENERATORS):
        generator.seed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
