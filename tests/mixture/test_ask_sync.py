"""`ask_sync` answers, or says why not, in every thread and at every moment of a process, and never waits for ever."""

import asyncio
import concurrent.futures
import importlib
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import environment
from mixtura import Aggregator, ConfigError, Event, Layer, MixturaError, Mixture, Proposer, Recipe
from mixtura.chat import ChatRequest, Completion
from mixtura.models.card import ModelCard
from mixtura.models.served import Served
from slow_servers import slow_server

# The package offers a function by the module's name.
portals: Any = importlib.import_module("mixtura.mixture.portal")


class Own:
    """Models that answer when they are let."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def find(self, provider: str, model: str) -> Served:
        return Served(self, self.card(provider, model))

    def card(self, provider: str, model: str) -> ModelCard:
        return ModelCard(id=model, provider=provider)

    def replacement(self, provider: str, model: str) -> None:
        return None

    async def chat(self, request: ChatRequest, **_: object) -> Completion:
        if request.model == "hangs":
            try:
                await asyncio.sleep(60)
            finally:
                self.stopped.set()
        await asyncio.sleep(0.01)
        return Completion(model=request.model, text="Blue light is scattered most.")


def own(*listeners: Callable[[Event], None], models: tuple[str, ...] = ("a", "b")) -> Mixture:
    layer = Layer(proposers=tuple(Proposer(model=model, provider="own") for model in models))
    aggregator = Aggregator(model="c", provider="own") if len(models) > 1 else None
    return Mixture(Recipe(layers=(layer,), aggregator=aggregator), models=Own(), listeners=listeners)


class OddError(BaseException):
    """What frameworks raise past `except Exception`."""


@pytest.mark.parametrize("moment", ["RunStarted", "CallStarted", "CallFinished", "RunFinished"])
@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), OddError()], ids=repr)
def test_what_a_listener_raises_past_exceptions_reaches_its_caller_and_nobody_else(
    moment: str, raised: BaseException
) -> None:
    def listener(event: Event) -> None:
        if type(event).__name__ == moment:
            raise raised

    calm = own()
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        others = [threads.submit(calm.ask_sync, "Why?") for _ in range(4)]
        with pytest.raises(type(raised)) as caught:
            own(listener).ask_sync("Why?")
        assert caught.value is raised
        assert [other.result(timeout=20).status for other in others] == ["ok"] * 4
    assert calm.ask_sync("Why?").status == "ok"


@pytest.mark.parametrize(
    "raised",
    [StopIteration(), StopAsyncIteration(), GeneratorExit(), asyncio.CancelledError(), RecursionError(), MemoryError()],
    ids=repr,
)
def test_a_run_survives_whatever_else_a_listener_raises(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(event: Event) -> None:
        raise raised

    with caplog.at_level(logging.CRITICAL, "mixtura"):
        assert own(listener).ask_sync("Why?").status == "ok"


def test_a_caller_that_is_interrupted_stops_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = own(models=("hangs",))
    models: Any = mixture._models
    waits = concurrent.futures.wait

    def interrupted(outcomes: Any, timeout: float) -> Any:
        waits(outcomes, timeout=0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(portals.concurrent.futures, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mixture.ask_sync("Why?")
    assert models.stopped.wait(20)


def test_a_loop_that_is_held_up_is_given_up_and_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portals, "_LOOK", 0.05)
    monkeypatch.setattr(portals, "_STUCK", 0.2)
    go_on, ended = threading.Event(), []

    def listener(event: Event) -> None:
        go_on.wait(20)

    def ask() -> None:
        with pytest.raises(MixturaError, match=r"held up for .* by a listener or a model that does not return"):
            own(listener).ask_sync("Why?")
        ended.append(True)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(20)
    assert ended
    monkeypatch.setattr(portals, "_STUCK", 60.0)
    assert own().ask_sync("Why?").status == "ok"
    go_on.set()


def test_without_threads_a_question_is_asked_where_the_caller_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(portals, "portal", portals._Portals().get)
    monkeypatch.setattr("mixtura.mixture.portal", portals.portal)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert own().ask_sync("Why?").status == "ok"

    async def inside() -> None:
        with pytest.raises(ConfigError, match="ask_sync can start no thread, and an event loop runs in this one"):
            own().ask_sync("Why?")

    asyncio.run(inside())


PROGRAM = """
import asyncio, atexit, faulthandler, os, sys, threading
faulthandler.dump_traceback_later(40, exit=True)
from mixtura import Layer, Mixture, MixturaError, Proposer, Recipe
url, case, hangs = sys.argv[1:]
env = {"LMSTUDIO_BASE_URL": url.replace("127.0.0.1", "localhost")}
recipe = Recipe(layers=(Layer(proposers=(Proposer(model="m", provider="lmstudio"),)),))
mixture = Mixture(recipe, env=env, daily_budget=5.0)
lines = threading.Lock()

def ask(who):
    try:
        said = mixture.ask_sync("Why?").status
    except MixturaError as error:
        said = error.message
    with lines:
        print(who, said, flush=True)

def late():
    threading.main_thread().join()
    for _ in range(2):
        ask("thread")
    with lines:
        print("loop", asyncio.run(mixture.ask("Why?")).status, flush=True)

class Dies:
    def __del__(self):
        ask("destructor")

if case == "threads":
    for _ in range(2):
        threading.Thread(target=late).start()
if case == "threads after a question":
    ask("main")
    threading.Thread(target=late).start()
if case == "atexit":
    atexit.register(ask, "registered first")
    ask("main")
    atexit.register(ask, "registered last")
    atexit.register(lambda: print("loop", asyncio.run(mixture.ask("Why?")).status, flush=True))
if case == "atexit only":
    atexit.register(ask, "registered first")
if case == "destructor":
    ask("main")
    Dies()
    sys.modules["kept"] = Dies()
if case == "daemon":
    def wait_for_ever():
        try:
            Mixture(recipe, env={"LMSTUDIO_BASE_URL": hangs}).ask_sync("Why?")
        except MixturaError as error:
            print(error, flush=True)
    daemon = threading.Thread(target=wait_for_ever, daemon=True)
    atexit.register(lambda: (daemon.join(20), print("joined", not daemon.is_alive(), flush=True)))
    ask("main")
    daemon.start()
"""
SAID = {
    "threads": ["loop ok"] * 2 + ["thread ok"] * 4,
    "threads after a question": ["loop ok", "main ok", "thread ok", "thread ok"],
    "atexit": ["loop ok", "main ok", "registered first ok", "registered last ok"],
    "atexit only": ["registered first ok"],
    "destructor": [
        "destructor ask_sync was called when the interpreter had ended; ask before, or in atexit",
        *("destructor ok", "main ok"),
    ],
    "daemon": ["joined True", "main ok", "the run was stopped: the process ends"],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SAID)
async def test_while_the_interpreter_ends_questions_are_answered_or_refused(case: str, tmp_path: Path) -> None:
    async with slow_server(0.02, 9, gap=0.0, tokens=2) as server, slow_server(1000.0, 9) as hangs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, server.url, case, hangs.url),
            env=environment(MIXTURA_HOME=str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert (sorted(out.decode().splitlines()), err.decode()) == (SAID[case], "")
