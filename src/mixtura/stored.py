"""Events as JSON, one a line: what a run wrote can be read again, by an older version too, and loses nothing.

A field that this version does not know is kept in `unknown` and written again; an event that it does not know becomes
an `UnknownEvent`. A stored run folds to the same `Answer`.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from mixtura.chat import JsonObject
from mixtura.errors import ConfigError
from mixtura.events import Event, UnknownEvent

# How msgspec words a refused field and where it stands: "... `extra` - at `$.recipe.layers[0]`".
_REFUSED = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$([^`]*)`)?\Z", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def encode_event(event: Event) -> bytes:
    """Return `event` as one JSON object, without a line end."""
    if isinstance(event, UnknownEvent):
        return msgspec.json.encode(event.data)
    if event.unknown is None:
        return msgspec.json.encode(event)
    known = msgspec.to_builtins(msgspec.structs.replace(event, unknown=None), str_keys=True)
    return msgspec.json.encode(_merged(known, event.unknown))


def decode_event(data: bytes | str) -> Event:
    """Read one event.

    Raises:
        ConfigError: it is not JSON, or no event.
    """
    try:
        return _event_of(msgspec.json.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"a stored event is not JSON: {error}") from None
    except RecursionError:
        raise ConfigError("a stored event is nested too deeply to be read") from None


def _event_of(raw: object) -> Event:
    if not isinstance(raw, dict) or not isinstance(raw.get("event"), str):
        raise ConfigError("a stored event has no name: expected an object with the key 'event'")
    event = _convert(raw)
    if event is None:
        at = raw.get("at", 0.0)
        return UnknownEvent(at=at if isinstance(at, int | float) else 0.0, data=raw)
    unknown = _unknown(raw, msgspec.to_builtins(event, str_keys=True))
    return msgspec.structs.replace(event, unknown=unknown) if unknown else event


def write_events(events: Iterable[Event]) -> bytes:
    """Return `events` as JSON Lines."""
    return b"".join(encode_event(event) + b"\n" for event in events)


def read_events(data: bytes) -> Iterator[Event]:
    """Yield the events of JSON Lines; empty lines are passed over.

    Raises:
        ConfigError: a line is no event; it says which.
    """
    for number, written in enumerate(data.splitlines(), 1):
        line = written.removeprefix(codecs.BOM_UTF8)  # of a file that an editor saved
        if line.strip():
            try:
                yield decode_event(line)
            except ConfigError as error:
                raise ConfigError(f"line {number}: {error.message}") from None


def _convert(raw: JsonObject) -> Event | None:
    """Return `raw` as an event, without the fields that this version does not know; None when it is no such event.

    Most structs pass unknown fields over. Those of a recipe refuse them, since a misspelled key of a file must not be
    lost; from a stored event they are taken out.
    """
    while True:
        try:
            event: Event = msgspec.convert(raw, Event, str_keys=True)
            return event
        except msgspec.ValidationError as error:
            found = _REFUSED.match(str(error))
            if found is None:
                return None
            try:
                rest = _without(raw, _STEP.findall(found[2] or ""), found[1])
            except (AttributeError, IndexError, KeyError, TypeError):
                return None
            if rest == raw:
                # msgspec names the place in a way that is not understood here.
                return None
            raw = rest


def _without(value: Any, path: list[tuple[str, str]], field: str) -> Any:
    """Return a copy of `value` that lacks `field` at the end of `path`; the rest is shared with `value`."""
    if not path:
        return {key: item for key, item in value.items() if key != field}
    (name, place), *rest = path
    if name:
        return {**value, name: _without(value[name], rest, field)}
    items = list(value)
    items[int(place)] = _without(items[int(place)], rest, field)
    return items


def _unknown(raw: JsonObject, known: JsonObject) -> JsonObject:
    """Return what `raw` holds besides `known`; a list is compared item by item, by its place."""
    found: JsonObject = {}
    for key, value in raw.items():
        if key not in known:
            # A known field that is written although it has its default lands here as well: it does no harm.
            found[key] = value
        elif (more := _more(value, known[key])) is not None:
            found[key] = more
    return found


def _more(value: Any, known: Any) -> JsonObject | None:
    if isinstance(value, dict) and isinstance(known, dict):
        return _unknown(value, known) or None
    if isinstance(value, list) and isinstance(known, list | tuple) and len(value) == len(known):
        pairs = enumerate(zip(value, known, strict=True))
        return {str(place): more for place, (one, other) in pairs if (more := _more(one, other)) is not None} or None
    return None


def _merged(known: Any, more: Any) -> Any:
    if isinstance(known, dict) and isinstance(more, dict):
        return {**known, **{key: _merged(known[key], value) if key in known else value for key, value in more.items()}}
    if isinstance(known, list | tuple) and isinstance(more, dict):
        return [_merged(item, more[str(place)]) if str(place) in more else item for place, item in enumerate(known)]
    return more
