"""Reads the tensors of a small GGUF file as NumPy arrays: float32, float16 and Q8_0, the formats of the toy models."""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtura.errors import ConfigError
from mixtura.models.local.header import HeaderError, read_header

Floats = NDArray[np.float32]
Value = int | float | bool | str | list["Value"]

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
_F32, _F16, _Q8_0 = 0, 1, 8
_BLOCK = 32  # weights that share a scale in Q8_0
_LARGEST = 256 * 1024 * 1024


class GgufModel(NamedTuple):
    """A file's metadata by key and its tensors by name, the first dimension outermost."""

    values: dict[str, Value]
    tensors: dict[str, Floats]


class _GgufReader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> int | float | bool:
        value: int | float | bool = struct.unpack_from(f"<{form}", self.data, self.at)[0]
        self.at += struct.calcsize(f"<{form}")
        return value

    def count(self, form: str = "Q") -> int:
        return int(self.number(form))

    def text(self) -> str:
        size = self.count()
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def value(self, kind: int) -> Value:
        if kind == _STRING:
            return self.text()
        if kind != _LIST:
            return self.number(_SCALARS[kind])
        inner, size = self.count("I"), self.count()
        return [self.value(inner) for _ in range(size)]


def read(path: Path) -> GgufModel:
    """Read a whole GGUF file, after checking its header so that a damaged file gives a reason.

    Raises:
        ConfigError: the file is not GGUF, is too large, or has tensors in another format.
    """
    try:
        header = read_header(path)
    except HeaderError as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from None
    if header.size > _LARGEST or header.parts:
        raise ConfigError(f"{path.name} is too large to run in NumPy: give a model of up to 256 MB in one file")
    reader = _GgufReader(path.read_bytes())
    reader.at = 8  # magic and version
    tensors, keys = reader.count(), reader.count()
    values = {reader.text(): reader.value(reader.count("I")) for _ in range(keys)}
    rows = []
    for _ in range(tensors):
        name, dimensions = reader.text(), reader.count("I")
        shape = [reader.count() for _ in range(dimensions)][::-1]
        rows.append((name, shape, reader.count("I"), reader.count()))
    alignment = values.get("general.alignment", 32)
    step = alignment if isinstance(alignment, int) else 32
    start = -(-reader.at // step) * step
    return GgufModel(values, {name: _tensor(reader.data, start + at, shape, kind) for name, shape, kind, at in rows})


def _tensor(data: bytes, start: int, shape: list[int], kind: int) -> Floats:
    count = int(np.prod(shape))
    if kind == _Q8_0:
        form = np.dtype([("scale", "<f2"), ("weights", "i1", (_BLOCK,))])
        blocks = np.frombuffer(data, form, count // _BLOCK, start)
        flat = blocks["scale"].astype(np.float32)[:, None] * blocks["weights"].astype(np.float32)
    elif kind in (_F32, _F16):
        flat = np.frombuffer(data, "<f4" if kind == _F32 else "<f2", count, start).astype(np.float32)
    else:
        raise ConfigError("only tensors in F32, F16 or Q8_0 can be read: convert the model with llama.cpp")
    return np.asarray(flat, dtype=np.float32).reshape(shape)
