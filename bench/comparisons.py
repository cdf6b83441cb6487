"""What is compared in CPU, and what each ratio may be at most."""

import asyncio
import importlib.util
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from bench import pipelines, streams
from bench.embedded_gateway import gateway
from bench.pipelines import Ask
from bench.rounds import ONE_BY_ONE, Contender, Load
from bench.server import AT_ONCE, Pace

OURS, BALANCED, CLASSIC = "Mixtura", "Mixtura, recipe balanced", "Mixtura, recipe classic"
ANSWER, CALLS = "Mixtura, answer watched", "Mixtura, every call watched"
SDK, BARE, RUST = "groq SDK + gather", "bare aiohttp", "TensorZero embedded"
RAW, UVLOOP = "asyncio protocol", "asyncio protocol, uvloop"

# Pipelines whose packages come with the extra `bench`, and the modules that they import.
OPTIONAL = {RUST: ("tensorzero",), RAW: ("httptools",), UVLOOP: ("httptools", "uvloop")}

_PACED = Pace(between=0.010)
# The shipped recipes ask for streams, with which they can use what a straggler has written; how many chunks come is
# most of what they cost. The bound is for the replies of the plain recipe in about as many chunks as 30 words.
_FEW_CHUNKS = Pace(chunks=30)
# Starts 1.25 ms apart, so that nearly every chunk still wakes the client on its own.
_EIGHT_AT_ONCE = Load(at_once=8, apart=0.010 / 8)


class Bound(NamedTuple):
    """The CPU of `mine` over that of `theirs`, and what it may be at most; None where it is shown for scale."""

    mine: str
    theirs: str
    most: float | None = None


class Comparison(NamedTuple):
    """Pipelines that ask the same server, and their ratios.

    Attributes:
        about: what the rows have in common, in words.
        contenders: the pipelines, by name.
        bounds: the ratios to show.
        pace: how fast the server replies.
        load: how many mixtures are under way at once.
        tls: whether the server speaks TLS.
    """

    about: str
    contenders: dict[str, Contender]
    bounds: tuple[Bound, ...]
    pace: Pace = AT_ONCE
    load: Load = ONE_BY_ONE
    tls: bool = False


def available(name: str) -> bool:
    """Say whether the packages that the pipeline `name` needs are installed."""
    return all(importlib.util.find_spec(module) is not None for module in OPTIONAL.get(name, ()))


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _raw(url: str) -> AbstractAsyncContextManager[Ask]:
    from bench.raw_protocol import raw

    return raw(url)


_PLAIN = {
    SDK: Contender(pipelines.sdk),
    BARE: Contender(pipelines.bare),
    OURS: Contender(pipelines.ours()),
    RUST: Contender(gateway(stream=False)),
}
_SHIPPED = {BALANCED: Contender(pipelines.ours("balanced")), CLASSIC: Contender(pipelines.ours("classic"))}
_PLAIN_BOUNDS = (Bound(OURS, SDK, 0.111), Bound(OURS, BARE, 1.25), Bound(OURS, RUST, 0.8))
_WATCHED = {
    BARE: Contender(streams.bare),
    ANSWER: Contender(streams.ours("answer")),
    CALLS: Contender(streams.ours("calls")),
}
_WATCHED_BOUNDS = (Bound(ANSWER, BARE, 2.0), Bound(CALLS, BARE))
_STREAMING_RUST = {RUST: Contender(gateway(stream=True))}
_STREAMING_RUST_BOUND = Bound(ANSWER, RUST, 0.8)

COMPARISONS = {
    "whole": Comparison(
        "whole replies",
        {**_PLAIN, **_SHIPPED, RAW: Contender(_raw), UVLOOP: Contender(_raw, _uvloop)},
        (
            *_PLAIN_BOUNDS,
            Bound(BALANCED, OURS, 1.5),
            Bound(CLASSIC, OURS, 1.5),
            Bound(OURS, RAW),
            Bound(OURS, UVLOOP),
        ),
        pace=_FEW_CHUNKS,
    ),
    "shipped": Comparison(
        "nobody watches, 100 chunks",
        {OURS: _PLAIN[OURS], **_SHIPPED},
        (Bound(BALANCED, OURS), Bound(CLASSIC, OURS)),
    ),
    "streamed": Comparison(
        "answer streamed at once", _WATCHED | _STREAMING_RUST, (*_WATCHED_BOUNDS, _STREAMING_RUST_BOUND)
    ),
    "paced": Comparison("answer streamed, 10 ms a chunk", _WATCHED, _WATCHED_BOUNDS, pace=_PACED, load=_EIGHT_AT_ONCE),
    "tls-whole": Comparison("TLS, whole replies", _PLAIN, _PLAIN_BOUNDS, tls=True),
    "tls-streamed": Comparison(
        "TLS, answer streamed at once",
        _WATCHED | _STREAMING_RUST,
        (*_WATCHED_BOUNDS, _STREAMING_RUST_BOUND),
        tls=True,
    ),
    "tls-paced": Comparison(
        "TLS, answer streamed, 10 ms a chunk", _WATCHED, _WATCHED_BOUNDS, pace=_PACED, load=_EIGHT_AT_ONCE, tls=True
    ),
}
