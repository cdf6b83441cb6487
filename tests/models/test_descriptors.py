"""Calls in a process that has no more descriptors: they wait.

The limit is a process's, so each test has one of its own.
"""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from raw_servers import Turn, completion, http, raw_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limit on descriptors"),
]

TESTS = Path(__file__).parents[1]
BEGIN = """
import asyncio, collections, os, resource, sys, threading
from mixtura import Layer, Mixture, Policy, Proposer, Recipe
from mixtura.models.openai.pool import close_pool

URLS = sys.argv[1:]

def limit(most):
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

def mixture(url=URLS[0], **policy):
    proposer = Proposer(model="m", provider=f"{url}/v1")
    return Mixture(Recipe(layers=(Layer(proposers=(proposer,)),), policy=Policy(**policy)))

async def ask(mixture, times, **options):
    return await asyncio.gather(*(mixture.ask("Why?", **options) for _ in range(times)), return_exceptions=True)

def fill():
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return held

def give_back(held):
    for descriptor in held:
        os.close(descriptor)

def show(answers):
    print(collections.Counter(getattr(answer, "text", repr(answer)) for answer in answers))

"""


async def ran(code: str, *urls: str) -> str:
    """Run a program in a process of its own, and return what it printed."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BEGIN + textwrap.dedent(code), *urls),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, problem = await program.communicate()
    assert program.returncode == 0, problem.decode()
    return out.decode().strip()


class Counting:
    """Answers after `seconds`, and counts the requests that are there at once."""

    def __init__(self, seconds: float, headers: str = "") -> None:
        self.most = self._now = 0
        self._seconds, self._headers = seconds, headers

    async def __call__(self, turn: Turn) -> bytes | None:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(self._seconds)
        self._now -= 1
        return http(completion(), self._headers)


@pytest.mark.parametrize("headers", ["", "Connection: close\r\n"], ids=["kept", "closed"])
async def test_calls_wait_for_a_connection_where_the_process_may_open_no_more(headers: str) -> None:
    script = Counting(0.1, headers)
    async with raw_server(script) as (_, url):
        said = await ran("limit(64); show(asyncio.run(ask(mixture(), 300)))", url)
    assert said == "Counter({'hello': 300})"
    # A quarter is left to others, and what the connections may have is used.
    assert 30 < script.most <= 48


async def test_idle_connections_are_given_up_for_another_server_and_another_loop() -> None:
    async with raw_server(Counting(0.1)) as (_, first), raw_server(Counting(0.1)) as (second, other):
        code = """
            limit(64)
            here, there = mixture(), mixture(URLS[1])
            # In the loop that `ask_sync` keeps, which holds every connection then.
            threads = [threading.Thread(target=here.ask_sync, args=("Why?",)) for _ in range(60)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            async def both():
                return await ask(there, 60) + sum(await asyncio.gather(ask(here, 60), ask(there, 60)), [])
            show(asyncio.run(both()))
        """
        assert await ran(code, first, other) == "Counter({'hello': 180})"
        assert len(second.writers) > 20


async def test_loops_of_several_threads_share_what_there_is() -> None:
    script = Counting(0.1)
    code = """
        limit(64)
        answers = []
        def work():
            answers.extend(asyncio.run(ask(mixture(), 50)))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        show(answers)
    """
    async with raw_server(script) as (_, url):
        assert await ran(code, url) == "Counter({'hello': 200})"
    assert script.most <= 48


async def test_calls_wait_while_others_have_every_descriptor_also_for_a_name_to_be_looked_up() -> None:
    code = """
        limit(64)
        async def main():
            asked = mixture(deadline=30.0)
            await asked.ask("Warm?")
            await close_pool()
            held = fill()
            asyncio.get_running_loop().call_later(0.5, give_back, held[:5])
            show(await ask(asked, 20))
        asyncio.run(main())
    """
    async with raw_server(Counting(0.01)) as (_, url):
        assert await ran(code, url.replace("127.0.0.1", "localhost")) == "Counter({'hello': 20})"


async def test_the_limit_may_change_and_calls_be_stopped_while_they_wait() -> None:
    script = Counting(0.1)
    code = """
        limit(200)
        async def main():
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, limit, 48)
            loop.call_later(0.8, limit, 200)
            asked = mixture()
            tasks = [asyncio.create_task(asked.ask("Why?")) for _ in range(400)]
            await asyncio.sleep(0.4)
            for task in tasks[200:250]: task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            show([*answers[:200], *answers[250:]])
        asyncio.run(main())
    """
    async with raw_server(script) as (_, url):
        assert await ran(code, url) == "Counter({'hello': 350})"
    assert script.most > 36


async def test_the_deadline_ends_the_wait_and_no_breaker_opens() -> None:
    code = """
        limit(64)
        async def main():
            asked = mixture()
            await asked.ask("Warm?")
            await close_pool()
            held = fill()
            answers = await ask(asked, 20, deadline=0.5)
            print({type(answer).__name__ for answer in answers})
            give_back(held)
            loop = asyncio.get_running_loop()
            begun = loop.time()
            show(await ask(asked, 20))
            print(loop.time() - begun < 0.9)
        asyncio.run(main())
    """
    async with raw_server(Counting(0.01)) as (server, url):
        assert await ran(code, url) == "{'DeadlineError'}\nCounter({'hello': 20})\nTrue"
        assert len(server.seen) == 21


async def test_waiting_is_no_silence_and_calls_nobody_a_second_time() -> None:
    script = Counting(0.2)
    code = """
        limit(48)
        async def main():
            answers = await ask(mixture(first_token=1.0, hedge_after=0.8, deadline=30.0), 200)
            show(answers)
            longest = max(answer.drafts[0].timing.total for answer in answers)
            print(sum(answer.n_calls for answer in answers), longest < 1)
        asyncio.run(main())
    """
    async with raw_server(script) as (server, url):
        assert await ran(code, url) == "Counter({'hello': 200})\n200 True"
        assert len(server.seen) == 200


async def test_who_waits_longest_is_next() -> None:
    order: list[int] = []

    async def script(turn: Turn) -> bytes | None:
        order.append(int(turn.head.partition("/n")[2].partition("/")[0]))
        await asyncio.sleep(0.1)
        return http(completion())

    code = """
        limit(48)
        async def main():
            async def one(number):
                await asyncio.sleep(number / 1000)
                return await mixture(f"{URLS[0]}/n{number}").ask("Why?")
            show(await asyncio.gather(*(one(number) for number in range(120))))
        asyncio.run(main())
    """
    async with raw_server(script) as (_, url):
        assert await ran(code, url) == "Counter({'hello': 120})"
    # Every request goes elsewhere, so that each needs a connection of its own.
    behind = [place - order.index(place) for place in range(120)]
    assert max(map(abs, behind)) <= 36


async def test_a_daily_budget_waits_for_descriptors_too(tmp_path: Path) -> None:
    code = f"""
        limit(64)
        async def main():
            env = {{"GROQ_BASE_URL": URLS[0], "GROQ_API_KEY": "gsk_x", "MIXTURA_HOME": {str(tmp_path)!r}}}
            asked = Mixture("single", env=env, daily_budget=100.0)
            await asked.ask("Warm?")
            await close_pool()
            held = fill()
            asyncio.get_running_loop().call_later(0.5, give_back, held[-30:])
            show(await ask(asked, 10))
        asyncio.run(main())
    """
    async with raw_server(Counting(0.01)) as (_, url):
        assert await ran(code, url) == "Counter({'hello': 10})"


async def test_a_first_call_without_descriptors_says_what_to_do() -> None:
    code = """
        limit(64)
        asked = mixture()
        from mixtura.models import registry
        async def main():
            held = fill()
            [answer] = await ask(asked, 1)
            give_back(held)
            print(answer)
            show(await ask(asked, 1))
        asyncio.run(main())
    """
    async with raw_server(Counting(0.0)) as (_, url):
        said = await ran(code, url)
    assert "this process has no file descriptor left" in said
    assert "raise the limit (`ulimit -n`)" in said
    assert said.endswith("Counter({'hello': 1})")


SMALL = """
import os, resource, sys
for what, most in ((resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_AS, 512 << 20)):
    resource.setrlimit(what, (most, most))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
ASKS = """
import asyncio
from mixtura import Mixture
async def main():
    mixture = Mixture("balanced", daily_budget=1.0)
    answers = await asyncio.gather(*(mixture.ask("Why?") for _ in range(30)))
    print({answer.text for answer in answers})
asyncio.run(main())
print(Mixture("balanced").ask_sync("Why?").text)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="macOS keeps no limit on memory")
@pytest.mark.parametrize(
    ("told", "said"),
    [
        (["-m", "mixtura", "ask", "--recipe", "balanced", "Why?"], "hello"),
        (["-c", ASKS], "{'hello'}\nhello"),
    ],
    ids=["command", "library"],
)
async def test_a_mixture_needs_no_more_than_64_descriptors_and_512_mb(
    told: list[str], said: str, tmp_path: Path
) -> None:
    async with raw_server(Counting(0.01)) as (_, url):
        env = {"GROQ_BASE_URL": url, "GROQ_API_KEY": "gsk_x", "MIXTURA_HOME": str(tmp_path), "PATH": ""}
        env["PYTHONPATH"] = str(TESTS.parent / "src")
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SMALL, *told), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, problem = await program.communicate()
    assert (program.returncode, out.decode().strip()) == (0, said), problem.decode()
