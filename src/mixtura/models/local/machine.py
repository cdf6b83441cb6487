"""The processor, cores and memory of this machine, as far as the operating system reports them."""

import importlib.util
import os
import platform
import re
import sys
from pathlib import Path

import msgspec

INSTALL = "pip install 'mixtura[local]'"
# The package's x86-64 code uses these instructions. A processor without them would kill the process.
_NEEDED = ("avx2", "fma", "f16c")
_DEFAULT_MEMORY = 8 * 1024**3


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine: the `cores` that this process may use, `memory` bytes in all and `free` bytes available now.

    `flags` are the processor's features by their Linux names, None where the system does not report them. `musl` is
    true if the C library is musl, for which there is no llama.cpp package.
    """

    cores: int
    memory: int
    free: int
    flags: frozenset[str] | None = None
    musl: bool = False
    arch: str = ""

    @classmethod
    def here(cls) -> "Machine":
        """Return this machine in its current state."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        memory, free = _memory()
        flags = _flags(_read("/proc/cpuinfo"))
        return cls(
            cores=cores,
            memory=memory,
            free=free,
            flags=flags,
            musl=sys.platform == "linux" and not platform.libc_ver()[0] and bool(list(Path("/lib").glob("ld-musl-*"))),
            arch=platform.machine().lower(),
        )

    def unfit_reason(self) -> str:
        """Return why the extra's package cannot run on this machine, "" when no reason is known."""
        if self.musl:
            return "this system's C library is musl, and the package is built for glibc; use a glibc image of Python"
        if self.arch in ("x86_64", "amd64") and self.flags is not None:
            missing = [name.upper() for name in _NEEDED if name not in self.flags]
            if missing:
                return (
                    f"this processor has no {', '.join(missing)}, which the package was built with; "
                    "run the model in Ollama or a llama.cpp server instead"
                )
        return ""


def is_installed() -> bool:
    """Return whether the extra's package is installed, without importing it."""
    return importlib.util.find_spec("xllamacpp") is not None


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def _flags(cpuinfo: str) -> frozenset[str] | None:
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    return None if found is None else frozenset(found[1].split())


def _memory() -> tuple[int, int]:
    """Return the bytes of total and free memory, limited by the container's memory limit if there is one."""
    found = re.findall(r"^(\w+):\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    sizes = {name: int(size) * 1024 for name, size in found}
    memory = sizes.get("MemTotal") or _physical()
    free = sizes.get("MemAvailable", memory // 2)
    most, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if most.isdecimal():
        memory = min(memory, int(most))
        free = min(free, max(0, int(most) - int(used or 0)))
    return memory, free


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _DEFAULT_MEMORY
