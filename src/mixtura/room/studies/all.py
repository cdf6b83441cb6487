"""The studies in the order in which they are told, by the name the command takes."""

import difflib
from collections.abc import Callable, Mapping

from mixtura.errors import ConfigError
from mixtura.room.experts import look
from mixtura.room.studies import (
    batching_gain,
    batching_latency,
    copies,
    expert_reuse,
    first_token,
    hbm_time,
    kimi_chips,
    one_model,
    proposers,
    small_batches,
    tutorial_times,
    tutorial_tokens,
    two_sizes,
    wafer_speed,
)
from mixtura.room.studies.study import Study

STUDIES: Mapping[str, Callable[[], Study]] = {
    "hbm-time": hbm_time.study,
    "expert-reuse": expert_reuse.study,
    "batching-gain": batching_gain.study,
    "batching-latency": batching_latency.study,
    "kimi-chips": kimi_chips.study,
    "copies": copies.study,
    "two-sizes": two_sizes.study,
    "wafer-speed": wafer_speed.study,
    "small-batches": small_batches.study,
    "first-token": first_token.study,
    "proposers": proposers.study,
    "one-model": one_model.study,
    "tutorial-times": tutorial_times.study,
    "tutorial-tokens": tutorial_tokens.study,
}
"""Each function runs its study; nothing is kept from one run to the next."""

MEASURED: Mapping[str, Callable[[Mapping[str, str]], Study]] = {"real-moe": look.study}
"""Studies that measure this machine: they take seconds, want the environment, and come out differently each time."""


def study(name: str, env: Mapping[str, str] | None = None) -> Study:
    """Run one study, be it of those that measure this machine.

    Args:
        name: of the study.
        env: the environment, for studies that start a process to measure in; None: an empty one.

    Raises:
        ConfigError: there is none of this name; the nearest names are told.
    """
    if name in MEASURED:
        return MEASURED[name](env or {})
    if name not in STUDIES:
        names = (*STUDIES, *MEASURED)
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(names)}"
        raise ConfigError(f"there is no study {name!r}; {hint}")
    return STUDIES[name]()
