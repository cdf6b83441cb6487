"""docs/networks.md: its examples run behind a proxy as it describes, and its messages are those of the code."""

import ast
import asyncio
import os
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from commands import environment
from mixtura.sim import SimOptions, simulated_cloud
from networks import TestProxy, listening
from pages import DOCS, ROOT, Block, blocks, table

PAGE = DOCS / "networks.md"
USER = "Jürgen:p@ss"
NAMED = "proxy.company.example:3128"


@asynccontextmanager
async def company(folder: Path, user: bytes) -> AsyncIterator[tuple[TestProxy, int]]:
    """A network whose only way out is a proxy that reads what passes; api.groq.com behind it is a simulated cloud."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    async with simulated_cloud(SimOptions(unlimited=True, tokens=30)) as cloud:
        port = int(cloud.url.rpartition(":")[2].partition("/")[0])
        proxy = TestProxy(user=user, authority=authority, route=lambda host: {"api.groq.com": port}[host])
        async with listening(proxy.serve) as at:
            yield proxy, at


PROGRAMS = [block for block in blocks(PAGE) if block.language in ("sh", "python")]


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: f"line {block.line}")
async def test_each_example_works_behind_a_proxy_that_reads_what_passes(block: Block, tmp_path: Path) -> None:
    wants_user = "p%40ss" in block.body
    async with company(tmp_path, USER.encode() if wants_user else b"") as (proxy, port):
        body = block.body.replace(NAMED, f"127.0.0.1:{port}").replace("/etc/company/", f"{tmp_path}/")
        assert body != block.body
        command = ["sh", "-ec", body]
        if block.language == "python":
            main = f"import asyncio\nasync def main():\n{textwrap.indent(body, '    ')}\nasyncio.run(main())"
            command = [sys.executable, "-c", main]
        env = environment(
            GROQ_API_KEY="gsk_very_secret",
            MIXTURA_HOME=str(tmp_path),
            PYTHONPATH=f"{ROOT / 'src'}",
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        )
        env.pop("SSL_CERT_DIR", None)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, env=env, stdin=pipe, stdout=pipe, stderr=pipe)
        out, err = (said.decode() for said in await process.communicate())
    assert process.returncode == 0, out + err
    assert out.strip()
    assert {line for line, _ in proxy.seen} == {"CONNECT api.groq.com:443 HTTP/1.1"}
    assert "p@ss" not in out + err
    assert "p%40ss" not in out + err
    if "doctor" in body:
        assert f"- groq proxy: the proxy 127.0.0.1:{port} (HTTPS_PROXY) is asked, as user 'Jürgen'\n" in out
        assert f"- groq trust: certificates are accepted by SSL_CERT_FILE ('{tmp_path}/authority.pem')\n" in out


async def test_without_the_authority_the_command_says_what_to_do_and_tries_once_a_call(tmp_path: Path) -> None:
    async with company(tmp_path, b"") as (proxy, port):
        env = environment(GROQ_API_KEY="gsk_very_secret", HTTPS_PROXY=f"http://127.0.0.1:{port}")
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            env.pop(name, None)
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "mixtura", "ask", "-q", "-m", "openai/gpt-oss-20b", "Why?")
        process = await asyncio.create_subprocess_exec(*command, env=env, stdin=pipe, stdout=pipe, stderr=pipe)
        _, err = await process.communicate()
    assert process.returncode == 3
    assert b"api.groq.com that came through the proxy 127.0.0.1" in err
    assert b"SSL_CERT_FILE" in err
    assert len(proxy.seen) == 1


def test_each_message_of_the_page_is_one_of_the_code() -> None:
    said: list[str] = []
    for path in (ROOT / "src" / "mixtura" / "models" / "openai").glob("*.py"):
        said += [
            node.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    rows = table("networks.md", "## What each message means")
    assert len(rows) > 20
    for row in rows:
        assert any(row[0].strip("`") in text for text in said), row[0]
