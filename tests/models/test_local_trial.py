"""What a child process that tries a model file asks of llama.cpp, and what it tells its parent."""

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from local_models import request_of
from mixtura.errors import BrokenReplyError, ModelError, RejectedError, TooLargeError, UnloadableError
from mixtura.models.local import trial
from mixtura.models.local.llama import THREADS, LlamaFile, _FileRegistry
from mixtura.models.local.model import LocalModel
from mixtura.models.local.settings import ResolvedSettings
from mixtura.models.local.slots import SlotQueue

OPTIONS: dict[str, Any] = {
    "path": "/models/m.gguf",
    "threads": 3,
    "slots": 1,
    "context": 512,
    "host": "127.0.0.1",
    "key": "k",
    "sys_path": sys.path,
}


class Ended(BaseException):
    """The child has ended with this status."""

    def __init__(self, status: int) -> None:
        self.status = status


class Package:
    """As `xllamacpp`: it cannot load the file, or does with one question what the test says."""

    def __init__(self, *chunks: bytes, loads: bool = True, raises: Exception | None = None) -> None:
        self.chunks, self.loads, self.raises = chunks, loads, raises
        self.params: Any = None
        self.asked: list[Any] = []
        self.went_on: list[object] = []

    def CommonParams(self) -> Any:  # noqa: N802  # the package's own name
        return SimpleNamespace(
            model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace(), n_threads=0
        )

    def Server(self, params: Any) -> Any:  # noqa: N802  # the package's own name
        self.params = params
        if not self.loads:
            raise RuntimeError("no")
        return self

    def handle_chat_completions(self, body: bytes, take: Any) -> None:
        self.asked.append(json.loads(body))
        if self.raises is not None:
            raise self.raises
        self.went_on += [take(chunk) for chunk in self.chunks]


def tried(package: Package, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the child's program in this process and return its exit status."""

    def end(status: int) -> None:
        raise Ended(status)

    def find(name: str) -> Package:
        assert name == "xllamacpp"
        return package

    put: list[object] = []
    watching = threading.Event()
    with monkeypatch.context() as patch:
        patch.setattr(os, "_exit", end)
        patch.setattr(os, "putenv", lambda name, value: put.append((name, value)))
        patch.setattr(time, "sleep", put.append)
        patch.setattr(trial, "_end_with_parent", watching.set)
        patch.setattr(importlib, "import_module", find)
        try:
            trial._run_child({**OPTIONS, "sys_path": list(sys.path)})
        except Ended as ended:
            status = ended.status
        except SystemExit as left:
            status = int(str(left.code))
    assert watching.wait(5), "a thread ends the child with its parent"
    assert put[0] == ("GGML_NO_BACKTRACE", "1")
    return status


def test_a_file_that_answers_one_token_can_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = Package(b'data: {"choices":[]}', b"data: [DONE]")
    assert tried(package, monkeypatch) == 0
    assert package.asked == [{"messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 1}]
    assert package.went_on == [False, False]
    assert capsys.readouterr().out == ""
    params = package.params
    assert (params.model.path, params.n_parallel, params.n_ctx) == ("/models/m.gguf", 1, 512)
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)
    assert (params.hostnames, params.api_keys, params.port) == (["127.0.0.1"], ["k"], 0)
    assert params.verbosity == 1, "its errors are what the parent reads"


def test_the_context_of_a_server_is_that_of_all_its_slots_and_only_the_caller_is_served() -> None:
    params = trial.server_parameters(Package(), {**OPTIONS, "slots": 4})
    assert (params.n_parallel, params.n_ctx) == (4, 2048)
    assert (params.n_batch, params.n_ubatch, params.n_threads_http, params.n_gpu_layers) == (256, 256, 1, 0)
    assert (params.ui, params.endpoint_slots, params.warmup, params.fit_params) == (False, True, False, False)
    assert (params.cache_ram_mib, params.verbosity) == (0, -1)


def test_a_file_that_cannot_be_loaded_says_so_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package(loads=False)
    assert tried(package, monkeypatch) == 3
    assert package.asked == []


@pytest.mark.parametrize(
    ("package", "said"),
    [
        (Package(b'{"error":{"message":"no  room\\nfor it"}}', b'{"error":{"message":"later"}}'), "no room for it"),
        (Package(raises=ValueError("a bad  template")), "a bad template"),
        (Package(raises=RuntimeError("it broke")), "it broke"),
        (Package(b'{"error":{"message":"%b"}}' % (b"x" * 500)), "x" * 300),
        (Package(b'{"error":{}}', b'{"error":null}'), ""),
    ],
)
def test_what_is_wrong_with_the_answer_is_printed_for_the_parent(
    package: Package, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried(package, monkeypatch) == (4 if said else 0)
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "x\nunknown model architecture: 'mamba9'\n",
            "this release of llama.cpp does not know the architecture 'mamba9'",
        ),
        ("error loading model m: tensor  is\tmissing\nmore", "tensor is missing"),
        ("failed to allocate 9 GB", "llama.cpp could not allocate 9 GB"),
        ("GGML_ASSERT(a == b) failed", "GGML_ASSERT(a == b) failed"),
        ("Jinja Exception: no roles", "its chat template rejects a plain question: no roles"),
        ("error loading model: " + "y" * 400, "y" * 300),
        ("all is well", ""),
    ],
)
def test_the_reason_in_a_log_is_told_in_a_sentence(log: str, said: str) -> None:
    assert trial._reason(log) == said


def test_the_child_ends_when_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[str, int]] = []

    def read(handle: int, size: int) -> bytes:
        ended.append(("read", handle))
        assert size == 1
        return b""

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", read)
        patch.setattr(os, "_exit", lambda status: ended.append(("exit", status)))
        trial._end_with_parent()
    assert ended == [("read", 0), ("exit", 3)]


class Llama:
    """As a `LlamaFile` whose call says or raises what the test wants."""

    is_closing = False

    def __init__(self, says: bytes | Exception) -> None:
        self.slot_queue = SlotQueue(1)
        self.says = says

    def generate(self, body: bytes, take: Callable[[bytes], bool]) -> None:
        if isinstance(self.says, Exception):
            raise self.says
        take(self.says)


@pytest.mark.parametrize(
    ("says", "kind", "said"),
    [
        (RuntimeError("it  broke"), BrokenReplyError, "llama.cpp failed: it broke"),
        (ValueError("x" * 300), RejectedError, "x" * 300),
        (ValueError("x" * 301), RejectedError, "x" * 299 + "…"),
        (b'{"error":{"code":500,"type":"invalid_request_error","message":"no"}}', RejectedError, "no"),
        (b'{"error":{"code":422,"type":"x","message":"no"}}', RejectedError, "no"),
        (b'{"error":{"code":500,"type":"x","message":"no"}}', BrokenReplyError, "llama.cpp failed: no"),
        (
            b'{"error":{"type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":5}}',
            TooLargeError,
            (
                "the prompt has 9 tokens and a slot holds 5: shorten it, or give the file more context "
                "(MIXTURA_LOCAL_CONTEXT)"
            ),
        ),
    ],
)
async def test_what_llama_cpp_says_is_the_error_it_means(
    says: bytes | Exception, kind: type[ModelError], said: str
) -> None:
    llama: Any = Llama(says)
    with pytest.raises(kind) as caught:
        await LocalModel(llama, "tiny", "local").chat(request_of())
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.model, caught.value.reason) == ("local", "tiny", said)


async def test_a_call_for_which_no_thread_is_left_says_so_and_frees_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    llama: Any = Llama(RuntimeError("it broke"))
    with monkeypatch.context() as patch:
        patch.setattr(THREADS, "submit", refuse)
        with pytest.raises(UnloadableError, match="no thread could be started for the call"):
            await LocalModel(llama, "tiny", "local").chat(request_of())
    with pytest.raises(BrokenReplyError):
        await LocalModel(llama, "tiny", "local").chat(request_of())


async def test_the_slots_of_a_file_are_those_of_all_its_servers() -> None:
    class Asked(LlamaFile):
        async def _ask(self, path: str, body: object, handle: object = None) -> Any:
            return [{"server": id(handle)}]

    header: Any = SimpleNamespace(path="/models/m.gguf", stamp=(0, 0, 0))
    llama = Asked(header, ResolvedSettings(threads=1, slots=2, context=512, memory=0, copies=2), lambda: json, set())
    assert len({slot["server"] for slot in await llama.slots()}) == 2


def test_a_file_is_shared_before_a_fork_and_after_it() -> None:
    header: Any = SimpleNamespace(path="/models/m.gguf", stamp=(0, 0, 0), size=1)
    settings = ResolvedSettings(threads=1, slots=2, context=512, memory=0)
    registry = _FileRegistry()
    llama = registry.get(header, settings, lambda: json, trusted=True)
    registry.after_fork()
    assert registry.get(header, settings, lambda: json, trusted=True) is llama
