"""`mixtura studies`: checks the claims about machines and writes a report."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from mixtura.cli.common import UserPath, json_option, notice, table, write_json, write_lines
from mixtura.errors import ConfigError

if TYPE_CHECKING:
    from mixtura.room.studies.study import Study

_HELP = """\
Run the studies of claims about GPUs, LPUs and wafers, or the one called NAME.

Each study prints its verdict on a claim. The command writes an illustrated report, one self-contained HTML file, to
FOLDER. One more study, real-moe, measures this machine for about twenty seconds and runs only by name.

\b
mixtura studies
mixtura studies expert-reuse --to /tmp/reuse
"""


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    try:
        from mixtura.room.studies.all import MEASURED, STUDIES
    except ModuleNotFoundError:
        return []
    return [name for name in (*STUDIES, *MEASURED) if name.startswith(incomplete)]


@click.command("studies", help=_HELP, short_help="Check claims about GPUs, LPUs and wafers, with a report.")
@click.argument("name", required=False, shell_complete=_complete)
@click.option(
    "--to",
    metavar="FOLDER",
    default="mixtura-studies",
    show_default=True,
    type=UserPath(path_type=Path),
    help="Folder of the report.",
)
@click.option("--markdown", is_flag=True, help="Write Markdown and chart files instead of the HTML file.")
@json_option
def command(name: str | None, to: Path, markdown: bool, as_json: bool) -> None:
    """Run the studies and write their report."""
    try:
        from mixtura.room import report
        from mixtura.room.studies.all import STUDIES, study
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise ConfigError("the studies need NumPy: pip install 'mixtura[room]'") from error
    studies = [study(each, os.environ) for each in ([name] if name is not None else STUDIES)]
    if markdown:
        files = report.markdown(studies)
    else:
        files = {"studies.html" if name is None else f"{studies[0].name}.html": report.html(studies)}
    _write(to, files)
    if as_json:
        write_json(msgspec.json.encode([_document(each) for each in studies]))
        return
    rows = [[each.name, each.verdict, report.gist(each)] for each in studies]
    if sys.stdout.isatty():
        write_lines("\n".join(f"{name}: {verdict}\n    {gist}" for name, verdict, gist in rows))
    else:
        write_lines(table(rows))
    notice(f"mixtura: the report is in {to / next(iter(files))}")


def _document(study: "Study") -> dict[str, object]:
    """Return a study for JSON, with its series as objects."""
    charts = [
        {**msgspec.structs.asdict(chart), "series": [series._asdict() for series in chart.series]}
        for chart in study.charts
    ]
    return {**msgspec.structs.asdict(study), "charts": charts}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a folder, which is created if it does not exist.

    Raises:
        ConfigError: a file cannot be written.
    """
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot write the report to {str(folder)!r} ({error.strerror or error}): give another folder with --to"
        ) from error
