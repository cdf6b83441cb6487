"""What it costs to hold a small reply against its JSON schema. `python -m bench.formats`.

Medians of several rounds, in microseconds: reading the JSON, checking it, both together as the engine does it, and the
check of `jsonschema`, where that is installed.
"""

import importlib.util
import json
import timeit
from collections.abc import Callable
from statistics import median

import fastjsonschema
import msgspec

from mixtura.answer_format import AnswerFormat
from mixtura.chat import JsonObject

SCHEMA: JsonObject = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "year": {"type": "integer", "minimum": 0},
        "tags": {"type": "array", "items": {"type": "string"}},
        "author": {"$ref": "#/$defs/person"},
    },
    "required": ["title", "year", "author"],
    "additionalProperties": False,
    "$defs": {"person": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}
REPLY = json.dumps({"title": "Notes", "year": 1843, "tags": ["engine", "analysis"], "author": {"name": "Ada"}})
BOUND = 10.0
"""Microseconds that reading and checking a small reply may take."""


def microseconds(what: Callable[[], object], rounds: int = 9, each: int = 20_000) -> float:
    """Return the median over `rounds` of what one call takes."""
    return median(timeit.timeit(what, number=each) / each * 1e6 for _ in range(rounds))


def measure() -> dict[str, float]:
    """Return the microseconds of each way, by its name."""
    form = AnswerFormat({"type": "json_schema", "json_schema": {"name": "book", "schema": SCHEMA}})
    check = fastjsonschema.compile(SCHEMA, use_default=False, use_formats=False)
    value = msgspec.json.decode(REPLY)
    found = {
        "read the JSON": microseconds(lambda: msgspec.json.decode(REPLY)),
        "check it (fastjsonschema)": microseconds(lambda: check(value)),
        "both, as the engine does": microseconds(lambda: form.problem(REPLY)),
    }
    if importlib.util.find_spec("jsonschema") is not None:
        validator = importlib.import_module("jsonschema").Draft202012Validator(SCHEMA)
        found["check it (jsonschema)"] = microseconds(lambda: validator.is_valid(value), each=2_000)
    return found


if __name__ == "__main__":
    for name, took in measure().items():
        print(f"{name:28} {took:7.2f} us")
