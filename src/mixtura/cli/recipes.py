"""`mixtura recipes`: what is built in, and what is in one."""

from collections import Counter

import click
import msgspec

from mixtura.cli.common import complete_recipes, json_option, write_json, write_lines, write_text
from mixtura.planning.schedule import count_calls, models_of
from mixtura.recipe import Recipe, recipe_names

_HELP = """\
List the built-in recipes, or show the one called NAME (or in the file NAME) as TOML.

\b
mixtura recipes
mixtura recipes balanced > mine.toml && mixtura ask -r mine.toml "..."
"""


@click.command("recipes", help=_HELP, short_help="List the recipes, or show one.")
@click.argument("name", required=False, shell_complete=complete_recipes)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or show NAME."""
    if name is not None:
        recipe = Recipe.named(name)
        if as_json:
            write_json(msgspec.json.encode(recipe))
        else:
            write_text(recipe.to_toml())
        return
    recipes = [Recipe.named(known) for known in recipe_names()]
    if as_json:
        rows = [
            {
                "name": recipe.name,
                "description": recipe.description,
                "calls": count_calls(recipe),
                "models": [model for _, model in models_of(recipe)],
            }
            for recipe in recipes
        ]
        write_json(msgspec.json.encode(rows))
        return
    for recipe in recipes:
        count = count_calls(recipe)
        calls = f"{count} call{'s' * (count > 1)}"
        write_lines(f"{recipe.name}: {recipe.description}\n    {calls}: {_shape(recipe)}")


def _shape(recipe: Recipe) -> str:
    """Return who is asked in which order, in one line."""
    parts = [_layer(Counter(slot.model for slot in layer.slots)) for layer in recipe.layers]
    if recipe.escalate is not None:
        parts.append(f"if they disagree {_layer(Counter(slot.model for slot in recipe.escalate.slots))}")
    if recipe.aggregator is not None:
        model = f" by {recipe.aggregator.model}" if recipe.aggregator.model else ""
        parts.append(f"{recipe.aggregator.kind}{model}")
    return " > ".join(parts)


def _layer(models: Counter[str]) -> str:
    return ", ".join(f"{count} x {model}" if count > 1 else model for model, count in models.items())
