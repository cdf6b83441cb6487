"""`mixtura models`: the catalogue, beside what a key can really use."""

import asyncio
import datetime as dt
from collections.abc import Mapping

import click
import msgspec

from mixtura.cli.access import account_lists, filled
from mixtura.cli.common import fitting, json_option, named, notice, table, today, write_json, write_lines
from mixtura.cli.model_files import add, list_files, remove
from mixtura.cli.settings import command_environment
from mixtura.columns import one_line
from mixtura.errors import MissingKeyError, MixturaError, ModelError
from mixtura.limits.window import Limits
from mixtura.models.account import AccountModels, keep_list, read_list
from mixtura.models.catalog import Catalog, CatalogModel
from mixtura.models.registry import ModelRegistry

_DISPENSABLE = ("checked", "effort", "free plan", "max out", "instead", "window", "$ in", "$ out")


class _Key(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider's own list says: `ids` is None when it could not be had, for the reason in `said`."""

    ids: tuple[str, ...] | None = None
    said: str = ""
    error: MixturaError | None = None
    listed: AccountModels | None = None

    def sized(self, row: CatalogModel) -> CatalogModel:
        """Return a row of the catalogue with the sizes that the list states."""
        found = self.listed and self.listed.get(row.id)
        if not found:
            return row
        return msgspec.structs.replace(
            row, window=found.window or row.window, max_output=found.max_output or row.max_output
        )

    def marks(self, row: CatalogModel) -> tuple[str, str]:
        """Return what stands behind the window and the output of a row: `*` where the list states it."""
        found = self.listed and self.listed.get(row.id)
        return ("*" * bool(found and found.window), "*" * bool(found and found.max_output))


@click.group("models", invoke_without_command=True, short_help="List the models known, and those a key can use.")
@click.option("--provider", callback=named, help="A provider's name or a base URL.  [default: groq]")
@click.option("--all", "everything", is_flag=True, help="Those that are gone, too.")
@click.option("--offline", is_flag=True, help="The catalogue alone; ask nobody.")
@json_option
@click.pass_context
def command(ctx: click.Context, provider: str | None, everything: bool, offline: bool, as_json: bool) -> None:
    """List the models the catalogue knows and, when a key is set, which of them it can really use.

    Prices are dollars per million tokens; limits are those of the free plan, requests and tokens per minute
    (rpm, tpm) and per day (rpd, tpd). A figure that is not known is left blank.

    Sizes that the key's own list states stand in place of the catalogue's, marked by *. The list is kept for the runs
    of the next days, and --offline shows the one that is kept.

    With --provider local: the model files of this machine that were given names.
    """
    if ctx.invoked_subcommand is not None:
        return
    provider = str(filled({"provider": provider}, ["provider"])["provider"] or "groq")
    catalog, day = Catalog.load(), today()
    env = command_environment([provider])
    registry = ModelRegistry(catalog, env=env)
    if registry.provider(provider).in_process:
        if provider in catalog.providers:
            list_files(provider, as_json=as_json)
        else:
            _list_offered(registry, provider, as_json=as_json)
        return
    key = _kept(registry, provider, env) if offline else asyncio.run(_ask(registry, provider, env))
    rows = [row for row in catalog.models(provider) if everything or row.is_served(day) or row.id in (key.ids or ())]
    known = {row.id for row in catalog.models(provider)}
    unknown = [one_line(name) for name in key.ids or () if name not in known]
    if as_json:
        write_json(_document(rows, unknown, key, day))
    else:
        if rows:
            write_lines(_table([key.sized(row) for row in rows], key, day))
        elif key.error is not None and not isinstance(key.error, MissingKeyError):
            raise key.error  # its sentence says all there is to say
        if unknown:
            write_lines(f"\nserved to this key, not in the catalogue: {', '.join(sorted(unknown))}")
        notice(f"mixtura: {key.said}")
    if key.error is not None and not isinstance(key.error, MissingKeyError):
        raise key.error


command.add_command(add)
command.add_command(remove)


def _list_offered(registry: ModelRegistry, provider: str, *, as_json: bool) -> None:
    """Write the models of a provider that an installed package offers."""
    cards = [registry.card(provider, str(row["id"])) for row in asyncio.run(registry.list_models(provider))]
    if as_json:
        write_json(msgspec.json.encode({"provider": provider, "models": cards}))
        return
    lines = [
        [
            one_line(card.id),
            _short(card.window),
            f"{card.price.input:g}" if card.price else "",
            f"{card.price.output:g}" if card.price else "",
        ]
        for card in cards
    ]
    write_lines(table([["model", "window", "$ in", "$ out"], *lines], right=(1, 2, 3)))


def _kept(registry: ModelRegistry, provider: str, env: Mapping[str, str]) -> _Key:
    """Return what the list says that is kept for the key."""
    for listed in account_lists(registry, [provider], env):
        ids = tuple(model.id for model in listed.models)
        return _Key(ids=ids, listed=listed, said=f"not asked (--offline); the key's list is of {listed.asked}")
    return _Key(said="not asked (--offline)")


async def _ask(registry: ModelRegistry, provider: str, env: Mapping[str, str]) -> _Key:
    try:
        listed = await registry.list_models(provider)
    except MissingKeyError as error:
        name = registry.catalog.provider(provider).key_env
        return _Key(said=f"no key is set ({name}), so this is the catalogue alone", error=error)
    except ModelError as error:
        error.message = error.reason  # the cause: which model could not be listed says nothing
        return _Key(said="what the key can use could not be asked; this is the catalogue alone", error=error)
    except MixturaError as error:
        return _Key(said="what the key can use could not be asked; this is the catalogue alone", error=error)
    found = read_list(provider, listed, today())
    lost = keep_list(found, registry.endpoint(provider), registry.catalog, env)
    ids = tuple(model.id for model in found.models)
    said = f"the provider lists {len(ids)} models for this key, speech and guard models included"
    said += f"; the list is not kept: {lost}" * bool(lost)
    return _Key(ids=ids, said=said, listed=found)


def life(row: CatalogModel, day: dt.date) -> str:
    """Return in words whether a model is served on `day`."""
    if row.shut_down is not None:
        return f"gone since {row.shut_down}" if day >= row.shut_down else f"until {row.shut_down}"
    if row.enterprise_since is not None:
        return f"enterprise since {row.enterprise_since}" if day >= row.enterprise_since else "live"
    if row.released is not None and day < row.released:
        return f"from {row.released}"
    return "live"


def _table(rows: list[CatalogModel], key: _Key, day: dt.date) -> str:
    heading = [
        "model",
        "key",
        "life",
        "window",
        "max out",
        "$ in",
        "$ out",
        "free plan",
        "effort",
        "instead",
        "checked",
    ]
    lines = [
        [
            row.id,
            "?" if key.ids is None else "yes" if row.id in key.ids else "no",
            life(row, day),
            *(f"{_short(size)}{mark}" for size, mark in zip((row.window, row.max_output), key.marks(row), strict=True)),
            f"{row.price.input:g}" if row.price else "",
            f"{row.price.output:g}" if row.price else "",
            _limits(row.free),
            "/".join(row.efforts),
            row.replacement or "",
            str(row.checked or ""),
        ]
        for row in rows
    ]
    return _fitting([heading, *lines])


def _fitting(rows: list[list[str]]) -> str:
    """Return the rows as a table; a terminal that is too narrow for it gets the columns that matter most."""
    return fitting(rows, _DISPENSABLE, right=("window", "max out", "$ in", "$ out"))


def _limits(limits: Limits | None) -> str:
    if limits is None:
        return ""
    return " ".join(
        f"{_short(figure)} {name}" for name, figure in msgspec.structs.asdict(limits).items() if figure is not None
    )


def _short(figure: int | None) -> str:
    """Return a figure as 8k, 131k or 950; "" for none."""
    if figure is None:
        return ""
    return f"{figure / 1000:.3g}k" if figure >= 1000 else str(figure)


def _document(rows: list[CatalogModel], unknown: list[str], key: _Key, day: dt.date) -> bytes:
    models = [
        {
            **msgspec.to_builtins(row),
            "life": life(row, day),
            "usable": None if key.ids is None else row.id in key.ids,
            "account": key.listed and key.listed.get(row.id),
        }
        for row in rows
    ]
    error = key.error.message if key.error else ""
    return msgspec.json.encode({"day": day, "models": models, "not_in_catalogue": unknown, "error": error})
