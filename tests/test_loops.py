"""An event loop that does not shut down leaves no complaint and no connection, whoever closes it, or nobody."""

import asyncio
import sys

import pytest

from commands import environment
from slow_servers import slow_server

HEAD = """
import asyncio, gc, os, sys, threading, weakref
from mixtura import Layer, Mixture, Proposer, Recipe

url, kind = sys.argv[1:]
if kind == "uvloop":
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop
mixture = Mixture(Recipe(layers=(Layer(proposers=(Proposer(model="m", provider=url),)),)), env={})
loops = []

def asked():
    loop = new_event_loop()
    loops.append(weakref.ref(loop))
    assert loop.run_until_complete(mixture.ask("Why?")).status == "ok"
    return loop

def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""
CLOSED_BY_HAND = """
for _ in range(2):
    asked().close()
    in_thread(lambda: asked().close())

async def inside():
    loop = await asyncio.to_thread(asked)
    loop.close()
    loop.close()

asyncio.run(inside())

async def left():
    async for event in mixture.stream("Why?"):
        break

again = asked()
again.run_until_complete(left())
again.run_until_complete(mixture.ask("Why?"))
again.close()
del again
gc.collect()
assert not any(loop() for loop in loops), loops
"""
FORGOTTEN = """
asked().close()
gc.collect()
files = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
for _ in range(5):
    in_thread(asked)
gc.collect()
assert not any(loop() for loop in loops), loops
assert not files or len(os.listdir("/proc/self/fd")) == files
"""
OPEN_AT_THE_END = "kept = asked()"
# Of a loop that is never closed Python warns itself.
ITS_OWN = ("unclosed event loop", "unclosed transport", "Enable tracemalloc", "_warn(f")


async def complaints(program: str, kind: str) -> list[str]:
    """Run `HEAD + program` where every warning is shown; return what it writes on stderr."""
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    async with slow_server(0.0, 9, gap=0.001, tokens=3) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "dev", "-W", "always", "-c", HEAD + program, server.url, kind),
            env={**environment(), "PYTHONWARNINGS": ""},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
    # The debug mode of asyncio speaks of slow callbacks, on a machine that is busy.
    lines = [line for line in said.decode().splitlines() if not line.startswith("Executing <")]
    assert process.returncode == 0, lines
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
async def test_loops_closed_by_hand_leave_nothing(kind: str) -> None:
    assert not await complaints(CLOSED_BY_HAND, kind)


@pytest.mark.slow
@pytest.mark.parametrize("program", [FORGOTTEN, OPEN_AT_THE_END], ids=["forgotten", "open at the end"])
async def test_of_a_loop_that_nobody_closes_only_python_speaks(program: str) -> None:
    said = await complaints(program, "asyncio")
    assert not [line for line in said if not any(known in line for known in ITS_OWN)]


def test_close_is_replaced_once_and_stays_what_it_was() -> None:
    from mixtura.loops import close_with_loop

    ended = []

    async def open_something(name: str) -> None:
        async def close() -> None:
            ended.append(name)

        keeper = close_with_loop(close, held=True)
        if name == "closed early":
            await keeper.aclose()

    with asyncio.Runner() as runner:
        for name in ("closed early", "first", "second"):
            runner.run(open_something(name))
        replaced = runner.get_loop().close
        runner.run(open_something("third"))
        assert runner.get_loop().close == replaced
    assert ended[0] == "closed early"
    assert sorted(ended[1:]) == ["first", "second", "third"]
