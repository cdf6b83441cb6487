"""Reads and checks the header of a GGUF file before llama.cpp opens the file.

A GGUF file holds a magic number, a version and two counts; then keys with typed values; then one row for each tensor
(name, shape, type, offset); then the tensors themselves, each at a multiple of the alignment. All numbers are
little-endian. Every count and length is compared with the remaining bytes before it is used, so a damaged file cannot
make the parser read or allocate more than the file's size, and the error says what is wrong with it.
"""

import os
import re
import struct
from collections import Counter
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from mixtura.models.local.kinds import FILE_KINDS, TENSOR_KINDS

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
# Far above the counts of any real file: a larger count is damaged or hostile.
_MOST_KEYS = 65_536
_MOST_TENSORS = 131_072
_MOST_ITEMS = 16_777_216
_MOST_NAME = 63  # bytes of a tensor's name, as llama.cpp keeps them
_MOST_HEAD = 512 * 1024 * 1024
_CHUNK = 1 << 20
_STRING, _ARRAY = 8, 9
_SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_MOST_PARTS = 999

HeaderValue = int | float | bool | str | tuple[int, ...]


class HeaderError(ValueError):
    """The file is not a usable GGUF file. The text says why, as the end of a sentence about the file."""


class GgufHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata of a GGUF file.

    `path` is absolute, with symbolic links resolved. `stamp` changes when the file changes. `size` is in bytes, all
    parts together. `parameters` counts the weights; `kind` is the type of most of them (Q4_K, F16, ...). `context` is
    the number of tokens that the model was made for (0 if not given), and `kv_bytes` the bytes of cache per token.
    """

    path: str
    stamp: tuple[int, int, int]
    size: int
    architecture: str
    name: str
    parameters: int
    kind: str
    context: int
    kv_bytes: int
    templated: bool
    parts: tuple[str, ...] = ()


class _TensorRow(NamedTuple):
    name: str
    weights: int
    kind: int


class _HeaderReader:
    """Reads numbers and strings from the beginning of a file, and never past its end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._data = b""
        self._at = 0
        self._start = 0
        self.size = size

    @property
    def position(self) -> int:
        """The number of bytes read so far."""
        return self._start + self._at

    @property
    def remaining(self) -> int:
        """The number of bytes from this position to the end of the file."""
        return self.size - self.position

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count > self.remaining:
            raise HeaderError(f"it ends in the middle of its header (byte {self.size:,}); fetch it again")
        if self.position + count > _MOST_HEAD:
            raise HeaderError("its header is larger than any real one; it is damaged")
        if self._at + count > len(self._data):
            rest = self._data[self._at :]
            self._start += self._at
            self._data = rest + self._file.read(max(_CHUNK, count - len(rest)))
            self._at = 0
            if count > len(self._data):
                raise HeaderError("it was truncated while it was read")
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def number(self, form: struct.Struct) -> int:
        """Return the next integer, decoded by `form`."""
        value: int = form.unpack(self.take(form.size))[0]
        return value

    def text(self, most: int | None = None) -> str:
        """Return the next string (a length in bytes, then UTF-8) of at most `most` bytes."""
        length = self.number(_U64)
        if length > self.remaining or (most is not None and length > most):
            raise HeaderError(f"a string in its header is {length:,} bytes long; it is damaged")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise HeaderError("a name in its header is not valid UTF-8; it is damaged") from None


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of a GGUF file, and of all its parts if the file was split.

    Raises:
        HeaderError: the file cannot be read, or is not a GGUF file that llama.cpp could load.
    """
    real = Path(os.path.realpath(path))
    first = _parse_file(real)
    split = _SPLIT.search(real.name)
    many = first.values.get("split.count", 1)
    if not isinstance(many, int) or many <= 1:
        return _build_header(real, [first], ())
    if split is None or int(split[2]) != many or not 1 < many <= _MOST_PARTS:
        raise HeaderError(f"it is one of {many} parts, but its name does not say so (name-00001-of-{many:05}.gguf)")
    if int(split[1]) != 1:
        raise HeaderError(f"it is part {int(split[1])} of {many}; give the first one, {_part(real, 1, many).name}")
    parts = [_part(real, number, many) for number in range(1, many + 1)]
    return _build_header(real, [first, *(_parse_file(part) for part in parts[1:])], tuple(str(part) for part in parts))


def _part(path: Path, number: int, many: int) -> Path:
    return path.with_name(_SPLIT.sub(f"-{number:05}-of-{many:05}.gguf", path.name))


class _ParsedFile(NamedTuple):
    """One parsed file: its keys (without long lists), tensors, size, stamp and vocabulary size."""

    values: dict[str, HeaderValue]
    tensors: list[_TensorRow]
    size: int
    stamp: tuple[int, int, int]
    vocabulary: int


def _parse_file(path: Path) -> _ParsedFile:
    try:
        if path.is_dir():
            raise HeaderError("it is a folder; give the .gguf file inside it")
        if not path.is_file():
            raise HeaderError("there is no such file" if not path.exists() else "it is not a regular file")
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            return _parse(_HeaderReader(file, state.st_size), (state.st_size, state.st_mtime_ns, state.st_ino))
    except OSError as error:
        raise HeaderError(f"it cannot be read ({error.strerror or error})") from None


def _parse(reader: _HeaderReader, stamp: tuple[int, int, int]) -> _ParsedFile:
    if reader.size == 0:
        raise HeaderError("it is empty; fetch it again")
    magic = reader.take(min(4, reader.size))
    if magic != _MAGIC:
        raise HeaderError(f"it is not a GGUF file (it begins with {magic!r}); models for llama.cpp end in .gguf")
    version = reader.number(_U32)
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
        why = "it is big-endian" if swapped else f"it is GGUF version {version}, and only 2 and 3 are supported"
        raise HeaderError(f"{why}; convert it again with llama.cpp")
    tensors, keys = reader.number(_U64), reader.number(_U64)
    if keys > _MOST_KEYS or tensors > _MOST_TENSORS or keys * 13 + tensors * 24 > reader.remaining:
        raise HeaderError(f"its header counts {keys:,} keys and {tensors:,} tensors; it is damaged")
    values: dict[str, HeaderValue] = {}
    vocabulary = 0
    for _ in range(keys):
        key = reader.text(65_535)
        if not key or key in values:
            raise HeaderError(f"the key {key[:60]!r} appears twice in its header; it is damaged")
        values[key], items = _read_value(reader)
        if key == "tokenizer.ggml.tokens":
            vocabulary = items
    return _ParsedFile(values, _read_tensors(reader, tensors, _check_alignment(values)), reader.size, stamp, vocabulary)


def _read_value(reader: _HeaderReader) -> tuple[HeaderValue, int]:
    """Return the next value and its number of items. The items of long lists and of string lists are skipped."""
    kind = reader.number(_U32)
    if kind in _SCALARS:
        value: int | float | bool = _SCALARS[kind].unpack(reader.take(_SCALARS[kind].size))[0]
        return value, 1
    if kind == _STRING:
        return reader.text(), 1
    if kind != _ARRAY:
        raise HeaderError(f"its header has a value of type {kind}, which does not exist; it is damaged")
    kind, count = reader.number(_U32), reader.number(_U64)
    if count > _MOST_ITEMS or count > reader.remaining:
        raise HeaderError(f"a list in its header has {count:,} items; it is damaged")
    if kind == _STRING:
        for _ in range(count):
            length = reader.number(_U64)
            if length > reader.remaining:
                raise HeaderError(f"a string in its header is {length:,} bytes long; it is damaged")
            reader.take(length)
        return (), count
    if kind not in _SCALARS:
        raise HeaderError(f"its header has a list of type {kind}, which does not exist; it is damaged")
    data = reader.take(count * _SCALARS[kind].size)
    whole = count <= 1024 and kind in (0, 1, 2, 3, 4, 5, 10, 11)
    return tuple(item[0] for item in _SCALARS[kind].iter_unpack(data)) if whole else (), count


def _check_alignment(values: dict[str, HeaderValue]) -> int:
    alignment = values.get("general.alignment", 32)
    if type(alignment) is not int or not 8 <= alignment <= 65_536 or alignment & (alignment - 1):
        raise HeaderError(f"its alignment is {alignment!r}; it is damaged")
    return alignment


def _read_tensors(reader: _HeaderReader, count: int, alignment: int) -> list[_TensorRow]:
    found: dict[str, _TensorRow] = {}
    expected = 0
    for _ in range(count):
        name = reader.text(_MOST_NAME)
        dimensions = reader.number(_U32)
        if not 1 <= dimensions <= 4:
            raise HeaderError(f"tensor {name!r} has {dimensions} dimensions; it is damaged")
        shape = [reader.number(_U64) for _ in range(dimensions)]
        kind, offset = reader.number(_U32), reader.number(_U64)
        if kind not in TENSOR_KINDS:
            raise HeaderError(
                f"tensor {name!r} has the unknown type {kind}; the file is damaged or newer than this release"
            )
        if not name or name in found:
            raise HeaderError(f"the tensor {name!r} appears twice in its header; it is damaged")
        weights = 1
        for size in shape:
            weights *= size
            if not 0 < weights < 1 << 50:
                raise HeaderError(f"tensor {name!r} has the shape {shape}; it is damaged")
        _, block, stored = TENSOR_KINDS[kind]
        if shape[0] % block or offset != expected:
            raise HeaderError(f"tensor {name!r} is not at the expected offset; it is damaged")
        size = weights // block * stored
        expected = offset + -(-size // alignment) * alignment
        found[name] = _TensorRow(name, weights, kind)
        end = offset + size
    start = -(-reader.position // alignment) * alignment
    if count and start + end > reader.size:
        missing = start + end - reader.size
        raise HeaderError(f"{missing:,} of its {start + end:,} bytes are missing; fetch it again")
    return list(found.values())


def _build_header(path: Path, files: list[_ParsedFile], parts: tuple[str, ...]) -> GgufHeader:
    values = files[0].values
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", architecture):
        raise HeaderError("it does not name its architecture (general.architecture)")
    tensors = [tensor for file in files for tensor in file.tensors]
    if not tensors or files[0].vocabulary == 0:
        missing = "weights" if not tensors else "vocabulary"
        raise HeaderError(f"it holds no {missing}, so it cannot generate text")
    by_kind: Counter[int] = Counter()
    for tensor in tensors:
        by_kind[tensor.kind] += tensor.weights
    kind = values.get("general.file_type")
    common = TENSOR_KINDS[by_kind.most_common(1)[0][0]][0]
    context = values.get(f"{architecture}.context_length", 0)
    named = values.get("general.name", "")
    return GgufHeader(
        path=str(path),
        stamp=files[0].stamp,
        size=sum(file.size for file in files),
        architecture=architecture,
        name=named if isinstance(named, str) else "",
        parameters=sum(tensor.weights for tensor in tensors),
        kind=FILE_KINDS.get(kind, common) if isinstance(kind, int) else common,
        context=context if type(context) is int and 0 < context < 1 << 30 else 0,
        kv_bytes=_kv_bytes(values, architecture),
        templated=isinstance(values.get("tokenizer.chat_template"), str),
        parts=parts,
    )


def _kv_bytes(values: dict[str, HeaderValue], architecture: str) -> int:
    """Return the bytes of key-value cache per token, over all layers, at 2 bytes a number."""

    def figure(name: str) -> int:
        value = values.get(f"{architecture}.{name}", 0)
        return value if type(value) is int and 0 <= value < 1 << 24 else 0

    layers, heads = figure("block_count"), figure("attention.head_count")
    shared = values.get(f"{architecture}.attention.head_count_kv", heads)
    width = figure("embedding_length") // heads if heads else 0
    key, value = figure("attention.key_length") or width, figure("attention.value_length") or width
    # A list has one entry per layer: some layers of some models have no cache.
    kept = sum(shared) if isinstance(shared, tuple) else layers * (shared if type(shared) is int else heads)
    return max(0, kept) * (key + value) * 2
