"""`mixtura models add` and `remove`, models asked by name, and what `doctor` finds on this machine."""

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from bench.gguf_files import Shape, write_gguf

from commands import Done, environment, run, sentence
from mixtura.cli import nearby
from mixtura.errors import ConfigError
from mixtura.models.local.machine import Machine
from mixtura.models.registry import ModelRegistry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


def home(tmp_path: Path, **env: str) -> dict[str, str]:
    return environment(MIXTURA_HOME=str(tmp_path / "home"), **env)


async def test_a_named_file_is_listed_asked_and_forgotten(file: Path, tmp_path: Path) -> None:
    env = home(tmp_path)
    added = await run(env, "models", "add", "tiny", file.name, "--slots", "2", cwd=file.parent)
    assert (added.code, added.err) == (0, "")
    assert added.out == (
        "tiny: qwen3, 0.0908M weights, F16, 0.2 MB; ask it with: mixtura ask --provider local -m tiny 'Hello'\n"
    )
    assert (tmp_path / "home" / "models.toml").stat().st_mode & 0o777 == 0o600
    listed = await run(env, "models", "--provider", "local")
    assert listed.out.splitlines()[1].split() == ["tiny", "qwen3", "0.0908M", "F16", "0.2", "2048", "2", "1", str(file)]
    rows = json.loads((await run(env, "models", "--provider", "local", "--json")).out)["models"]
    assert (rows[0]["name"], rows[0]["parameters"], rows[0]["context"]) == ("tiny", 90816, 2048)
    answered = await run(env, "ask", "--provider", "local", "-m", "tiny", "--json", "hi")
    assert answered.code == 0, answered.err
    answer = json.loads(answered.out)
    assert (answer["cost"], answer["n_calls"]) == (0.0, 1)
    gone = await run(env, "models", "remove", "tiny")
    assert gone.out == f"tiny is forgotten; its file stays: {file}\n"
    empty = await run(env, "models", "--provider", "local")
    assert (empty.code, empty.out) == (0, "")
    assert "no model file has a name yet" in empty.err


async def refused(env: dict[str, str], *args: str) -> str:
    done = await run(env, *args)
    assert (done.code, done.out) == (3, ""), done
    return sentence(done)


async def test_names_and_files_that_cannot_be_are_refused(file: Path, tmp_path: Path) -> None:
    env = home(tmp_path)
    await run(env, "models", "add", "tiny", str(file))
    assert f"'tiny' is {file}; another name, or --force" in await refused(env, "models", "add", "tiny", str(file))
    assert (await run(env, "models", "add", "tiny", str(file), "--force", "--context", "512")).code == 0
    for name in ("", "a b", "../x", "-x", "x.gguf", "x" * 65, "ä"):
        assert "is not a valid model name" in await refused(env, "models", "add", "--", name, str(file))
    assert "there is no such file" in await refused(env, "models", "add", "other", str(tmp_path / "none.gguf"))
    broken = write_gguf(tmp_path / "broken.gguf", Shape(heads=4, kv_heads=3))
    assert "crashes on it" in await refused(env, "models", "add", "other", str(broken))
    assert "slots: expected 1 to 64" in await refused(env, "models", "add", "other", str(file), "--slots", "100")
    assert "did you mean 'tiny'?" in await refused(env, "models", "remove", "tinny")
    assert "did you mean 'tiny'?" in await refused(env, "ask", "--provider", "local", "-m", "tinny", "hi")
    kept = tomllib.loads((tmp_path / "home" / "models.toml").read_text())["models"]
    assert list(kept) == ["tiny"]
    assert kept["tiny"]["context"] == 512


async def test_without_the_package_a_file_is_named_by_its_header_alone(file: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'xllamacpp' else real(name, package)\n"
    )
    env = home(tmp_path, PYTHONPATH=str(tmp_path))
    added = await run(env, "models", "add", "tiny", str(file))
    assert added.code == 0
    assert "only its header checked" in added.err
    assert "pip install 'mixtura[local]'" in await refused(env, "ask", "--provider", "local", "-m", "tiny", "hi")
    told = checks(await run(env, "doctor", "--json"))["local"]
    assert (told["ok"], told["fix"]) == (False, "pip install 'mixtura[local]'")


async def test_a_file_of_names_that_is_broken_is_said(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "models.toml").write_text("[models.x]\nslots = 'two'\n")
    said = await refused(home(tmp_path), "models", "--provider", "local")
    assert "models.toml: " in said
    assert "fix it, or delete it" in said
    assert ModelRegistry(env={"MIXTURA_HOME": str(tmp_path / "home")}).card("local", "x").window is None


async def test_the_registry_lists_names_and_says_when_there_are_none(file: Path, tmp_path: Path) -> None:
    env = {"MIXTURA_HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"none has been added yet: mixtura models add tiny FILE\.gguf"):
        ModelRegistry(env=env).find("local", "tiny")
    (tmp_path / "models.toml").write_text(f'[models.tiny]\npath = "{file}"\n')
    registry = ModelRegistry(env=env)
    assert await registry.list_models("local") == [{"id": "tiny"}]
    assert registry.find("local", "tiny").card.window == 2048
    with pytest.raises(ConfigError, match="the known ones are tiny"):
        registry.find("local", "something-else-entirely")


def checks(done: Done) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(done.out)}


# Each server's list of models, as it sends it.
LISTS: dict[str, Any] = {
    "ollama": {
        "object": "list",
        "data": [
            {"id": "nomic-embed-text:latest", "object": "model", "created": 1786012345, "owned_by": "library"},
            {"id": "llama3.2:1b", "object": "model", "created": 1786012345, "owned_by": "library"},
        ],
    },
    "lmstudio": {
        "object": "list",
        "data": [
            {"id": "text-embedding-nomic-embed-text-v1.5", "object": "model", "owned_by": "organization_owner"},
            {"id": "qwen3-4b", "object": "model", "owned_by": "organization_owner"},
        ],
    },
    "llamacpp": {
        "object": "list",
        "models": [{"name": "/models/a b.gguf", "model": "/models/a b.gguf"}],
        "data": [{"id": "/models/a b.gguf", "object": "model", "owned_by": "llamacpp", "meta": {"n_ctx_train": 4096}}],
    },
    "vllm": {
        "object": "list",
        "data": [{"id": "Qwen/Qwen3-0.6B", "object": "model", "owned_by": "vllm", "max_model_len": 40960}],
    },
}
VARIABLES = {name: f"{name.upper()}_BASE_URL" for name in LISTS}


@asynccontextmanager
async def serving(name: str, status: int = 200, wait: float = 0.0, body: Any = None) -> AsyncIterator[str]:
    async def listed(request: web.Request) -> web.Response:
        await asyncio.sleep(wait)
        if request.headers.get("Authorization", "Bearer right") != "Bearer right":
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        return web.json_response(LISTS[name] if body is None else body, status=status)

    app = web.Application()
    app.router.add_get("/v1/models", listed)
    async with TestServer(app) as server:
        yield str(server.make_url("/v1"))


def nowhere() -> dict[str, str]:
    return dict.fromkeys(VARIABLES.values(), "http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("ollama", "mixtura ask --provider ollama -m llama3.2:1b 'Hello'"),
        ("lmstudio", "mixtura ask --provider lmstudio -m qwen3-4b 'Hello'"),
        ("llamacpp", "mixtura ask --provider llamacpp -m '/models/a b.gguf' 'Hello'"),
        ("vllm", "mixtura ask --provider vllm -m Qwen/Qwen3-0.6B 'Hello'"),
    ],
)
async def test_doctor_finds_a_server_and_says_how_to_ask_it(name: str, command: str, tmp_path: Path) -> None:
    async with serving(name) as url:
        found = checks(await run(home(tmp_path, **{**nowhere(), VARIABLES[name]: url}), "doctor", "--json"))
    count = len(LISTS[name]["data"])
    assert found[name]["ok"] is True
    assert found[name]["said"].startswith(f"{count} model{'s' * (count > 1)} at {url}: ")
    assert found[name]["fix"] == command
    others = [other for other in nearby.SERVERS if other != name]
    assert found["servers here"]["said"] == f"nothing answers for {', '.join(others)}"


async def test_doctor_finds_all_servers_at_once(tmp_path: Path) -> None:
    async with (
        serving("ollama", wait=0.4) as one,
        serving("lmstudio", wait=0.4) as two,
        serving("llamacpp", wait=0.4) as three,
        serving("vllm", wait=0.4) as four,
    ):
        urls = dict(zip(LISTS, (one, two, three, four), strict=True))
        env = home(tmp_path, **{VARIABLES[name]: url for name, url in urls.items()})
        found = checks(await run(env, "doctor", "--json"))
    assert all(found[name]["ok"] for name in LISTS)
    assert "servers here" not in found


@pytest.mark.parametrize(
    ("given", "env", "said"),
    [
        ({"status": 503}, {}, "is loading its model; next: ask again in a moment"),
        ({"body": {"data": []}}, {}, "that has no model to ask; next: pull or load one there first"),
        ({"body": {"object": "error"}}, {}, "but it lists no models"),
        ({"body": [1, 2]}, {}, "but it lists no models"),
        ({"status": 404}, {}, "but it lists no models"),
        ({"wait": 5.0}, {}, "does not answer within 0.7 s"),
        ({}, {"VLLM_API_KEY": "wrong"}, "wants a key; next: export VLLM_API_KEY=..."),
        ({}, {"VLLM_API_KEY": "right"}, "next: mixtura ask --provider vllm"),
    ],
)
async def test_doctor_says_what_is_odd_about_a_server(
    given: dict[str, Any], env: dict[str, str], said: str, tmp_path: Path
) -> None:
    async with serving("vllm", **given) as url:
        done = await run(home(tmp_path, **{**nowhere(), "VLLM_BASE_URL": url, **env}), "doctor")
    lines = [line for line in done.out.splitlines() if " vllm: " in line]
    assert len(lines) == 1
    assert said in lines[0]


async def test_doctor_with_nothing_near_takes_one_line(tmp_path: Path) -> None:
    done = await run(home(tmp_path, **nowhere()), "doctor")
    assert done.out.splitlines()[-2] == "- servers here: nothing answers for ollama, lmstudio, llamacpp, vllm"
    assert done.out.splitlines()[-1].startswith("✓ local: llama.cpp in this process (xllamacpp ")
    assert done.out.splitlines()[-1].endswith("next: mixtura models add NAME FILE.gguf")


async def test_doctor_knows_the_named_files_and_a_recipe_of_them(file: Path, tmp_path: Path) -> None:
    env = home(tmp_path, **nowhere())
    await run(env, "models", "add", "tiny", str(file))
    good = checks(await run(env, "doctor", "--json"))["local"]
    assert (good["ok"], good["fix"]) == (True, "mixtura ask --provider local -m tiny 'Hello'")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[[layers]]\n[[layers.proposers]]\nprovider = "local"\nmodel = "tiny"\n'
        '[aggregator]\nprovider = "local"\nmodel = "missing"\n'
    )
    found = checks(await run(env, "doctor", "-r", str(recipe), "--json"))
    assert found["tiny"]["said"] == "runs in this process, 2048 tokens of context"
    assert found["missing"]["ok"] is False
    names = tmp_path / "home" / "models.toml"
    names.write_text(names.read_text() + f'\n[models.lost]\npath = "{tmp_path}/lost.gguf"\n')
    lost = checks(await run(env, "doctor", "--json"))["local"]
    assert lost["ok"] is False
    assert "cannot be used: lost" in lost["said"]


def test_an_old_processor_is_told_by_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Machine.here()
    old = Machine(cores=1, memory=here.memory, free=here.free, flags=frozenset({"avx"}), arch="x86_64")
    monkeypatch.setattr(Machine, "here", lambda: old)
    [check] = nearby._in_process(ModelRegistry(env={}), {"HOME": "/nowhere"})
    assert check.ok is None
    assert "this processor has no AVX2, FMA, F16C" in check.said
