"""Reads JSON into a struct field by field: a field of an odd type is lost, the others are not.

The decoder of a struct refuses the whole document for one odd field. Here each level is first cut into its fields,
which makes one small object a field whatever stands in it, and then each field is decoded by its own type.
"""

import functools
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from mixtura.models.openai.finish import word_in

Text = Annotated[str | None, msgspec.Meta(title="text")]
"""A field of text; where it is no string, the caller of `read_fields` says what its text is."""
Word = Annotated[str | None, msgspec.Meta(title="word")]
"""A field of one word, which some servers write as a number or an object (`finish.word_in`)."""
Content = Annotated[str | None, msgspec.Meta(title="content")]
"""The same for the text that all else is about: an object that is written as a string is its content."""
Label = Annotated[str | None, msgspec.Meta(title="label")]
"""A short name. A number is its digits, an object or a list the first word in it."""

# Bytes of a field that is no text: a name, a number.
_LONGEST_NAME = 4096
# Members of an object in which a word is looked for.
_MOST_MEMBERS = 16
_T = TypeVar("_T", bound=msgspec.Struct)
_Buffer = bytes | bytearray | msgspec.Raw


class Reader(Protocol):
    """Who reads what the shape of a struct does not say."""

    def text(self, raw: msgspec.Raw, *, content: bool) -> str | None:
        """Return the text of a field, None for none. What it raises is raised."""
        ...

    def note(self, field: str, raw: msgspec.Raw) -> None:
        """Hear of a field that has another form than it should."""
        ...


def read_fields(data: _Buffer, kind: type[_T], reader: Reader) -> _T:
    """Return the `kind` that `data` holds; a field that cannot be read has its default.

    Args:
        data: a JSON object, or an array for a kind that is written as one.
        kind: the struct to read.
        reader: reads texts, and hears of odd fields.

    Raises:
        msgspec.ValidationError: it is not an object.
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no JSON, no text, or nested too deeply.
    """
    shape = _shape(kind)
    cut = shape.decoder.decode(data)
    values: dict[str, Any] = {}
    for name, field in shape.fields.items():
        raw = getattr(cut, name)
        if not raw:
            continue
        try:
            values[name] = field(raw, reader, name)
        except msgspec.ValidationError:
            reader.note(name, raw)
    return kind(**values)


_Field = Callable[[msgspec.Raw, Reader, str], Any]


class _Shape:
    """How the fields of a struct are read, and a decoder that cuts it into them."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        hints = get_type_hints(kind, include_extras=True)
        self.fields = {name: _field_reader(hint) for name, hint in hints.items()}
        self.content = next((name for name, hint in hints.items() if hint == Content), None)
        cut = msgspec.defstruct(
            f"{kind.__name__}Fields",
            [
                (field.name, msgspec.Raw, msgspec.field(default=msgspec.Raw(), name=field.encode_name))
                for field in msgspec.structs.fields(kind)
            ],
            array_like=kind.__struct_config__.array_like,
        )
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(cut)


_shape = functools.cache(_Shape)


def _field_reader(hint: Any) -> _Field:
    if hint == Text:
        return lambda raw, reader, _: reader.text(raw, content=False)
    if hint == Content:
        return lambda raw, reader, _: reader.text(raw, content=True)
    if hint == Word:
        return lambda raw, *_: word_in(raw)
    if hint == Label:
        return _read_label
    if hint is msgspec.Raw:
        return lambda raw, *_: raw
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    structs = [member for member in members if isinstance(member, type) and issubclass(member, msgspec.Struct)]
    if structs:
        (inner,) = structs
        return lambda raw, reader, name: _read_struct(raw, inner, reader, name)
    decoder = msgspec.json.Decoder(hint, strict=False)

    def read(raw: msgspec.Raw, *_: object) -> Any:
        if len(memoryview(raw)) > _LONGEST_NAME:
            raise msgspec.ValidationError("too long for a name or a number")
        return decoder.decode(raw)

    return read


def _read_struct(raw: msgspec.Raw, kind: type[msgspec.Struct], reader: Reader, name: str) -> msgspec.Struct | None:
    begin = bytes(memoryview(raw)[:4])
    if begin == b"null":
        return None
    shape = _shape(kind)
    if shape.content is not None and begin[:1] in b'"[':
        reader.note(name, raw)
        return kind(**{shape.content: reader.text(raw, content=True)})
    if kind.__struct_config__.array_like and begin[:1] == b"{":
        reader.note(name, raw)
        return read_fields(_listed(raw), kind, reader)
    return read_fields(raw, kind, reader)


def _listed(raw: msgspec.Raw) -> bytes:
    """Return a list that was written as an object: with its places for names, or as its only item."""
    places = _PLACES.decode(raw)
    return b"[%b]" % bytes(places.zero or raw)


class _Places(msgspec.Struct):
    zero: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="0")


_PLACES = msgspec.json.Decoder(_Places)


def _read_label(raw: msgspec.Raw, reader: Reader, name: str) -> str | None:
    size = len(memoryview(raw))
    if size > _LONGEST_NAME:
        raise msgspec.ValidationError("too long for a word")
    value: object = msgspec.json.decode(raw)
    if value is None or isinstance(value, str):
        return value
    reader.note(name, raw)
    if isinstance(value, dict | list):
        members = list(value.values()) if isinstance(value, dict) else value
        value = next((one for one in members[:_MOST_MEMBERS] if isinstance(one, str) and one), None)
    return str(value) if value and isinstance(value, str | int | float) and value is not True else None
