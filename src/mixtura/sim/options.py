"""The options of the simulated cloud, as one plain struct that a command line or a test can fill in."""

import datetime as dt

import msgspec

from mixtura.limits.window import Limits
from mixtura.models.catalog import Tier
from mixtura.sim.faults import Fault
from mixtura.sim.replies import ReplyFunction

TUTORIAL_ERA = dt.date(2025, 9, 1)
"""A day on which llama-3.1-8b-instant, llama-3.3-70b-versatile, gemma2-9b-it and gpt-oss were all served."""


class SimOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the simulated cloud.

    Attributes:
        as_of: the cloud's calendar day, which decides which models are served.
        plan: the plan of every key, which decides the limits and whether Enterprise-only models are served.
        limits: limits by model id that replace the catalogue's. "*" stands for every other model.
        unlimited: switches all limits off.
        keys: the accepted API keys and the organisation of each. Empty accepts any key as an organisation of its own.
        extra_models: ids to serve besides the catalogue's.
        recordings: recording files (JSONL, optionally gzipped). A model answers from them if they have the question.
        script: a script file of replies (TOML or JSONL). It takes precedence over the recordings.
        reply: a function `(request body, call number) -> Reply | str | None`. It takes precedence over the script.
        tokens: the length of the filler text that answers when no other source does; None for a fixed sentence.
        profile: how long calls take: "lpu", "instant", "heavy", "fixed:SECONDS", "rate:TOKENS_PER_SECOND", or
            machines as in `sim/machines.py` ("gpu:8xb200", "wafer", "machine:lp30"). `model=profile` after a comma
            sets a single model.
        slots: calls that are answered at once, as by a machine of one's own; the others wait for a slot. None: any.
        faults: the faults to inject, in the compact form of `faults.parse_faults`, as a TOML file, or as structs.
        seed: seeds filler, times, ids and random faults.
        speed: how many times faster than the event loop's time the cloud's time runs. Waits that the cloud names are
            in the cloud's time.
    """

    as_of: dt.date = TUTORIAL_ERA
    plan: Tier = "free"
    limits: dict[str, Limits] = {}
    unlimited: bool = False
    keys: dict[str, str] = {}
    extra_models: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    script: str = ""
    reply: ReplyFunction | None = None
    tokens: int | None = None
    profile: str = "instant"
    slots: int | None = None
    faults: str | tuple[Fault, ...] = ()
    seed: int = 0
    speed: float = 1.0
