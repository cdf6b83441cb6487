"""What the simulated cloud can be told: one plain struct, so that a command line or a test can fill it in."""

import datetime as dt

import msgspec

from mixtura.limits.window import Limits
from mixtura.models.catalog import Plan
from mixtura.sim.faults import Fault
from mixtura.sim.replies import ReplyFunction

TUTORIAL_ERA = dt.date(2025, 9, 1)
"""A day on which llama-3.1-8b-instant, llama-3.3-70b-versatile, gemma2-9b-it and gpt-oss were all served."""


class SimOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulated cloud behaves.

    Attributes:
        as_of: the calendar day of the cloud; it decides which models live.
        plan: the plan of every key; it decides the limits, and whether Enterprise-only models exist.
        limits: limits by model id instead of the catalogue's; "*" stands for every other model.
        unlimited: switch all limits off.
        keys: accepted API keys and the organisation each belongs to; empty accepts any key, each its own
            organisation.
        extra_models: ids served besides the catalogue's.
        recordings: recording files (JSONL, may be gzipped) that models answer from where they know the question.
        script: a script file (TOML or JSONL) of replies; it goes before the recordings.
        reply: a function `(request body, call number) -> Reply | str | None`; it goes before the script.
        tokens: without script or recording, answer with filler of this many tokens.
        profile: how long calls take: "lpu", "instant", "heavy", "fixed:SECONDS", "rate:TOKENS_PER_SECOND", or
            machines as in `sim/machines.py` ("gpu:8xb200", "wafer", "machine:lp30"); and after commas
            `model=profile` for single models.
        faults: what goes wrong, in the compact form of `faults.parse_faults`, a TOML file, or structs.
        seed: for fillers, times, ids and the faults' dice.
        speed: the cloud's time runs this many times faster than the event loop's; the waits it names are in its time.
    """

    as_of: dt.date = TUTORIAL_ERA
    plan: Plan = "free"
    limits: dict[str, Limits] = {}
    unlimited: bool = False
    keys: dict[str, str] = {}
    extra_models: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    script: str = ""
    reply: ReplyFunction | None = None
    tokens: int | None = None
    profile: str = "instant"
    faults: str | tuple[Fault, ...] = ()
    seed: int = 0
    speed: float = 1.0
