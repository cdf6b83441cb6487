"""`mixtura sim`: a simulated Groq cloud on this machine, for any client."""

import asyncio
import datetime as dt
import errno
import ipaddress
import signal
from typing import Any, get_args

import click
import msgspec

from mixtura.chat import JsonObject
from mixtura.cli.common import amount, day, named
from mixtura.cli.session import SIMULATED_KEY
from mixtura.columns import one_line
from mixtura.errors import ConfigError
from mixtura.input_files import shown_name
from mixtura.models.catalog import Tier
from mixtura.sim.options import TUTORIAL_ERA, SimOptions
from mixtura.sim.server import SimulatedCloud, simulated_cloud

_LOOK = 0.5  # seconds between two looks for refused calls


class _Where(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    quiet: bool


@click.command("sim", short_help="Run a simulated Groq cloud on this machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=8321, show_default=True, help="0 takes a free one.")
@click.option("--host", callback=named, default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--as-of",
    metavar="DATE",
    callback=day,
    help=f"The day the cloud lives in; it decides which models are served.  [default: {TUTORIAL_ERA}]",
)
@click.option(
    "--plan",
    type=click.Choice(get_args(Tier)),
    default="free",
    show_default=True,
    help="The plan of every key; it decides the limits.",
)
@click.option("--unlimited", is_flag=True, help="Switch all limits off.")
@click.option(
    "--profile",
    default="lpu",
    show_default=True,
    help="How long calls take: lpu, heavy, instant, fixed:SECONDS, rate:TOKENS_PER_SECOND; or as machines are "
    "predicted to: gpu, gpu:8xb200, wafer, machine:lp30.",
)
@click.option(
    "--slots", type=click.IntRange(1), help="Answer so many calls at once, as one machine does.  [default: any]"
)
@click.option(
    "--recordings",
    multiple=True,
    callback=named,
    metavar="FILE",
    help="Answer from recordings (JSONL, may be gzipped).",
)
@click.option("--script", callback=named, metavar="FILE", help="Answer from a script (TOML or JSONL).")
@click.option("--faults", callback=named, help="What goes wrong: kind[=value][@calls][:model][%share], or a TOML file.")
@click.option("--tokens", type=click.IntRange(1), help="Else answer with so many tokens of filler.")
@click.option("--model", "models", multiple=True, metavar="MODEL", help="Serve this id besides the catalogue's.")
@click.option("--seed", type=int, default=0, show_default=True, help="For filler, times, ids and the faults' dice.")
@click.option("--speed", callback=amount, default="1", show_default=True, help="Its time runs so many times faster.")
@click.option("-q", "--quiet", is_flag=True, help="No log of the calls.")
def command(as_of: dt.date | None, host: str, port: int, quiet: bool, **given: Any) -> None:
    """Run a simulated Groq cloud over HTTP until Ctrl-C.

    It speaks Groq's API for any client: the official SDKs, curl, mixtura. No model is asked: replies come from
    recordings, a script, or are filler. The line to copy is printed on stdout, the log of calls on stderr.
    """
    if not given["speed"]:
        raise click.BadParameter("expected a number above 0", param_hint="--speed")
    given["extra_models"] = given.pop("models")
    given |= {name: given[name] or "" for name in ("script", "faults")}
    options = SimOptions(as_of=as_of or TUTORIAL_ERA, reply=None if quiet else _log, **given)
    if not _is_loopback(host):
        click.echo(
            f"mixtura: {one_line(host)} is reachable from other machines, and this cloud takes any key from anybody",
            err=True,
        )
    try:
        asyncio.run(_serve(options, _Where(host=host, port=port, quiet=quiet)))
    except (OSError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else "this is no address"
        fix = (
            "another --port may be free" if getattr(error, "errno", 0) == errno.EADDRINUSE else "see --host and --port"
        )
        raise ConfigError(f"cannot listen on {shown_name(host)} port {port}: {said}; {fix}") from error


async def _serve(options: SimOptions, where: _Where) -> None:
    """Serve until a signal asks to end, then say what was billed."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        try:
            loop.add_signal_handler(getattr(signal, name), stop.set)
        except (NotImplementedError, AttributeError):  # Windows: Ctrl-C then ends it without the summary
            break
    async with simulated_cloud(options, host=where.host, port=where.port) as running:
        click.echo(f"export GROQ_BASE_URL={running.url} GROQ_API_KEY={SIMULATED_KEY}")
        if not where.quiet:
            click.echo(f"mixtura: it is {options.as_of} on the {options.plan} plan; Ctrl-C stops", err=True)
        refused: dict[int, int] = {}
        while not stop.is_set():
            try:
                async with asyncio.timeout(_LOOK):
                    await stop.wait()
            except TimeoutError:
                pass
            if not where.quiet:
                refused = _log_refused(running, refused)
        click.echo(_summary(running), err=True)


def _log(request: JsonObject, call: int) -> None:
    """Log a call that is let in, and leave its reply to the next source."""
    messages = request.get("messages")
    turns = len(messages) if isinstance(messages, list) else 0
    kind = "streamed" if request.get("stream") else "whole"
    model = one_line(str(request.get("model")))
    click.echo(f"call {call}: {model}, {turns} message{'s' * (turns != 1)}, {kind}", err=True)


def _log_refused(running: SimulatedCloud, before: dict[int, int]) -> dict[int, int]:
    now = dict(running.ledger.refused)
    for status, count in now.items():
        if new := count - before.get(status, 0):
            click.echo(f"refused: {new} with {status}", err=True)
    return now


def _summary(running: SimulatedCloud) -> str:
    ledger = running.ledger
    calls = ledger.calls.total()
    models = ", ".join(f"{count} x {one_line(model)}" for model, count in ledger.calls.most_common())
    refused = ledger.refused.total()
    return (
        f"mixtura: {calls} call{'s' * (calls != 1)} answered{f' ({models})' * bool(models)}, {refused} refused, "
        f"{ledger.aborted} left by their client; billed {ledger.prompt_tokens.total():,} tokens in, "
        f"{ledger.completion_tokens.total():,} out"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
