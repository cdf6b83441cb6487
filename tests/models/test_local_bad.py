"""Model files that are damaged, hostile or unsuitable for this machine: each gives one sentence and never a crash."""

import importlib.metadata
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from bench.gguf_files import Shape, write_gguf
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from mixtura.chat import ChatRequest, Message
from mixtura.errors import ConfigError, UnloadableError
from mixtura.models.local import machine, provider
from mixtura.models.local.header import read_header
from mixtura.models.local.kinds import TENSOR_KINDS
from mixtura.models.local.machine import Machine
from mixtura.models.local.provider import local_model
from mixtura.models.local.settings import RequestedSettings, resolve_settings
from mixtura.models.registry import ModelRegistry

pytestmark = pytest.mark.models

ROOT = Path(__file__).parents[2]
HI = ChatRequest(model="m", messages=(Message(role="user", content="hi"),), max_tokens=3)
U64 = (1 << 64) - 1


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("sound") / "sound.gguf").read_bytes()


def refusal_of(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        ModelRegistry(env={"HOME": "/nowhere"}).find("local", str(path))
    return caught.value.message


def at(data: bytes, text: bytes) -> int:
    """Return the position after a key or name in the header."""
    return data.index(text) + len(text)


def put(data: bytes, place: int, form: str, value: float) -> bytes:
    new = struct.pack(form, value)
    return data[:place] + new + data[place + len(new) :]


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "it is empty; fetch it again"),
    "short": (lambda data: data[:3], "it is not a GGUF file"),
    "text": (lambda data: b"<!DOCTYPE html>", "it is not a GGUF file (it begins with b'<!DO')"),
    "no counts": (lambda data: data[:10], "it ends in the middle of its header (byte 10)"),
    "header cut": (lambda data: data[:2000], "it ends in the middle of its header (byte 2,000)"),
    "weights cut": (lambda data: data[:-5000], "of its 188,"),
    "last byte cut": (lambda data: data[:-1], "fetch it again"),
    "version": (lambda data: put(data, 4, "<I", 9), "it is GGUF version 9, and only 2 and 3 are supported"),
    "old version": (lambda data: put(data, 4, "<I", 1), "it is GGUF version 1"),
    "big-endian": (lambda data: put(data, 4, ">I", 3), "it is big-endian; convert it again"),
    "tensors": (lambda data: put(data, 8, "<Q", U64), "tensors; it is damaged"),
    "keys": (lambda data: put(data, 16, "<Q", 1 << 40), "keys and 24 tensors; it is damaged"),
    "key length": (lambda data: put(data, 24, "<Q", 1 << 62), "a string in its header is 4,611,"),
    "key bytes": (lambda data: put(data, 32, "<H", 0xFFFF), ": a name in its header is not valid UTF-8; it is damaged"),
    "value type": (lambda data: put(data, at(data, b"general.name"), "<I", 99), "a value of type 99"),
    "list type": (lambda data: put(data, at(data, b"ggml.token_type") + 4, "<I", 9), "a list of type 9"),
    "list length": (lambda data: put(data, at(data, b"ggml.tokens") + 8, "<Q", U64), "items; it is damaged"),
    "list of long": (lambda data: put(data, at(data, b"ggml.tokens") + 16, "<Q", U64), "bytes long; it is damaged"),
    "no architecture": (lambda data: data.replace(b"general.arch", b"general.hcra"), "does not name its architecture"),
    "odd architecture": (
        lambda data: put(data, at(data, b"chitecture") + 12, "<B", 7),
        "does not name its architecture",
    ),
    "no vocabulary": (lambda data: data.replace(b"ggml.tokens", b"ggml.snekot"), "it holds no vocabulary"),
    "dimensions": (lambda data: put(data, at(data, b"output_norm.weight"), "<I", 9), "has 9 dimensions"),
    "shape": (lambda data: put(data, at(data, b"output_norm.weight") + 4, "<Q", U64), "has the shape"),
    "no shape": (lambda data: put(data, at(data, b"output_norm.weight") + 4, "<Q", 0), "has the shape"),
    "kind": (lambda data: put(data, at(data, b"output_norm.weight") + 12, "<I", 4), "has the unknown type 4"),
    "offset": (lambda data: put(data, at(data, b"output_norm.weight") + 16, "<Q", 33), "is not at the expected offset"),
    "far": (lambda data: put(data, at(data, b"output_norm.weight") + 16, "<Q", U64), "is not at the expected offset"),
    "twice": (lambda data: data.replace(b"blk.1.attn_q.weight", b"blk.0.attn_q.weight"), "appears twice in its header"),
    "key twice": (lambda data: data.replace(b"eos_token_id", b"bos_token_id"), "appears twice in its header"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_refused_before_llama_cpp_sees_it(how: str, sound: bytes, tmp_path: Path) -> None:
    spoil, said = BROKEN[how]
    path = tmp_path / "broken.gguf"
    path.write_bytes(spoil(sound))
    assert said in refusal_of(path)


def test_a_path_that_is_not_a_file_is_named(tmp_path: Path) -> None:
    assert "there is no such file" in refusal_of(tmp_path / "none.gguf")
    assert "it is a folder; give the .gguf file inside it" in refusal_of(tmp_path)
    assert "there is no such file" in refusal_of("~/none.gguf")
    assert "it is not a regular file" in refusal_of("/dev/null")
    assert "is not a valid path" in refusal_of("a\0b.gguf")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    assert "cannot be used" in refusal_of(tmp_path / "loop.gguf")


def test_an_unreadable_file_is_named(sound: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.gguf"
        path.write_bytes(sound)
        path.parent.chmod(0o755)
        path.chmod(0)
        # Root can read every file, so check as another user.
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            assert "it cannot be read (Permission denied)" in refusal_of(path)
        finally:
            if root:
                os.seteuid(0)


def test_a_file_larger_than_memory_is_refused_with_both_sizes(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "huge.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(4096)
    writer.add_token_list(["a"])
    columns, rows = 1 << 20, 1 << 20
    writer.add_tensor_info("token_embd.weight", (rows, columns), np.dtype(np.float16), 2 * rows * columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    os.truncate(path, (1 << 41) + 4096)  # a sparse file: nothing is written
    said = refusal_of(path)
    assert "would take about 2199." in said
    assert "take a smaller model or quantisation" in said


def with_value(sound: bytes, key: bytes, value: int) -> bytes:
    return put(sound, at(sound, key) + 4, "<I", value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (b"attention.head_count", 0, "has wrong shape"),
        (b"attention.head_count_kv", 3, "crashes on it|has wrong shape"),
        (b"embedding_length", 63, "has wrong shape|crashes on it"),
        (b"block_count", 3, "tensor 'blk.2.attn_norm.weight' not found"),
        (b"tokenizer.ggml.eos_token_id", 4_000_000_000, ""),
    ],
)
async def test_a_sound_header_around_nonsense_ends_another_process(
    key: bytes, value: int, said: str, sound: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "nonsense.gguf"
    path.write_bytes(with_value(sound, key, value))
    model = local_model(path, {})
    if not said:
        assert (await model.chat(HI)).text  # llama.cpp drops the token that does not exist, with a warning in its log
        return
    for _ in range(2):
        with pytest.raises(UnloadableError, match=said):
            await model.chat(HI)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"arch": "nonsense"}, "this release of llama.cpp does not know the architecture 'nonsense'"),
        ({"template": "{{ raise_exception('not today') }}"}, "its chat template rejects a plain question: not today"),
        ({"template": "{% for %}"}, "its chat template cannot be read"),
        ({"shape": Shape(heads=4, kv_heads=3)}, "crashes on it"),
    ],
)
async def test_what_llama_cpp_cannot_load_is_said_in_one_sentence(
    given: dict[str, object], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = local_model(write_gguf(tmp_path / "odd.gguf", **given), {}, name="odd")  # type: ignore[arg-type]
    with pytest.raises(UnloadableError, match=said) as caught:
        await model.chat(HI)
    assert caught.value.message.startswith("odd on local: ")
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 3
    assert capfd.readouterr() == ("", "")


_PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from mixtura.chat import ChatRequest, Message
from mixtura.errors import MixturaError
from mixtura.models.local.provider import local_model

async def main():
    said = []
    for path in sys.argv[1:]:
        try:
            model = local_model(Path(path), {})
            messages = (Message(role="user", content="hi"),)
            await model.chat(ChatRequest(model="m", messages=messages, max_tokens=3))
            said.append("answered")
        except MixturaError as error:
            assert len(error.message) < 1000 and error.message.isprintable() , error.message
            said.append(type(error).__name__)
    print(json.dumps(said))

asyncio.run(main())
"""


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bytes_changed_anywhere_in_the_header_never_crash(
    data: st.DataObject, sound: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    head = at(sound, b"blk.1.ffn_down.weight") + 40
    place = st.integers(0, head - 1)
    changes = st.lists(st.tuples(place, st.binary(min_size=1, max_size=8)), min_size=1, max_size=3)
    folder = tmp_path_factory.mktemp("fuzz")
    paths = []
    for number, change in enumerate(data.draw(st.lists(changes, min_size=8, max_size=8))):
        spoilt = bytearray(sound)
        for where, new in change:
            spoilt[where : where + len(new)] = new
        paths.append(folder / f"{number}.gguf")
        paths[-1].write_bytes(spoilt)
    command = [sys.executable, "-W", "error", "-c", _PROGRAM, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, ""), [path.read_bytes()[:head] for path in paths]
    assert len(json.loads(done.stdout)) == len(paths)


def test_an_unsupported_processor_or_c_library_is_reported_before_the_import(
    sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(sound)
    here = Machine.here()
    old = Machine(cores=2, memory=here.memory, free=here.free, flags=frozenset({"sse4_2", "avx"}), arch="x86_64")
    monkeypatch.setattr(Machine, "here", lambda: old)
    assert "this processor has no AVX2, FMA, F16C" in refusal_of(path)
    musl = Machine(cores=2, memory=here.memory, free=here.free, musl=True, arch="aarch64")
    monkeypatch.setattr(Machine, "here", lambda: musl)
    assert "C library is musl" in refusal_of(path)
    unknown = Machine(cores=2, memory=here.memory, free=here.free, flags=None, arch="x86_64")
    assert (
        unknown.unfit_reason()
        == Machine(cores=1, memory=1, free=1, flags=frozenset(), arch="aarch64").unfit_reason()
        == ""
    )


def test_a_missing_extra_names_the_command(sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(sound)

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(provider, "is_installed", lambda: False)
    assert refusal_of(path).endswith("pip install 'mixtura[local]'")


def test_nothing_is_imported_before_the_first_call(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(sound)
    program = (
        "import sys; from mixtura.models.registry import ModelRegistry;"
        f"ModelRegistry(env={{}}).find('local', {str(path)!r}); sys.exit('xllamacpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_small_machine_gets_a_smaller_context(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "deep.gguf"
    header = read_header(write_gguf(path, Shape(width=256, layers=32, heads=4, kv_heads=4, context=131072)))
    gigabyte = 1 << 30
    large = Machine(cores=8, memory=64 * gigabyte, free=60 * gigabyte)
    small = Machine(cores=8, memory=2 * gigabyte, free=gigabyte)
    assert resolve_settings(header, RequestedSettings(), large).context == 4096
    assert 512 <= resolve_settings(header, RequestedSettings(), small).context < 4096
    assert (
        resolve_settings(header, RequestedSettings(slots=1), small).context
        > resolve_settings(header, RequestedSettings(), small).context
    )
    with pytest.raises(ConfigError, match="fewer slots or less context"):
        resolve_settings(header, RequestedSettings(context=100_000), small)


def test_the_parts_of_a_split_file_are_looked_for(sound: bytes, tmp_path: Path) -> None:
    count = struct.pack("<Q11sIH", 11, b"split.count", 2, 3)
    keys = struct.unpack("<Q", sound[16:24])[0]
    part = sound[:16] + struct.pack("<Q", keys + 1) + count + sound[24:]
    (tmp_path / "alone.gguf").write_bytes(part)
    assert "it is one of 3 parts, but its name does not say so" in refusal_of(tmp_path / "alone.gguf")
    (tmp_path / "big-00001-of-00003.gguf").write_bytes(part)
    assert "there is no such file" in refusal_of(tmp_path / "big-00001-of-00003.gguf")
    (tmp_path / "big-00002-of-00003.gguf").write_bytes(part)
    assert "give the first one, big-00001-of-00003.gguf" in refusal_of(tmp_path / "big-00002-of-00003.gguf")


def test_the_tables_of_the_format_are_those_of_its_own_package() -> None:
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}
    assert {kind: theirs[kind] for kind in TENSOR_KINDS} == TENSOR_KINDS


def with_key(sound: bytes, key: bytes, value: bytes) -> bytes:
    keys = struct.unpack("<Q", sound[16:24])[0]
    return sound[:16] + struct.pack("<Q", keys + 1) + struct.pack("<Q", len(key)) + key + value + sound[24:]


def test_what_a_header_says_oddly_of_itself_is_left_out(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    odd = with_key(sound.replace(b"general.name", b"general.namx"), b"general.name", struct.pack("<II", 4, 7))
    path.write_bytes(with_value(odd, b"context_length", 1 << 30))
    header = read_header(path)
    assert (header.name, header.context) == ("", 0)
    path.write_bytes(with_value(sound, b"context_length", (1 << 30) - 1))
    assert read_header(path).context == (1 << 30) - 1


def test_the_parts_of_a_split_file_are_one_model(sound: bytes, tmp_path: Path) -> None:
    paths = [tmp_path / f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    for path in paths:
        path.write_bytes(with_key(sound, b"split.count", struct.pack("<IH", 2, 2)))
    header = read_header(paths[0])
    assert header.parts == tuple(map(str, paths))
    assert header.size == sum(path.stat().st_size for path in paths)
    most = tmp_path / "big-00001-of-00999.gguf"
    most.write_bytes(with_key(sound, b"split.count", struct.pack("<IH", 2, 999)))
    assert "there is no such file" in refusal_of(most)


def test_settings_are_what_the_machine_has_room_for(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(sound)
    small = read_header(path)
    here = Machine(cores=4, memory=8_000_000_000, free=4_000_000_000)
    assert resolve_settings(small, RequestedSettings(slots=64, threads=1), here).copies == 8
    assert resolve_settings(small, RequestedSettings(threads=2), here).copies == 1
    large = structs.replace(small, size=1_000_000_000, kv_bytes=100_000, context=0)
    assert resolve_settings(large, RequestedSettings(), here).context == 2048


def test_a_container_has_the_memory_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "/proc/meminfo": "MemTotal:  8000 kB\nMemFree: 1 kB\n",
        "/sys/fs/cgroup/memory.max": "4000000\n",
        "/sys/fs/cgroup/memory.current": "1000000\n",
    }
    monkeypatch.setattr(machine, "_read", lambda path: said.get(path, ""))
    here = Machine.here()
    assert (here.memory, here.free) == (4_000_000, 3_000_000)
    said["/sys/fs/cgroup/memory.max"] = "max\n"
    here = Machine.here()
    assert (here.memory, here.free) == (8000 * 1024, 4000 * 1024)


def test_musl_is_known_by_its_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Path("/lib/ld-musl-x86_64.so.1")]
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(Path, "glob", lambda *_: iter(found))
    assert Machine.here().musl
    found.clear()
    assert not Machine.here().musl


def test_the_time_of_a_local_call_begins_when_it_has_a_slot(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sound.gguf"
    path.write_bytes(sound)
    assert provider.find(str(path), {"HOME": "/nowhere"}).begins
