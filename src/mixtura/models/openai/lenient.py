"""Reads JSON into a struct field by field: a field of an odd type is lost, the others are not.

The decoder of a struct refuses the whole document for one odd field. Here each level is first cut into its fields,
which makes one small object a field whatever stands in it, and then each field is decoded by its own type.
"""

import functools
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from mixtura.models.openai.finish import word_in

Text = Annotated[str | None, msgspec.Meta(title="text")]
"""A field of text; where it is no string, the caller of `read_fields` says what its text is."""
Word = Annotated[str | None, msgspec.Meta(title="word")]
"""A field of one word, which some servers write as a number or an object (`finish.word_in`)."""

# Bytes of a field that is no text: a name, a number.
_LONGEST_NAME = 4096
_T = TypeVar("_T", bound=msgspec.Struct)
_Buffer = bytes | bytearray | msgspec.Raw


def read_fields(data: _Buffer, kind: type[_T], text: Callable[[msgspec.Raw], str | None]) -> _T:
    """Return the `kind` that `data` holds; a field that cannot be read has its default.

    Args:
        data: a JSON object, or an array for a kind that is written as one.
        kind: the struct to read.
        text: returns the text of a field of type `Text`, None for none. What it raises is raised.

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
            values[name] = field(raw, text)
        except msgspec.ValidationError:
            continue
    return kind(**values)


_Field = Callable[[msgspec.Raw, Callable[[msgspec.Raw], str | None]], Any]


class _Shape:
    """How the fields of a struct are read, and a decoder that cuts it into them."""

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self.fields = {name: _field_reader(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
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
        return lambda raw, text: text(raw)
    if hint == Word:
        return lambda raw, _: word_in(raw)
    if hint is msgspec.Raw:
        return lambda raw, _: raw
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    structs = [member for member in members if isinstance(member, type) and issubclass(member, msgspec.Struct)]
    if structs:
        (inner,) = structs
        return lambda raw, text: None if bytes(memoryview(raw)[:4]) == b"null" else read_fields(raw, inner, text)
    decoder = msgspec.json.Decoder(hint, strict=False)

    def read(raw: msgspec.Raw, _: object) -> Any:
        if len(memoryview(raw)) > _LONGEST_NAME:
            raise msgspec.ValidationError("too long for a name or a number")
        return decoder.decode(raw)

    return read
