"""A proxy that others wrote and that reads what passes: mitmproxy, with an authority and a user of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from commands import environment
from environments import Environment
from mixtura.sim import SimOptions, simulated_cloud
from resources import lack

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
USER, PASSWORD = "company", "p@ss"
# What is asked of api.groq.com goes to a simulated cloud on this machine.
_ROUTE = """
import os
def request(flow):
    flow.request.scheme, flow.request.host, flow.request.port = "http", "127.0.0.1", int(os.environ["CLOUD_PORT"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment of its own: what mitmproxy needs would get in the way of ours."""
    made = Environment(tmp_path_factory.mktemp("mitmproxy") / "venv")
    try:
        made.install("mitmproxy>=11,<13")
    except RuntimeError as error:
        lack(f"mitmproxy cannot be installed: {error}")
    return made


@contextlib.contextmanager
def mitmproxy(installed: Environment, folder: Path, cloud_port: int) -> Iterator[tuple[int, Path]]:
    """Run it; the value is its port and the file of its authority."""
    (folder / "route.py").write_text(_ROUTE)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    options = ["--listen-host", "127.0.0.1", "--listen-port", str(port), "-s", str(folder / "route.py"), "-q"]
    options += ["--set", f"confdir={folder}", "--proxyauth", f"{USER}:{PASSWORD}", "--set", "connection_strategy=lazy"]
    env = {**os.environ, "CLOUD_PORT": str(cloud_port)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([installed.folder / "bin" / "mitmdump", *options], env=env, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.1)
        yield port, folder / "mitmproxy-ca-cert.pem"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


async def ask(**env: str) -> tuple[int | None, str, str]:
    given = environment(GROQ_API_KEY="gsk_very_secret", **env)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if name not in env:
            given.pop(name, None)
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "mixtura", "ask", "-q", "-r", "classic", "Why?")
    process = await asyncio.create_subprocess_exec(*command, env=given, stdin=pipe, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_mixture_works_behind_it_and_each_fault_is_said(installed: Environment, tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(unlimited=True, tokens=30)) as cloud:
        cloud_port = int(cloud.url.rpartition(":")[2].partition("/")[0])
        with mitmproxy(installed, tmp_path, cloud_port) as (port, authority):
            address = f"127.0.0.1:{port}"
            named = f"http://{USER}:p%40ss@{address}"
            code, out, err = await ask(HTTPS_PROXY=named, SSL_CERT_FILE=str(authority))
            assert (code, err) == (0, ""), err
            assert out.strip()

            code, _, err = await ask(HTTPS_PROXY=named)
            assert code == 3
            assert f"api.groq.com that came through the proxy {address} (HTTPS_PROXY) is signed by an authority" in err

            code, _, err = await ask(HTTPS_PROXY=f"http://{USER}:wrong@{address}", SSL_CERT_FILE=str(authority))
            assert code == 3
            assert f"the proxy {address} (HTTPS_PROXY) does not accept user '{USER}' with this password (407" in err
            assert "wrong" not in err

            code, _, err = await ask(HTTPS_PROXY=f"http://{address}", SSL_CERT_FILE=str(authority))
            assert code == 3
            assert f"write HTTPS_PROXY as http://USER:PASSWORD@{address}" in err
