"""No word of others commands a terminal: every verb, with hostile values wherever others can put them."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mixtura.sim import SimOptions, simulated_cloud
from terminals import ESCAPES, terminal

pytestmark = pytest.mark.slow

# A title, a cleared screen (both ways to begin a sequence), a deletion, marks of direction, tags, a way back.
HOSTILE = (
    "pwn\x1b]0;title\x07\x1b[2J\x9b2J\x9d0;x\x9c\x7f\u202e\u2066\u200e\u200f\u061c\u200b\ufeff"
    "\U000e0041\U000e0042\x08\x0e\rend"
)
RAW = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
RECIPE = """
name = "x"
[[proposers]]
model = {model}
[[proposers]]
model = "llama-3.1-8b-instant"
[aggregator]
kind = "synthesize"
model = "llama-3.3-70b-versatile"
"""
TOML_STRING = '"' + "".join(f"\\U{ord(character):08x}" for character in HOSTILE) + '"'
MODEL = "llama-3.1-8b-instant"


def raw(text: str) -> list[str]:
    """Return what stands raw in `text` beside our own movements and colours."""
    assert "\x1b]" not in text
    return RAW.findall(ESCAPES.sub("", text))


@pytest.fixture
def hostile_recipe(tmp_path: Path) -> str:
    file = tmp_path / f"{HOSTILE}.toml"
    file.write_text(RECIPE.format(model=TOML_STRING), "utf-8")
    return str(file)


COMMANDS: list[tuple[str, ...]] = [
    (HOSTILE,),
    ("--" + HOSTILE,),
    ("ask", "-m", MODEL, "Why?"),
    ("ask", "-m", MODEL, "-q", "Why?"),
    ("ask", "-m", MODEL, "--json", "Why?"),
    ("ask", "-r", "classic", "--drafts", "--show-prompts", f"Why {HOSTILE}?"),
    ("ask", "-m", MODEL, "--vs", "llama-3.3-70b-versatile", "Why?"),
    ("ask", "-r", "RECIPE", "--dry-run", "Why?"),
    ("ask", "-r", "RECIPE", "--dry-run", "--json", "Why?"),
    ("ask", "-r", "RECIPE", "Why?"),
    ("ask", "-r", HOSTILE, "Why?"),
    ("ask", "-r", f"{HOSTILE}.toml", "Why?"),
    ("ask", "--provider", HOSTILE, "Why?"),
    ("ask", "--deadline", HOSTILE, "Why?"),
    ("ask", "--priority", HOSTILE, "Why?"),
    ("ask", "--schema", HOSTILE, "Why?"),
    ("ask", "--image", HOSTILE, "Why?"),
    ("chat", "-r", "RECIPE"),
    ("plan", "RECIPE"),
    ("plan", "RECIPE", "--json"),
    ("plan", "RECIPE", "--limits"),
    ("plan", HOSTILE),
    ("machines", HOSTILE),
    ("studies", HOSTILE),
    ("recipes", "RECIPE"),
    ("recipes", "RECIPE", "--json"),
    ("recipes", HOSTILE),
    ("models", "--provider", HOSTILE),
    ("models", HOSTILE),
    ("models", "add", HOSTILE, "RECIPE"),
    ("doctor",),
    ("doctor", "--json"),
    ("sim", "--faults", HOSTILE),
    ("sim", "--as-of", HOSTILE),
    ("demo", HOSTILE),
    ("demo", "--recipe", HOSTILE),
    ("completion", HOSTILE),
]


@pytest.mark.parametrize("args", COMMANDS, ids=lambda args: " ".join(args).replace(HOSTILE, "HOSTILE"))
async def test_nothing_hostile_reaches_the_terminal_raw(
    args: tuple[str, ...], hostile_recipe: str, tmp_path: Path
) -> None:
    cloud_does = SimOptions(reply=lambda request, call: f"{HOSTILE} {call}", unlimited=True)
    given = [hostile_recipe if word == "RECIPE" else word for word in args]
    env: Any = {"MIXTURA_HOME": str(tmp_path / "home"), "OPENAI_BASE_URL": f"http://127.0.0.1:9/{HOSTILE}"}
    async with simulated_cloud(cloud_does) as cloud, terminal(cloud, *given, columns=200, **env) as shown:
        if args[0] == "chat":
            await shown.until("> ")
            shown.type("\x04")
        await shown.end()
    assert raw(shown.text) == []
    assert shown.text.strip()


async def test_json_on_a_terminal_says_what_was_written() -> None:
    hostile = SimOptions(reply=lambda request, call: HOSTILE, unlimited=True)
    async with simulated_cloud(hostile) as cloud, terminal(cloud, "ask", "-m", MODEL, "--json", "Why?") as shown:
        assert await shown.end() == 0
    document = json.loads(shown.plain[shown.plain.index("{") : shown.plain.rindex("}") + 1])
    assert document["text"] == HOSTILE


async def test_into_a_pipe_an_answer_goes_byte_for_byte() -> None:
    from commands import at, start

    hostile = SimOptions(reply=lambda request, call: HOSTILE, unlimited=True)
    async with simulated_cloud(hostile) as cloud:
        process = await start(at(cloud), "ask", "-m", MODEL, "-q", "Why?")
        out, _ = await process.communicate()
    assert out == f"{HOSTILE}\n".encode()


async def test_what_a_server_says_of_an_error_and_its_models_is_safe(tmp_path: Path) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": HOSTILE, "code": HOSTILE}}, status=400)

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": HOSTILE, "object": "model", "owned_by": HOSTILE}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", refuse)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with simulated_cloud(SimOptions()) as cloud:
            env: Any = {"VLLM_BASE_URL": f"http://127.0.0.1:{port}/v1", "MIXTURA_HOME": str(tmp_path)}
            for args in (
                ("ask", "--provider", "vllm", "-m", "x", "Why?"),
                ("models", "--provider", "vllm"),
                ("doctor",),
            ):
                async with terminal(cloud, *args, columns=200, **env) as shown:
                    await asyncio.wait_for(shown.end(), 30)
                assert raw(shown.text) == [], args
                assert args == ("doctor",) or "pwn" in shown.text
    finally:
        await runner.cleanup()
