"""What crosses to another process or is copied, and what says that it cannot be.

Process pools, task queues and test runners pickle an error to bring it to whoever waits for it. Python does that by
calling the class again with `args`, which fails for every class that takes more than its text: the worker's real
reason is then lost. Here an error is made again without its constructor, and its attributes are put back.
"""

import copy
import pickle
from typing import Any, ClassVar, NoReturn, Self, TypeVar, cast

# The bit of a class that was made by a `class` statement (Py_TPFLAGS_HEAPTYPE), not by Python itself.
_MADE_BY_CODE = 1 << 9
_Kind = TypeVar("_Kind")
_PLAIN = (str, int, float, bool, bytes, type(None))


class PortableError:
    """Makes an exception, and whatever users derive from it, survive pickle, `copy.copy` and `copy.deepcopy`.

    Its attributes, notes and cause come along. A cause that cannot be pickled, as many of HTTP libraries, is replaced
    by an exception with its text. An attribute that cannot be is left out, and shared by copies: the error is worth
    more than it.
    """

    @staticmethod
    def _scrubbed(text: str) -> str:
        """Return `text` without secrets."""
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        error = cast("BaseException", self)
        state = {name: value for name, value in _attributes(self).items() if _travels(value)}
        cause: BaseException | None = error.__cause__
        if not (cause is None or _travels(cause)):
            cause = RuntimeError(self._scrubbed(f"{type(cause).__name__}: {cause}"))
        return _blank, (type(self), error.args), _with_cause(state, error, cause)

    def __copy__(self) -> Self:
        error = cast("BaseException", self)
        return _filled(_blank(type(self), error.args), _with_cause(_attributes(self), error, error.__cause__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        error = cast("BaseException", self)
        made = memo[id(self)] = _blank(type(self), copy.deepcopy(error.args, memo))
        state = {name: _copied(value, memo) for name, value in _attributes(self).items()}
        cause: object = error.__cause__
        # Another library's exception may have no copy; it is the same problem in both.
        cause = copy.deepcopy(cause, memo) if isinstance(cause, PortableError) else cause
        return _filled(made, _with_cause(state, error, cause))


class OfOneProcess:
    """Makes pickling an object, which holds keys, connections or runs, fail with a sentence that says what to do."""

    _instead: ClassVar[str] = "make one in each process"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} belongs to its process and cannot be pickled: {self._instead}")


def _attributes(error: object) -> dict[str, Any]:
    """Return the attributes of `error`, those in the slots of a user's class included."""
    found: Any = object.__getstate__(error)
    *_, slots = found if isinstance(found, tuple) else ({},)
    return {**vars(error), **slots}


def _with_cause(state: dict[str, Any], error: BaseException, cause: object) -> dict[str, Any]:
    # In this order: setting a cause suppresses the context.
    return {**state, "__cause__": cause, "__suppress_context__": error.__suppress_context__}


def _blank(kind: type[_Kind], args: tuple[Any, ...]) -> _Kind:
    """Return an exception of class `kind` whose constructor was not called."""
    # A constructor of a user's class, `__new__` included, may want other arguments than those that ended up in `args`.
    builtin = next(base for base in kind.__mro__ if not base.__flags__ & _MADE_BY_CODE)
    error: Any = builtin.__new__(kind, *args)
    error.args = args
    return cast("_Kind", error)


def _filled(error: _Kind, state: dict[str, Any]) -> _Kind:
    cast("Any", error).__setstate__(state)
    return error


def _copied(value: object, memo: dict[int, Any]) -> object:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # noqa: BLE001  # a class's own code; what has no copy is shared
        return value


def _travels(value: object) -> bool:
    """Say whether `value` can be pickled, and made again from that."""
    if isinstance(value, (*_PLAIN, PortableError)):
        return True
    if isinstance(value, (list, tuple)):
        return all(_travels(item) for item in value)
    try:
        pickle.loads(pickle.dumps(value))  # noqa: S301  # what was written a moment ago, here
    except Exception:  # noqa: BLE001  # a class's own code
        return False
    return True
