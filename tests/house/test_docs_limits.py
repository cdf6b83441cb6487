"""What docs/limits.md and docs/recipes.md say of protection is what the code does."""

import inspect
import re

import msgspec
import pytest
from click.testing import CliRunner

from mixtura.cli import group
from mixtura.errors import ModelError
from mixtura.limits import policy
from mixtura.recipe import Fallback, Recipe, recipe_names
from pages import DOCS, table


def failures() -> list[list[str]]:
    """Return the rows of the table in the docstring of `limits/policy.py`, without its heading."""
    lines = (inspect.getdoc(policy) or "").splitlines()
    place = next(at for at, line in enumerate(lines) if line.strip().startswith("failure "))
    starts = [
        found.start() for found in re.finditer(r"(?<!\S)(?:failure|again|another model|breaker|counted)", lines[place])
    ]
    rows = [line for line in lines[place + 1 :] if line.strip()]
    return [[row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for row in rows]


def test_the_page_shows_the_table_of_failures_that_decides() -> None:
    rows = [[row[0].strip("`"), *row[1:]] for row in table("limits.md", "## What each failure means")]
    assert rows == failures()


def test_the_table_of_failures_has_every_kind_and_says_what_the_code_does() -> None:
    below = [below for kind in ModelError.__subclasses__() for below in (kind, *kind.__subclasses__())]
    kinds = {kind.kind: kind for kind in below if kind.__module__ == "mixtura.errors"}
    rows = {row[0]: row for row in failures()}
    assert set(rows) == set(kinds)
    for name, kind in kinds.items():
        _, again, other, breaker, counted = rows[name]
        assert (breaker != "-") == (kind in policy.TRIPS), name
        assert counted.startswith("no") == (kind in policy.UNCOUNTED), name
        assert (again == "after a pause") == (kind.action == "retry"), name
        assert (other == "replacement") == (kind.action == "substitute"), name


def test_the_pages_example_of_a_plan_is_what_the_command_prints() -> None:
    text = (DOCS / "limits.md").read_text("utf-8")
    block = re.search(r"```console\n\$ mixtura (plan.*)\n(.*?)```", text, re.DOTALL)
    assert block is not None
    assert CliRunner().invoke(group, block[1].split()).stdout == block[2]


@pytest.mark.parametrize("name", recipe_names())
def test_the_page_of_recipes_says_how_each_is_protected(name: str) -> None:
    rows = {row[0].strip("`"): row[1:] for row in table("recipes.md", "### How the built-in recipes are protected")}
    assert list(rows) == list(recipe_names())
    recipe, said = Recipe.named(name), recipe_policy(name)
    smallest = min(layer.size for layer in recipe.layers)
    quorum = "-" if recipe.policy.quorum is None else f"{recipe.policy.quorum} of {smallest}"
    assert rows[name][1] == quorum
    assert [rows[name][0], *rows[name][2:]] == said


def recipe_policy(name: str) -> list[str]:
    policy = Recipe.named(name).policy
    seconds = (policy.deadline, policy.grace, policy.first_token, policy.between_tokens)
    times = ["-" if limit is None else limit if limit == "auto" else f"{limit:g} s" for limit in seconds]
    return [*times, "yes" if policy.hedge else "no"]


def test_the_page_of_recipes_names_every_field_of_a_fallback() -> None:
    rows = {row[0].strip("`"): row[2].strip("`") for row in table("recipes.md", "### Fallback")}
    assert rows == {
        field.name: "required" if field.required else msgspec.json.encode(field.default).decode()
        for field in msgspec.structs.fields(Fallback)
    }


def test_the_picture_is_readable_in_light_and_dark_and_drawn_by_nobody_else() -> None:
    picture = (DOCS / "images" / "admission.svg").read_text("utf-8")
    assert "prefers-color-scheme: dark" in picture
    assert "<title" in picture
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|<image", picture)
    used = set(re.findall(r'class="(\w+)"', picture))
    light, dark = picture.split("@media", 1)
    for half in (light, dark):
        assert used <= set(re.findall(r"\.(\w+) \{", half))
