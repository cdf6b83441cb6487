"""The command: as a process of its own, and called in this one."""

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result
from packaging.version import Version

from mixtura.cli import group, main
from mixtura.sim import SimulatedCloud

worded_by_click = pytest.mark.skipif(
    Version(version("click")) < Version("8.5"), reason="an older click words its help and its errors otherwise"
)
"""Marks a test of words that are click's own."""

_OURS = re.compile(r".*_(API_KEY|BASE_URL)|(NO|FORCE)_COLOR|COLUMNS|(HTTPS?|ALL|NO)_PROXY", re.IGNORECASE)


class Done(NamedTuple):
    """What a finished command left."""

    code: int
    out: str
    err: str


def environment(**given: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not _OURS.fullmatch(name)}
    return {**inherited, "TERM": "xterm", "PYTHONWARNINGS": "error", **given}


def at(cloud: SimulatedCloud, **given: str) -> dict[str, str]:
    return environment(GROQ_BASE_URL=cloud.url, GROQ_API_KEY="gsk_very_secret", **given)


async def start(env: dict[str, str], *args: str | bytes, cwd: Path | None = None) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "mixtura", *args)
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=cwd)


async def run(env: dict[str, str], *args: str | bytes, stdin: bytes = b"", cwd: Path | None = None) -> Done:
    process = await start(env, *args, cwd=cwd)
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    done = Done(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in done.err
    assert "gsk_very_secret" not in done.out + done.err
    return done


def sentence(done: Done) -> str:
    """Return the one line that a failed command leaves on stderr."""
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("mixtura: ")
    return done.err


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # it is another process that changes what is waited for
            await asyncio.sleep(0.02)


def invoke(*args: str, **env: str | None) -> Result:
    cleared = {name: None for name in os.environ if name.endswith(("_API_KEY", "_BASE_URL"))}
    return CliRunner().invoke(group, args, prog_name="mixtura", terminal_width=80, env=cleared | env)


def forked(
    arguments: list[str], env: Mapping[str, str] = MappingProxyType({}), prepare: Callable[[], None] = lambda: None
) -> tuple[int, str]:
    """Run the command in a forked process with the environment of a fresh one, and nothing on stdin.

    `prepare` is called before it in that process. Returns the exit code and all that was written.
    """
    with tempfile.TemporaryFile() as written:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(written.fileno(), 1)
                os.dup2(written.fileno(), 2)
                for number, mode in enumerate("rww"):
                    stream = os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
                    setattr(sys, ("stdin", "stdout", "stderr")[number], stream)
                os.environ.clear()
                os.environ.update(environment(GROQ_API_KEY="gsk_x", GROQ_BASE_URL="http://127.0.0.1:9"))
                os.environ.update(env)
                prepare()
                code = main(arguments)
                sys.stderr.flush()
            except BaseException as error:  # noqa: BLE001  # it is what the tests look for
                os.write(2, f"Traceback: {error!r}".encode())
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        written.seek(0)
        return code, written.read().decode(errors="replace")


def complaint(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """Return the exit code and the one line on stderr of a call that must fail with nothing on stdout."""
    code = main(args)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return code, said.err.strip()


def complete(line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a shell is offered to complete `line` with."""
    words = line.split(" ")
    monkeypatch.setenv("_MIXTURA_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    assert main([]) == 0
    return capsys.readouterr().out
