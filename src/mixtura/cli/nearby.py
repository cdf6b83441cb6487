"""What `mixtura doctor` finds on this machine: servers of models, and whether models run inside the process."""

import asyncio
import importlib.metadata
import shlex
from collections.abc import Mapping

import aiohttp
import msgspec

from mixtura.chat import JsonObject
from mixtura.cli.checks import Check
from mixtura.columns import one_line
from mixtura.errors import ConfigError
from mixtura.models.local.machine import INSTALL, Machine, is_installed
from mixtura.models.local.provider import check_package, names
from mixtura.models.registry import ModelRegistry

SERVERS = ("ollama", "lmstudio", "llamacpp", "vllm")
_SECONDS = 0.7  # a server on this machine answers in a few milliseconds; one that loads a model may not
_SHOWN = 5


class _Listed(msgspec.Struct):
    data: list[JsonObject] | None = None


async def nearby(session: aiohttp.ClientSession, registry: ModelRegistry, env: Mapping[str, str]) -> list[Check]:
    """Return what was found, one check each, and one for all the servers that are not there."""
    found = await asyncio.gather(*(_server(session, registry, name) for name in SERVERS))
    checks = [check for check in found if check is not None]
    absent = [name for name, check in zip(SERVERS, found, strict=True) if check is None]
    if absent:
        checks.append(Check(name="servers here", ok=None, said=f"nothing answers for {', '.join(absent)}"))
    return [*checks, *_in_process(registry, env)]


async def _server(session: aiohttp.ClientSession, registry: ModelRegistry, name: str) -> Check | None:
    """Ask one server for its models; None when nothing answers at its address."""
    try:
        endpoint = registry.endpoint(name)
    except ConfigError as error:
        return Check(name=name, ok=False, said=error.message)
    limit = aiohttp.ClientTimeout(total=_SECONDS)
    url = endpoint.url
    try:
        async with session.get(
            f"{url}/models", headers=endpoint.authorization(), timeout=limit, allow_redirects=False
        ) as reply:
            status, body = reply.status, await reply.read()
    except TimeoutError:
        return Check(name=name, ok=None, said=f"something at {url}, but it does not answer within {_SECONDS} s")
    except (aiohttp.ClientError, OSError):
        return None
    key = registry.catalog.provider(name).key_env
    if status in (401, 403):
        fix = f"export {key}=..." if key else ""
        return Check(name=name, ok=None, said=f"a server at {url} wants a key", fix=fix)
    if status == 503:
        return Check(name=name, ok=None, said=f"a server at {url} is loading its model", fix="ask again in a moment")
    try:
        listed = msgspec.json.decode(body, type=_Listed).data if status == 200 else None
    except ValueError:
        listed = None
    if listed is None:
        return Check(name=name, ok=None, said=f"something at {url}, but it lists no models")
    return _usable(name, url, [str(row.get("id")) for row in listed])


def _usable(name: str, url: str, ids: list[str]) -> Check:
    """Say what a server has, and the command that asks it; models that make embeddings answer nothing."""
    speaking = [model for model in ids if "embed" not in model.lower()]
    if not speaking:
        fix = "pull or load one there first"
        return Check(name=name, ok=None, said=f"a server at {url} that has no model to ask", fix=fix)
    shown = ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
    said = f"{len(ids)} model{'s' * (len(ids) != 1)} at {url}: {shown}"
    return Check(name=name, ok=True, said=said, fix=_command(name, speaking[0]))


def _in_process(registry: ModelRegistry, env: Mapping[str, str]) -> list[Check]:
    named = names(env)
    try:
        check_package(Machine.here())
    except ConfigError as error:
        # Nobody who has named no file is told to install what they may never need.
        fix = INSTALL if named and not is_installed() else ""
        said = error.message if is_installed() or named else f"models inside this process: not installed ({INSTALL})"
        return [Check(name="local", ok=False if named else None, said=said, fix=fix)]
    try:
        release = f"llama.cpp in this process (xllamacpp {importlib.metadata.version('xllamacpp')})"
    except importlib.metadata.PackageNotFoundError:
        # Its files are there, and what an installer writes last is not.
        release = "llama.cpp in this process"
    if not named:
        fix = "mixtura models add NAME FILE.gguf"
        return [Check(name="local", ok=True, said=f"{release}; no model file has a name", fix=fix)]
    unusable = [name for name in named if not _found(registry, name)]
    good = [name for name in named if name not in unusable]
    said = f"{release}; {len(named)} model file{'s' * (len(named) != 1)}: {', '.join(map(one_line, named[:_SHOWN]))}"
    if unusable:
        said += f"; cannot be used: {', '.join(unusable[:_SHOWN])}"
        return [Check(name="local", ok=False, said=said, fix="mixtura models --provider local says why")]
    return [Check(name="local", ok=True, said=said, fix=_command("local", good[0]))]


def _found(registry: ModelRegistry, name: str) -> bool:
    try:
        registry.find("local", name)
    except ConfigError:
        return False
    return True


def _command(provider: str, model: str) -> str:
    return f"mixtura ask --provider {provider} -m {shlex.quote(one_line(model))} 'Hello'"
