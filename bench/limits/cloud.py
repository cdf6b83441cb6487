"""A simulated cloud in a process of its own, for the crowd: fixed times, limits that bind, replies that carry markers.

    python -m bench.limits.cloud '{"tokens": 60, "seconds": 0.3, "limits": {"*": {"rpm": 1400}}}'

It prints its address; when its input ends it prints what it counted, and stops.
"""

import asyncio
import datetime as dt
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from bench.limits.bound import charges
from mixtura.chat import JsonObject
from mixtura.limits.window import Limits
from mixtura.models.catalog import Tier
from mixtura.sim import TUTORIAL_ERA, SimOptions, simulated_cloud

MARKER = re.compile(r"marker-\d{6}-[0-9a-f]{8}")


class CloudSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the cloud is to run: its limits by model (else those of `plan`), and the seconds that each reply takes."""

    limits: dict[str, Limits]
    seconds: float = 0.3
    plan: Tier = "free"
    as_of: dt.date = TUTORIAL_ERA


class CloudTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What the cloud has counted: calls and tokens charged by model, refusals by status."""

    charged: dict[str, tuple[int, int]]
    refused: dict[str, int]
    aborted: int
    max_in_flight: int


def reply(request: JsonObject, call: int) -> str:
    """Answer with every marker of the request, so that an answer mixed from two runs is noticed.

    No two replies are alike, because equal drafts need no aggregator.
    """
    text = "\n".join(str(message.get("content")) for message in request["messages"])
    markers = sorted(set(MARKER.findall(text)))
    return f"In reply {call} the answer to this question, and to no other one, is {' and '.join(markers)}, no more."


async def _serve(settings: CloudSettings) -> None:
    options = SimOptions(
        profile=f"fixed:{settings.seconds}",
        limits=settings.limits,
        plan=settings.plan,
        as_of=settings.as_of,
        reply=reply,
    )
    async with simulated_cloud(options) as cloud:
        print(cloud.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        ledger = cloud.ledger
        counted = CloudTotals(
            charged=charges(cloud),
            refused={str(status): number for status, number in ledger.refused.items()},
            aborted=ledger.aborted,
            max_in_flight=ledger.max_in_flight,
        )
        print(msgspec.json.encode(counted).decode(), flush=True)


class CloudProcess:
    """A cloud in another process: its address, and, once stopped, what it counted."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        assert process.stdout is not None
        self.url = process.stdout.readline().strip()

    def stop(self) -> CloudTotals:
        """End the process and return its totals."""
        said, _ = self._process.communicate("")
        return msgspec.json.decode(said, type=CloudTotals)


@contextmanager
def cloud_process(settings: CloudSettings) -> Iterator[CloudProcess]:
    """Run a cloud in a process of its own for as long as the block runs."""
    command = [sys.executable, "-m", "bench.limits.cloud", msgspec.json.encode(settings).decode()]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        yield CloudProcess(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


if __name__ == "__main__":
    # A client may stop a call while its last byte is written; aiohttp would log that as an error.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    asyncio.run(_serve(msgspec.json.decode(sys.argv[1], type=CloudSettings)))
