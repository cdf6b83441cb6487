"""What several verbs share: their options, reading a question, tables, writing to stdout."""

import codecs
import datetime as dt
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO, TypeVar

import click

from mixtura.errors import InputError
from mixtura.input_files import cause_of, expanded, utf8_text, without_marks
from mixtura.models.catalog import TIERS
from mixtura.secret import scrub

MAX_QUESTION = 1_000_000
"""Characters a question may have: more than any window holds."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def complete_recipes(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list["click.shell_completion.CompletionItem"]:
    """Complete the names of built-in recipes, else paths of files."""
    from click.shell_completion import CompletionItem

    from mixtura.recipe import recipe_names

    found = [CompletionItem(name) for name in recipe_names() if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the ids of models that are served today, as far as the catalogue knows."""
    from mixtura.models.catalog import Catalog

    live = Catalog.load().live(ctx.params.get("provider") or "groq", today())
    return [name for name in live if name.startswith(incomplete)]


class UserPath(click.Path):
    """A path on the command line in which `~` is the home folder, also where the shell left it as it is."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Return the path that is meant."""
        try:
            return super().convert(expanded(os.fspath(value)), param, ctx)
        except OSError as error:
            self.fail(f"{os.fspath(value)!r}: {error.strerror}", param, ctx)


def amount(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Read the value of an option: a finite number of at least 0. NaN is no number."""
    try:
        return None if value is None else number(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def number(text: str) -> float:
    """Return the number of at least 0 that `text` is.

    Raises:
        ValueError: it is none, or not finite.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"expected a number of at least 0, got {text!r}")
    return found


def named(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Read the values of an option: anything but a blank, which a shell makes of a variable that is not set."""
    for text in value if isinstance(value, tuple) else () if value is None else (value,):
        if not str(text).strip():
            raise click.BadParameter(f"expected a value, got {text!r}; is a variable of the shell empty?")
    return value


def day(ctx: click.Context, param: click.Parameter, value: str | None) -> dt.date | None:
    """Read the value of an option: a calendar day."""
    try:
        return None if value is None else dt.date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"expected a day like 2025-09-01, got {value!r}") from None


def recipe_option(function: _Function) -> _Function:
    """Add `--recipe`."""
    return click.option(
        "-r",
        "--recipe",
        metavar="RECIPE",
        callback=named,
        shell_complete=complete_recipes,
        help="A recipe's name or a .toml file.  [default: balanced]",
    )(function)


def model_options(function: _Function) -> _Function:
    """Add `--model` and `--provider`."""
    model = click.option(
        "-m",
        "--model",
        "models",
        metavar="MODEL",
        callback=named,
        multiple=True,
        shell_complete=complete_models,
        help="Ask this model alone; with --recipe, or given several times: the models that draft.",
    )
    provider = click.option(
        "--provider", callback=named, help="Where the models are served: a provider's name or a base URL."
    )
    return model(provider(function))


def plan_option(function: _Function) -> _Function:
    """Add `--plan`."""
    return click.option(
        "--plan",
        type=click.Choice(TIERS),
        help="The plan of the key, whose rate limits are kept from the first call on.  [default: MIXTURA_PLAN, else "
        "they are learned from replies]",
    )(function)


def budget_option(function: _Function) -> _Function:
    """Add `--daily-budget`."""
    return click.option(
        "--daily-budget",
        metavar="DOLLARS",
        callback=amount,
        help="Dollars that all runs of a day may cost together.  [default: MIXTURA_DAILY_BUDGET, else any]",
    )(function)


def deadline_option(function: _Function) -> _Function:
    """Add `--deadline`."""
    return click.option(
        "--deadline",
        metavar="SECONDS",
        callback=amount,
        help="Seconds the whole run may take, waiting for rate limits included.",
    )(function)


def max_cost_option(function: _Function) -> _Function:
    """Add `--max-cost`."""
    return click.option(
        "--max-cost",
        metavar="DOLLARS",
        callback=amount,
        help="Dollars it may cost at most; smaller runs are tried before it is refused.",
    )(function)


def sim_options(function: _Function) -> _Function:
    """Add `--sim` and `--as-of`."""
    as_of = click.option(
        "--as-of", metavar="DATE", callback=day, help="With --sim: the day the simulated cloud lives in."
    )
    sim = click.option("--sim", is_flag=True, help="Ask a simulated cloud in this process; no key is needed.")
    return sim(as_of(function))


def json_option(function: _Function) -> _Function:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(function)


def today() -> dt.date:
    """The day it is here: what the catalogue's dates are held against."""
    return dt.date.today()


def check_text(what: str, text: str) -> str:
    """Return `text`, without byte order marks, if it can be sent.

    Raises:
        InputError: it is longer than `MAX_QUESTION`, or holds bytes that were no UTF-8 where it came from.
    """
    text = without_marks(text)
    if len(text) > MAX_QUESTION:
        raise InputError(f"{what} has {len(text):,} characters; at most {MAX_QUESTION:,} can be asked")
    try:
        # In a locale without UTF-8 the command's arguments come as bytes that Python did not read.
        text = os.fsencode(text).decode() if any("\udc80" <= letter <= "\udcff" for letter in text) else text
        text.encode()
    except UnicodeError as error:
        place = error.start + 1 if isinstance(error, (UnicodeDecodeError, UnicodeEncodeError)) else 1
        raise InputError(f"{what} is not valid UTF-8 text (character {place})") from None
    return text


def read_question(words: Sequence[str]) -> str:
    """Return the question in `words`, where `-` stands for what is piped in; without words all is piped in.

    Raises:
        InputError: there is no question, or it cannot be asked.
    """
    parts = [without_marks(word) for word in words]
    if not parts:
        if sys.stdin.isatty():
            raise InputError("no question: write it after 'mixtura ask', or pipe it in")
        parts = ["-"]
    if "-" in parts:
        place = parts.index("-")
        before, after = " ".join(parts[:place]), " ".join(parts[place + 1 :])
        question = "\n\n".join(part for part in (before, _read_stdin(), after) if part.strip())
    else:
        question = " ".join(parts)
    if not question.strip():
        raise InputError("the question is empty")
    return check_text("the question", question)


def _read_stdin() -> str:
    try:
        raw = sys.stdin.buffer.read(4 * MAX_QUESTION + 1)
    except OSError as error:
        raise InputError(f"stdin cannot be read ({error.strerror or error}); write the question as words") from None
    if len(raw) > 4 * MAX_QUESTION:
        raise InputError(f"stdin has more than {MAX_QUESTION:,} characters; that is more than can be asked")
    try:
        return utf8_text(raw)
    except UnicodeDecodeError as error:
        if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"stdin is not UTF-8 text: {cause_of(error)}") from None
        raise InputError(
            f"stdin is not UTF-8 text (byte {error.start + 1} is 0x{raw[error.start]:02x}); convert it first, "
            "for example with iconv"
        ) from None


def write_text(text: str) -> None:
    """Write `text` and a line feed on stdout: byte for byte in UTF-8 into a pipe or file, safe on a terminal."""
    text = text if text.endswith("\n") else text + "\n"
    # Text passes the guard of a terminal (`safe_output.py`), bytes do not.
    if sys.stdout.isatty():
        # Named, since click takes the place of a stream in ASCII by one of its own, without a guard.
        click.echo(text, nl=False, file=sys.stdout)
    else:
        click.echo(text.encode("utf-8", "replace"), nl=False)


def write_json(document: bytes) -> None:
    """Write a JSON document on stdout, indented; what a terminal would obey or hide is escaped, also in a pipe."""
    import msgspec

    from mixtura.columns import escape_json

    write_text(escape_json(msgspec.json.format(document, indent=2).decode()))


def terminal_width(stream: TextIO) -> int | None:
    """Return the columns of the terminal that `stream` is, None where it is none."""
    import shutil

    return shutil.get_terminal_size().columns if stream.isatty() else None


def notice(text: str = "") -> None:
    """Write a line about what is done on stderr, without keys; a terminal gets it wrapped between words."""
    text = scrub(text)
    width = terminal_width(sys.stderr)
    if width is not None:
        from mixtura.columns import wrap

        text = wrap(text, width)
    click.echo(text, file=sys.stderr)


def write_lines(text: str) -> None:
    """Write lines of our own on stdout as `write_text` does; a terminal gets them wrapped between words."""
    width = terminal_width(sys.stdout)
    if width is not None:
        from mixtura.columns import wrap

        text = wrap(text, width)
    write_text(text)


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Return `rows` (the first one the heading) in columns two blanks apart; columns in `right` end flush.

    A terminal too narrow for them gets one block of lines a row.
    """
    found = _grid(rows, right)
    width = terminal_width(sys.stdout)
    return found if width is None or _widest(found) <= width else _blocks(rows)


def _grid(rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    from mixtura.columns import cell_text, display_width

    rows = [[cell_text(text) for text in row] for row in rows]
    widths = [max(display_width(row[at]) for row in rows) for at in range(len(rows[0]))]

    def cell(text: str, at: int) -> str:
        gap = " " * (widths[at] - display_width(text))
        return gap + text if at in right else text + gap

    return "\n".join("  ".join(cell(text, at) for at, text in enumerate(row)).rstrip() for row in rows)


def _blocks(rows: Sequence[Sequence[str]]) -> str:
    """Return each row as its first cell and, below it, the others behind their headings."""
    heading, *others = rows
    lines = []
    for row in others:
        lines.append(row[0])
        lines += [f"  {name}{': ' * bool(name)}{text}" for name, text in zip(heading[1:], row[1:], strict=True) if text]
    return "\n".join(lines)


def _widest(text: str) -> int:
    from mixtura.columns import display_width

    return max(map(display_width, text.splitlines()), default=0)


def fitting(rows: Sequence[Sequence[str]], dispensable: Sequence[str], *, right: Sequence[str] = ()) -> str:
    """Return `rows` as a table; a terminal too narrow for it gets shorter names, then fewer columns, then blocks.

    Columns are named by their heading: those in `dispensable` are left out in turn, those in `right` end flush.
    """
    width = terminal_width(sys.stdout)
    shown = list(range(len(rows[0])))
    ends = [at for at in shown if rows[0][at] in right]
    found = _grid(rows, ends)
    for dropped in ("vendors", *dispensable):
        if width is None or _widest(found) < width:
            return found
        if dropped == "vendors":
            rows = [rows[0], *([row[0].rpartition("/")[2], *row[1:]] for row in rows[1:])]
        shown = [at for at in shown if rows[0][at] != dropped]
        ends = [place for place, at in enumerate(shown) if rows[0][at] in right]
        found = _grid([[row[at] for at in shown] for row in rows], ends)
    return found if width is None or _widest(found) <= width else _blocks([[row[at] for at in shown] for row in rows])


def dollars(amount: float | None) -> str:
    """Return an amount of money as text; "?" when no price is known."""
    return "?" if amount is None else f"${amount:.6f}"
