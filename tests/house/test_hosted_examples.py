"""The examples that a web server, a worker, a test runner or a kernel runs, run by these."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
import uvicorn

from commands import environment, until
from mixtura import Layer, Mixture, Proposer, Recipe
from pages import ROOT
from slow_servers import SlowServer, slow_server

FOLDER = ROOT / "examples"
QUESTION = "Leo has 12 shells. He finds 30 more. How many shells does Leo have now?"


def fastapi_app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastapi_app", FOLDER / "fastapi_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def served(module: ModuleType, server: SlowServer | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve the app by uvicorn; with a `server` the mixture is one model there, in place of the toys."""
    running = uvicorn.Server(uvicorn.Config(module.app, port=0, log_level="error", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(running.serve())
    await until(lambda: running.started)
    if server is not None:
        recipe = Recipe(layers=(Layer(proposers=(Proposer(model="m", provider=server.url),)),))
        module.app.state.mixture = Mixture(recipe, env={})
    port = running.servers[0].sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    running.should_exit = True
    await serving


def events(text: str) -> str:
    """Return the answer that server-sent events add up to."""
    return "".join(json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: "))


@pytest.mark.slow
@pytest.mark.models
async def test_fastapi_answers_whole_in_events_and_with_the_status_of_an_error() -> None:
    async with served(fastapi_app()) as session:
        async with session.get("/answer", params={"question": QUESTION}) as reply:
            assert (await reply.json())["answer"].endswith("Answer: 42")
        async with session.get("/stream", params={"question": QUESTION}) as reply:
            assert reply.content_type == "text/event-stream"
            assert events(await reply.text()).endswith("Answer: 42")
        async with session.get("/answer", params={"question": " "}) as reply:
            assert (reply.status, await reply.json()) == (400, {"detail": "the question is empty"})


@pytest.mark.slow
async def test_fastapi_stops_the_run_of_a_client_that_hangs_up() -> None:
    async with slow_server(0.0, 1, gap=0.05, tokens=500) as server, served(fastapi_app(), server) as session:
        async with session.get("/stream", params={"question": "Why?"}) as reply:
            assert (await reply.content.readline()).startswith(b"data: ")
            reply.close()
        await until(lambda: server.left == 1)


@pytest.mark.slow
async def test_fastapi_sends_a_heartbeat_while_the_model_thinks(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fastapi_app()
    monkeypatch.setattr(module, "HEARTBEAT", 0.1)
    async with (
        slow_server(0.5, 1, gap=0.0, tokens=2) as server,
        served(module, server) as session,
        session.get("/stream", params={"question": "Why?"}) as reply,
    ):
        text = await reply.text()
    assert text.startswith(": still at work\n\n")
    assert events(text) == "call1word0 call1word1 "


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.models
def test_a_forked_worker_of_rq_answers_and_its_errors_are_read(redis_url: str) -> None:
    env = environment(REDIS_URL=redis_url, OBJC_DISABLE_INITIALIZE_FORK_SAFETY="YES")
    worker: list[str | Path] = [
        Path(sys.executable).parent / "rq",
        "worker",
        "--url",
        redis_url,
        "--path",
        FOLDER,
        "--max-jobs",
        "2",
    ]
    with subprocess.Popen([*worker, "--quiet", "questions"], env={**env, "PYTHONWARNINGS": ""}) as working:
        try:
            done = subprocess.run(
                [sys.executable, FOLDER / "rq_worker.py"], env=env, capture_output=True, text=True, check=True
            )
            assert done.stdout.splitlines() == [
                *("12+30=42", "Answer: 42"),
                "mixtura.errors.InputError: the question is empty",
            ]
            assert working.wait(20) == 0
        finally:
            working.kill()


@pytest.mark.slow
def test_the_tests_of_pytest_asyncio_pass() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", FOLDER / "test_with_pytest_asyncio.py"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.real
@pytest.mark.timeout(300)
def test_the_notebook_runs_in_a_kernel(tmp_path: Path) -> None:
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        tmp_path,
    ]
    subprocess.run([*pip, "ipykernel==7.4.0", "nbclient==0.11.0"], check=True)
    program = """
import json, nbformat, sys
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=60).execute()
print(json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, FOLDER / "notebook.ipynb"],
        env={
            **environment(PYTHONWARNINGS="", JUPYTER_PATH=str(tmp_path / "share" / "jupyter"), HOME=str(tmp_path)),
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked, shown, in_turn, streamed = json.loads(done.stdout)
    assert asked[0]["text"] == "12+30=42\nAnswer: 42\n"
    assert "Answer: 42" in shown[0]["data"]["text/markdown"]
    assert in_turn[0]["data"]["text/plain"] == "['Answer: 42', 'Answer: 43']"
    assert "".join(piece["text"] for piece in streamed).endswith("12+30=42\nAnswer: 42")
