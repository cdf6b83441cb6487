"""Signals and broken pipes: the command ends quietly, with the code that shells expect, and leaves nothing behind."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commands import at, environment, start, until
from mixtura.sim import SimOptions, simulated_cloud

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signals")

ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
QUESTION = ["ask", "-r", "classic", "Why?"]


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("module", ["click.globals", "click.core", "mixtura.errors", "msgspec", "asyncio"])
def test_a_signal_during_the_imports_is_quiet(number: signal.Signals, module: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "mixtura", *QUESTION]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.split("|")[-1].strip() == module:
                process.send_signal(number)
                break
        else:
            pytest.fail(f"{module} was not imported: {''.join(said[-3:])}")
        after = process.stderr.read()
    assert process.returncode == 128 + number
    assert [line for line in after.splitlines() if not line.startswith("import time:")] == []


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("number", ENDING)
async def test_a_signal_ends_a_run_in_order(number: signal.Signals, tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(faults="silent")) as cloud:
        env = at(cloud, TMPDIR=str(tmp_path))
        process = await start(env, *QUESTION)
        await until(lambda: cloud.ledger.in_flight > 0)
        process.send_signal(number)
        out, err = await process.communicate()
        assert (process.returncode, out) == (128 + number, b"")
        assert b"Traceback" not in err
        await until(lambda: cloud.ledger.in_flight == 0)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("command", [["ask", "--sim", "Why?"], ["chat", "--sim"], ["sim", "--port", "0"]])
async def test_a_signal_leaves_no_folder_behind(number: signal.Signals, command: list[str], tmp_path: Path) -> None:
    process = await start(environment(TMPDIR=str(tmp_path)), *command)
    stream = process.stdout if command[0] == "sim" else process.stderr
    assert stream is not None
    await stream.readline()  # the cloud is about to run, or runs
    await until(lambda: command[0] == "sim" or bool(entries(tmp_path)))
    process.send_signal(number)
    async with asyncio.timeout(20):
        _, err = await process.communicate()
    assert process.returncode == (0 if command[0] == "sim" else 128 + number)
    assert b"Traceback" not in err
    assert not entries(tmp_path)


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    command = f"{sys.executable} -m mixtura sim --port 0"
    shell = f"trap '' HUP; {command} & sleep 1; kill -HUP $!; sleep 0.3; kill -TERM $!; wait $!"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["ask --sim 'Why?'", "ask --sim --json 'Why?'", "recipes balanced", "models --offline", "demo --questions 2"],
)
@pytest.mark.parametrize("reader", ["head -c 1", "true"])
def test_a_reader_that_leaves_is_no_error(command: str, reader: str) -> None:
    shell = f"{sys.executable} -m mixtura {command} | {reader}"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "Errno" not in done.stderr
    assert "Exception" not in done.stderr
