"""One tool call and its pieces, as servers write them: what each field means, and where a piece belongs.

What has to be guessed where a server leaves fields out, or fills them wrongly, is said at `GatheredCall`.
"""

import json
from typing import Any, NamedTuple

import msgspec

from mixtura.chat import JsonObject
from mixtura.models.openai.bounds import Bounds
from mixtura.models.openai.kept import TooMuchError, kept
from mixtura.models.openai.reply import WireError

_LONGEST_INDEX = 9
_LONGEST_NAME = 256
# Texts that are no JSON object are not looked at again and again.
_MOST_LOOKS = 16
# Types that say no more than that it is a call.
_CALL_TYPES = frozenset(("tool_call", "tool_use", "tool", "function_call"))
# What stands for no arguments; an empty object of PHP is a list in JSON.
_EMPTY = frozenset(("null", "[]", '""'))
_SHORT = 16
_FIELDS = frozenset(("index", "id", "type", "function", "custom"))
_INNER = frozenset(("name", "arguments", "parameters", "input"))


class _Anything(msgspec.Struct):
    """A JSON object whose fields are checked and skipped."""


_OBJECT = msgspec.json.Decoder(_Anything)


def _is_object(text: str) -> bool:
    try:
        _OBJECT.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def calls_in(raw: msgspec.Raw, bounds: Bounds) -> list[JsonObject]:
    """Return the tool calls of a message, or their pieces in a stream; what is none is left out.

    Raises:
        WireError: they would take more memory than `bounds` allow.
    """
    found = _read(raw, bounds)
    if isinstance(found, dict):
        # One call that is in no list, or calls by their index.
        found = [found] if "function" in found or "name" in found else list(found.values())
    return [call for call in found if isinstance(call, dict)] if isinstance(found, list) else []


def legacy_in(raw: msgspec.Raw, bounds: Bounds) -> JsonObject | None:
    """Return the tool call that a `function_call` is, or a piece of it; None for none. Raises as `calls_in`."""
    found = _read(raw, bounds)
    return {"function": found} if isinstance(found, dict) else None


def _read(raw: msgspec.Raw, bounds: Bounds) -> object:
    try:
        return kept(raw, bounds.objects)
    except TooMuchError as problem:
        raise WireError(f"a reply whose tool calls hold {problem}") from None
    except ValueError:
        raise WireError("a reply whose tool calls cannot be read") from None


class CallPiece(NamedTuple):
    """A tool call or a piece of one, in the form that the wire should have.

    `arguments` is None where it brings none; `whole` says that they came as a JSON value and not as text. `more` are
    fields beside the known ones, `inner` those of its function.
    """

    place: int | None
    id: str
    type: str
    name: str
    arguments: str | None
    whole: bool
    more: JsonObject
    inner: JsonObject

    @property
    def begins(self) -> bool:
        """Its arguments begin as an object does."""
        return self.arguments is not None and self.arguments.lstrip().startswith("{")


def piece_of(call: JsonObject) -> CallPiece:
    """Return a tool call, or a piece of one, in the form that the wire should have."""
    function, kind = call.get("function"), call.get("type")
    fields = _FIELDS
    if not isinstance(function, dict):
        if isinstance(call.get("custom"), dict):
            function = call["custom"]
        else:
            # Some write name and arguments without the function round them.
            function = {"name": function, **{name: call[name] for name in ("arguments", "parameters") if name in call}}
            function["name"] = call.get("name") if not isinstance(function["name"], str) else function["name"]
            fields = _FIELDS | {"name", "arguments", "parameters"}
    arguments = function.get("arguments")
    if arguments is None:
        other = function.get("parameters")
        arguments = other if isinstance(other, dict) else function.get("input")
    name = function.get("name")
    return CallPiece(
        _index_of(call.get("index")),
        _id_of(call.get("id")),
        _type_of(kind, call),
        name if isinstance(name, str) else "",
        arguments if isinstance(arguments, str | None) else json.dumps(arguments, ensure_ascii=False),
        not isinstance(arguments, str | None),
        {key: value for key, value in call.items() if key not in fields and value is not None},
        {key: value for key, value in function.items() if key not in _INNER and value is not None},
    )


def _type_of(kind: object, call: JsonObject) -> str:
    if isinstance(kind, str) and kind and kind not in _CALL_TYPES:
        return kind
    return "custom" if isinstance(call.get("custom"), dict) else "function"


def _index_of(value: object) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) <= _LONGEST_INDEX else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _id_of(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else ""


class GatheredCall:
    """One tool call, whose name and arguments come in pieces.

    A name that comes again is the same name, one that continues an offered tool's is the rest of it. Arguments that
    begin with all that came before are all of them so far; others that follow a whole object take its place.
    """

    def __init__(self, own_id: str, piece: CallPiece, offered: frozenset[str], *, known: bool) -> None:
        self.id = own_id
        self.has_id = known
        self.has_index = piece.place is not None
        self._type = piece.type
        self._offered = offered
        self.name = ""
        self._shown = 0  # how much of the name was shown
        self._begun = self.renamed = self._over = False
        self._parts: list[str] = []
        self._size = 0
        self._whole_size = -1  # how much of them was a whole object
        self._looks = 0
        self._value: str | None = None  # arguments that came as a value: a later one takes their place
        self._sent: list[str] | None = None  # all pieces of the arguments, where some were not taken as they came
        self._replaced = False
        self._more: JsonObject = {}
        self._inner: JsonObject = {}

    @property
    def is_whole(self) -> bool:
        """What has come of the arguments is an object."""
        if self._value is not None:
            return True
        if not self._parts or not self._parts[-1].rstrip().endswith("}") or self._looks > _MOST_LOOKS:
            return False
        if self._whole_size != self._size:
            if not _is_object("".join(self._parts)):
                self._looks += 1
                return False
            self._whole_size = self._size
        return True

    @property
    def may_be_over(self) -> bool:
        """Nothing is open: its arguments are whole, or have not begun."""
        return not self._size or self.is_whole

    def is_followed_by(self, piece: CallPiece, *, apart: bool) -> bool:
        """Say whether a piece without an id of its own begins the next call; `apart`: it has no index either."""
        if not piece.name:
            return self.renamed and piece.begins and self.is_whole
        if not self.name:
            return False
        if self._value is None and not self._size:
            return piece.name != self.name and not self._may_go_on(piece.name, apart=apart)
        if not piece.begins:
            if piece.arguments or not self.is_whole:
                return False
            self.renamed = True
            return piece.name != self.name
        if not self.is_whole:
            return False
        again = piece.arguments is not None and piece.arguments.startswith(self._text)
        return apart or piece.name != self.name or not again

    def _may_go_on(self, name: str, *, apart: bool) -> bool:
        """Say whether a second name is the rest of the first, or all of it."""
        joined = name if name.startswith(self.name) else self.name + name
        if self._offered:
            rest = any(one.startswith(joined) for one in self._offered)
            return rest and not (apart and self.name in self._offered)
        return not apart

    @property
    def _text(self) -> str:
        return self._value if self._value is not None else "".join(self._parts)

    def add(self, piece: CallPiece) -> JsonObject:
        """Take a piece; return what it adds."""
        added: JsonObject = {}
        if not self._begun:
            self._begun = True
            added["id"], added["type"] = self.id, self._type
        function: JsonObject = {}
        self._add_name(piece.name)
        new = "" if piece.arguments is None else self._add_arguments(piece)
        if self._shown < len(self.name) and (new or self.name in self._offered or not self._offered):
            function["name"] = self._rest_of_name()
        if new:
            function["arguments"] = new
        self._more.update(piece.more)
        self._inner.update(piece.inner)
        added.update(piece.more)
        if self._type == "custom":
            # Its pieces have no agreed form: it is shown whole.
            function = {}
        added["function"] = function
        return added

    def _add_name(self, name: str) -> None:
        if not name or name == self.name:
            return
        if not self.name:
            self.name = name
        elif not self._size and self._value is None and len(self.name) < _LONGEST_NAME:
            self.name = name if name.startswith(self.name) else self.name + name

    def _rest_of_name(self) -> str:
        rest, self._shown = self.name[self._shown :], len(self.name)
        return rest

    def _add_arguments(self, piece: CallPiece) -> str:
        """Take arguments; return what can be shown of them."""
        text = piece.arguments or ""
        if piece.whole:
            self._value = text
            return ""
        if self._parts and piece.begins and not self._takes(text):
            return ""
        if self._sent is not None:
            self._sent.append(text)
            if self._size and len(text) >= self._size and text.startswith("".join(self._parts)):
                text = text[self._size :]
        if text:
            self._parts.append(text)
            self._size += len(text)
        return "" if self._replaced else text

    def _takes(self, text: str) -> bool:
        """Say whether a piece that begins as an object does goes on with what came; note it where it does not."""
        if self._sent is None and len(text) >= self._size and text.startswith("".join(self._parts)):
            self._sent = list(self._parts)
        elif self.is_whole and not text.startswith("".join(self._parts)):
            if self._sent is None:
                self._sent = list(self._parts)
            self._sent.append(text)
            self._parts, self._size, self._replaced, self._whole_size = [text], len(text), True, -1
            return False
        return True

    def held(self, *, cut: bool) -> JsonObject:
        """Return what was not shown yet."""
        if self._over:
            return {}
        self._over = True
        if self._type == "custom":
            return {key: value for key, value in self.call(cut=cut).items() if key not in ("id", "type")}
        function: JsonObject = {}
        if self._shown < len(self.name):
            function["name"] = self._rest_of_name()
        if self._value is not None and not self._size:
            function["arguments"] = self._arguments(cut=cut)
        elif not cut and not self._text.strip():
            function["arguments"] = "{}"
        return {"function": function} if function else {}

    def call(self, *, cut: bool) -> JsonObject:
        """Return the call."""
        field, arguments = ("custom", "input") if self._type == "custom" else ("function", "arguments")
        inner: dict[str, Any] = {"name": self.name, arguments: self._arguments(cut=cut or field == "custom")}
        known = {"id": self.id, "type": self._type, field: {**self._inner, **inner}}
        return {**self._more, **known} if self._more else known

    def _arguments(self, *, cut: bool) -> str:
        text = self._text
        if self._sent is not None and self._value is None:
            # Joined as they came they are JSON only if that is what they are; else the latest that is whole counts.
            found = ("".join(self._sent), text, self._sent[-1])
            return next(filter(_is_object, found), text)
        if text.startswith('"'):
            text = _unwrapped(text)
        if not text or text.isspace():
            return text if cut else text + "{}"
        return "{}" if len(text) < _SHORT and text.strip() in _EMPTY else text


def _unwrapped(text: str) -> str:
    """Return arguments that were written as JSON twice as they were before the second time."""
    try:
        inner = msgspec.json.decode(text, type=str)
    except (ValueError, RecursionError):
        return text
    return inner if _is_object(inner) else text
