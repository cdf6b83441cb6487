"""`mixtura machines`: the chips and model shapes behind plans, with their sources."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from mixtura.cli.common import fitting, json_option, notice, write_json, write_lines
from mixtura.errors import ConfigError

if TYPE_CHECKING:
    from mixtura.hardware.chip import Chip
    from mixtura.hardware.shape import ModelShape

_BATCHES = (1, 8, 64)
_CONTEXT = 2048
# Abbreviations of sources that many rows of the chip and shape files share.
_SOURCES = {
    "[aic]": "aiconfigurator-core 0.12.0",
    "[stored]": "config.json as in aiconfigurator-core 0.12.0,",
    "[known]": "from knowledge of the release, not stored:",
}


_HELP = """\
List chips and model shapes, or show the one called NAME (a model also by its config.json).

For a model: its parameters, and the time of a decode step by cause at a batch of 1, 8 and 64 with 2,048 tokens of
context. Step models fitted to measured points predict the times; the range holds for 8 of 10 machines.

\b
mixtura machines
mixtura machines h100
mixtura machines gpt-oss-120b --on h200 --on lpu
"""


@click.command("machines", help=_HELP, short_help="Show the chips and model shapes behind plans.")
@click.argument("name", required=False)
@click.option(
    "--on",
    multiple=True,
    metavar="CHIP",
    help="Chips on which to show a model's steps.  [default: h100, b200, lpu, wse3]",
)
@json_option
def command(name: str | None, on: tuple[str, ...], as_json: bool) -> None:
    """Show chips and models."""
    _check_numpy()
    if name is None:
        _list(as_json)
        return
    found = _find(name)
    from mixtura.hardware.shape import ModelShape

    if isinstance(found, ModelShape):
        _model(found, on or ("h100", "b200", "lpu", "wse3"), as_json)
    else:
        _chip(found, as_json)


def _check_numpy() -> None:
    import importlib.util

    if importlib.util.find_spec("numpy") is None:
        raise ConfigError("machines need numpy: pip install 'mixtura[room]'")


def _find(name: str) -> "Chip | ModelShape":
    """Return a chip or a shape by name.

    Raises:
        ConfigError: no chip or shape has that name; the message lists the closest names.
    """
    from mixtura.hardware.chip import chip, chips
    from mixtura.hardware.precision import unknown
    from mixtura.hardware.shapes import shape, shipped_shapes

    try:
        return chip(name)
    except ConfigError:
        try:
            return shape(name)
        except ConfigError as error:
            if not error.message.startswith("unknown model shape"):
                raise
    names = {each.name for each in chips()} | {each.name for each in shipped_shapes().values()}
    raise unknown("chip or model", name, names, hint="; the path of a model's config.json works too")


def _list(as_json: bool) -> None:
    from mixtura.hardware.chip import chips
    from mixtura.hardware.shapes import shipped_shapes

    shapes = list({each.name: each for each in shipped_shapes().values()}.values())
    if as_json:
        write_json(msgspec.json.encode({"chips": chips(), "models": [_facts(each) for each in shapes]}))
        return
    rows = [["chip", "kind", "GB", "TB/s", "TFLOP/s bf16", "W", "$", "date"]]
    rows += [
        [
            each.name,
            each.kind,
            f"{each.memory / 1e9:,.3g}",
            f"{each.bandwidth / 1e12:,.3g}",
            f"{each.peak['bf16'] / 1e12:,.0f}" if "bf16" in each.peak else "",
            f"{each.power:,.0f}" if each.power else "",
            _price(each),
            each.date,
        ]
        for each in chips()
    ]
    write_lines(fitting(rows, ("date", "$", "TFLOP/s bf16", "W", "kind"), right=("GB", "TB/s", "TFLOP/s bf16", "W")))
    rows = [["model", "billion", "active", "layers", "experts", "precision", "KV kB/token", "date"]]
    rows += [
        [
            each.name,
            f"{each.weights / 1e9:,.1f}",
            f"{each.active / 1e9:,.1f}",
            str(each.layers),
            f"{each.used} of {each.experts}" if each.experts else "",
            _precision(each),
            f"{each.kv_bytes() / 1e3:,.0f}",
            each.published.date if each.published else "",
        ]
        for each in shapes
    ]
    right = ("billion", "active", "layers", "KV kB/token")
    write_lines("\n" + fitting(rows, ("date", "KV kB/token", "precision", "layers"), right=right))


def _chip(found: "Chip", as_json: bool) -> None:
    if as_json:
        write_json(msgspec.json.encode(found))
        return
    doubt = set(found.unverified)

    def line(name: str, text: str) -> list[str]:
        return [name, text, "unverified" if name in doubt else ""]

    rows = [["", found.title, ""], line("kind", found.kind), line("memory", f"{found.memory / 1e9:,.4g} GB")]
    rows.append(line("bandwidth", f"{found.bandwidth / 1e12:,.4g} TB/s"))
    for name, peak in found.peak.items():
        unsure = "unverified" * bool({"peak", f"peak.{name}"} & doubt)
        rows.append([f"peak {name}", f"{peak / 1e12:,.0f} TFLOP/s", unsure])
    rows.append(line("link", f"{found.link / 1e9:,.0f} GB/s one way, {found.node:,} chips"))
    if found.sram:
        rows.append(line("sram", f"{found.sram / 1e6:,.0f} MB"))
    rows.append(line("power", f"{found.power:,.0f} W" if found.power else "not known"))
    rows.append(line("price", _price(found) or "not known"))
    write_lines(fitting(rows, ()))
    write_lines(f"\nsource: {_source(found.source)} ({found.date}){f'; {found.note}' if found.note else ''}")


def _model(found: "ModelShape", on: Sequence[str], as_json: bool) -> None:
    from mixtura.hardware.host import host

    steps: list[dict[str, Any]] = []
    notes: list[str] = []
    for name in on:
        try:
            made = host(found, name)
            room = made.room(_CONTEXT)
            for batch in (each for each in _BATCHES if each <= room):
                step = made.decode(batch, _CONTEXT)
                parts = {part: float(seconds) for part, seconds in step.parts.items()}
                ends = float(step.low), float(step.high)
                steps.append(
                    {"on": made.name, "batch": batch, "seconds": float(step.seconds), "range": ends, "parts": parts}
                )
        except ConfigError as error:
            if error.message.startswith("unknown"):
                raise
            notes.append(error.message)
    if as_json:
        whole = {**_facts(found), "context": _CONTEXT, "steps": steps, "notes": notes}
        write_json(msgspec.json.encode(whole))
        return
    write_lines(_describe(found))
    rows = [["on", "batch", "a step", "range", "of which"]]
    for step_row in steps:
        low, high = step_row["range"]
        rows.append(
            [
                step_row["on"],
                str(step_row["batch"]),
                _ms(step_row["seconds"]),
                f"{_ms(low)} to {_ms(high)}",
                _parts(step_row["parts"], step_row["seconds"]),
            ]
        )
    write_lines(
        f"\nA decode step at {_CONTEXT:,} tokens of context, predicted:\n"
        + fitting(rows, ("range", "of which"), right=("batch", "a step"))
    )
    for note in notes:
        notice(f"mixtura: {note}")


def _describe(found: "ModelShape") -> str:
    experts = f", {found.used} of {found.experts} experts" if found.experts else ", dense"
    lines = [
        (
            f"{found.name}: {found.weights / 1e9:,.2f} billion parameters, {found.active / 1e9:,.2f} active a token; "
            f"{found.layers} layers{experts}; {_precision(found)}, {found.memory() / 1e9:,.1f} GB; "
            f"{found.kv_bytes() / 1e3:,.0f} kB of KV cache a token in 16 bits"
        )
    ]
    published = found.published
    if published is not None:
        active = f", {published.active / 1e9:,.4g} active" if published.active else ""
        doubt = f"; {published.doubt}" if published.doubt else ""
        lines.append(
            f"published: {published.total / 1e9:,.4g} billion{active}; "
            f"source: {_source(published.source)} ({published.date}){doubt}"
        )
    return "\n".join(lines)


def _facts(found: "ModelShape") -> dict[str, Any]:
    """Return a shape and its derived figures, ready for JSON."""
    counted = {"weights": found.weights, "active": found.active, "bytes": found.memory(), "kv_bytes": found.kv_bytes()}
    return {**msgspec.to_builtins(found), **counted}


def _precision(found: "ModelShape") -> str:
    expert = found.expert_precision
    return found.precision if expert in (None, found.precision) else f"{found.precision}, experts {expert}"


def _source(text: str) -> str:
    """Return a source with its abbreviation expanded."""
    for short, long in _SOURCES.items():
        text = text.replace(short, long)
    return text


def _price(found: "Chip") -> str:
    if found.price is None:
        return ""
    low, high = found.price
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _parts(parts: dict[str, float], whole: float) -> str:
    """Return the causes of at least 5 % of the time, the largest first."""
    ranked = sorted(parts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {seconds / whole:.0%}" for name, seconds in ranked if seconds >= 0.05 * whole)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"
