"""The form that a caller asks of the answer (`response_format`): whether a text has it, and what is wrong if not."""

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import msgspec

from mixtura.chat import JsonObject
from mixtura.errors import InputError

_Check = Callable[[object], object]
# Schemas that are kept compiled; compiling one takes about a millisecond, checking a reply a microsecond.
_KEPT = 256
_MOST_WORDS = 300
_MOST_NESTED = 100


class AnswerFormat:
    """A JSON object, or JSON that holds a schema.

    Args:
        wanted: the `response_format`, of type `json_object` or `json_schema`.

    Raises:
        InputError: the schema is none.
    """

    def __init__(self, wanted: JsonObject) -> None:
        self.schema: JsonObject | None = None
        self._check: _Check | None = None
        if wanted.get("type") == "json_schema":
            self.schema = wanted["json_schema"]["schema"]
            try:
                self._check = _compiled(msgspec.json.encode(self.schema))
            except UnicodeEncodeError as error:
                raise InputError(f"response_format: the JSON schema is not valid text: {error.reason}") from None

    def read(self, text: str) -> str:
        """Return the JSON of an answer: `text`, or what stands in it between words or code fences.

        Raises:
            ValueError: it has not the form; the text says what is wrong.
        """
        try:
            self._hold(decode_json(text))
        except ValueError as error:
            sound = [part for part in _json_in(text) if self._holds(part)]
            if len(sound) == 1:
                return sound[0]
            said = "it holds several answers" if sound else str(error)
            raise ValueError(_shortened(said)) from None
        return text

    def _holds(self, text: str) -> bool:
        try:
            self._hold(decode_json(text))
        except ValueError:
            return False
        return True

    def problem(self, text: str) -> str:
        """Return what is wrong with the form of `text`, "" when it has the form (see `read`)."""
        try:
            self.read(text)
        except ValueError as error:
            return str(error)
        return ""

    def value(self, text: str) -> Any:
        """Return the answer's JSON as Python's own types.

        Raises:
            ValueError: as `read`.
        """
        return decode_json(self.read(text))

    def _hold(self, value: object) -> None:
        if self._check is None:
            if not isinstance(value, dict):
                raise ValueError("it is JSON, but no object")
            return
        import fastjsonschema

        try:
            self._check(value)
        except fastjsonschema.JsonSchemaValueException as error:
            where, _, what = error.message.partition(" ")
            raise ValueError(f"{where.replace('data', 'the answer', 1)} {what}") from None
        except Exception as error:  # noqa: BLE001  # `multipleOf: 0` and the like show only when they are used
            raise ValueError(f"its schema cannot be used: {error}") from None

    def starts(self, text: str) -> bool | None:
        """Say whether `text` is the beginning of such an answer; None while nothing can be said."""
        first = text.lstrip()[:1]
        if not first:
            return None
        return first == "{" if self._check is None else first in '{["-0123456789tfn'


def answer_format(wanted: JsonObject | None) -> AnswerFormat | None:
    """Return the form that `response_format` asks for, None for any text.

    Raises:
        InputError: it is no form that there is.
    """
    if wanted is None:
        return None
    kind = wanted.get("type")
    if kind == "text":
        return None
    if kind not in ("json_object", "json_schema"):
        raise InputError(f"response_format: expected the type text, json_object or json_schema, got {kind!r}")
    if kind == "json_schema":
        named = wanted.get("json_schema")
        if not isinstance(named, dict) or not isinstance(named.get("schema"), dict):
            raise InputError("response_format: expected json_schema = {name, schema}, with the schema as an object")
    return AnswerFormat(wanted)


class _NoResolver(dict[str, Callable[[str], Any]]):
    """Resolves no reference that points outside a schema, whatever its scheme: nothing is fetched for a schema."""

    def __contains__(self, scheme: object) -> bool:
        return True

    def __getitem__(self, scheme: str) -> Callable[[str], NoReturn]:
        return _refuse


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"$ref {uri!r} points outside the schema")


@functools.lru_cache(_KEPT)
def _compiled(schema: bytes) -> _Check:
    import fastjsonschema

    try:
        check: _Check = fastjsonschema.compile(
            msgspec.json.decode(schema), handlers=_NoResolver(), use_default=False, use_formats=False
        )
    except Exception as error:  # noqa: BLE001  # see below
        # The library raises whatever a malformed schema leads to: KeyError, re.error, AttributeError, ...
        said = getattr(error, "message", None) or str(error) or type(error).__name__
        raise InputError(f"response_format: what is given is no JSON schema: {_shortened(str(said))}") from None
    return check


def decode_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise ValueError(f"it is not JSON ({error})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    # What is nested deeper than it has brackets cannot be.
    if text.count("[") + text.count("{") > _MOST_NESTED and _is_deep(value):
        raise ValueError("it is nested too deeply")
    return value


def _is_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(_MOST_NESTED):
        level = [
            item
            for above in level
            if isinstance(above, dict | list)
            for item in (above.values() if isinstance(above, dict) else above)
        ]
        if not level:
            return False
    return True


def _json_in(text: str) -> Iterator[str]:
    """Yield the JSON values that stand in `text` with something round them.

    What stands inside brackets that are no JSON is part of something broken, and no value of its own.
    """
    at, tries = 0, 64
    while tries:
        starts = [place for mark in "{[" if (place := text.find(mark, at)) >= 0]
        if not starts:
            return
        at, tries = min(starts), tries - 1
        try:
            _, end = _SCANNER.raw_decode(text, at)
            yield text[at:end]
        except (ValueError, RecursionError):
            end = _end_of_brackets(text, at)
            if end < 0:
                return
        at = end


def _end_of_brackets(text: str, at: int) -> int:
    """Return the place behind the bracket that closes the one at `at`, -1 where none does."""
    depth = 0
    for found in re.compile(r"[\[\]{}]").finditer(text, at):
        depth += 1 if found[0] in "[{" else -1
        if depth == 0:
            return found.end()
    return -1


_SCANNER = json.JSONDecoder()


def canonical(value: object) -> str:
    """Return JSON that is equal for equal values: keys sorted, no spaces, 1.0 as 1."""
    return msgspec.json.encode(_plain(value), order="sorted").decode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_WORDS else line[: _MOST_WORDS - 1] + "…"
