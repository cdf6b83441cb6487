"""The result of a simulation: the times of each request, and the statistics that follow from them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixtura.errors import ConfigError

Array = NDArray[np.float64]
Measure = Literal["queueing", "ttft", "tpot", "end_to_end"]


class ServingResult(NamedTuple):
    """A simulated run that begins and ends with an empty system. Times are seconds, arrays are in order of arrival.

    Attributes:
        arrived: arrival of each request.
        started: time at which reading its prompt began.
        first: time of its first token.
        finished: time of its last token.
        prompts: tokens of each prompt.
        outputs: tokens of each answer.
        replica: number of the replica that decoded it.
        busy: busy seconds of each replica.
        prefill_busy: busy seconds of each separate prefill worker; empty without such workers.
        steps: decode steps of all replicas.
        decoded: tokens generated in these steps.
        area: the integral over time of the number of requests in the system, updated at each arrival and end.
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
        """Seconds from each request's arrival until reading its prompt began."""
        return self.started - self.arrived

    @property
    def ttft(self) -> Array:
        """Time to first token of each request, seconds, queueing included."""
        return self.first - self.arrived

    @property
    def tpot(self) -> Array:
        """Time per output token after the first, seconds, of each request; NaN for a single token."""
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
        """Requests per second over the whole run."""
        return len(self.arrived) / self.horizon

    @property
    def token_throughput(self) -> float:
        """Output tokens per second over the whole run."""
        return float(self.outputs.sum()) / self.horizon

    @property
    def utilisation(self) -> float:
        """Busy share of the run, mean over the replicas."""
        return float(self.busy.mean()) / self.horizon

    @property
    def prefill_utilisation(self) -> float:
        """Busy share of the run, mean over the prefill workers; 0 without such workers."""
        return float(self.prefill_busy.mean()) / self.horizon if len(self.prefill_busy) else 0.0

    @property
    def mean_batch(self) -> float:
        """Requests in a decode step, mean over the steps; 0 if no request had a second token."""
        return self.decoded / self.steps if self.steps else 0.0

    @property
    def mean_number(self) -> float:
        """Requests in the system, mean over time, counted rather than derived from Little's law."""
        return self.area / self.horizon

    def percentiles(self, measure: Measure, percents: Sequence[float], *, skip: float = 0.0) -> Array:
        """Return percentiles of a measure in seconds.

        Args:
            measure: "queueing", "ttft", "tpot" or "end_to_end".
            percents: from 0 to 100.
            skip: share of requests, the first to arrive, to leave out, so that the empty start does not count.

        Raises:
            ConfigError: a share or percentile is out of range, or, for TPOT, no request has a second token.
        """
        if not 0 <= skip < 1:
            raise ConfigError(f"the share of requests to skip must be from 0 to below 1, not {skip:g}")
        if any(not 0 <= percent <= 100 for percent in percents):
            raise ConfigError(f"percentiles go from 0 to 100, not {', '.join(f'{percent:g}' for percent in percents)}")
        values: Array = getattr(self, measure)[int(skip * len(self.arrived)) :]
        known = values[~np.isnan(values)]
        if not len(known):
            raise ConfigError("no request has a second token, so there is no time per output token")
        return np.percentile(known, percents)
