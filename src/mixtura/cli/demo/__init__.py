"""`mixtura demo`: a mixture against its members: toy models that really run, recorded answers, or a real provider."""

from pathlib import Path
from typing import Any

import click

from mixtura.cli.common import UserPath, amount, json_option, model_options, notice, recipe_option
from mixtura.models.local.machine import INSTALL, Machine, is_installed

_QUESTIONS = 100  # of recorded ones

_HELP = """\
Ask questions of a mixture and of its members, and compare with the right answers.

Toy models in this process draft and aggregate: small transformers that solve arithmetic word problems and
nothing else. The problems are held out: no model was trained on them. With --recorded, large models answered
once, and a simulated cloud in this process replays what they wrote, over HTTP.

With --live a real provider is asked, and that costs money: three questions go to a recipe and to its strongest
model alone. What it costs at most is shown before anything is sent; it is refused when that is over --max-cost.

\b
mixtura demo --live --max-cost 0.02
"""


@click.command("demo", help=_HELP, short_help="Watch a mixture against its members; --live: with a key.")
@click.option(
    "--questions",
    type=click.IntRange(1),
    help="How many are asked.  [default: 500 held-out problems, 100 recorded, 3 live]",
)
@click.option("--all", "everything", is_flag=True, help="Ask all of them.")
@click.option("--show", type=click.IntRange(0), default=3, show_default=True, help="How many are shown as they go.")
@click.option("--recorded", is_flag=True, help="Recorded answers of large models in place of the toys.")
@click.option("--recordings", type=UserPath(path_type=Path), metavar="FILE", help="Recorded questions and answers.")
@click.option("--live", is_flag=True, help="Ask a real provider, for real money. The options below belong to it.")
@recipe_option
@model_options
@click.option(
    "--max-cost",
    metavar="DOLLARS",
    callback=amount,
    help="Dollars that all of it may cost at most.  [default: 0.02]",
)
@click.option(
    "--save",
    type=UserPath(path_type=Path),
    metavar="FILE",
    help="Where the record goes, a new file.  [default: one in the state folder]",
)
@json_option
def command(**given: Any) -> None:
    """Compare a mixture with its members."""
    if given["live"]:
        _live(given)
        return
    for name in ("recipe", "models", "provider", "max_cost", "save", "as_json"):
        if given[name]:
            option = {"models": "model", "as_json": "json"}.get(name, name).replace("_", "-")
            raise click.UsageError(f"--{option} needs --live")
    recordings, questions = given["recordings"], None if given["everything"] else given["questions"]
    toys = not given["recorded"] and recordings is None
    why = (Machine.here().unfit_reason() or ("" if is_installed() else INSTALL)) if toys else ""
    if why:
        notice(f"mixtura: the toy models cannot run here: {why}; recorded answers in their place")
    if toys and not why:
        from mixtura.cli.demo.toys import HELD_OUT, show_toys

        show_toys(None if given["everything"] else questions or HELD_OUT, given["show"])
    else:
        from mixtura.cli.demo.recorded import show_recorded

        show_recorded(recordings, None if given["everything"] else questions or _QUESTIONS, given["show"])


def _live(given: dict[str, Any]) -> None:
    from mixtura.cli.demo.live import Told, show_live
    from mixtura.cli.session import chosen_recipe

    if given["recorded"] or given["recordings"] is not None:
        raise click.UsageError("--live asks a provider, --recorded and --recordings do not: give one of them")
    show_live(
        Told(
            recipe=chosen_recipe(given["recipe"], given["models"], given["provider"]),
            max_cost=given["max_cost"],
            questions=None if given["everything"] else given["questions"],
            save=given["save"],
            as_json=given["as_json"],
        )
    )
