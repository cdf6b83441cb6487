"""A key's own list of models on the command line: shown, kept, and heeded by the runs that follow."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from commands import at, run
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.sim.cloud import CloudSimulator
from terminals import terminal

pytestmark = pytest.mark.slow
MODEL = "openai/gpt-oss-20b"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloud that gives this key one model, with shorter replies and a smaller window than the catalogue says."""
    whole = CloudSimulator.models

    def models(cloud: CloudSimulator) -> list[dict[str, Any]]:
        rows = [row for row in whole(cloud) if row["id"] == MODEL]
        return [{**row, "context_window": 9000, "max_completion_tokens": 77} for row in rows]

    monkeypatch.setattr(CloudSimulator, "models", models)


@pytest.mark.usefixtures("small")
async def test_what_the_key_s_list_says_holds_for_the_runs_that_follow(tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(unlimited=True, tokens=5)) as cloud:
        env = at(cloud, MIXTURA_HOME=str(tmp_path))
        before = await run(env, "ask", "-q", "-m", MODEL, "Why?")
        assert before.code == 0
        assert cloud.requests[0]["max_completion_tokens"] > 77
        shown = json.loads((await run(env, "models", "--json")).out)
        account = {row["id"]: row["account"] for row in shown["models"] if row["account"]}
        assert account == {MODEL: {"id": MODEL, "window": 9000, "max_output": 77}}
        asked = cloud.ledger.arrived
        dry = await run(env, "ask", "--dry-run", "-m", MODEL, "-m", "openai/gpt-oss-120b", "Why?")
        assert "openai/gpt-oss-120b is not among the models of your groq key, as it listed them on 20" in dry.err
        assert f"{MODEL} is not among" not in dry.err
        assert cloud.ledger.arrived == asked
        assert (await run(env, "ask", "-q", "-m", MODEL, "Why?")).code == 0
        assert cloud.requests[1]["max_completion_tokens"] == 77
        offline = await run(env, "models", "--offline")
        assert "9k*" in offline.out
        assert "the key's list is of 20" in offline.err
        other = {**env, "GROQ_API_KEY": "gsk_other"}
        assert "is not among" not in (await run(other, "ask", "--dry-run", "-m", "openai/gpt-oss-120b", "Why?")).err


@pytest.mark.usefixtures("small")
async def test_doctor_keeps_the_list_and_says_where_it_differs(tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(unlimited=True, tokens=5)) as cloud:
        env = at(cloud, MIXTURA_HOME=str(tmp_path))
        done = await run(env, "doctor", "-r", "fast")
        assert f"groq account: {MODEL} window 9,000 tokens, not 131,072; {MODEL} output 77 tokens" in done.out
        assert "✗ openai/gpt-oss-120b: " in done.out
        assert (await run(env, "chat", "-m", MODEL, stdin=b"Why?\n")).code == 0
        assert cloud.requests[-1]["max_completion_tokens"] == 77


@pytest.mark.usefixtures("small")
async def test_sizes_of_the_list_are_marked_on_a_terminal(tmp_path: Path) -> None:
    async with simulated_cloud() as cloud:
        async with terminal(cloud, "models", columns=200, MIXTURA_HOME=str(tmp_path)) as shown:
            assert await shown.end() == 0
        assert "9k*" in shown.plain
        assert "77*" in shown.plain


async def test_the_window_that_another_server_states_is_known(tmp_path: Path) -> None:
    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "mine", "max_model_len": 4096}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    async with simulated_cloud() as cloud:
        env = at(cloud, MIXTURA_HOME=str(tmp_path))
        shown = json.loads((await run(env, "models", "--provider", url, "--json")).out)
        assert shown["not_in_catalogue"] == ["mine"]
        dry = await run(env, "ask", "--dry-run", "--provider", url, "-m", "other", "Why?")
        assert f"other is not among the models of your {url} key" in dry.err
    await runner.cleanup()


async def test_nobody_is_asked_for_a_list_by_a_question(tmp_path: Path) -> None:
    async with simulated_cloud(SimOptions(unlimited=True, tokens=5)) as cloud:
        env = at(cloud, MIXTURA_HOME=str(tmp_path))
        assert (await run(env, "ask", "-q", "-m", MODEL, "Why?")).code == 0
        assert not (tmp_path / "models").exists()
