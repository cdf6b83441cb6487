"""Model files over the life of a process: exits, forks, kills, memory and sockets."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.gguf_files import Shape, write_gguf

pytestmark = [pytest.mark.models, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

BEGIN = """
import asyncio, gc, json, os, signal, sys, threading, time
from pathlib import Path
from mixtura import Mixture, Recipe
from mixtura.chat import ChatOptions, ChatRequest, Message
from mixtura.models.local.provider import local_model
from mixtura.recipe import Layer, Proposer

FILE = sys.argv[1]

def request(tokens=4, text="hi", **given):
    options = ChatOptions(extra={"ignore_eos": True})
    messages = (Message(role="user", content=text),)
    return ChatRequest(model="m", messages=messages, max_tokens=tokens, options=options, **given)

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def one(model=FILE, tokens=60):
    # At temperature 0: drawn at random, the first token is now and then the one that ends a text.
    proposer = Proposer(provider="local", model=model, max_tokens=tokens, temperature=0.0)
    return Recipe(name="one", layers=(Layer(proposers=(proposer,)),), aggregator=None)
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(width=512, layers=6, heads=8, kv_heads=8, hidden=1024, context=4096)
    return write_gguf(tmp_path_factory.mktemp("models") / "slow.gguf", shape)


@pytest.fixture
def place() -> Iterator[Path]:
    """A TMPDIR with a path short enough for sockets. It must be empty at the end."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mx", dir="/tmp") as folder:
        yield Path(folder)


def start(program: str, file: Path, place: Path) -> "subprocess.Popen[str]":
    env = {**os.environ, "TMPDIR": str(place), "PYTHONWARNINGS": "error", "MIXTURA_HOME": str(place / "home")}
    command = [sys.executable, "-c", BEGIN + program, str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def run(program: str, file: Path, place: Path, code: int = 0) -> str:
    """Run a program to its end. It must not write to stderr, hang, or leave temporary files."""
    with start(program, file, place) as process:
        out, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (code, ""), out + err
    assert list(place.iterdir()) == []
    return out


def test_a_program_that_asks_leaves_nothing(slow: Path, place: Path) -> None:
    out = run(
        "answer = asyncio.run(Mixture(one(), env={}).ask('hi'))\nprint(answer.text != '', answer.cost)\n", slow, place
    )
    assert out == "True 0.0\n"


def test_ask_sync_leaves_nothing(slow: Path, place: Path) -> None:
    program = "mixture = Mixture(one(), env={})\nprint([mixture.ask_sync('hi').text != '' for _ in range(3)])\n"
    assert run(program, slow, place) == "[True, True, True]\n"


@pytest.mark.parametrize(
    "ending",
    ["sys.exit(0)", "raise SystemExit(0)", "asyncio.get_running_loop().stop(); await asyncio.sleep(1)"],
    ids=["exit", "raise", "stop"],
)
def test_a_program_may_end_while_calls_are_running(ending: str, slow: Path, place: Path) -> None:
    program = f"""
async def main():
    model = local_model(Path(FILE), {{}})
    await model.chat(request(1))
    calls = [asyncio.create_task(model.chat(request(4000))) for _ in range(6)]
    await asyncio.sleep(0.2)
    print("running", flush=True)
    {ending}

try:
    asyncio.run(main())
except RuntimeError:
    pass
"""
    begun = time.monotonic()
    assert run(program, slow, place) == "running\n"
    assert time.monotonic() - begun < 10


def test_a_program_may_end_while_a_thread_still_asks(slow: Path, place: Path) -> None:
    program = """
mixture = Mixture(one(tokens=4000), env={})
threading.Thread(target=mixture.ask_sync, args=("hi",), daemon=True).start()
time.sleep(0.8)
print("end")
"""
    assert run(program, slow, place) == "end\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_python_after_a_file_was_loaded(number: int, slow: Path, place: Path) -> None:
    program = f"""
def stop(number, frame):
    raise KeyboardInterrupt

signal.signal({int(number)}, stop)

async def main():
    model = local_model(Path(FILE), {{}})
    await model.chat(request(1))
    print("ready", flush=True)
    await model.chat(request(4000))

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("stopped")
"""
    with start(program, slow, place) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
    assert list(place.iterdir()) == []


def test_a_killed_program_s_folder_is_removed_by_the_next(slow: Path, place: Path) -> None:
    program = """
async def main():
    model = local_model(Path(FILE), {})
    await model.chat(request(1))
    print("ready", flush=True)
    await asyncio.gather(*(model.chat(request(4000)) for _ in range(8)))

asyncio.run(main())
"""
    with start(program, slow, place) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        process.communicate(timeout=20)
    assert len(list(place.iterdir())) == 1
    test_a_program_that_asks_leaves_nothing(slow, place)


def test_a_program_killed_while_it_tries_a_file_leaves_no_process(place: Path, tmp_path: Path) -> None:
    large = write_gguf(tmp_path / "large.gguf", Shape(width=768, layers=8, heads=8, kv_heads=8, hidden=2048))
    with start("asyncio.run(local_model(Path(FILE), {}).chat(request(1)))", large, place) as process:
        deadline = time.monotonic() + 20
        while not (children := trials(large)) and time.monotonic() < deadline:
            time.sleep(0.002)
        assert children
        process.kill()
        process.communicate(timeout=20)
    while trials(large) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert trials(large) == []


def trials(file: Path) -> list[str]:
    """Return the trial processes of `file`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if b"trial.py" in line and str(file).encode() in line:
            found.append(path.parent.name)
    return found


def test_a_forked_process_loads_the_file_anew(slow: Path, place: Path) -> None:
    program = """
model = local_model(Path(FILE), {})
asked = lambda: asyncio.run(model.chat(request(8, seed=3))).text
first = asked()
for uses, leave in ((True, os._exit), (True, sys.exit), (False, sys.exit)):
    child = os.fork()
    if child == 0:
        code = 3 if not uses or asked() == first else 7
        model = None
        leave(code)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
print(asked() == first)
"""
    with start(program.replace("child = os.fork()", FORK), slow, place) as process:
        out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (0, "3\n3\n3\nTrue\n", "")


# From 3.12 on Python warns of forks in processes with threads, which is what this test does.
FORK = "import warnings; warnings.simplefilter('ignore', DeprecationWarning); child = os.fork()"


def test_a_fork_in_the_middle_of_calls_harms_neither(slow: Path, place: Path) -> None:
    program = """
async def main():
    model = local_model(Path(FILE), {})
    await model.chat(request(1))
    calls = [asyncio.create_task(model.chat(request(100))) for _ in range(6)]
    await asyncio.sleep(0.1)
    FORK
    if child == 0:
        threading.Thread(target=lambda: (asyncio.run(model.chat(request(4))), os._exit(5))).start()
        time.sleep(20)
        os._exit(6)
    done = await asyncio.gather(*calls)
    print(len(done), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

asyncio.run(main())
"""
    with start(program.replace("FORK", FORK), slow, place) as process:
        out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (0, "6 5\n", "")


def test_two_processes_use_one_file_at_the_same_time(slow: Path, place: Path) -> None:
    program = "print(asyncio.run(local_model(Path(FILE), {}).chat(request(60, seed=1))).text)"
    running = [start(program, slow, place) for _ in range(2)]
    said = [process.communicate(timeout=40) for process in running]
    assert said[0] == said[1]
    assert said[0][1] == ""
    assert list(place.iterdir()) == []


def test_an_extra_mixture_on_a_file_adds_hardly_any_memory(slow: Path, place: Path) -> None:
    program = """
async def main():
    kept = [Mixture(one(), env={})]
    await kept[0].ask("hi")
    gc.collect()
    before = resident()
    for _ in range(10):
        kept.append(Mixture(one(), env={}))
        await kept[-1].ask("hi")
    print(json.dumps((resident() - before) / 10))

asyncio.run(main())
"""
    assert json.loads(run(program, slow, place)) < 5.0


def test_memory_is_given_back_when_files_come_and_go(slow: Path, place: Path) -> None:
    program = """
async def main():
    sizes = []
    for _ in range(12):
        model = local_model(Path(FILE), {})
        await model.chat(request(2))
        del model
        gc.collect()
        sizes.append(resident())
    print(json.dumps([sizes[3], sizes[-1]]))

asyncio.run(main())
"""
    early, late = json.loads(run(program, slow, place))
    assert late - early < 10.0


def test_no_tcp_port_is_opened_and_the_socket_is_private(slow: Path, place: Path) -> None:
    program = """
async def main():
    model = local_model(Path(FILE), {})
    await model.chat(request(1))
    sockets = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if
               os.path.islink(f"/proc/self/fd/{fd}")}
    tables = "".join(Path(f"/proc/self/net/{name}").read_text() for name in ("tcp", "tcp6")).splitlines()
    inodes = {line.split()[9] for line in tables if line.split()[0] != "sl"}
    print([inode for inode in inodes if f"socket:[{inode}]" in sockets])
    [folder] = Path(os.environ["TMPDIR"]).glob("mixtura-local-*")
    print(oct(folder.stat().st_mode & 0o777))
    import http.client, socket
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(folder / "door.sock"))
    connection.request("POST", "/tokenize", '{"content": "x"}')
    print(connection.getresponse().status)
    connection.close()

asyncio.run(main())
"""
    assert run(program, slow, place) == "[]\n0o700\n401\n"


def test_first_calls_at_the_same_time_load_the_file_once(slow: Path, place: Path) -> None:
    program = """
async def main():
    models = [local_model(Path(FILE), {}) for _ in range(4)]
    await asyncio.gather(*(model.chat(request(2)) for model in models))
    folders = len(list(Path(os.environ["TMPDIR"]).glob("mixtura-local-*")))
    print(folders == models[0].llama.settings.copies, len({model.llama for model in models}))

asyncio.run(main())
"""
    assert run(program, slow, place) == "True 1\n"


def test_one_file_serves_several_event_loops(slow: Path, place: Path) -> None:
    program = """
mixture = Mixture(one(tokens=30), env={"MIXTURA_LOCAL_SLOTS": "2"})
done = []
threads = [threading.Thread(target=lambda: done.append(asyncio.run(mixture.ask("hi")).text)) for _ in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(done))
"""
    assert run(program, slow, place) == "5\n"


def test_a_deep_folder_for_temporary_files_is_no_obstacle(slow: Path, place: Path) -> None:
    deep = place / ("d" * 90)
    deep.mkdir()
    with start(
        "print(asyncio.run(local_model(Path(FILE), {}).chat(request(2))).usage.completion_tokens)", slow, deep
    ) as process:
        out, err = process.communicate(timeout=40)
    assert (out, err) == ("2\n", "")
    deep.rmdir()


async def test_a_batch_that_is_left_in_the_middle_frees_every_slot(slow: Path) -> None:
    from local_models import idle, request_of, until
    from mixtura.models.local.provider import local_model

    model = local_model(slow, {})
    await model.chat(request_of(max_tokens=1))
    async with asyncio.timeout(30):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.gather(*(model.chat(request_of(max_tokens=4000)) for _ in range(10)))
        await until(lambda: idle(model.llama))
        assert (await model.chat(request_of(max_tokens=2))).usage.completion_tokens == 2
