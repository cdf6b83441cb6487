"""Reads the measured figures and claims that studies use: `room/data/*.toml`, each with its source."""

import tomllib
from importlib.resources import files
from typing import TypeVar

import msgspec

T = TypeVar("T")


def facts(name: str, kind: type[T]) -> T:
    """Return the facts in one file of `room/data`, by the file's name without its suffix."""
    text = (files("mixtura.room") / "data" / f"{name}.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), kind)
