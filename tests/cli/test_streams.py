"""stderr that nobody reads, or that cannot be written: the answer goes to stdout, and the exit code is its own."""

import asyncio
import os
import sys

import pytest

from asking import LLAMA
from commands import at, environment, run
from mixtura.sim import SimOptions, simulated_cloud
from terminals import terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes as POSIX has them")
SAID = SimOptions(unlimited=True, reply=lambda request, call: "So it is.")
WARNED = "ask", "-m", LLAMA, "--show-prompts", "Why?"


async def test_whoever_reads_stderr_may_go_away_in_the_middle_of_a_run() -> None:
    async with simulated_cloud(SimOptions(unlimited=True, profile="fixed:0.6")) as cloud:
        reading, writing = os.pipe()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mixtura", "ask", "-r", "classic", "--drafts", "Why?",
            env=at(cloud), stdout=asyncio.subprocess.PIPE, stderr=writing, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        os.close(writing)
        first = await asyncio.to_thread(os.read, reading, 10)
        os.close(reading)
        out, _ = await process.communicate()
        assert first
        assert process.returncode == 0
        assert out.strip()


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&- <&-"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
async def test_a_stderr_that_cannot_be_written_loses_no_answer(stderr: str) -> None:
    async with simulated_cloud(SAID) as cloud:
        line = f"{sys.executable} -m mixtura {' '.join(WARNED)} {stderr}"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", line, env=at(cloud), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert (process.returncode, out, err) == (0, b"So it is.\n", b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb", [["recipes"], ["config"], ["models", "--offline"], ["--help"], ["doctor", "-r", "toy"]]
)
async def test_a_full_stderr_fails_no_verb(verb: list[str]) -> None:
    line = f"{sys.executable} -m mixtura {' '.join(verb)} 2>/dev/full"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert out


async def test_a_stdin_that_cannot_be_read_is_one_sentence(tmp_path: object) -> None:
    for verb in ("ask", "chat --sim", "keys set groq"):
        line = f"{sys.executable} -m mixtura {verb} 0>{tmp_path}/written"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", line, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert process.returncode == 2
        assert b"mixtura: stdin cannot be read (Bad file descriptor)" in err
        assert out == b""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
async def test_no_encoding_lets_a_model_command_the_terminal(encoding: str) -> None:
    told = SimOptions(unlimited=True, reply=lambda request, call: "a\x1b]0;pwned\x07b")
    async with (
        simulated_cloud(told) as cloud,
        terminal(cloud, "ask", "-q", "-m", LLAMA, "Why?", PYTHONIOENCODING=encoding) as shown,
    ):
        assert await shown.end() == 0
        assert "\x1b]" not in shown.text
        assert "\x07" not in shown.text


@pytest.mark.slow
async def test_without_a_locale_questions_and_answers_are_utf_8() -> None:
    async with simulated_cloud(SimOptions(unlimited=True, reply=lambda request, call: "Größe ✓")) as cloud:
        for env in (
            {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            {"PYTHONIOENCODING": "ascii"},
            {"LANG": "C", "LC_ALL": "C"},
        ):
            done = await run(at(cloud, **env), "ask", "-m", LLAMA, "Wie groß?".encode())
            assert (done.code, done.out) == (0, "Größe ✓\n")
            assert cloud.requests[-1]["messages"][-1]["content"] == "Wie groß?"
