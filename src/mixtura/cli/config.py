"""`mixtura config`: the settings, where each comes from, and the file that keeps them."""

import os

import click
import msgspec

from mixtura.cli.common import json_option, notice, table, write_json, write_text
from mixtura.cli.settings import SERVERS, SETTINGS, Settings, setting_names
from mixtura.cli.settings_file import config_file
from mixtura.columns import one_line
from mixtura.errors import ConfigError, MixturaError
from mixtura.models.urls import without_keys

_HELP = """\
Show every setting, its value and where that comes from.

A value of the command line goes first, then the environment, then the file of settings, then what is built in.

\b
mixtura config set recipe deep
mixtura config set max_cost 0.05
mixtura config set base_urls.box http://box:8000/v1 && mixtura ask --provider box "Hello"
"""


@click.group("config", help=_HELP, invoke_without_command=True, short_help="Show and keep what you would else type.")
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the settings."""
    if ctx.invoked_subcommand is not None:
        return
    settings = Settings(os.environ)
    rows, wrong = _rows(settings)
    if as_json:
        write_json(msgspec.json.encode({"file": "" if settings.unread else str(settings.path), "settings": rows}))
    else:
        lines = [[row["name"], one_line(row["value"]), row["from"]] for row in rows]
        write_text(table([["setting", "value", "from"], *lines]))
        there = "" if settings.found else " (none yet)"
        notice(f"mixtura: {settings.unread or f'the file is {settings.path}{there}'}")
    if wrong is not None:
        raise wrong


def _rows(settings: Settings) -> tuple[list[dict[str, str]], MixturaError | None]:
    """Return what is set, a row each, and the first thing that is wrong with it: that must not hide the rest."""
    rows, wrong = [], None
    for setting in SETTINGS:
        try:
            found = settings.find(setting.name)
            value = setting.built_in if found.value is None else _shown(found.value)
            origin = found.where if found.origin == "environment" else found.origin
        except ConfigError as error:
            value, origin, wrong = "?", "wrong", wrong or error
        rows.append({"name": setting.name, "value": value, "from": origin})
    try:
        rows += [
            {"name": f"{SERVERS}.{name}", "value": without_keys(url), "from": "config"}
            for name, url in settings.servers().items()
        ]
    except ConfigError as error:
        wrong = wrong or error
    return rows, wrong


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else without_keys(str(value))


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in setting_names() if name.startswith(incomplete)]


@command.command("set", short_help="Keep a value.")
@click.argument("name", shell_complete=_complete)
@click.argument("value")
def set_value(name: str, value: str) -> None:
    """Keep VALUE for the setting NAME, after checking it."""
    settings = Settings(os.environ)
    kept = settings.set(name, value)
    click.echo(f"mixtura: {name} is {_shown(kept)} from now on (in {settings.path})", err=True)
    variable = next((setting.variable for setting in SETTINGS if setting.name == name), "")
    if os.environ.get(variable, "").strip():
        click.echo(f"mixtura: {variable} is set in the environment and goes before it", err=True)


@command.command("unset", short_help="Go back to what is built in.")
@click.argument("name", shell_complete=_complete)
def unset(name: str) -> None:
    """Take the setting NAME out of the file."""
    settings = Settings(os.environ)
    there = settings.unset(name)
    click.echo(f"mixtura: {name} is {'no longer' if there else 'not'} in {settings.path}", err=True)


@command.command("path", short_help="Print the path of the file.")
def path() -> None:
    """Print the path of the file; it need not exist."""
    write_text(str(config_file(os.environ)))
