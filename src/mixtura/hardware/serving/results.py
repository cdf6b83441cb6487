"""What a run of the simulator found: the fate of each request, and what follows from it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtura.errors import ConfigError

Array = NDArray[np.float64]
Measure = Literal["queueing", "ttft", "tpot", "end_to_end"]


class ServingResult(NamedTuple):
    """A run from empty to empty. Times are seconds; arrays are by request, in order of arrival.

    Attributes:
        arrived: when each request came.
        started: when reading its prompt began.
        first: when its first token was there.
        finished: when its last token was there.
        prompts: tokens of each prompt.
        outputs: tokens of each answer.
        replica: which replica decoded it.
        busy: seconds in which each replica did something.
        prefill_busy: seconds in which each worker of its own for prompts did something; empty without such workers.
        steps: decode steps of all replicas.
        decoded: tokens that these steps made.
        area: the integral of the number of requests in the system over time, as counted at each arrival and end.
    """

    arrived: Array
    started: Array
    first: Array
    finished: Array
    prompts: NDArray[np.int64]
    outputs: NDArray[np.int64]
    replica: NDArray[np.int64]
    busy: Array
    prefill_busy: Array
    steps: int
    decoded: int
    area: float

    @property
    def queueing(self) -> Array:
        """Seconds each request waited until its prompt was begun."""
        return self.started - self.arrived

    @property
    def ttft(self) -> Array:
        """Time to first token of each request, seconds, with its queueing."""
        return self.first - self.arrived

    @property
    def tpot(self) -> Array:
        """Time per output token after the first, seconds, of each request; NaN where there is only one token."""
        more = np.where(self.outputs > 1, self.outputs - 1, np.nan)
        return (self.finished - self.first) / more

    @property
    def end_to_end(self) -> Array:
        """Seconds from arrival to last token of each request."""
        return self.finished - self.arrived

    @property
    def horizon(self) -> float:
        """Seconds from the first arrival to the last end."""
        return float(self.finished.max() - self.arrived[0])

    @property
    def throughput(self) -> float:
        """Requests a second over the whole run."""
        return len(self.arrived) / self.horizon

    @property
    def token_throughput(self) -> float:
        """Output tokens a second over the whole run."""
        return float(self.outputs.sum()) / self.horizon

    @property
    def utilisation(self) -> float:
        """Share of the run in which a replica did something, mean over the replicas."""
        return float(self.busy.mean()) / self.horizon

    @property
    def prefill_utilisation(self) -> float:
        """Share of the run in which a worker for prompts did something; 0 without such workers."""
        return float(self.prefill_busy.mean()) / self.horizon if len(self.prefill_busy) else 0.0

    @property
    def mean_batch(self) -> float:
        """Requests in a decode step, mean over the steps; 0 when no request had a second token."""
        return self.decoded / self.steps if self.steps else 0.0

    @property
    def mean_number(self) -> float:
        """Requests in the system, mean over time, as counted and not by Little's law."""
        return self.area / self.horizon

    def percentiles(self, measure: Measure, percents: Sequence[float], *, skip: float = 0.0) -> Array:
        """Return percentiles of a measure in seconds.

        Args:
            measure: "queueing", "ttft", "tpot" or "end_to_end".
            percents: from 0 to 100.
            skip: share of the requests that came first and is left out, so that an empty start does not count.

        Raises:
            ConfigError: a share or percentile out of its range; no request with a second token, for TPOT.
        """
        if not 0 <= skip < 1:
            raise ConfigError(f"the share of requests to skip must be from 0 to below 1, not {skip:g}")
        if any(not 0 <= percent <= 100 for percent in percents):
            raise ConfigError(f"percentiles go from 0 to 100, not {', '.join(f'{percent:g}' for percent in percents)}")
        values: Array = getattr(self, measure)[int(skip * len(self.arrived)) :]
        known = values[~np.isnan(values)]
        if not len(known):
            raise ConfigError("no request has a second token, so that there is no time per output token")
        return np.percentile(known, percents)
