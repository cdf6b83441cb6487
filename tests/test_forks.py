"""A forked process owns nothing of its parent: no calls, holds, connections, threads or random numbers."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands import at, environment
from mixtura.sim import SimOptions, simulated_cloud

HEAD = """
import json, multiprocessing, os, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on of forks in processes with threads: what this tests
from mixtura import Aggregator, Layer, Mixture, Policy, Proposer, Recipe
from mixtura.limits.current import current_limiter
import asyncio

MODEL = "openai/gpt-oss-120b"
POLICY = Policy(deadline=20, when_limited=("wait",))

def quick():
    alone = Recipe(layers=(Layer(proposers=(Proposer(model=MODEL, max_tokens=2000),)),), policy=POLICY)
    return Mixture(alone, plan="free").ask_sync("Why?").status

async def held():
    limiter = current_limiter()
    accounts = limiter.accounts.values()
    return {
        "open": [len(limiter.holds), *(sum(getattr(account, name) for account in accounts)
                 for name in ("in_flight", "held_tokens", "held_requests", "owed_tokens"))],
        "known": sorted(str(account.limits) for account in accounts),
    }

def in_child(work):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.close(write)
    said = b""
    while piece := os.read(read, 65536):
        said += piece
    os.waitpid(child, 0)
    return json.loads(said)
"""


async def say(program: str, env: dict[str, str], *args: str) -> Any:
    """Run a program after `HEAD` and return what it printed as JSON; it may write nothing else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HEAD + program, *args, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert not err, err.decode()
    return json.loads(out)


@pytest.mark.slow
@pytest.mark.server
async def test_a_child_of_a_run_under_way_holds_nothing_and_knows_the_limits() -> None:
    async with simulated_cloud(SimOptions(plan="free", profile="fixed:1.5", tokens=20)) as cloud:
        told = await say(
            """
layer = Layer(proposers=(Proposer(model="openai/gpt-oss-20b", max_tokens=3500, samples=2),))
slow = Recipe(layers=(layer,), aggregator=Aggregator(model=MODEL, max_tokens=500), policy=POLICY)
mixture = Mixture(slow, plan="free")
asking = threading.Thread(target=lambda: mixture.ask_sync("Why?"))
asking.start()
while not asyncio.run(held())["open"][1]:
    time.sleep(0.01)
before = asyncio.run(held())
child = in_child(lambda: {**asyncio.run(held()), "status": quick()})
asking.join()
print(json.dumps({"before": before, "child": child, "after": asyncio.run(held()), "status": quick()}))
""",
            at(cloud),
        )
    assert all(told["before"]["open"][:2])
    assert told["child"]["open"] == told["after"]["open"] == [0, 0, 0, 0, 0]
    assert told["child"]["known"] == told["before"]["known"]
    assert told["child"]["status"] == told["status"] == "ok"


@pytest.mark.slow
@pytest.mark.server
async def test_workers_forked_after_a_question_ask_beside_their_parent() -> None:
    async with simulated_cloud(SimOptions(unlimited=True, profile="fixed:0.1", tokens=20)) as cloud:
        told = await say(
            """
mixture = Mixture("classic")
statuses = [mixture.ask_sync("Why?").status]
context = multiprocessing.get_context("fork")
answers = context.Queue()
def work():
    answers.put([mixture.ask_sync("Why?").status for _ in range(3)])
workers = [context.Process(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
statuses += [mixture.ask_sync("Why?").status for _ in range(3)]
for _ in workers:
    statuses += answers.get(timeout=30)
for worker in workers:
    worker.join()
print(json.dumps([statuses, [worker.exitcode for worker in workers]]))
""",
            at(cloud),
        )
    assert told == [["ok"] * 13, [0, 0, 0]]


@pytest.mark.slow
@pytest.mark.server
async def test_a_parent_that_hangs_up_is_heard_although_a_child_lives() -> None:
    """A child that kept the connection open would keep the provider writing, at the caller's cost."""
    gone = asyncio.Event()
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        first = asked == 1
        await reader.readuntil(b"\r\n\r\n")
        if first:
            while await reader.read(65536):
                pass
            gone.set()
        else:
            async with asyncio.timeout(10):
                await gone.wait()
            writer.write(b"gone")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with server:
        told = await say(
            """
import socket
mixture = Mixture(Recipe(layers=(Layer(proposers=(Proposer(model=MODEL),)),), policy=Policy(deadline=1)))
failed = []
def ask():
    try:
        mixture.ask_sync("Why?")
    except Exception as error:
        failed.append(type(error).__name__)
asking = threading.Thread(target=ask)
asking.start()
time.sleep(0.6)  # the connection is open, and open in the child
parent_lives, parent_ends = os.pipe()
if os.fork() == 0:
    os.close(parent_ends)
    os.read(parent_lives, 1)
    os._exit(0)
asking.join()
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as other:
    other.sendall(b"Is it gone?\\r\\n\\r\\n")
    failed.append(other.recv(10).decode())
print(json.dumps(failed))
""",
            environment(GROQ_BASE_URL=f"http://127.0.0.1:{port}/v1", GROQ_API_KEY="gsk_x"),
            str(port),
        )
    assert told == ["DeadlineError", "gone"]


@pytest.mark.slow
async def test_children_draw_other_numbers_and_other_ids() -> None:
    told = await say(
        """
from mixtura.forks import random_generator
from mixtura.limits.limiter import Limiter
from mixtura.limits.redis.store import RedisStore
generator, limiter = random_generator(), Limiter(RedisStore("redis://127.0.0.1:1/0"))
async def new_id():
    return limiter.store.new_id()
def draw():
    return [generator.random(), asyncio.run(new_id()).partition(".")[0]]
print(json.dumps([draw(), in_child(draw), in_child(draw)]))
""",
        environment(),
    )
    for drawn in zip(*told, strict=True):
        assert len(set(drawn)) == 3


@pytest.mark.slow
async def test_a_fork_waits_until_no_thread_is_in_the_middle_of_a_change() -> None:
    told = await say(
        """
from mixtura.forks import forget_in_child
class Pair:
    def __init__(self):
        self.lock, self.left, self.right = threading.RLock(), 0, 0
        forget_in_child(self, self.lock)
    def change(self):
        while True:
            with self.lock:
                self.left += 1
                time.sleep(0)
                self.right += 1
    def forget(self):
        pass
pair = Pair()
threading.Thread(target=pair.change, daemon=True).start()
def look():
    with pair.lock:
        return pair.left == pair.right
print(json.dumps([in_child(look) for _ in range(20)]))
""",
        environment(),
    )
    assert told == [True] * 20


def test_no_module_makes_a_generator_that_children_would_share() -> None:
    """Of two workers with one random state, the second repeats the pauses and the orders of the first."""
    source = Path(__file__).parents[1] / "src" / "mixtura"
    floors = ("mixture", "models", "engine", "limits")
    found = [
        str(path.relative_to(source))
        for floor in floors
        for path in (source / floor).rglob("*.py")
        if "random.Random()" in path.read_text("utf-8")
    ]
    assert not found


@pytest.mark.slow
def test_a_child_of_a_call_at_one_machine_waits_for_no_call_of_its_parent() -> None:
    program = """
import asyncio, os, sys, threading, time
from mixtura import Layer, Mixture, Proposer, Recipe
url = sys.argv[1]
recipe = Recipe(layers=(Layer(proposers=(Proposer(model="m", provider="lmstudio"),)),))
env = {"LMSTUDIO_BASE_URL": url}
under_way = threading.Thread(target=lambda: Mixture(recipe, env=env).ask_sync("parent"), daemon=True)
under_way.start()
time.sleep(0.5)
child = os.fork()
if child == 0:
    answer = Mixture(recipe, env=env).ask_sync("child")
    os._exit(0 if answer.text else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
under_way.join()
"""
    told = [sys.executable, str(Path(__file__).parent / "slow_servers.py"), "1.0", "0.01", "5", "1"]
    with subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        done = subprocess.run(
            [sys.executable, "-c", program, url], capture_output=True, text=True, timeout=60, check=True
        )
        server.communicate("")
    assert done.stdout == "0\n"
