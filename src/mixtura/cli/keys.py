"""`mixtura keys`: API keys, kept for the command in the system's keyring or in files of their owner alone."""

import os
import re
import sys

import click
import msgspec

from mixtura.cli.common import json_option, notice, table, write_json, write_text
from mixtura.cli.settings import Settings
from mixtura.errors import ConfigError, InputError
from mixtura.keys import StoredKeys, account, hidden_by, hint
from mixtura.models.catalog import Catalog

_LONGEST = 10_000  # characters; the longest keys in use, signed tokens, have about 2,000
_HELP = """\
Keep API keys, so that no shell has to export them.

A key goes into the system's keyring where there is one (pip install 'mixtura[keyring]'), else into a file that only
you can read. The command looks at the environment first, then at the key that is kept. A program that uses the
library gets none of them unless it asks.

\b
mixtura keys set groq
pass show groq | mixtura keys set groq
mixtura keys set http://box:8000/v1
"""


@click.group("keys", help=_HELP, short_help="Keep API keys: in the keyring, or in a file.", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Keep API keys; without a verb, list them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_keys)


# A key may hold a slash or a colon as well, and is not to be shown.
_BEGINS = re.compile(r"https?://|(?:http\+)?unix:", re.IGNORECASE)


def _provider(given: str) -> str:
    """Return whose key is meant: a provider, or the address that a name of `base_urls` stands for.

    Raises:
        ConfigError: nobody's. What was given is not repeated, for it may be a key.
    """
    known = Catalog.load().providers
    found = given if given in known or _BEGINS.match(given) else Settings(os.environ).served_by(given)
    if found not in known and not _BEGINS.match(found):
        takers = ", ".join(sorted(name for name, row in known.items() if row.key_env))
        raise ConfigError(f"expected a provider that takes a key ({takers}), a base URL, or a name of base_urls")
    account(found)
    return found


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name, row in Catalog.load().providers.items() if row.key_env and name.startswith(incomplete)]


@command.command("set", short_help="Keep a key, in place of the one before.")
@click.argument("provider", shell_complete=_complete)
@click.argument("key", nargs=-1, metavar="")
@click.option("--file", "in_file", is_flag=True, help="Keep it in the file even where there is a keyring.")
def set_key(provider: str, key: tuple[str, ...], in_file: bool) -> None:
    """Keep the key of PROVIDER: a name, a base URL, or a name of base_urls.

    The key is asked for without being shown, or read from a pipe. It is never an argument: every user of the machine
    sees those, and the shell writes them down.
    """
    if key:
        raise InputError(
            "a key must not stand on the command line, where every user of this machine sees it and the shell keeps "
            f"it: take it out of the shell's history, and run `mixtura keys set {_name(provider)}`, "
            "which asks for it"
        )
    name = _provider(provider)
    kept, why = StoredKeys(os.environ).set(name, _read_key(name), in_file=in_file)
    where = "in the system's keyring" if kept == "keyring" else f"in {StoredKeys(os.environ).folder}, for you alone"
    click.echo(f"mixtura: the key of {name} is kept {where}" + (f" ({why})" if why else ""), err=True)
    if variable := hidden_by(name, os.environ):
        click.echo(f"mixtura: {variable} is set in the environment and goes before it", err=True)


def _name(provider: str) -> str:
    return provider if provider in Catalog.load().providers else "PROVIDER"


def _read_key(provider: str) -> str:
    """Return the key that is typed, or piped in.

    Raises:
        InputError: there is none, or more than one line.
    """
    if sys.stdin.isatty():
        text = click.prompt(f"Key of {provider} (not shown)", hide_input=True, err=True, default="", show_default=False)
    else:
        try:
            raw = sys.stdin.buffer.read(_LONGEST + 1)
        except OSError as error:
            raise InputError(f"stdin cannot be read ({error.strerror or error}); nothing was changed") from None
        if len(raw) > _LONGEST:
            raise InputError(f"more than {_LONGEST:,} bytes were piped in, which is no key")
        text = raw.decode("utf-8-sig", "replace")
    text = text.strip()
    if not text:
        raise InputError("no key was given; nothing was changed")
    return str(text)


@command.command("list", short_help="Show which keys there are, and where.")
@json_option
def list_keys(as_json: bool) -> None:
    """Show whose keys there are, where each is kept, and its last characters."""
    rows = _rows()
    if why := StoredKeys(os.environ).unread():
        notice(f"mixtura: {why}")
    if as_json:
        write_json(msgspec.json.encode(rows))
        return
    if not rows:
        click.echo("mixtura: there is no key; `mixtura keys set groq` keeps one", err=True)
        return
    shown = [[row["provider"], row["kept"], row["key"], row["said"]] for row in rows]
    write_text(table([["provider", "kept in", "key", ""], *shown]))


def _rows() -> list[dict[str, str]]:
    """Return every key that is stored, or set in the environment."""
    stored = StoredKeys(os.environ)
    catalog = Catalog.load()
    rows = []
    for provider in stored.providers():
        variable = hidden_by(provider, os.environ)
        row = {"provider": provider, "kept": "?", "key": "", "said": f"not used: {variable} is set" if variable else ""}
        try:
            row["kept"] = stored.place(provider) or "?"
            row["key"] = hint(stored.get(provider) or "")
        except ConfigError as error:
            row["said"] = error.message
        rows.append(row)
    for provider, about in catalog.providers.items():
        if about.key_env and os.environ.get(about.key_env):
            key = hint(os.environ[about.key_env])
            rows.append({"provider": provider, "kept": f"environment ({about.key_env})", "key": key, "said": ""})
    return rows


@command.command("remove", short_help="Forget a key.")
@click.argument("provider", shell_complete=_complete)
def remove(provider: str) -> None:
    """Forget the key of PROVIDER."""
    name = _provider(provider)
    kept = StoredKeys(os.environ).remove(name)
    click.echo(f"mixtura: the key of {name} is gone from the {kept}", err=True)
    if variable := hidden_by(name, os.environ):
        click.echo(f"mixtura: {variable} is still set in the environment", err=True)
