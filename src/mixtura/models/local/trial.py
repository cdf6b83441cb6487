"""Loads a model file in a child process first, so that a file that crashes llama.cpp ends the child, not this process.

This file is also the program that the child runs, by its path. It needs only the extra's package and not Mixtura. Its
argument is one JSON object. It loads the file, generates one token, and prints nothing on success. llama.cpp writes
its errors to stderr, where the parent finds the reason.
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
# llama.cpp's error messages, the most specific first, and the sentences that they become here.
_ERROR_PATTERNS = (
    (r"unknown model architecture: '?([^'\n]+)'?", "this release of llama.cpp does not know the architecture {!r}"),
    (r"Jinja Exception: (.+)", "its chat template rejects a plain question: {}"),
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
        options: path, threads, slots, context, host and key.
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
    """Load the file in a child process and return why it cannot be used, "" when it can.

    Args:
        options: as in `server_parameters`.
        on_start: receives the child process, so that the caller can kill it.
    """
    command = [sys.executable, "-I", __file__, json.dumps({**options, "slots": 1, "sys_path": sys.path})]
    child = subprocess.Popen(  # noqa: S603  # our own program with our own arguments
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    on_start(child)
    with child:
        # The child's stdin stays open as long as this process lives. The child exits when it closes.
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
        return said.decode("utf-8", "replace").strip() or "it cannot answer a request"
    if code < 0 or code not in (_LOAD_FAILED, _ASK_FAILED):
        why = _reason(log)
        return f"llama.cpp crashes on it ({why or f'exit code {code}'}); the file is damaged or not supported"
    return _reason(log) or "llama.cpp gives no reason"


def _reason(log: str) -> str:
    """Return the sentence for the first known error in llama.cpp's log, "" when there is none."""
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
    params.verbosity = 1  # log errors, which the parent reads
    try:
        server = package.Server(params)
    except RuntimeError:
        # llama.cpp logs from a thread of its own. Give it time to write before a normal exit.
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
    # The child is disposable: exit without closing the server.
    os._exit(_ASK_FAILED if complaint else 0)


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(_LOAD_FAILED)


if __name__ == "__main__":
    _run_child(json.loads(sys.argv[1]))
