"""`mixtura ask` on a machine of one's own: a slow server in real time, and llama.cpp's own."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from commands import environment, run, sentence
from servers import llama_server

TESTS = Path(__file__).parent.parent
TOYS = Path(str(files("mixtura.models.toy"))) / "files"
QUESTION = "Ada has 125 apples. Then she buys 317 more. How many apples does Ada have now?"


@contextmanager
def slow(first: float, slots: int) -> Iterator[tuple[str, list[str]]]:
    """Serve in a process of its own; gives its URL, and at its end what it counted."""
    told = [sys.executable, str(TESTS / "slow_servers.py"), str(first), "0.05", "20", str(slots)]
    counted: list[str] = []
    with subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip(), counted
        counted += server.communicate("")[0].split()


@pytest.mark.slow
@pytest.mark.parametrize(("first", "slots"), [(0.5, 1), (1.0, 2), (2.0, 1), (2.0, 4)])
async def test_a_slow_server_answers_every_call_once_in_real_time(first: float, slots: int) -> None:
    with slow(first, slots) as (url, counted):
        done = await run(environment(VLLM_BASE_URL=url), "ask", "--provider", "vllm", "--json", "Why is the sky blue?")
        assert done.code == 0, done.err
        answer = json.loads(done.out)
    assert len(answer["drafts"]) == 3
    assert answer["failures"] == []
    busy, calls, left = counted
    assert (calls, left) == ("4", "0")
    if slots == 1:
        assert answer["seconds"] <= 1.1 * float(busy)


@asynccontextmanager
async def listing(*models: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve a list of models, and answer in the name of each; gives the URL and the models that were asked."""
    asked: list[str] = []

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        asked.append(body["model"])
        choice = {"message": {"role": "assistant", "content": f"{body['model']} says {len(asked)}"}}
        return web.json_response({"model": body["model"], "choices": [{**choice, "finish_reason": "stop"}]})

    async def listed(_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in models]}, status=200 if models else 404)

    app = web.Application()
    app.router.add_get("/v1/models", listed)
    app.router.add_post("/v1/chat/completions", chat)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1")), asked


async def test_the_models_that_a_server_has_take_the_place_of_the_recipes() -> None:
    async with listing("nomic-embed-text", "llama3.2:3b", "qwen3:14b", "gemma3:4b") as (url, asked):
        done = await run(environment(OLLAMA_BASE_URL=url), "ask", "--provider", "ollama", "Why?")
        assert done.code == 0
        assert sorted(asked[:3]) == ["gemma3:4b", "gemma3:4b", "llama3.2:3b"]
        assert asked[3] == "qwen3:14b"
        assert "ollama does not have the recipe's models: gemma3:4b takes the place of openai/gpt-oss-20b" in done.err
        forecast = await run(environment(OLLAMA_BASE_URL=url), "ask", "--provider", "ollama", "--dry-run", "Why?")
        assert "qwen3:14b" in forecast.out
        assert "gpt-oss" not in forecast.out
        checked = await run(environment(OLLAMA_BASE_URL=url, MIXTURA_PROVIDER="ollama"), "doctor")
        assert "gpt-oss" not in checked.out


async def test_an_address_as_servers_print_it_is_enough() -> None:
    async with listing("m") as (url, asked):
        for env in ({"OLLAMA_BASE_URL": url.removesuffix("/v1")}, {"OLLAMA_HOST": url.split("/")[2]}):
            done = await run(environment(**env), "ask", "-q", "--provider", "ollama", "Why?")
            assert (done.code, done.err) == (0, "")
        assert (await run(environment(), "ask", "-q", "--provider", url.removesuffix("/v1"), "Why?")).code == 0
        assert set(asked) == {"m"}


async def test_a_server_that_is_not_there_is_said_at_once_with_the_next_step() -> None:
    env = environment(OLLAMA_BASE_URL="http://127.0.0.1:9/v1")
    done = await run(env, "ask", "--provider", "ollama", "Why?")
    assert done.code == 1
    assert "nothing answers at 127.0.0.1:9" in sentence(done)
    assert "set OLLAMA_BASE_URL to its address" in sentence(done)


async def test_one_model_takes_every_part_and_chosen_ones_are_asked_whatever_the_list_says() -> None:
    async with listing("m") as (url, asked):
        done = await run(environment(), "ask", "--provider", url, "Why?")
        assert (done.code, set(asked)) == (0, {"m"})
        assert "m takes every part (-m chooses)" in done.err
        asked.clear()
        named = await run(environment(), "ask", "-q", "--provider", url, "-m", "a:1b", "-m", "b:7b", "Why?")
        assert (named.code, named.err) == (0, "")
        assert (sorted(asked[:2]), asked[2]) == (["a:1b", "b:7b"], "b:7b")


async def test_a_server_that_lists_nothing_is_asked_for_what_the_recipe_says() -> None:
    async with listing() as (url, asked):
        done = await run(environment(), "ask", "--provider", url, "Why?")
        assert done.code == 0
        assert "openai/gpt-oss-120b" in asked


@pytest.mark.models
@pytest.mark.parametrize("slots", [1, 4])
async def test_a_real_server_gives_a_mixtures_answer(slots: int) -> None:
    with llama_server(TOYS / "toy-dense.gguf", slots=slots, context=1024) as url:
        args = ("ask", "--provider", "llamacpp", "-r", "self", "--max-tokens", "60", "--json", QUESTION)
        done = await run(environment(LLAMACPP_BASE_URL=url), *args)
        assert done.code == 0, done.err
        answer = json.loads(done.out)
    assert len(answer["drafts"]) == 6
    assert answer["failures"] == []
    assert "takes every part" in done.err
