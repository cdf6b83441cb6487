"""`mixtura completion`: the script that makes a shell complete verbs, options, recipes and models."""

import click

from mixtura.cli import COMPLETE_VARIABLE, group

_HELP = """\
Print the completion script of SHELL on stdout.

\b
eval "$(mixtura completion bash)"      # in ~/.bashrc
eval "$(mixtura completion zsh)"       # in ~/.zshrc, after compinit
mixtura completion fish | source       # in ~/.config/fish/config.fish
"""


@click.command("completion", help=_HELP, short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(shell: str) -> None:
    """Print the script that click generates for SHELL."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click completes all shells of the choice"
    click.echo(kind(group, {}, "mixtura", COMPLETE_VARIABLE).source())
