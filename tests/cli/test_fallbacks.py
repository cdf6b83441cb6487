"""Fall-backs and substitutes are models of the recipe: whoever asks who may be asked hears of them."""

import json
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

import local_servers
from commands import environment, invoke, run
from mixtura import Fallback, Layer, Mixture, Policy, Proposer, Recipe
from mixtura.chat import ChatOptions
from mixtura.errors import ConfigError
from mixtura.models.registry import ModelRegistry
from mixtura.planning.deadline import deadline_seconds
from mixtura.planning.schedule import models_of, planned_models
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual

GEMMA = "gemma2-9b-it"


@asynccontextmanager
async def answering() -> AsyncIterator[tuple[str, list[str]]]:
    """Serve the models `a` and `b`; gives the URL, and the models that were asked to chat."""
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "a"}, {"id": "b"}]})
        body = await request.json()
        asked.append(body["model"])
        message = {"role": "assistant", "content": "REAL"}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}]})

    async with local_servers.served(handler) as url:
        yield f"{url}/v1", asked


def with_fallback(folder: Path, model: str, fallback: str, **slot: str) -> str:
    path = folder / "mine.toml"
    more = "".join(f'{name} = "{value}"\n' for name, value in slot.items())
    path.write_text(f'[[proposers]]\nmodel = "{model}"\nfallbacks = [{fallback}]\n{more}')
    return str(path)


@pytest.mark.parametrize("provider", ["openai", "http://127.0.0.1:9/v1"])
@pytest.mark.parametrize("verb", ["ask", "chat"])
def test_a_simulated_cloud_is_not_left_by_a_fall_back(verb: str, provider: str, tmp_path: Path) -> None:
    mine = with_fallback(tmp_path, "openai/gpt-oss-20b", f'{{model = "x", provider = "{provider}"}}')
    done = invoke(verb, "--sim", "-r", mine, *(["Why?"] if verb == "ask" else []))
    assert str(done.exception) == f"--sim simulates groq only, and the recipe also asks {provider!r}"


def test_doctor_and_a_dry_run_look_at_fall_backs(tmp_path: Path) -> None:
    mine = with_fallback(tmp_path, "a", '{model = "gpt-x", provider = "openai"}', provider="http://127.0.0.1:9/v1")
    doctor = invoke("doctor", "-r", mine)
    assert doctor.exit_code == 1
    assert "openai key: OPENAI_API_KEY is not set" in doctor.stdout
    assert "gpt-x" in doctor.stdout
    unknown = with_fallback(tmp_path, "a", '{model = "gpt-x", provider = "opanai"}')
    assert "unknown provider 'opanai'" in str(invoke("ask", "--dry-run", "-r", unknown, "Why?").exception)
    dead = with_fallback(tmp_path, "openai/gpt-oss-20b", '{model = "qwen-qwq-32b"}')
    assert "qwen-qwq-32b is gone since" in invoke("ask", "--dry-run", "-r", dead, "Why?").stderr


async def test_what_is_moved_with_its_provider_asks_nobody_else(tmp_path: Path) -> None:
    mine = with_fallback(tmp_path, "x", '{model = "y", provider = "openai"}')
    async with answering() as (url, asked):
        env = environment(GROQ_BASE_URL="http://127.0.0.1:9", GROQ_API_KEY="gsk_very_secret")
        done = await run(env, "ask", "--provider", url, "-r", mine, "--json", "Why?")
        assert (done.code, json.loads(done.out)["text"]) == (0, "REAL"), done.err
        lines = f"One?\n/recipe {mine}\nTwo?\n/model a b\nThree?\n/recipe balanced\nFour?\n"
        chat = await run(env, "chat", "--provider", url, "-m", "a", stdin=lines.encode())
    assert chat.code == 0, chat.err
    assert set(asked) == {"a", "b"}
    assert "groq" not in chat.err


def test_the_list_of_models_names_fall_backs_substitutes_and_the_model_that_acts() -> None:
    slot = Proposer(model=GEMMA, fallbacks=(Fallback(model="f", provider="openai"),))
    policy = Policy(substitutes={"f": "g"}, substitute=True)
    recipe = Recipe(layers=(Layer(proposers=(slot,)),), policy=policy)
    assert planned_models(recipe) == [("groq", GEMMA)]
    assert models_of(recipe) == [("groq", GEMMA), ("openai", "f"), ("openai", "g")]
    named = models_of(recipe, ModelRegistry(env={}).replacement)
    assert named[:2] == [("groq", GEMMA), ("groq", "openai/gpt-oss-20b")]
    acting = Recipe.from_toml(recipe.to_toml() + '\n[tools.acting]\nmodel = "h"\nprovider = "openai"\n')
    assert models_of(acting, acting=True)[-1] == ("openai", "h")
    assert ("openai", "h") not in models_of(acting)


def asks(recipe: Recipe, options: ChatOptions | None = None) -> tuple[str, list[object]]:
    """Ask a cloud in which gpt-oss-120b is too small; return the text, and the output limits that were sent."""

    async def main() -> tuple[str, list[object]]:
        chosen = SimOptions(faults="413:openai/gpt-oss-120b", tokens=20, unlimited=True)
        async with simulated_cloud(chosen) as cloud:
            env = {"GROQ_BASE_URL": cloud.url, "GROQ_API_KEY": "k"}
            answer = await Mixture(recipe, env=env).ask("Why?", options=options)
            return answer.status, [request.get("max_completion_tokens") for request in cloud.requests]

    return run_virtual(main())


def test_an_output_limit_leaves_a_smaller_fall_back_room_for_the_prompt() -> None:
    slot = Proposer(model="openai/gpt-oss-120b", max_tokens=20_000, fallbacks=(Fallback(model=GEMMA),))
    status, limits = asks(Recipe(layers=(Layer(proposers=(slot,)),)))
    assert (status, limits[0]) == ("ok", 20_000)
    assert 8000 < int(str(limits[-1])) < 8192
    gone = Recipe(
        layers=(Layer(proposers=(Proposer(model="nowhere"),)),), policy=Policy(substitutes={"nowhere": GEMMA})
    )
    assert asks(gone, ChatOptions(max_tokens=20_000))[0] == "ok"


def test_a_fall_back_on_one_machine_has_its_time() -> None:
    away = Proposer(model="openai/gpt-oss-20b")
    here = Proposer(model="openai/gpt-oss-20b", fallbacks=(Fallback(model="b", provider="ollama"),))
    registry = ModelRegistry(env={"GROQ_API_KEY": "k"})
    seconds = [deadline_seconds(Recipe(layers=(Layer(proposers=(slot,)),)), registry) for slot in (away, here)]
    assert seconds == [120.0, 300.0]


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hun/ter2#x@127.0.0.1:9/v1",
        f"https://me:{urllib.parse.quote('hun/ter2#x', safe='')}@127.0.0.1:9/v1",
        "ftp://me:hunter2@127.0.0.1:9/v1",
        "https://me:hunter2@[::1/v1",
    ],
)
@pytest.mark.parametrize(
    ("verb", "variables"),
    [
        (("doctor", "--json"), ("GROQ_BASE_URL", "OLLAMA_HOST", "MIXTURA_REDIS_URL")),
        (("doctor",), ("OLLAMA_BASE_URL", "HTTPS_PROXY")),
        (("models",), ("GROQ_BASE_URL",)),
        (("ask", "Why?"), ("GROQ_BASE_URL",)),
        (("ask", "--json", "Why?"), ("MIXTURA_REDIS_URL",)),
    ],
)
def test_a_password_in_an_address_is_shown_by_no_verb(
    verb: tuple[str, ...], variables: tuple[str, ...], address: str
) -> None:
    elsewhere = {"GROQ_BASE_URL": "http://127.0.0.1:9"}
    done = invoke(*verb, **{**elsewhere, "GROQ_API_KEY": "gsk_very_secret", **dict.fromkeys(variables, address)})
    assert "ter2" not in f"{done.output} {done.exception!r}"


@pytest.mark.parametrize("provider", ["https://me:hunter2@127.0.0.1:9/v1", "https://me:hun/ter2@127.0.0.1:9/v1"])
def test_a_password_in_a_provider_of_a_recipe_is_refused_and_not_shown(provider: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(f'[[proposers]]\nmodel = "m"\nprovider = "{provider}"\n')
    for more in (
        ("-r", str(mine)),
        ("-r", str(mine), "--json"),
        ("--dry-run", "-r", str(mine)),
        ("--provider", provider),
    ):
        done = invoke("ask", *more, "Why?")
        assert isinstance(done.exception, ConfigError)
        assert "ter2" not in f"{done.output} {done.exception!r}"
