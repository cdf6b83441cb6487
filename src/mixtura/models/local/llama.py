"""llama.cpp in this process: the server objects of a file, shared by all models made from that file.

These invariants hold for calls from any thread and any event loop:

- A server is closed only when no call is inside it. Otherwise llama.cpp ends the process.
- When the interpreter exits, running calls are stopped and awaited and the servers closed, while threads can still run.
- A forked process inherits the memory of a server and none of its threads. It drops that server without closing it and
  loads the file again. It never closes what it loads, and it exits without the library's destructors, which would wait
  for the missing threads.
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
# Seconds that the interpreter's exit waits for calls to stop. A call can stop only between two batches.
_EXIT_SECONDS = 60.0
_SPIN_COUNT = "300"


class LoadError(Exception):
    """The file could not be loaded. The text says why, as the end of a sentence about the file."""


class _ServerHandle:
    """One server object and the calls inside it. It outlives its `LlamaFile` until the server is closed."""

    inherited = False
    """Whether this process was forked from one with a running server."""

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
        # Guards loading, closing and `_inside`. It is held while a file is loaded, and never while a call runs.
        self._condition = threading.Condition()

    def enter(self) -> tuple[Any, ServerEndpoint]:
        """Return the server, loading it first if necessary, and count the caller as inside until `leave`.

        Raises:
            LoadError: the file cannot be loaded.
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
        """Count the caller as outside again."""
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
        """Stop every call and close the server. It cannot be entered again."""
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
        """Drop, without closing it, a server whose threads exist only in the parent process."""
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
    """One model file, loaded by its first call and freed when the last reference to this object is gone.

    Use `shared` to get one. If `settings.copies` is above 1 the file has several servers. A call goes to the server
    with the fewest calls, and a server is loaded when its first call comes.
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
        """Whether calls must stop because the file is being closed."""
        return self._handles[0].is_closing

    def generate(self, body: bytes, take: Callable[[bytes], bool]) -> None:
        """Run one streamed chat completion to its end. This blocks: call it in a thread that holds a slot.

        Args:
            body: the request as JSON, with `"stream": true`.
            take: receives each chunk (or an error in place of a chunk) as JSON. If it returns True, generation stops.

        Raises:
            LoadError: the file cannot be loaded.
            ValueError: llama.cpp rejects the request.
            RuntimeError: the server failed.
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
        """Return the token ids of `text`. With `special`, the names of control tokens are parsed as control tokens.

        Raises:
            LoadError: the file cannot be loaded.
            EndpointError: llama.cpp rejects the request or does not answer.
        """
        found = await self._ask("/tokenize", {"content": text, "add_special": False, "parse_special": special})
        return [int(token) for token in found["tokens"]]

    async def apply_template(self, messages: Sequence[Message]) -> str:
        """Return the prompt that the file's chat template renders for `messages`.

        Raises:
            LoadError: the file cannot be loaded.
            EndpointError: the template rejects the messages, or llama.cpp does not answer.
        """
        found = await self._ask("/apply-template", {"messages": msgspec.to_builtins(messages)})
        return str(found["prompt"])

    async def slots(self) -> list[dict[str, Any]]:
        """Return llama.cpp's state of each slot; `is_processing` is true while a call runs in the slot."""
        found = [await self._ask("/slots", None, handle) for handle in self._handles]
        return [slot for slots in found for slot in slots]

    async def _ask(self, path: str, body: dict[str, Any] | None, handle: _ServerHandle | None = None) -> Any:
        target = handle or self._handles[0]

        def ask() -> Any:
            _, endpoint = target.enter()
            try:
                return endpoint.ask(path, body)
            finally:
                target.leave()

        return await asyncio.get_running_loop().run_in_executor(THREADS, ask)

    def forget(self) -> None:
        """Reset the state in a forked process."""
        for handle in self._handles:
            handle.forget()
        self._calls = dict.fromkeys(self._handles, 0)
        self._lock = threading.Lock()
        self.slot_queue = SlotQueue(self.settings.slots)


class _CloseCounter:
    """Counts the files being closed: a thread may do it, and the interpreter's exit must wait for that thread."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Reset the count in a forked process, which has none of the closing threads."""
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
        """Wait until no file is being closed, at most `_EXIT_SECONDS`."""
        with self._condition:
            self._condition.wait_for(lambda: not self._count, _EXIT_SECONDS)


_CLOSE_COUNTER = _CloseCounter()
atexit.register(_CLOSE_COUNTER.wait)


def _close(handles: Sequence[_ServerHandle]) -> None:
    """Stop the calls in all servers of a file, then close the servers."""
    with _CLOSE_COUNTER:
        for handle in handles:
            handle.is_closing = True
        for handle in handles:
            handle.close()


class _FileRegistry:
    """The files in use in this process, by path, stamp and settings."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._llamas: weakref.WeakValueDictionary[tuple[object, ...], LlamaFile] = weakref.WeakValueDictionary()
        # The states of files that are known to load.
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
"""Return the `LlamaFile` for a header and settings, the existing one if it is in use. A file that is not `trusted` is
loaded in a child process first (see `trial.py`)."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_REGISTRY.after_fork)


def load_package(env: Mapping[str, str]) -> ModuleType:
    """Import the extra's package, with a short OpenMP spin count unless `env` sets one.

    OpenMP threads wait for each other by spinning, and for long unless a variable limits it before the library is
    loaded. With one core busy elsewhere, two threads were ten times slower than one. Sleeping at once halves their
    speed on an idle machine. A few hundred spins cost nothing in either case (`python -m bench.local`).
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
    """Load a file in a child process and return why it cannot be used, "" when it can. This blocks.

    Args:
        header: the file.
        settings: how the file will be run. The trial uses one slot.
        on_start: receives the child process, so that the caller can kill it.
    """
    endpoint = ServerEndpoint()
    try:
        return trial.try_loading(_server_options(header, settings, endpoint), on_start)
    finally:
        endpoint.close()


def _state(header: GgufHeader) -> tuple[object, ...]:
    """Return a key for the file in the state in which its header was read."""
    return header.path, header.stamp, header.size


def _server_options(header: GgufHeader, settings: ResolvedSettings, endpoint: ServerEndpoint) -> dict[str, Any]:
    return {
        "path": header.path,
        "threads": settings.threads,
        "slots": -(-settings.slots // settings.copies),
        "context": settings.context,
        "host": endpoint.host,
        "key": endpoint.key.reveal(),
    }


def _leak(server: object) -> None:
    """Add a reference that is never released, so that the object is never destroyed."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(server))


def _skip_native_exit() -> None:
    """Make this forked process end with `_exit` and its own status, after Python's own clean-up.

    The library's destructors join threads that exist only in the parent. glibc runs the handler that was registered
    last with `on_exit` first.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(ctypes.cast(libc["_exit"], ctypes.c_void_p), None)
