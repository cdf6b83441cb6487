"""llama.cpp in this process: one server object a file, shared by everybody who found that file.

What must hold, whoever calls from wherever:

- A server is taken down only when no call is inside it: llama.cpp ends the process otherwise.
- At the end of the interpreter calls are stopped, waited for and the server taken down, while threads can still run.
- A forked process has the memory of a server and none of its threads: it forgets the server, and loads it anew. What it
  loads it never takes down, and it ends without the library's own farewell, which would wait for those threads.
"""

import asyncio
import atexit
import ctypes
import importlib
import os
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import msgspec

from mixtura.chat import Message
from mixtura.models.local import trial
from mixtura.models.local.header import GgufHeader
from mixtura.models.local.settings import ResolvedSettings
from mixtura.models.local.slots import SlotQueue
from mixtura.models.local.socket_server import ServerEndpoint
from mixtura.models.threads import DaemonThreads

THREADS = DaemonThreads("mixtura-local")
# How long the end of the interpreter waits for calls that were told to stop: they do between two batches.
_EXIT_SECONDS = 60.0
_SPIN_COUNT = "300"


class LoadError(Exception):
    """The file could not be loaded; the text says why, as the end of a sentence about it."""


class _ServerHandle:
    """The server object and who is inside it; apart from `LlamaFile`, so that it outlives it until it is taken down."""

    inherited = False
    """Whether this process was forked from one that had a server running."""

    def __init__(
        self,
        header: GgufHeader,
        settings: ResolvedSettings,
        package: Callable[[], ModuleType],
        trusted_states: set[object],
        trial_lock: threading.Lock,
    ) -> None:
        self.is_closing = False
        self._trial_lock = trial_lock
        self._header = header
        self._settings = settings
        self._package = package
        self._trusted = trusted_states
        self._server: Any = None
        self._endpoint: ServerEndpoint | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._failed: LoadError | None = None
        self._inside = 0
        # Guards loading, taking down and `_inside`; held while a file is loaded, never while one is asked.
        self._condition = threading.Condition()

    def enter(self) -> tuple[Any, ServerEndpoint]:
        """Return the server, loaded if need be, and count the caller as inside until `leave`.

        Raises:
            LoadError: it cannot be loaded.
        """
        with self._condition:
            if self.is_closing:
                raise LoadError("this process is about to end")
            if self._server is None:
                self._load()
            self._inside += 1
            assert self._endpoint is not None
            return self._server, self._endpoint

    def leave(self) -> None:
        """Count a caller out."""
        with self._condition:
            self._inside -= 1
            self._condition.notify_all()

    def _load(self) -> None:
        if self._failed is not None:
            raise LoadError(*self._failed.args)
        with self._trial_lock:
            if _state(self._header) not in self._trusted:
                self._run_trial()
        package, endpoint = self._package(), ServerEndpoint()
        try:
            self._server = package.Server(
                trial.server_parameters(package, _server_options(self._header, self._settings, endpoint))
            )
        except RuntimeError:
            memory = self._settings.memory / 1e9
            raise LoadError(f"llama.cpp could not load it; are {memory:.1f} GB of memory free?") from None
        finally:
            if self._server is None:
                endpoint.close()
        endpoint.set_address(self._server.listening_address)
        self._endpoint = endpoint

    def _run_trial(self) -> None:
        problem = try_file(self._header, self._settings, self._note_child)
        self._child = None
        if self.is_closing:
            raise LoadError("this process is about to end")
        if problem:
            self._failed = LoadError(problem)
            raise self._failed
        self._trusted.add(_state(self._header))

    def _note_child(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = child
        if self.is_closing:
            child.kill()

    def close(self) -> None:
        """Stop every call and take the server down; it cannot be entered again."""
        self.is_closing = True
        if (child := self._child) is not None:
            child.kill()
        with self._condition:
            left = self._condition.wait_for(lambda: not self._inside, _EXIT_SECONDS)
            server, self._server = self._server, None
            endpoint, self._endpoint = self._endpoint, None
            if server is not None and (self.inherited or not left):
                _leak(server)
            del server
            if endpoint is not None:
                endpoint.close()

    def forget(self) -> None:
        """Let go of a server whose threads a fork has left behind; it is never taken down here."""
        server, self._server = self._server, None
        if server is not None:
            _leak(server)
            _skip_native_exit()
            _ServerHandle.inherited = True
        self._endpoint = self._child = None
        self._inside = 0
        self._condition = threading.Condition()
        self._trial_lock = threading.Lock()


class LlamaFile:
    """One model file, loaded when it is first asked and freed when nobody holds this object any more.

    Get one from `shared`. `header` and `settings` say what it is and how it is run. Where the settings say so there are
    several servers of it; each call goes to the one with the fewest, and none is loaded before it is needed.
    """

    def __init__(
        self,
        header: GgufHeader,
        settings: ResolvedSettings,
        package: Callable[[], ModuleType],
        trusted_states: set[object],
    ) -> None:
        self.header = header
        self.settings = settings
        self.slot_queue = SlotQueue(settings.slots)
        trial_lock = threading.Lock()
        self._handles = tuple(
            _ServerHandle(header, settings, package, trusted_states, trial_lock) for _ in range(settings.copies)
        )
        self._calls = dict.fromkeys(self._handles, 0)
        self._lock = threading.Lock()  # guards `_calls`
        weakref.finalize(self, _close, self._handles)

    @property
    def is_closing(self) -> bool:
        """Whether calls have to end because the process does."""
        return self._handles[0].is_closing

    def generate(self, body: bytes, take: Callable[[bytes], bool]) -> None:
        """Run one streamed chat completion to its end; it blocks, so call it in a thread that holds a slot of `slot_queue`.

        Args:
            body: the request as JSON, with `"stream": true`.
            take: gets each chunk (or the error in place of one) as JSON; True stops the generation.

        Raises:
            LoadError: the file cannot be loaded.
            ValueError: the request is refused; RuntimeError: the server failed.
        """
        with self._lock:
            handle = min(self._handles, key=self._calls.__getitem__)
            self._calls[handle] += 1
        try:
            server, _ = handle.enter()
            try:
                server.handle_chat_completions(body, take)
            finally:
                del server
                handle.leave()
        finally:
            with self._lock:
                self._calls[handle] -= 1

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of the tokens of `text`; `special` reads the names of control tokens as those tokens.

        Raises:
            LoadError: the file cannot be loaded.
            DoorError: llama.cpp refused.
        """
        found = await self._ask("/tokenize", {"content": text, "add_special": False, "parse_special": special})
        return [int(token) for token in found["tokens"]]

    async def apply_template(self, messages: Sequence[Message]) -> str:
        """Return the prompt that the file's chat template makes of `messages`.

        Raises:
            LoadError: the file cannot be loaded.
            DoorError: the template refuses the messages.
        """
        found = await self._ask("/apply-template", {"messages": msgspec.to_builtins(messages)})
        return str(found["prompt"])

    async def slots(self) -> list[dict[str, Any]]:
        """Return what llama.cpp says of each slot; `is_processing` tells whether a call is in it."""
        found = [await self._ask("/slots", None, handle) for handle in self._handles]
        return [slot for slots in found for slot in slots]

    async def _ask(self, path: str, body: dict[str, Any] | None, handle: _ServerHandle | None = None) -> Any:
        asked = handle or self._handles[0]

        def ask() -> Any:
            _, endpoint = asked.enter()
            try:
                return endpoint.ask(path, body)
            finally:
                asked.leave()

        return await asyncio.get_running_loop().run_in_executor(THREADS, ask)

    def forget(self) -> None:
        """Begin anew in a forked process."""
        for handle in self._handles:
            handle.forget()
        self._calls = dict.fromkeys(self._handles, 0)
        self._lock = threading.Lock()
        self.slot_queue = SlotQueue(self.settings.slots)


class _CloseCounter:
    """Counts files that are being taken down: the last reference may go in a thread, which the end would cut off."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as a forked process has to: it has none of the threads."""
        self._condition = threading.Condition()
        self._count = 0

    def __enter__(self) -> None:
        with self._condition:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._count -= 1
            self._condition.notify_all()

    def wait(self) -> None:
        """Wait until none is."""
        with self._condition:
            self._condition.wait_for(lambda: not self._count, _EXIT_SECONDS)


_CLOSE_COUNTER = _CloseCounter()
atexit.register(_CLOSE_COUNTER.wait)


def _close(handles: Sequence[_ServerHandle]) -> None:
    """Stop the calls of all servers of a file, then take them down."""
    with _CLOSE_COUNTER:
        for handle in handles:
            handle.is_closing = True
        for handle in handles:
            handle.close()


class _FileRegistry:
    """The files that are in use in this process, by path, state and settings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._llamas: weakref.WeakValueDictionary[tuple[object, ...], LlamaFile] = weakref.WeakValueDictionary()
        # Files, in the state they were in, that are known to load.
        self._trusted: set[object] = set()

    def get(
        self, header: GgufHeader, settings: ResolvedSettings, package: Callable[[], ModuleType], *, trusted: bool
    ) -> LlamaFile:
        state = _state(header)
        key = (*state, settings.threads, settings.slots, settings.context, settings.copies)
        with self._lock:
            if trusted:
                self._trusted.add(state)
            found = self._llamas.get(key)
            if found is None:
                found = self._llamas[key] = LlamaFile(header, settings, package, self._trusted)
            return found

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        _CLOSE_COUNTER.forget()
        for llama in list(self._llamas.values()):
            llama.forget()


_REGISTRY = _FileRegistry()
shared = _REGISTRY.get
"""Return the `LlamaFile` of a file and its settings: the one in use, if there is one. A file that is not `trusted` is
loaded in another process first (see `trial.py`)."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_REGISTRY.after_fork)


def load_package(env: Mapping[str, str]) -> ModuleType:
    """Import the package of the extra; `env` is where the user may have set how its threads wait.

    The threads of OpenMP wait for each other by spinning, for long unless told otherwise before the library is loaded.
    Beside a busy core that made two threads ten times slower than one. Waiting in the system at once halves their speed
    on a machine at rest. A few hundred turns cost nothing in either case (`python -m bench.local`).
    """
    is_set = "OMP_WAIT_POLICY" in env or "GOMP_SPINCOUNT" in env
    if not is_set:
        os.putenv("GOMP_SPINCOUNT", _SPIN_COUNT)
    try:
        return importlib.import_module("xllamacpp")
    finally:
        if not is_set:
            os.unsetenv("GOMP_SPINCOUNT")


def try_file(
    header: GgufHeader,
    settings: ResolvedSettings,
    on_start: Callable[["subprocess.Popen[bytes]"], None] = lambda child: None,
) -> str:
    """Load a file in another process, and return why it cannot be used, "" when it can; it blocks.

    Args:
        header: the file.
        settings: how it would be run; one slot is tried.
        begun: is given the process, to kill it where nobody waits any more.
    """
    endpoint = ServerEndpoint()
    try:
        return trial.try_loading(_server_options(header, settings, endpoint), on_start)
    finally:
        endpoint.close()


def _state(header: GgufHeader) -> tuple[object, ...]:
    """Return what stands for a file in the state in which its header was read."""
    return header.path, header.stamp, header.size


def _server_options(header: GgufHeader, settings: ResolvedSettings, endpoint: ServerEndpoint) -> dict[str, Any]:
    return {
        "path": header.path,
        "threads": settings.threads,
        "slots": -(-settings.slots // settings.copies),
        "context": settings.context,
        "host": endpoint.host,
        "key": endpoint.key,
    }


def _leak(server: object) -> None:
    """Hold one more reference than anybody will ever give back, so that the object is never taken down."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(server))


def _skip_native_exit() -> None:
    """Let this forked process end with `_exit` and its own status, once Python has ended in order.

    The library's destructors join threads that only the parent has. What glibc's `on_exit` was given last runs first.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(ctypes.cast(libc["_exit"], ctypes.c_void_p), None)
