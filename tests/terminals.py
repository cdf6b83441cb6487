"""The command on a pseudo-terminal: keys are typed, what is shown is read."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mixtura.sim import SimOptions, SimulatedCloud

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command whose three streams are one terminal."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self._process = process
        self._news = asyncio.Event()
        self.text = ""
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux: every process has closed the other end
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.text += data.decode(errors="replace")
        self._news.set()

    def type(self, keys: str) -> None:
        """Press keys; "\x03" is Ctrl-C, "\x04" Ctrl-D."""
        os.write(self._master, keys.encode())

    async def until(self, wanted: str, times: int = 1) -> None:
        """Wait until `wanted` stands so many times in what was written."""
        try:
            async with asyncio.timeout(20):
                while self.text.count(wanted) < times:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{wanted!r} did not come {times} times; the last was {self.text[-1500:]!r}") from None

    async def end(self) -> int:
        """Wait for the command's end, and return its exit code."""
        async with asyncio.timeout(20):
            code = await self._process.wait()
            await asyncio.sleep(0.05)
        assert "Traceback" not in self.text
        return code

    @property
    def plain(self) -> str:
        return ESCAPES.sub("", self.text).replace("\r", "")


@asynccontextmanager
async def terminal(
    cloud: SimulatedCloud, *args: str, columns: int = 80, rows: int = 24, **env: str
) -> AsyncIterator[Terminal]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    kept |= {"TERM": "xterm", "GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "gsk_x", "PYTHONWARNINGS": "error", **env}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mixtura", *args, stdin=slave, stdout=slave, stderr=slave, env=kept,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    shown = Terminal(master, process)
    try:
        yield shown
    finally:
        asyncio.get_running_loop().remove_reader(master)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)


SLOW = SimOptions(tokens=60, profile="rate:60", unlimited=True)
