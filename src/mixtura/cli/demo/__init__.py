"""`mixtura demo`: a mixture against its members, without a key: toy models that really run, or recorded answers."""

from pathlib import Path

import click

from mixtura.models.local.machine import INSTALL, Machine, is_installed

_QUESTIONS = 100  # of recorded ones


@click.command("demo", short_help="Watch a mixture against its members, without a key.")
@click.option(
    "--questions", type=click.IntRange(1), help="How many are asked.  [default: 500 held-out problems, 100 recorded]"
)
@click.option("--all", "everything", is_flag=True, help="Ask all of them.")
@click.option("--show", type=click.IntRange(0), default=3, show_default=True, help="How many are shown as they go.")
@click.option("--recorded", is_flag=True, help="Recorded answers of large models in place of the toys.")
@click.option("--recordings", type=click.Path(path_type=Path), metavar="FILE", help="Recorded questions and answers.")
def command(questions: int | None, everything: bool, show: int, recorded: bool, recordings: Path | None) -> None:
    """Ask questions of a mixture and of its members, and compare with the right answers.

    Toy models in this process draft and aggregate: small transformers that solve arithmetic word problems and
    nothing else. The problems are held out: no model was trained on them. With --recorded, large models answered
    once, and a simulated cloud in this process replays what they wrote, over HTTP.
    """
    toys = not recorded and recordings is None
    why = (Machine.here().unfit_reason() or ("" if is_installed() else INSTALL)) if toys else ""
    if why:
        click.echo(f"mixtura: the toy models cannot run here: {why}; recorded answers in their place", err=True)
    if toys and not why:
        from mixtura.cli.demo.toys import HELD_OUT, show_toys

        show_toys(None if everything else questions or HELD_OUT, show)
    else:
        from mixtura.cli.demo.recorded import show_recorded

        show_recorded(recordings, None if everything else questions or _QUESTIONS, show)
