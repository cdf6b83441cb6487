"""JSON schemas: what is wrong with a value, in the cloud's words, and a small value with which nothing is.

The keywords that agents' schemas are made of are known, at every depth: `type`, `enum`, `const`, `properties`,
`required`, `additionalProperties`, `items`, `anyOf`, `oneOf`, `allOf`, local `$ref`s, and the least and largest
number, length and number of items. Other keywords are passed over, as is a keyword whose value has an odd type.
"""

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mixtura.chat import JsonObject

_SEVERAL = ("anyOf", "oneOf")
_BOUNDS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("minimum", ">=", operator.ge),
    ("maximum", "<=", operator.le),
    ("exclusiveMinimum", ">", operator.gt),
    ("exclusiveMaximum", "<", operator.lt),
)
# Of schemas that nest without end no more than this is looked at.
_MOST_PARTS = 5000


def schema_errors(given: object, schema: object) -> list[str]:
    """Return what is wrong with a value by a schema; nothing when it fits."""
    return list(_Check(schema).errors(given, schema, "", ()))


def sample(schema: object) -> Any:
    """Return a small value that fits a schema, {} for anything but a schema; {} also where no finite value fits."""
    try:
        return _Sampling(schema).value(schema) if isinstance(schema, dict) else {}
    except _EndlessError:
        return {}


def _target(root: object, reference: object) -> object:
    """Return the schema that a local reference names, True (which takes everything) when there is none."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return True
    found: Any = root
    for name in reference[1:].split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return True
    return found


def _types(schema: JsonObject) -> list[str]:
    """Return the types that a schema names, [] for any."""
    named = schema.get("type")
    return [kind for kind in (named if isinstance(named, list) else [named]) if isinstance(kind, str)]


def _type_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _same(left: object, right: object) -> bool:
    """Compare as JSON does, where true is not 1."""
    return (
        type(left) is type(right) and left == right
        if isinstance(left, bool) or isinstance(right, bool)
        else left == right
    )


def _bound(schema: JsonObject, name: str) -> float | None:
    value = schema.get(name)
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


class _Check:
    """Checks values by the schemas of one document."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._left = _MOST_PARTS

    def errors(self, given: object, schema: object, where: str, passed: tuple[str, ...]) -> Iterator[str]:
        """Yield what is wrong. `where` is the place of the value, `passed` the references followed to come here."""
        self._left -= 1
        if schema is False:
            yield _at(where, "not allowed")
        if not isinstance(schema, dict) or self._left < 0:
            return
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in passed:
            yield from self.errors(given, _target(self._root, reference), where, (*passed, reference))
        kinds, kind = _types(schema), _type_of(given)
        if kinds and kind not in kinds and not (kind == "integer" and "number" in kinds):
            yield _at(where, f"expected {' or '.join(kinds)}, but got {'number' if kind == 'integer' else kind}")
            return
        allowed = schema.get("enum")
        if "const" in schema and not _same(given, schema["const"]):
            allowed = [schema["const"]]
        if isinstance(allowed, list) and not any(_same(given, value) for value in allowed):
            yield _at(where, f"value must be one of {', '.join(msgspec.json.encode(it).decode() for it in allowed)}")
        for several in _SEVERAL:
            choices = schema.get(several)
            if isinstance(choices, list) and choices:
                fitting = [not any(self.errors(given, choice, where, passed)) for choice in choices]
                if not any(fitting) or (several == "oneOf" and sum(fitting) > 1):
                    yield _at(where, f"{several} failed")
        for part in schema["allOf"] if isinstance(schema.get("allOf"), list) else ():
            yield from self.errors(given, part, where, passed)
        yield from self._inside(given, schema, where)

    def _inside(self, given: object, schema: JsonObject, where: str) -> Iterator[str]:
        if isinstance(given, dict):
            yield from self._properties(given, schema, where)
        elif isinstance(given, list):
            yield from _size(len(given), schema, "Items", "items", where)
            if "items" in schema:
                for place, item in enumerate(given):
                    yield from self.errors(item, schema["items"], f"{where}/{place}", ())
        elif isinstance(given, str):
            yield from _size(len(given), schema, "Length", "length", where)
        elif isinstance(given, int | float) and not isinstance(given, bool):
            for name, sign, fits in _BOUNDS:
                bound = _bound(schema, name)
                if bound is not None and not fits(given, bound):
                    yield _at(where, f"must be {sign} {bound} but found {given}")

    def _properties(self, given: JsonObject, schema: JsonObject, where: str) -> Iterator[str]:
        properties = _properties(schema)
        missing = [name for name in _required(schema) if name not in given]
        if missing:
            yield _at(where, f"missing properties: {', '.join(map(repr, missing))}")
        others = schema.get("additionalProperties")
        more = [name for name in given if name not in properties]
        if others is False and more:
            yield _at(where, f"additionalProperties {', '.join(map(repr, more))} not allowed")
        for name, value in given.items():
            if name in properties:
                yield from self.errors(value, properties[name], f"{where}/{name}", ())
            elif isinstance(others, dict):
                yield from self.errors(value, others, f"{where}/{name}", ())


def _at(where: str, words: str) -> str:
    return f"`{where}`: {words}" if where else words


def _size(size: int, schema: JsonObject, name: str, words: str, where: str) -> Iterator[str]:
    least, most = _bound(schema, f"min{name}"), _bound(schema, f"max{name}")
    if least is not None and size < least:
        yield _at(where, f"{words} must be >= {least}, but got {size}")
    if most is not None and size > most:
        yield _at(where, f"{words} must be <= {most}, but got {size}")


def _properties(schema: JsonObject) -> JsonObject:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _required(schema: JsonObject) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


class _EndlessError(Exception):
    """The schema takes no value of finite depth, as far as it was followed."""


class _Sampling:
    """Makes values by the schemas of one document. A reference inside of itself is left out where that is allowed."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._open: list[str] = []
        self._left = _MOST_PARTS

    def value(self, schema: object) -> Any:
        """Return a value.

        Raises:
            _EndlessError: there is none without a reference that is open already.
        """
        self._left -= 1
        if self._left < 0:
            raise _EndlessError
        if not isinstance(schema, dict):
            return {}
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            fitting = (it for it in schema["enum"] if not any(_Check(self._root).errors(it, _plain(schema), "", ())))
            return next(fitting, schema["enum"][0])
        if isinstance(schema.get("$ref"), str):
            return self._referred(schema)
        for several in _SEVERAL:
            if isinstance(schema.get(several), list) and schema[several]:
                return self._chosen(schema, several)
        if isinstance(schema.get("allOf"), list) and schema["allOf"]:
            return self._all(schema)
        return self._plain_value(schema)

    def _referred(self, schema: JsonObject) -> Any:
        reference = schema["$ref"]
        if reference in self._open:
            raise _EndlessError
        self._open.append(reference)
        try:
            target = _target(self._root, reference)
            beside = {name: part for name, part in schema.items() if name != "$ref"}
            return self.value(_merged(target, beside) if isinstance(target, dict) else beside)
        finally:
            self._open.pop()

    def _chosen(self, schema: JsonObject, several: str) -> Any:
        """Return the first value of a choice that fits the whole; without one the first value of any."""
        beside = {name: part for name, part in schema.items() if name != several}
        first: list[Any] = []
        for choice in schema[several]:
            if choice is False:
                continue
            try:
                value = self.value(_merged(choice, beside) if isinstance(choice, dict) else beside)
            except _EndlessError:
                continue
            if not any(_Check(self._root).errors(value, schema, "", ())):
                return value
            first.append(value)
        if not first:
            raise _EndlessError
        return first[0]

    def _all(self, schema: JsonObject) -> Any:
        whole = {name: part for name, part in schema.items() if name != "allOf"}
        for part in schema["allOf"]:
            seen: set[str] = set()
            while isinstance(part, dict) and isinstance(part.get("$ref"), str) and part["$ref"] not in seen:
                seen.add(part["$ref"])
                beside = {name: value for name, value in part.items() if name != "$ref"}
                target = _target(self._root, part["$ref"])
                part = _merged(target, beside) if isinstance(target, dict) else beside
            if isinstance(part, dict):
                whole = _merged(whole, part)
        return self.value(whole)

    def _plain_value(self, schema: JsonObject) -> Any:
        kinds = _types(schema)
        match kinds[0] if kinds else _guessed(schema):
            case "array":
                return self._array(schema)
            case "string":
                return _string(schema)
            case "integer":
                return _number(schema, whole=True)
            case "number":
                return _number(schema, whole=False)
            case "boolean":
                return True
            case "null":
                return None
        return self._object(schema)

    def _array(self, schema: JsonObject) -> list[Any]:
        least, most = _bound(schema, "minItems") or 0, _bound(schema, "maxItems")
        wanted = min(max(1, math.ceil(least)), _MOST_PARTS)
        if schema.get("items") is False or (most is not None and most < 1):
            return []
        try:
            return [self.value(schema.get("items", {"type": "string"})) for _ in range(wanted)]
        except _EndlessError:
            if least > 0:
                raise
            return []

    def _object(self, schema: JsonObject) -> JsonObject:
        properties, required = _properties(schema), _required(schema)
        others = schema.get("additionalProperties")
        made: JsonObject = {}
        for name in dict.fromkeys((*properties, *required)):
            part = (
                properties[name] if name in properties else others if isinstance(others, dict) else {"type": "string"}
            )
            if part is False and name not in required:
                continue
            try:
                made[name] = self.value(part)
            except _EndlessError:
                if name in required:
                    raise
        return made


def _merged(first: JsonObject, second: JsonObject) -> JsonObject:
    """Return a schema that asks for both, as far as their keywords can be joined."""
    whole = {**first, **second}
    if "properties" in first and "properties" in second:
        whole["properties"] = {**_properties(first), **_properties(second)}
    if "required" in first and "required" in second:
        whole["required"] = list(dict.fromkeys((*_required(first), *_required(second))))
    if isinstance(first.get("allOf"), list) and isinstance(second.get("allOf"), list):
        whole["allOf"] = [*first["allOf"], *second["allOf"]]
    return whole


def _plain(schema: JsonObject) -> JsonObject:
    """Return the part of a schema that decides which of its `enum` fits: its type."""
    return {"type": schema["type"]} if "type" in schema else {}


def _guessed(schema: JsonObject) -> str:
    """Return the type of a schema that names none, by its other keywords."""
    for kind, names in (
        ("object", ("properties", "required", "additionalProperties")),
        ("array", ("items", "minItems", "maxItems")),
        ("string", ("minLength", "maxLength", "pattern", "format")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")),
    ):
        if any(name in schema for name in names):
            return kind
    return "object"


def _string(schema: JsonObject) -> str:
    text = "simulated"
    least, most = _bound(schema, "minLength"), _bound(schema, "maxLength")
    if least is not None and len(text) < least:
        text = text.ljust(min(math.ceil(least), _MOST_PARTS), ".")
    return text if most is None else text[: max(0, math.floor(most))]


def _number(schema: JsonObject, *, whole: bool) -> float:
    low, high = _bound(schema, "minimum"), _bound(schema, "maximum")
    above, below = _bound(schema, "exclusiveMinimum"), _bound(schema, "exclusiveMaximum")
    if whole:
        lows = [math.ceil(low)] if low is not None else []
        lows += [math.floor(above) + 1] if above is not None else []
        highs = [math.floor(high)] if high is not None else []
        highs += [math.ceil(below) - 1] if below is not None else []
        return min([max([1, *lows]), *highs])
    least = max(bound for bound in (low, above, -math.inf) if bound is not None)
    most = min(bound for bound in (high, below, math.inf) if bound is not None)
    if least < 1.0 < most:
        return 1.0
    if math.isinf(least) or math.isinf(most):
        return most - 1.0 if math.isinf(least) else least + 1.0
    return (least + most) / 2
