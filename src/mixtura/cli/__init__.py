"""The command `mixtura`: one file a verb, loaded when it is called. Exit codes are listed in docs/commands.md."""

import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from mixtura import interrupts
from mixtura._version import __version__
from mixtura.errors import MixturaError
from mixtura.open_files import most_open
from mixtura.stderr_stream import outlive_readers

VERBS: dict[str, str] = {
    "ask": "Ask several models and get one answer.",
    "chat": "Talk with a mixture; what was said is kept.",
    "plan": "Plan machines, latency, cost and limits of a mixture.",
    "machines": "Show the chips and model shapes behind plans.",
    "studies": "Check claims about GPUs, LPUs and wafers, with a report.",
    "recipes": "List the recipes, or show one.",
    "models": "List the models known, and those a key can use.",
    "keys": "Keep API keys: in the keyring, or in a file.",
    "config": "Show and keep what you would else type.",
    "doctor": "Check keys, network, clock, limits and models.",
    "sim": "Run a simulated Groq cloud on this machine.",
    "demo": "Watch a mixture against its members; --live: with a key.",
    "completion": "Print the completion script of a shell.",
}
"""Every verb and its short help. The verb `x` is the object `command` of the module `mixtura.cli.x`."""

COMPLETE_VARIABLE = "_MIXTURA_COMPLETE"
_LONG_WORD = re.compile(r"(\S{80})\S{80,}(\S{40})")
_FEWEST_FILES = 16  # with fewer nothing can be asked; a mixture at work has more
_PIPE_BROKE = 141  # what a shell reports for a program that SIGPIPE ended


class _Verbs(click.Group):
    """A group that knows its verbs by name only, so that `mixtura --help` loads none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        found = importlib.import_module(f"mixtura.cli.{cmd_name}").command
        assert isinstance(found, click.Command)
        # An interrupt in the middle of an import may be told of by whatever was running just then.
        interrupts.end_in_order()
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(name, VERBS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(VERBS)}"
            ctx.fail(f"no such command {name!r}; {hint}")
        found, command, rest = super().resolve_command(ctx, args)
        plain = command is None or isinstance(command, click.Group) or ctx.resilient_parsing
        if not plain and any(word.startswith("-") for word in rest):
            from mixtura.cli.dashes import sorted_out

            rest = sorted_out(click.Context(command or self, parent=ctx, info_name=found), rest)
        return found, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list["click.shell_completion.CompletionItem"]:
        from click.shell_completion import CompletionItem

        verbs = [CompletionItem(name, help=said) for name, said in VERBS.items() if name.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        import platform

        click.echo(f"mixtura {__version__} (Python {platform.python_version()}, {platform.platform()})")
        ctx.exit()


@click.group(
    cls=_Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Without a key: mixtura ask --sim 'Why is the sky blue?', or mixtura demo.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def group(ctx: click.Context) -> None:
    """Mixtura asks several models at once and turns their drafts into one answer."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; every error becomes one sentence on stderr.

    Args:
        argv: the arguments after the command's name; None takes the process's own.
    """
    if instruction := os.environ.get(COMPLETE_VARIABLE):
        from click.shell_completion import shell_complete

        return shell_complete(group, {}, "mixtura", COMPLETE_VARIABLE, instruction)
    if not _streams_are_open():
        return 1
    if (most := most_open()) < _FEWEST_FILES:
        _complain(f"this process may have {most:.0f} files open and needs {_FEWEST_FILES}: raise the limit (ulimit -n)")
        return 1
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    outlive_readers()
    _guard_terminals()
    try:
        code = _run(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        return _PIPE_BROKE
    except OSError as error:
        _silence(sys.stdout)
        where = "cannot write the output" if error.filename is None else str(error.filename)
        _complain(f"{where}: {error.strerror or error}")
        return 1
    except (KeyboardInterrupt, click.Abort):
        return interrupts.exit_code()
    return code


def _streams_are_open() -> bool:
    """Make up for standard streams that whoever started this process has closed; without stdout nothing is begun."""
    if sys.stdin is None:
        sys.stdin = _nothing("r")
    if sys.stderr is None:
        sys.stderr = _nothing("w")
    if sys.stdout is None:
        _complain("stdout is closed, so an answer could not be written")
        return False
    return True


def _nothing(mode: str) -> TextIO:
    """Return a stream on the null device; its descriptor, the lowest that is free, stays open with the process."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
    assert isinstance(stream, io.TextIOWrapper)
    return stream


def _guard_terminals() -> None:
    """Have no word of others command a terminal, in whatever is written from here on, a traceback included."""
    if sys.stdout.isatty() or sys.stderr.isatty():
        from mixtura.safe_output import guard_streams

        guard_streams()


def _silence(stream: TextIO) -> None:
    """Send what is left in a broken stream nowhere: the interpreter flushes it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(argv: list[str]) -> int:
    try:
        with group.make_context("mixtura", argv) as ctx:
            group.invoke(ctx)
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "mixtura"
        from mixtura.cli.dashes import sentence

        _complain(f"{_as_sentence(sentence(error))} (see '{path} --help')")
        return error.exit_code
    except click.ClickException as error:
        _complain(_as_sentence(error.format_message()))
        return error.exit_code
    except MixturaError as error:
        _complain(error.message)
        return error.exit_code
    return 0


def _complain(sentence: str) -> None:
    from mixtura.cli.common import notice
    from mixtura.columns import one_line

    # A path or a name of thousands of characters would bury what is wrong with it.
    short = _LONG_WORD.sub(r"\1…\2", one_line(sentence))
    notice(f"mixtura: {short}")


def _as_sentence(message: str) -> str:
    message = message.rstrip(".")
    return message[:1].lower() + message[1:]
