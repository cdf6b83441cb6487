"""`mixtura doctor`: what stands between this machine and an answer, one line a check."""

import asyncio
import email.utils
import platform
import sys
import time
from collections.abc import Mapping

import aiohttp
import click
import msgspec

from mixtura._version import __version__
from mixtura.chat import JsonObject
from mixtura.cli.checks import Check
from mixtura.cli.common import complete_models, complete_recipes, json_option, named, today, write_json, write_lines
from mixtura.cli.desk import Desk, desk, differences
from mixtura.cli.dialect import try_dialect
from mixtura.cli.models import life
from mixtura.cli.nearby import nearby
from mixtura.cli.network import network
from mixtura.cli.state import check_state
from mixtura.columns import one_line
from mixtura.errors import ConfigError, MissingKeyError, MixturaError
from mixtura.limits.budget.stores import RedisBudget, SqliteBudget, budget_file
from mixtura.limits.window import DIMENSIONS, Dimension, Limits
from mixtura.models.account import AccountModels, keep_list, read_list, with_limits
from mixtura.models.catalog import TIERS, Catalog, CatalogModel
from mixtura.models.openai.endpoint import Endpoint, Way
from mixtura.models.registry import ModelRegistry
from mixtura.planning.schedule import models_of
from mixtura.secret import Secret

_REDIS_SECONDS = 0.7
_REMOTE_SECONDS = 10.0
_SKEW = 60.0  # seconds a clock may be off before signed requests and certificates begin to fail
_LEFT = (
    ("requests", "x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "today"),
    ("tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", "this minute"),
)
_TOLD: dict[Dimension, str] = {"rpd": "x-ratelimit-limit-requests", "tpm": "x-ratelimit-limit-tokens"}


@click.command("doctor", short_help="Check keys, network, clock, limits and models.")
@click.option(
    "-r",
    "--recipe",
    metavar="RECIPE",
    callback=named,
    shell_complete=complete_recipes,
    help="The recipe whose models are checked.  [default: balanced]",
)
@click.option(
    "--provider",
    callback=named,
    help="Try how this server answers instead, with six small calls: a provider's name or a base URL.",
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    callback=named,
    shell_complete=complete_models,
    help="With --provider: the model to ask.  [default: the cheapest that it lists, else the first]",
)
@click.option(
    "--ask",
    is_flag=True,
    help="Make one call of a few tokens, to read the limits left; with --provider: make calls that may cost something.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, recipe: str | None, provider: str | None, model: str | None, ask: bool, as_json: bool
) -> None:
    """Check what an answer needs: the key, the network, the clock, the limits left, each model's life.

    Settings are read from the environment and from the file of `mixtura config`, keys also from `mixtura keys`.
    What the key's own list of models says is kept for the runs of the next days.
    Nothing is spent unless --ask is given. Exit code 1: something needed is broken.

    With --provider one model of a server is asked whole, streamed, with a tool, in JSON, to reason, and with a prompt
    longer than its context, and a line each says what works. Exit code 1: it does not answer whole and streamed.
    """
    if provider is not None:
        if recipe is not None:
            raise click.UsageError("--provider tries a server, --recipe checks a recipe: give one of them")
        ctx.exit(try_dialect(provider, model, spend=ask, as_json=as_json))
    if model is not None:
        raise click.UsageError("--model needs --provider")
    setting = desk(recipe)
    registry, wrong = _registry(setting.env)
    checks = asyncio.run(_examine(setting, registry, wrong, spend=ask))
    if as_json:
        write_json(msgspec.json.encode(checks))
    else:
        for check in checks:
            write_lines(_line(check))
    ctx.exit(int(any(check.ok is False for check in checks)))


def _line(check: Check) -> str:
    mark = {True: "✓", False: "✗", None: "-"}[check.ok]
    fix = f"; next: {check.fix}" if check.fix else ""
    return f"{mark} {check.name}: {one_line(check.said)}{fix}"


async def _examine(setting: Desk, registry: ModelRegistry, wrong: dict[str, Check], *, spend: bool) -> list[Check]:
    version = f"mixtura {__version__}, Python {platform.python_version()}, {sys.platform}"
    checks = [Check(name="version", ok=True, said=version), *setting.checks]
    slots = models_of(setting.recipe, registry.replacement)
    env = setting.env
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        local = group.create_task(nearby(session, registry, env))
        for provider in dict.fromkeys(provider for provider, _ in slots):
            models = [model for of, model in slots if of == provider]
            checks += await _provider(session, registry, setting, (provider, models), spend=spend)
        checks.append(wrong.get("plan") or _plan(registry))
        if "predictions" in wrong or registry.predicted:
            checks.append(wrong.get("predictions") or _predictions(registry))
        checks += [check_state(env), *await _budget(env), *await _redis(env)]
    return checks + local.result()


async def _provider(
    session: aiohttp.ClientSession,
    registry: ModelRegistry,
    setting: Desk,
    asked: tuple[str, list[str]],
    *,
    spend: bool,
) -> list[Check]:
    provider, models = registry.known_as(asked[0]), asked[1]
    if registry.is_in_process(provider):
        return [_in_process(registry, provider, model) for model in dict.fromkeys(models)]
    try:
        endpoint = registry.endpoint(provider)
    except MissingKeyError as error:
        place = registry.catalog.provider(provider).keys_at
        fix = (
            f"make one at {place} and " if place else ""
        ) + f"run `mixtura keys set {provider}`, or export {error.env}=..."
        checks = [Check(name=f"{provider} key", ok=False, said=f"{error.env} is not set", fix=fix)]
        return [*checks, *_lives(registry.catalog, provider, models, None)]
    except MixturaError as error:
        return [Check(name=f"{provider} key", ok=False, said=error.message)]
    where = setting.key_origin(provider) if endpoint.key else "none is needed"
    checks = [Check(name=f"{provider} key", ok=True, said=where), *network(endpoint)]
    served: tuple[str, ...] | None = None
    clock = asyncio.get_running_loop().time
    begun = clock()
    try:
        listed = await registry.list_models(provider)
    except MixturaError as error:
        checks.append(Check(name=f"{provider} reached", ok=False, said=error.message))
    else:
        account = read_list(provider, listed, today())
        keep_list(account, endpoint, registry.catalog, setting.env)
        served = tuple(model.id for model in account.models)
        said = f"{endpoint.url} answered in {(clock() - begun) * 1000:.0f} ms and lists {len(served)} models"
        checks += [
            Check(name=f"{provider} reached", ok=True, said=said),
            *differences(account, registry.catalog, models),
            await _clock(session, endpoint),
            *await _limits(session, endpoint, registry, (setting, account, _cheapest(models, served)), spend=spend),
        ]
    return [*checks, *_lives(registry.catalog, provider, models, served)]


def _in_process(registry: ModelRegistry, provider: str, model: str) -> Check:
    try:
        card = registry.find(provider, model).card
    except ConfigError as error:
        return Check(name=model, ok=False, said=error.message)
    return Check(name=model, ok=True, said=f"runs in this process, {card.window} tokens of context")


async def _clock(session: aiohttp.ClientSession, endpoint: Endpoint) -> Check:
    name = f"{endpoint.provider} clock"
    try:
        async with session.get(f"{endpoint.url}/models", **_how(endpoint)) as reply:
            theirs = email.utils.parsedate_to_datetime(reply.headers.get("Date", "")).timestamp()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return Check(name=name, ok=None, said="the provider told no time")
    skew = time.time() - theirs
    if abs(skew) <= _SKEW:
        return Check(name=name, ok=True, said=f"within {max(1.0, abs(skew)):.0f} s of the provider's")
    ahead = "ahead of" if skew > 0 else "behind"
    return Check(name=name, ok=False, said=f"{abs(skew):.0f} s {ahead} the provider's", fix="set this machine's clock")


async def _limits(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    registry: ModelRegistry,
    asked: tuple[Desk, AccountModels, str | None],
    *,
    spend: bool,
) -> list[Check]:
    """Read what is left from the headers of a call; only chat calls carry them. The limits are kept with the list."""
    setting, account, model = asked
    name = f"{endpoint.provider} limits"
    if not spend or model is None:
        said = "not read, since only a call tells them" if model else "not read: no model of the recipe is served"
        fix = "mixtura doctor --ask makes one small call" if model else ""
        return [Check(name=name, ok=None, said=said, fix=fix)]
    field = registry.catalog.provider(endpoint.provider).max_tokens
    body: JsonObject = {"model": model, "messages": [{"role": "user", "content": "Hi"}], field: 16}
    try:
        async with session.post(f"{endpoint.url}/chat/completions", json=body, **_how(endpoint)) as reply:
            status, headers = reply.status, reply.headers
    except (aiohttp.ClientError, TimeoutError) as error:
        return [Check(name=name, ok=False, said=f"the call to {model} failed ({type(error).__name__})")]
    left = [
        f"{headers[remaining]} of {headers.get(limit, '?')} {what} left {when}"
        for what, remaining, limit, when in _LEFT
        if remaining in headers
    ]
    said = f"{model}: {', '.join(left) or 'the provider tells no limits'}"
    matched = _matched(registry, registry.catalog.get(endpoint.provider, model), headers)
    stated = {name: int(headers[header]) for name, header in _TOLD.items() if headers.get(header, "").isdecimal()}
    if stated:
        keep_list(with_limits(account, model, Limits(**stated)), endpoint, registry.catalog, setting.env)
    if status == 429:
        wait = headers.get("retry-after", "?")
        return [Check(name=name, ok=False, said=f"{said}; the limit is reached", fix=f"wait {wait} s"), *matched]
    said = said if status < 400 else f"{model} answered with HTTP {status}"
    return [Check(name=name, ok=status < 400, said=said), *matched]


def _matched(registry: ModelRegistry, row: CatalogModel | None, headers: Mapping[str, str]) -> list[Check]:
    """Say which plan the limits that the provider told are those of; nothing where it told none."""
    told = {name: headers[header] for name, header in _TOLD.items() if header in headers}
    if row is None or not told:
        return []
    plans = [
        plan
        for plan in TIERS
        if (limits := row.limits(plan)) is not None
        and all(getattr(limits, name) in (None, int(value)) for name, value in told.items() if value.isdecimal())
    ]
    words = ", ".join(f"{value} {DIMENSIONS[name][0]}" for name, value in told.items())
    set_one = registry.plan
    if not plans:
        return [Check(name="plan told", ok=None, said=f"{words} are those of no plan in the catalogue")]
    fix = f"export MIXTURA_PLAN={plans[0]}" if set_one is not None and set_one not in plans else ""
    return [
        Check(name="plan told", ok=None if fix else True, said=f"{words} are those of {' or '.join(plans)}", fix=fix)
    ]


def _plan(registry: ModelRegistry) -> Check:
    """Say which plan is set."""
    if registry.plan is None:
        said = "MIXTURA_PLAN is not set: limits are learned from the first replies"
    elif registry.plan == "enterprise":
        said = "MIXTURA_PLAN is enterprise, whose limits are each key's own: they are learned from the first replies"
    else:
        said = f"MIXTURA_PLAN is {registry.plan}: its limits are kept from the first call on"
    return Check(name="plan", ok=None, said=said)


async def _budget(env: Mapping[str, str]) -> list[Check]:
    """Say what is left of the daily budget, when one is set."""
    named, redis = env.get("MIXTURA_DAILY_BUDGET", "").strip(), env.get("MIXTURA_REDIS_URL", "").strip()
    if not named:
        return []
    try:
        allowed = float(named)
    except ValueError:
        fix = "set it to an amount such as 2.50"
        said = f"MIXTURA_DAILY_BUDGET: expected dollars, 0 or more, got {named!r}"
        return [Check(name="daily budget", ok=False, said=said, fix=fix)]
    try:
        budget = RedisBudget(redis, allowed, time.time) if redis else SqliteBudget(budget_file(env), allowed, time.time)
        try:
            today = await budget.today()
        finally:
            await budget.close()
    except ConfigError as error:
        return [_failed("daily budget", error)]
    left = max(0.0, today.allowed - today.spent - today.reserved)
    reserved = f" and ${today.reserved:.4f} reserved" if today.reserved else ""
    said = (
        f"${today.spent:.4f} of ${today.allowed:.2f} spent{reserved} today, ${left:.4f} left until 00:00 UTC "
        f"(in {today.seconds_left / 3600:.1f} h)"
    )
    return [Check(name="daily budget", ok=left > 0, said=said, fix="" if left > 0 else "raise MIXTURA_DAILY_BUDGET")]


async def _redis(env: Mapping[str, str]) -> list[Check]:
    """Say whether the server answers that limits are shared through, when one is set; its password is never shown."""
    url = Secret.of_address(env.get("MIXTURA_REDIS_URL", "").strip())
    if not url:
        return []
    try:
        from redis.asyncio import Redis

        from mixtura.limits.redis import connection
        from mixtura.limits.redis.url import failure_text, without_password
    except ImportError:
        fix = "pip install 'mixtura[redis]'"
        return [Check(name="redis", ok=False, said="MIXTURA_REDIS_URL is set, and its package is missing", fix=fix)]
    clock = asyncio.get_running_loop().time
    try:
        connection.check(url)
        client = Redis.from_url(
            url.reveal(), protocol=2, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS, retry=None
        )
        begun = clock()
        try:
            await client.ping()
        finally:
            await client.aclose()
    except ConfigError as error:
        return [_failed("redis", error)]
    except connection.FAILURES as error:
        said = f"{without_password(url)} cannot be used: {failure_text(error, url)}"
        fix = "start it, or unset MIXTURA_REDIS_URL; until then each process keeps its own windows"
        return [Check(name="redis", ok=False, said=said, fix=fix)]
    return [Check(name="redis", ok=True, said=f"{without_password(url)} answered in {(clock() - begun) * 1000:.0f} ms")]


def _failed(name: str, error: MixturaError) -> Check:
    return Check(name=name, ok=False, said=error.message)


def _predictions(registry: ModelRegistry) -> Check:
    """Say of how many models something is predicted."""
    count = len(registry.predicted)
    said = f"MIXTURA_PREDICTIONS says what calls of {count} model{'s' * (count != 1)} take until enough were measured"
    return Check(name="predictions", ok=None, said=said)


def _registry(given: Mapping[str, str]) -> tuple[ModelRegistry, dict[str, Check]]:
    """Return the registry; a setting that is none is told, and must not keep the rest from being looked at."""
    env, wrong = dict(given), dict[str, Check]()
    for name in ("plan", "predictions"):
        variable = f"MIXTURA_{name.upper()}"
        try:
            ModelRegistry(Catalog.load(), env={variable: env.get(variable, "")})
        except ConfigError as error:
            wrong[name] = _failed(name, error)
            del env[variable]
    return ModelRegistry(Catalog.load(), env=env), wrong


def _lives(catalog: Catalog, provider: str, models: list[str], served: tuple[str, ...] | None) -> list[Check]:
    """Say of each model whether it lives: the provider's list decides, without it the catalogue."""
    checks = []
    for model in dict.fromkeys(models):
        row, day = catalog.get(provider, model), today()
        said = f"{life(row, day)} by the catalogue" if row else "not in the catalogue"
        alive = row.is_served(day) if row else None
        if served is not None:
            alive = model in served
            said += ", served to this key" if alive else ", not served to this key"
        fix = ""
        if alive is False:
            instead = catalog.living_replacement(provider, model, day)
            near = catalog.nearest(provider, model, day)
            fix = f"use {instead or ' or '.join(near) or 'another model'} instead"
        checks.append(Check(name=model, ok=alive, said=said, fix=fix))
    return checks


def _cheapest(models: list[str], served: tuple[str, ...]) -> str | None:
    return next((model for model in models if model in served), None)


def _how(endpoint: Endpoint) -> "_How":
    headers = dict(endpoint.address("")[1])
    return {**endpoint.way(), "headers": headers, "timeout": aiohttp.ClientTimeout(total=_REMOTE_SECONDS)}


class _How(Way):
    headers: dict[str, str]
    timeout: aiohttp.ClientTimeout
