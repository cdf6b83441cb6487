"""What `mixtura doctor --provider` does: tries by six small calls how a server answers, and says what to do then."""

import asyncio
import os
import urllib.parse
from collections.abc import Sequence

import msgspec

from mixtura.cli.common import dollars, notice, today, write_json, write_lines
from mixtura.cli.own_server import chat_models
from mixtura.cli.settings import Settings, command_environment
from mixtura.columns import one_line
from mixtura.errors import ConfigError, ModelError
from mixtura.models.account import AccountModels, keep_list, read_list
from mixtura.models.catalog import CatalogProvider
from mixtura.models.environment import place_of
from mixtura.models.openai.failures import Failures
from mixtura.models.openai.http import list_models
from mixtura.models.place import ONE_MACHINE
from mixtura.models.registry import ModelRegistry
from mixtura.models.trial.advice import advice
from mixtura.models.trial.calls import CALLS, PlannedCall, most_dollars, most_tokens, planned_calls
from mixtura.models.trial.findings import Finding, not_tried, of_error
from mixtura.models.trial.run import DialectTrial

# What people copy in place of a base URL, and what the base URL of a server most often ends with.
_TOO_MUCH = ("/chat/completions", "/completions", "/responses", "/models")
_ENDS = ("/v1", "/api/v1", "/openai/v1")
_ELSEWHERE_SECONDS = 5.0
_SHOWN = 5
# Of such a provider, where it is reached tells whether it is in one's own network.
_ANY = CatalogProvider(title="", any_address=True)
# A server that is loading its model, and seconds until it is asked again.
_LOADING = 503
_AGAIN = 0.5


class Report(msgspec.Struct, kw_only=True):
    """What is printed with `--json`: whom the calls were made to, what they showed, and what to do about it."""

    provider: str
    url: str
    model: str
    calls: list[Finding]
    advice: str = ""
    interrupted: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether plain questions are answered, whole and streamed."""
        works = {found.name: found.works for found in self.calls if found.outcome != "not_tried"}
        return works.get("whole") is True and works.get("streamed", False) is not False


def try_dialect(named: str, model: str | None, *, spend: bool, as_json: bool) -> int:
    """Try the server of a provider, print what it shows, and return the exit code.

    Args:
        named: a provider's name, a base URL, or a name that the settings give one.
        model: the model to ask, None for the first that the server lists and that answers questions.
        spend: make the calls even where they may cost something.
        as_json: print one JSON document in place of lines.

    Raises:
        ConfigError: there is no such provider, its key is missing, no model is known, or the calls may cost something.
        KeyboardInterrupt: it was interrupted; what was known has been printed.
    """
    provider = Settings(os.environ).served_by(named)
    registry = ModelRegistry(env=command_environment([provider]))
    report = Report(provider=provider, url="", model=model or "", calls=[])
    if not registry.is_in_process(provider):
        endpoint = registry.endpoint(provider)
        report.provider, report.url = endpoint.provider, endpoint.url
    try:
        asyncio.run(_try(registry, report, spend=spend, quiet=as_json))
    except KeyboardInterrupt:
        report.interrupted = True
        report.advice = "Interrupted: what stands above is what was tried."
        _write_end(report, as_json=as_json)
        raise
    _write_end(report, as_json=as_json)
    return int(not report.is_usable)


def _write_end(report: Report, *, as_json: bool) -> None:
    if as_json:
        write_json(msgspec.json.encode(report))
    else:
        write_lines(one_line(report.advice))


def _write(report: Report, finding: Finding, *, quiet: bool) -> None:
    report.calls.append(finding)
    if not quiet:
        write_lines(f"{finding.name:<9}  {one_line(finding.said)}")


async def _try(registry: ModelRegistry, report: Report, *, spend: bool, quiet: bool) -> None:
    provider = report.provider
    listed = await _listed(registry, provider)
    model = report.model or _chosen(registry, provider, listed)
    if not model:
        # Only a list that could not be had leaves no model.
        assert isinstance(listed, ModelError)
        failed = of_error("whole", listed)
        said = f"its list of models cannot be had: {failed.said.partition(': ')[2]}"
        _write(report, msgspec.structs.replace(failed, said=said), quiet=quiet)
        for name in CALLS[1:]:
            _write(report, not_tried(name, "no model is known to ask"), quiet=quiet)
    else:
        report.model = model
        calls = planned_calls(model, _window(registry, provider, model, listed))
        notice(one_line(_announced(registry, report, calls, spend=spend)))
        place = registry.find(provider, model).place
        trial = DialectTrial(provider, registry.unwrapped(provider, model), place, calls)
        async for finding in trial.findings():
            _write(report, finding, quiet=quiet)
    elsewhere = await _elsewhere(registry, report, listed)
    ids = [] if isinstance(listed, ModelError) else chat_models([listed])
    row = registry.provider(provider)
    report.advice = advice(report.calls, key=row.key_env, models=ids[:_SHOWN], elsewhere=elsewhere)
    if not model and not elsewhere and report.calls[0].error not in ("unreachable", "blocked", "unauthorized"):
        report.advice += " Where only the list is missing, --model names the model."


async def _listed(registry: ModelRegistry, provider: str) -> AccountModels | ModelError:
    """Return the server's list, or why there is none; a machine that is loading its model is waited for."""
    clock = asyncio.get_running_loop().time
    until = clock() + (ONE_MACHINE.first_token if registry.provider(provider).one_machine else 0.0)
    while True:
        try:
            listed = read_list(provider, await registry.list_models(provider), today())
            break
        except ModelError as error:
            if error.status != _LOADING or clock() > until:
                return error
        await asyncio.sleep(_AGAIN)
    if not registry.is_in_process(provider):
        keep_list(listed, registry.endpoint(provider), registry.catalog, os.environ)
    return listed


def _chosen(registry: ModelRegistry, provider: str, listed: AccountModels | ModelError) -> str:
    """Return the model to ask, of those that the list names and that answer questions; "" where there is no list.

    Raises:
        ConfigError: the list names none.
    """
    if isinstance(listed, ModelError):
        return ""
    ids = chat_models([listed])
    if not ids:
        raise ConfigError(f"{provider} lists no model that answers questions; name one with --model")
    rows = [registry.catalog.get(provider, name) for name in ids]
    # Of models whose prices are known the cheapest.
    priced = [(row.price.input + row.price.output, row.id) for row in rows if row and row.chat and row.price]
    return min(priced)[1] if priced else ids[0]


def _window(registry: ModelRegistry, provider: str, model: str, listed: AccountModels | ModelError) -> int | None:
    row = None if isinstance(listed, ModelError) else listed.get(model)
    window = None if row is None else row.window
    return window or registry.card(provider, model).window


def _announced(registry: ModelRegistry, report: Report, calls: tuple[PlannedCall, ...], *, spend: bool) -> str:
    """Return what will be sent and what it may cost.

    Raises:
        ConfigError: it may cost something, and nobody said that it may.
    """
    price = registry.card(report.provider, report.model).price
    answered, refused = most_tokens(calls, overflow=False), most_tokens(calls, overflow=True)
    count = sum(call.request is not None for call in calls)
    tokens = f"{count} small calls, one after the other, of at most {answered.total_tokens:,} tokens together"
    if refused.prompt_tokens:
        tokens += f"; the last is a prompt of {refused.prompt_tokens:,} tokens, to be refused"
    if price is not None and (price.input or price.output):
        sure, more = most_dollars(calls, price)
        cost = f"at most {dollars(sure)}" + (f", and {dollars(more)} more if the last is not refused" if more else "")
    elif not report.url:
        return f"{report.model} in this process: {tokens}"
    elif place_of(_ANY, report.url).queues:
        return f"{report.model} at {report.url}: {tokens}; a server in one's own network bills nothing itself"
    else:
        cost = "an amount that is not known here"
    if not spend:
        raise ConfigError(
            f"the calls to {report.model} on {report.provider} may cost {cost} ({tokens}); nothing was sent; "
            "add --ask to send them"
        )
    return f"{report.model} at {report.url}: {tokens}; they cost {cost}"


async def _elsewhere(registry: ModelRegistry, report: Report, listed: AccountModels | ModelError) -> str:
    """Return an address of the same server that lists models, where the one that was tried serves nothing."""
    astray = any(found.status in (404, 405) or found.error == "broken_reply" for found in report.calls[:1])
    if not report.url or not astray or not isinstance(listed, ModelError):
        return ""
    endpoint = registry.endpoint(report.provider)
    failures = Failures(report.provider, registry.catalog, today)
    for url in _others(report.url):
        try:
            async with asyncio.timeout(_ELSEWHERE_SECONDS):
                await list_models(msgspec.structs.replace(endpoint, url=url), failures)
            return url
        except (ModelError, TimeoutError):
            continue
    return ""


def _others(url: str) -> Sequence[str]:
    """Return addresses that may be meant by `url`, the likeliest first."""
    parts = urllib.parse.urlsplit(url)
    path = parts.path.rstrip("/")
    cut = next((path.removesuffix(end) for end in _TOO_MUCH if path.endswith(end)), path)
    paths = [cut, *(cut + end for end in _ENDS), *_ENDS]
    found = [urllib.parse.urlunsplit((parts.scheme, parts.netloc, one, "", "")) for one in paths]
    return [one for one in dict.fromkeys(found) if one != url.rstrip("/")]
