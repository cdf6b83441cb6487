"""Queues with closed-form solutions: references for tests of the simulator, and quick bounds of a fleet.

Rates are requests per second, times are seconds, numbers are requests (means over time). Each queue serves in order of
arrival unless its name contains "ps" (processor sharing: the server divides its speed evenly among all requests
present, as a decode step does whose time is proportional to its batch).
"""

import math
from typing import NamedTuple

from mixtura.errors import ConfigError


class QueueMeans(NamedTuple):
    """The means of a queue in equilibrium.

    Attributes:
        utilisation: share of time in which the servers are busy.
        waiting: mean seconds before service begins.
        time: mean seconds from arrival to end.
        queued: mean number of waiting requests over time.
        number: mean number of requests in the system over time.
    """

    utilisation: float
    waiting: float
    time: float
    queued: float
    number: float


def little(rate: float, seconds: float) -> float:
    """Return the mean number of requests present if `rate` per second arrive and each stays `seconds`.

    Source: Little, "A proof for the queuing formula L = lambda W", Operations Research 9 (1961).
    """
    return rate * seconds


def mm1(rate: float, service: float) -> QueueMeans:
    """Return the means of one server with Poisson arrivals and exponential service of mean `service` seconds.

    Source: Kleinrock, Queueing Systems I (1975), section 3.2: time = service / (1 - utilisation).

    Raises:
        ConfigError: the rate or time is not above 0, or the load is 100 % or more.
    """
    return mg1(rate, service, 1.0)


def md1(rate: float, service: float) -> QueueMeans:
    """Return the means of one server with Poisson arrivals and a constant service time of `service` seconds.

    Source: as `mg1`, with variation 0: half the waiting of M/M/1.

    Raises:
        ConfigError: the rate or time is not above 0, or the load is 100 % or more.
    """
    return mg1(rate, service, 0.0)


def mg1(rate: float, service: float, variation: float) -> QueueMeans:
    """Return the means of one server with Poisson arrivals and any service time of mean `service` seconds.

    Waiting is utilisation / (1 - utilisation) * service * (1 + variation**2) / 2.

    Source: Pollaczek 1930 and Khinchine 1932; Kleinrock, Queueing Systems I (1975), equation 5.69.

    Args:
        rate: requests per second.
        service: mean seconds of service.
        variation: standard deviation of the service time over its mean (1: exponential, 0: constant).

    Raises:
        ConfigError: the rate or time is not above 0, or the load is 100 % or more.
    """
    load = _load(rate, service)
    if not 0 <= variation < math.inf:
        raise ConfigError(f"the variation of the service time must be 0 or more, not {variation:g}")
    waiting = load / (1 - load) * service * (1 + variation**2) / 2
    return _queue(rate, service, waiting, load)


def mm1_percentile(rate: float, service: float, percent: float) -> float:
    """Return a percentile of the seconds from arrival to end in M/M/1, which are exponential.

    Source: Kleinrock, Queueing Systems I (1975), section 5.6.

    Raises:
        ConfigError: as `mm1`, or the percentile is not from 0 to below 100.
    """
    if not 0 <= percent < 100:
        raise ConfigError(f"the percentile must be from 0 to below 100, not {percent:g}")
    return -math.log1p(-percent / 100) * mm1(rate, service).time


def mg1_ps(rate: float, service: float) -> QueueMeans:
    """Return the means of one shared server with Poisson arrivals and any service time of mean `service` seconds.

    The means depend only on the mean service time (insensitivity). Nothing queues: `waiting` is the time lost to
    other requests. A request that needs x seconds alone takes x / (1 - utilisation) on average.

    Source: Kleinrock, Queueing Systems II (1976), section 4.4; Sakata, Noguchi and Oizumi 1971.

    Raises:
        ConfigError: the rate or time is not above 0, or the load is 100 % or more.
    """
    load = _load(rate, service)
    time = service / (1 - load)
    return QueueMeans(load, time - service, time, 0.0, rate * time)


def mmc(rate: float, service: float, servers: int) -> QueueMeans:
    """Return the means of `servers` servers with one queue, Poisson arrivals and exponential service.

    The mean service time is `service` seconds. Source: Erlang 1917 (the C formula), computed from the recursion of
    the B formula, which does not overflow; Kleinrock, Queueing Systems I (1975), section 3.5.

    Raises:
        ConfigError: the rate, time or number is not above 0, or the load is 100 % or more.
    """
    if servers < 1:
        raise ConfigError(f"the number of servers must be at least 1, not {servers}")
    load = _load(rate, service, servers)
    offered = rate * service
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    waits = blocked / (1 - load * (1 - blocked))
    return _queue(rate, service, waits * service / (servers * (1 - load)), load)


def gm1(rate: float, variation: float, service: float) -> QueueMeans:
    """Return the means of one server with gamma gaps between arrivals and exponential service.

    An arrival finds n requests with probability (1 - s) * s**n, where s solves s = A(1 / service * (1 - s)) and A is
    the Laplace transform of the gaps.

    Source: Kleinrock, Queueing Systems I (1975), section 6.4.

    Args:
        rate: requests per second.
        variation: standard deviation of the gaps over their mean (0: constant gaps, D/M/1).
        service: mean seconds of service.

    Raises:
        ConfigError: the rate or time is not above 0, or the load is 100 % or more.
    """
    load = _load(rate, service)
    if not 0 <= variation < math.inf:
        raise ConfigError(f"the variation of the gaps must be 0 or more, not {variation:g}")

    def transform(busy: float) -> float:
        x = (1 - busy) / load
        if variation == 0:
            return math.exp(-x)
        return math.exp(-math.log1p(x * variation**2) / variation**2)

    # The map is convex with a fixed point at 1; bisection finds the other fixed point, below 1.
    low, high = 0.0, 1.0 - 1e-12
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if transform(middle) > middle else (low, middle)
    waiting = service * low / (1 - low)
    return _queue(rate, service, waiting, load)


def users(number: int, think: float, service: float) -> QueueMeans:
    """Return the means of a closed load: `number` users think, then wait for one exponential server.

    Thinking is exponential with a mean of `think` seconds. The throughput is utilisation / service.

    Source: the machine repairman, M/M/1//N: Kleinrock, Queueing Systems I (1975), section 3.8, by mean-value
    analysis (Reiser and Lavenberg, JACM 27, 1980).

    Raises:
        ConfigError: there are no users, the thinking time is negative, or the service time is not above 0.
    """
    if number < 1:
        raise ConfigError(f"the number of users must be at least 1, not {number}")
    if not 0 <= think < math.inf:
        raise ConfigError(f"the thinking time must be 0 seconds or more, not {think:g}")
    if not 0 < service < math.inf:
        raise ConfigError(f"the service time must be more than 0 seconds, not {service:g}")
    present = rate = time = 0.0
    for many in range(1, number + 1):
        time = service * (1 + present)
        rate = many / (think + time)
        present = rate * time
    return _queue(rate, service, time - service, rate * service)


def _queue(rate: float, service: float, waiting: float, load: float) -> QueueMeans:
    time = waiting + service
    return QueueMeans(load, waiting, time, little(rate, waiting), little(rate, time))


def _load(rate: float, service: float, servers: int = 1) -> float:
    for what, value in (("the rate of requests", rate), ("the service time", service)):
        if not 0 < value < math.inf:
            raise ConfigError(f"{what} must be more than 0, not {value:g}")
    load = rate * service / servers
    if load >= 1:
        raise ConfigError(
            f"{rate:g} requests a second of {service:g} s each are {100 * load:.0f} % of what "
            f"{servers} server{'s' * (servers > 1)} can do, so the queue would grow for ever: keep it below 100 %"
        )
    return load
