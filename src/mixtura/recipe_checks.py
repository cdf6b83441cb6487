"""Checks of a recipe's values, and msgspec's words about a recipe turned into ours."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

import msgspec


def check_sampling(
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    min_p: float | None = None,
    top_k: int | None = None,
    repeat_penalty: float | None = None,
) -> None:
    """Check how a model is to be asked.

    Raises:
        ValueError: a value is out of range; the text begins with its name.
    """
    # NaN passes no comparison, so both bounds are asked for positively.
    if temperature is not None and not 0 <= temperature <= 2:
        raise ValueError(f"temperature: expected 0 to 2, got {temperature}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected above 0 and up to 1, got {top_p}")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens: expected at least 1, got {max_tokens}")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"min_p: expected 0 to 1, got {min_p}")
    if top_k is not None and top_k < 0:
        raise ValueError(f"top_k: expected 0 or more, got {top_k}")
    if repeat_penalty is not None and not 0 < repeat_penalty < float("inf"):
        raise ValueError(f"repeat_penalty: expected a number above 0, got {repeat_penalty}")


def explain(problem: str, parts: Mapping[str, type[msgspec.Struct]]) -> str:
    """Turn msgspec's words into ours: the key first, then what was expected, then the nearest valid name.

    `parts` are the structs of a recipe by the key that they stand under; "recipe" is the whole.
    """
    problem, _, path = problem.partition(" - at `$")
    key = path.rstrip("`").removeprefix(".")
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", problem):
        fields = list(get_type_hints(_owner(key, parts)))
        near = difflib.get_close_matches(found[1], fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(fields)}"
        return f"{_join(key, found[1])}: unknown key; {hint}"
    if found := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return f"{_join(key, found[1])}: missing"
    if found := re.fullmatch(r"Invalid enum value '?(.*?)'?", problem):
        values = _values(key, parts)
        near = difflib.get_close_matches(found[1], values, n=1)
        return f"{key}: expected one of {', '.join(values)}, got {found[1]!r}" + (
            f"; did you mean {near[0]!r}?" if near else ""
        )
    if found := re.match(r"([a-z_.]+): ", problem):
        return _join(key, problem)
    return f"{key or 'recipe'}: {problem[0].lower()}{problem[1:]}"


def _join(key: str, rest: str) -> str:
    return f"{key}.{rest}" if key else rest


def _owner(key: str, parts: Mapping[str, type[msgspec.Struct]]) -> type[msgspec.Struct]:
    """Return the struct that `key` stands for."""
    owner = parts["recipe"]
    for word in re.findall(r"[a-z_]+", key):
        owner = parts.get(word, owner)
    return owner


def _values(key: str, parts: Mapping[str, type[msgspec.Struct]]) -> list[str]:
    """Return the words that the field at `key` takes: those of the Literal in its type."""
    field = re.findall(r"[a-z_]+", key)[-1]
    above = key.rpartition(field)[0]
    waiting: list[Any] = [get_type_hints(_owner(above, parts))[field]]
    found: list[str] = []
    while waiting:
        kind = waiting.pop(0)
        found += [value for value in get_args(kind) if isinstance(value, str)]
        waiting += [value for value in get_args(kind) if not isinstance(value, str)]
    return found
