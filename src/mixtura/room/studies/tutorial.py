"""The tutorial's statements about its own mixture, shared by both studies of it."""

import functools
from collections.abc import Mapping

import msgspec

from mixtura.room.studies.facts import facts


class SpeedRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens per second of one user: the least, the usual and the greatest."""

    low: float
    usual: float
    high: float
    kind: str


class QueueWaits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Recorded queueing times in seconds at evenly spaced percentiles, from the least to the greatest."""

    seconds: tuple[float, ...]

    def at(self, share: float) -> float:
        """Return the wait that a share (0 to 1) of all calls stays below, interpolated between the percentiles."""
        place = share * (len(self.seconds) - 1)
        first = min(int(place), len(self.seconds) - 2)
        low, high = self.seconds[first], self.seconds[first + 1]
        return low + (high - low) * (place - first)

    def longest(self, calls: int, share: float = 0.5) -> float:
        """Return the same quantile of the longest of `calls` independent waits."""
        return self.at(share ** (1 / calls))


class TutorialFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `tutorial.toml`, in seconds, tokens and tokens per second."""

    proposers: tuple[str, ...]
    aggregator: str
    proposer_seconds: float
    total_seconds: float
    question_tokens: int
    draft_tokens: int
    limit_tokens: int
    mixture_tokens: tuple[int, int]
    times_single: tuple[float, float]
    instruction_tokens: int
    recipe: str
    sources: tuple[str, ...]
    speeds: Mapping[str, SpeedRange]
    queue: QueueWaits

    def aggregator_prompt(self, draft: float) -> float:
        """Return the aggregator's prompt tokens if each draft has `draft` tokens."""
        return self.question_tokens + self.instruction_tokens + len(self.proposers) * draft


@functools.cache
def tutorial() -> TutorialFacts:
    """Return the tutorial's statements; the file is read once."""
    return facts("tutorial", TutorialFacts)
