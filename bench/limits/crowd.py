"""A thousand runs at once in one process, in real time: nothing lost, nothing doubled, no window passed, little memory.

    python -m bench.limits.crowd URL '{"model": {"rpm": 1400}}' 1000

is the client, a process of its own so that its memory is its own; `table` starts it and the cloud.
"""

import asyncio
import hashlib
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec

from bench.limits.asking import KEY
from bench.limits.backlog import slots
from bench.limits.bound import bound_of
from bench.limits.cloud import MARKER, CloudSettings, CloudTotals, cloud_process
from bench.limits.table import Table
from mixtura import MixturaError, Mixture, Recipe
from mixtura.limits.window import Limits
from mixtura.models.catalog import Catalog
from mixtura.models.registry import ModelRegistry

RUNS = 1000
SECONDS = 0.3
# The developer plan's shape, scaled: a thousand runs at once find about two thirds of their room free, and the rest
# drains in about half a minute.
LIMITS = {
    "llama-3.1-8b-instant": Limits(rpm=1500, rpd=500_000, tpm=1_600_000, tpd=500_000_000),
    "gemma2-9b-it": Limits(rpm=750, rpd=500_000, tpm=800_000, tpd=500_000_000),
    "llama-3.3-70b-versatile": Limits(rpm=750, rpd=500_000, tpm=1_000_000, tpd=500_000_000),
}
_PEAK = 300.0
_DEADLINE = 600.0


class ClientTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What the client has counted; `peak` is its largest resident set in MB, `cpu` its seconds of CPU."""

    seconds: float
    cpu: float
    peak: float
    right: int
    lost: int
    doubled: int
    mixed: int
    hedged: int
    reduced: int
    errors: dict[str, int]


def marker(place: int) -> str:
    """Return the marker of one question."""
    return f"marker-{place:06d}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"


async def ask_all(url: str, limits: dict[str, Limits], runs: int) -> ClientTotals:
    """Ask every question at once and look for its marker in its own answer."""
    rows = []
    for model, own in limits.items():
        row = Catalog.load().get("groq", model)
        assert row is not None
        rows.append(msgspec.structs.replace(row, developer=own))
    env = {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": url}
    models = ModelRegistry(Catalog.load().extended(rows), env=env, plan="developer")
    mixture = Mixture("classic", models=models)
    errors: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter()

    async def ask(place: int) -> None:
        own = marker(place)
        try:
            answer = await mixture.ask(f"What does {own} stand for, in one sentence?", seed=place, deadline=_DEADLINE)
        except MixturaError as error:
            errors[type(error).__name__] += 1
            return
        found = MARKER.findall(answer.text)
        seen.update(found)
        counts["right"] += found == [own]
        counts["mixed"] += any(other != own for other in found)
        kinds = {note.kind for note in answer.decisions}
        counts["hedged"] += "hedged" in kinds
        counts["reduced"] += "reduced" in kinds

    begun = time.perf_counter()
    await asyncio.gather(*(ask(place) for place in range(runs)))
    return ClientTotals(
        seconds=time.perf_counter() - begun,
        cpu=time.process_time(),
        peak=peak(),
        right=counts["right"],
        lost=sum(not seen[marker(place)] for place in range(runs)),
        doubled=sum(seen[marker(place)] > 1 for place in range(runs)),
        mixed=counts["mixed"],
        hedged=counts["hedged"],
        reduced=counts["reduced"],
        errors=dict(errors),
    )


def peak() -> float:
    """Return the largest resident set of this process, in MB.

    Read from /proc where there is one: `getrusage` also counts what the parent process held when it started this one.
    """
    try:
        status = Path("/proc/self/status").read_text("utf-8")
    except OSError:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def measure(runs: int = RUNS) -> tuple[ClientTotals, CloudTotals]:
    """Run the cloud and the client, each in a process of its own; return what both counted."""
    with cloud_process(CloudSettings(limits=LIMITS, seconds=SECONDS)) as cloud:
        limits = msgspec.json.encode(LIMITS).decode()
        command = [sys.executable, "-m", "bench.limits.crowd", cloud.url, limits, str(runs)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout
        return msgspec.json.decode(said.splitlines()[-1], type=ClientTotals), cloud.stop()


def table(found: Table, runs: int = RUNS) -> None:
    """Add the rows."""
    ours, theirs = measure(runs)
    where = f"{runs:,} runs at once, 300 ms calls"
    found.add(f"{where}: lost or doubled answers", runs - ours.right, f"{ours.lost} lost, {ours.doubled} doubled", 0)
    refused = theirs.refused.get("429", 0)
    calls = sum(count for count, _ in theirs.charged.values())
    found.add(f"{where}: refused with 429", refused, f"{refused} of {calls:,} calls ({4 * runs:,} needed)", 0)
    needed = {model: count * runs for model, count in slots(Recipe.named("classic")).items()}
    least = bound_of(LIMITS, theirs.charged, needed, 2 * SECONDS)
    shown = f"{ours.seconds:.1f} s of {least.seconds:.1f} s ({ours.cpu:.1f} s of CPU)"
    found.add(f"{where}: time of what the limits allow", ours.seconds, shown)
    found.add(f"{where}: peak memory", ours.peak, f"{ours.peak:.0f} MB", _PEAK, " MB")
    if ours.errors or theirs.refused:
        print(f"  errors: {ours.errors}; refused: {theirs.refused}", flush=True)


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[2], type=dict[str, Limits])
    print(msgspec.json.encode(asyncio.run(ask_all(sys.argv[1], given, int(sys.argv[3])))).decode())
