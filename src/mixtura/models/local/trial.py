"""Load a model file in a process of its own first: what llama.cpp cannot stand ends that process, not this one.

This file is also the program that the other process runs, by its path and without Mixtura: it needs the package of
the extra alone. It gets one JSON object as its argument, loads the file as asked, says one token, and prints nothing
when all went well. What llama.cpp complains about goes to its stderr, which is read for the reason.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_LOAD_FAILED, _ASK_FAILED = 3, 4
# What llama.cpp complains about, the most telling first, and how it is said here.
_ERROR_PATTERNS = (
    (r"unknown model architecture: '?([^'\n]+)'?", "this release of llama.cpp does not know the architecture {!r}"),
    (r"Jinja Exception: (.+)", "its chat template refuses a plain question: {}"),
    (r"error loading model(?: \w+)?: (.+)", "{}"),
    (r"common_chat_templates_init: error: (.+)", "its chat template cannot be read: {}"),
    (r"chat template parsing error: (.+)", "its chat template cannot be read: {}"),
    (r"(GGML_ASSERT\(.+)", "{}"),
    (r"(?:failed|unable) to (allocate.+)", "llama.cpp could not {}"),
    (r" E \S+ +\w+: (.+)", "{}"),
)


def server_parameters(package: Any, options: dict[str, Any]) -> Any:
    """Return the package's parameters for a server.

    Args:
        package: the imported module `xllamacpp`.
        told: path, threads, slots, context, host, key.
    """
    params = package.CommonParams()
    params.model.path = options["path"]
    params.n_parallel = options["slots"]
    params.n_ctx = options["context"] * options["slots"]  # of all slots together
    params.n_batch = params.n_ubatch = 256  # a call can be stopped between two batches only
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["threads"]
    params.n_gpu_layers = 0
    params.hostnames = [options["host"]]
    params.port = 0
    params.api_keys = [options["key"]]
    params.n_threads_http = 1
    params.ui = False
    params.endpoint_slots = True
    params.cache_ram_mib = 0
    params.warmup = False
    params.verbosity = -1
    params.fit_params = False
    return params


def try_loading(options: dict[str, Any], on_start: Callable[["subprocess.Popen[bytes]"], None]) -> str:
    """Load the file in another process, and return why it cannot be used, "" when it can.

    Args:
        told: as in `server_parameters`.
        begun: is given the process, to kill it where nobody waits any more.
    """
    command = [sys.executable, "-I", __file__, json.dumps({**options, "slots": 1, "sys_path": sys.path})]
    child = subprocess.Popen(  # noqa: S603  # our own program with our own arguments
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    on_start(child)
    with child:
        # Its stdin stays open as long as this process lives: the child ends when it closes.
        complaints: list[bytes] = []
        reading = threading.Thread(target=lambda: complaints.append(child.stderr.read() if child.stderr else b""))
        reading.start()
        said = child.stdout.read() if child.stdout else b""
        code = child.wait()
        reading.join()
    if code == 0:
        return ""
    log = complaints[0].decode("utf-8", "replace") if complaints else ""
    if code == _ASK_FAILED:
        return said.decode("utf-8", "replace").strip() or "it cannot be asked"
    if code < 0 or code not in (_LOAD_FAILED, _ASK_FAILED):
        why = _reason(log)
        return f"llama.cpp breaks down over it ({why or f'exit code {code}'}); the file is damaged or not supported"
    return _reason(log) or "llama.cpp does not say why"


def _reason(log: str) -> str:
    """Return what llama.cpp complained about, "" when it did not."""
    for pattern, sentence in _ERROR_PATTERNS:
        found = re.search(pattern, log)
        if found:
            return sentence.format(" ".join(found[1].split())[:300])
    return ""


def _run_child(options: dict[str, Any]) -> None:
    sys.path[:] = options["sys_path"]
    os.putenv("GGML_NO_BACKTRACE", "1")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    package = importlib.import_module("xllamacpp")
    params = server_parameters(package, options)
    params.verbosity = 1  # errors, which the other process reads
    try:
        server = package.Server(params)
    except RuntimeError:
        # llama.cpp writes its log from a thread of its own, which an orderly end lets finish.
        time.sleep(0.1)
        sys.exit(_LOAD_FAILED)
    complaint: list[str] = []

    def take(chunk: bytes) -> bool:
        if b'"error"' in chunk:
            error = json.loads(chunk).get("error")
            if error:
                complaint.append(str(error.get("message")))
        return False

    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True, "max_tokens": 1}
    try:
        server.handle_chat_completions(json.dumps(body).encode(), take)
    except (ValueError, RuntimeError) as error:
        complaint.append(str(error))
    if complaint:
        sys.stdout.write(" ".join(complaint[0].split())[:300])
        sys.stdout.flush()
    # What ends now is thrown away: nothing has to be taken down in order.
    os._exit(_ASK_FAILED if complaint else 0)


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(_LOAD_FAILED)


if __name__ == "__main__":
    _run_child(json.loads(sys.argv[1]))
