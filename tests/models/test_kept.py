"""What of a reply becomes Python objects: how heavy and how deep they may be, and how what is broken is mended."""

import json
from typing import Any

import msgspec
import pytest

from mixtura.models.openai.kept import TooMuchError, given, kept
from mixtura.models.openai.lenient import Text, read_fields
from mixtura.models.openai.mend import mended

ROOM = 6000  # smaller than the texts below, so that their own length is what may be taken


def padded(values: str, *, size: int = 20_000) -> bytes:
    """A list of `values` behind a text, so that all of it has about `size` bytes."""
    return f'["{"t" * (size - len(values))}",{values}]'.encode()


@pytest.mark.parametrize(
    ("value", "weight"),
    [
        ("[],", 64 + 60),
        ("{},", 192 + 60),
        ("1,", 60),
        ('{"k":1},', 192 + 60 + 60),
        ('[{"k":[]}],', 64 + 192 + 60 + 64 + 60),
    ],
)
def test_objects_are_weighed_by_their_brackets_and_separators(value: str, weight: int) -> None:
    data = padded(value)
    # A list around them all, a comma behind the text; the last value has no comma.
    most = (len(data) - 64 - 60 + 60) // weight
    for count, fits in ((most - 2, True), (most + 2, False)):
        data = padded((value * count).rstrip(","))
        if fits:
            assert len(kept(data, ROOM)) == count + 1  # type: ignore[arg-type]
        else:
            with pytest.raises(TooMuchError, match="values that would take more than 0 MB of memory"):
                kept(data, ROOM)


def test_as_much_as_the_room_is_kept_where_the_json_itself_is_smaller() -> None:
    data = padded(("[]," * 1000).rstrip(","))
    assert len(kept(data, 124 * 1000 + 300)) == 1001  # type: ignore[arg-type]
    with pytest.raises(TooMuchError):
        kept(data, 124 * 1000 - 300)


def test_the_room_is_told_in_megabytes() -> None:
    with pytest.raises(TooMuchError, match="values that would take more than 2 MB of memory"):
        kept(b"[" + b"{}," * 10_000 + b"1]", 2 << 20)


def test_a_light_value_is_kept_whatever_the_room() -> None:
    data = b"[" + b"[]," * 1300 + b"[]]"
    assert len(data) < 4096
    assert len(kept(data, 0)) == 1301  # type: ignore[arg-type]


@pytest.mark.parametrize(("digits", "sound"), [(309, True), (399, True), (400, False), (5000, False)])
def test_a_number_with_more_digits_than_any_has_is_not_read(digits: int, sound: bool) -> None:
    data = b'["%b",%b]' % (b"t" * 5000, b"0." + b"1" * digits)
    if sound:
        assert kept(data, 1 << 20) is not None
    else:
        with pytest.raises(TooMuchError, match="a number of more digits than any has"):
            kept(data, 1 << 20)
    assert kept(b'["%b"]' % (b"1" * 5000), 1 << 20) == ["1" * 5000], "in a text they are a text"


@pytest.mark.parametrize("size", [0, 5000, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"k":', "}")])
def test_values_may_be_nested_sixty_four_deep(size: int, opening: str, closing: str) -> None:
    inner = json.dumps("t[{" * (size // 3))
    assert kept((opening * 64 + inner + closing * 64).encode(), 1 << 20) is not None
    with pytest.raises(TooMuchError, match="values nested more than 64 deep"):
        kept((opening * 65 + inner + closing * 65).encode(), 1 << 20)


def test_what_has_closed_before_makes_the_rest_no_shallower() -> None:
    with pytest.raises(TooMuchError, match="64 deep"):
        kept(f"{'[' * 40}[],{'[' * 30}{']' * 70}".encode(), 1 << 20)


def test_many_values_beside_each_other_are_not_deep() -> None:
    for count in (100, 2000):
        value: list[Any] = [[{}]] * count
        assert kept(json.dumps(value).encode(), 1 << 20) == value


@pytest.mark.parametrize("offset", range(65_530, 65_542))
@pytest.mark.parametrize("escape", [r"\"", r"\\", r"\\\"", r"\u005b"])
def test_strings_are_told_from_the_rest_wherever_a_slice_ends(offset: int, escape: str) -> None:
    text = '"' + "t" * (offset - 2) + escape + "[" * 100 + '"'
    data = f"[{text},{'[' * 62 + ']' * 62}]".encode()
    assert kept(data, 1 << 20) == json.loads(data)
    with pytest.raises(TooMuchError, match="deep"):
        kept(f"[{text},{'[' * 64 + ']' * 64}]".encode(), 1 << 20)


def test_what_is_broken_is_mended_and_what_is_no_json_is_refused() -> None:
    assert kept(b'["\\ud800", NaN, "\xff"]', 100) == ["�", 0, "�"]
    for data in (b"[1,", b"nothing"):
        with pytest.raises(msgspec.DecodeError):
            kept(data, 100)


class Holder(msgspec.Struct):
    value: msgspec.Raw = msgspec.Raw()


@pytest.mark.parametrize("value", ["null", "[]", "{}", '""', "false", "0"])
def test_an_empty_field_holds_nothing(value: str) -> None:
    assert not given(msgspec.json.decode(f'{{"value":{value}}}', type=Holder).value)
    assert not given(Holder().value)


@pytest.mark.parametrize("value", ["[0]", '{"a":1}', '"a"', "true", "1", "[ ]", "0.5", '"null"', '["longer"]'])
def test_any_other_field_holds_something(value: str) -> None:
    assert given(msgspec.json.decode(f'{{"value":{value}}}', type=Holder).value)


class Inner(msgspec.Struct):
    name: str | None = None
    size: int | None = None


class Pair(msgspec.Struct, array_like=True):
    first: Inner | None = None


class Outer(msgspec.Struct):
    title: Text = None
    name: str | None = None
    size: int | float | None = 7
    inner: Inner | None = None
    pair: Pair | None = None
    rest: msgspec.Raw = msgspec.Raw()


class Reading:
    """Reads a text as its own JSON, and keeps the names of odd fields."""

    def __init__(self) -> None:
        self.odd: list[str] = []

    def text(self, raw: msgspec.Raw, *, content: bool) -> str | None:
        return f"<{bytes(memoryview(raw)).decode()}>"

    def note(self, field: str, raw: msgspec.Raw) -> None:
        self.odd.append(field)


def read(data: str) -> Outer:
    return read_fields(data.encode(), Outer, Reading())


def test_every_field_is_read_by_its_own_type() -> None:
    found = read('{"title":"a","name":"b","size":1.5,"inner":{"name":"c","size":2},"pair":[{"name":"d"},3],"rest":[1]}')
    assert (found.title, found.name, found.size) == ('<"a">', "b", 1.5)
    assert found.inner == Inner(name="c", size=2)
    assert found.pair == Pair(first=Inner(name="d"))
    assert bytes(memoryview(found.rest)) == b"[1]"


def test_a_field_that_cannot_be_read_has_its_default_and_the_others_are_read() -> None:
    found = read('{"title":[1],"name":[],"size":{},"inner":{"name":{},"size":2},"pair":7,"unknown":3}')
    assert (found.title, found.name, found.size) == ("<[1]>", None, 7)
    assert found.inner == Inner(size=2)
    assert found.pair is None
    assert read('{"inner":null,"pair":[null]}') == Outer(pair=Pair())
    assert read('{"inner":5}').inner is None


def test_a_number_in_a_text_is_a_number() -> None:
    assert read('{"size":"12"}').size == 12


@pytest.mark.parametrize(("length", "sound"), [(4094, True), (4095, False)])
def test_a_name_longer_than_any_is_none(length: int, sound: bool) -> None:
    # With its quotes it has 4096 bytes at the most.
    assert read(f'{{"name":"{"n" * length}"}}').name == ("n" * length if sound else None)


def test_what_is_no_object_is_refused() -> None:
    for data in ("[1]", "3", "null"):
        with pytest.raises(msgspec.ValidationError):
            read(data)
    with pytest.raises(msgspec.DecodeError):
        read("{")


def test_what_the_reader_of_texts_raises_is_raised() -> None:
    class Refusing(Reading):
        def text(self, raw: msgspec.Raw, *, content: bool) -> str | None:
            raise TooMuchError("too much")

    with pytest.raises(TooMuchError):
        read_fields(b'{"title":"a"}', Outer, Refusing())


def test_who_reads_hears_of_each_odd_field() -> None:
    reading = Reading()
    read_fields(b'{"name":[],"size":1,"inner":{"name":{}},"pair":{"name":"d"}}', Outer, reading)
    assert reading.odd == ["name", "name", "pair"]


@pytest.mark.parametrize(
    ("broken", "value"),
    [
        (r'"\ud83d\ude00"', "😀"),
        (r'"\uD83D\uDE00"', "😀"),
        (r'"\ud83d"', "�"),
        (r'["\uda00\ude00","\udb00\ude00","\ude00"]', ["\U00090200", "\U000d0200", "�"]),
        (r'"\ude00"', "�"),
        (r'"\ude00\ud83d"', "��"),
        (r'"\ude00\ude00"', "��"),
        (r'"\ud83d\ud83d\ude00"', "�😀"),
        (r'"\\ud83d"', r"\ud83d"),
        (r'"\\\ud83d"', "\\�"),
        (r'["NaN \" NaN", NaN]', ['NaN " NaN', 0]),
        ("[Infinity,-Infinity,-1]", [0, 0, -1]),
    ],
)
def test_only_what_is_no_text_or_no_number_is_replaced(broken: str, value: Any) -> None:
    assert msgspec.json.decode(mended(broken.encode())) == value


def test_a_text_of_any_length_is_mended() -> None:
    for text in ("a" * 5000, r"\n" * 5000, "é" * 70_000):
        data = f'["{text}","\\ud800",NaN]'.encode()
        assert msgspec.json.decode(mended(data)) == [json.loads(f'"{text}"'), "�", 0]


@pytest.mark.parametrize(("share", "sound"), [(0.10, True), (0.14, False)])
def test_a_text_that_is_hardly_any_is_refused(share: float, sound: bool) -> None:
    # A byte that is no UTF-8 grows to three; a quarter more than it was is too much.
    size = 100_000
    bad = int(size * share) + 2048
    data = b"\xff" * bad + b"a" * (size - bad)
    if sound:
        assert mended(data).decode() == data.decode("utf-8", "replace")
    else:
        with pytest.raises(ValueError, match="too much of it is no UTF-8"):
            mended(data)


def test_a_short_text_may_be_all_broken() -> None:
    assert mended(b"\xff" * 2000).decode() == "�" * 2000
    with pytest.raises(ValueError, match="too much"):
        mended(b"\xff" * 3000)
