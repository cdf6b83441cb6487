"""All studies in the order of the report, by the name that the command takes."""

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
"""Each function runs its study; no state is kept between runs."""

MEASURED: Mapping[str, Callable[[Mapping[str, str]], Study]] = {"real-moe": look.study}
"""Studies that measure this machine: they take seconds, need the environment, and give different figures each time."""


def study(name: str, env: Mapping[str, str] | None = None) -> Study:
    """Run one study, including those that measure this machine.

    Args:
        name: the study's name.
        env: the environment for studies that start a measuring process; None: an empty one.

    Raises:
        ConfigError: there is no study of this name; the message lists the closest names.
    """
    if name in MEASURED:
        return MEASURED[name](env or {})
    if name not in STUDIES:
        names = (*STUDIES, *MEASURED)
        near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(names)}"
        raise ConfigError(f"there is no study {name!r}; {hint}")
    return STUDIES[name]()
