"""Which experts a batch activates: distinct experts D(B), their reuse, skew, groups, correlated tokens, ranks.

Notation: E experts, of which each token uses k ("used"), and B tokens in a step. All functions are pure and accept a
number or an array of tokens; results have the shape of `tokens` unless noted otherwise. Counts have no unit.

`distinct` is the expectation for tokens that choose independently and evenly, `distinct_given` the same for any
popularities; the other functions produce popularities or an effective batch for these two.
"""

import numpy as np
from numpy.typing import ArrayLike

from mixtura.errors import ConfigError
from mixtura.hardware.step import Array, array

_STEPS = 60  # bisections of an interval: more than the precision of a float


def check(experts: int, used: int) -> None:
    """Check that a token can use that many of the experts.

    Raises:
        ConfigError: `used` is not between 1 and `experts`.
    """
    if not 1 <= used <= experts:
        raise ConfigError(f"a token cannot use {used} of {experts} experts: give 1 <= used <= experts")


def _batch(tokens: ArrayLike) -> Array:
    batch = array(tokens)
    if np.any(~np.isfinite(batch)) or np.any(batch < 0):
        raise ConfigError("a batch cannot have a negative or infinite number of tokens: give 0 or more")
    return batch


def distinct(tokens: ArrayLike, experts: int, used: int) -> Array:
    """Return the expected distinct experts that B independent tokens activate: E (1 - (1 - k/E)^B).

    Exact for any router that is even over experts and gives each token k different ones, group-limited routers
    included: the choices of one token may depend on each other, but tokens must be independent.

    Source: the occupancy problem with k balls a throw; MoESD, arXiv 2505.19645, section 3.

    Raises:
        ConfigError: `used` is not between 1 and `experts`, or a batch is negative or infinite.
    """
    check(experts, used)
    batch = _batch(tokens)
    if used == experts:
        return np.where(batch > 0, float(experts), 0.0) * np.minimum(1.0, batch)
    return array(-experts * np.expm1(batch * np.log1p(-used / experts)))


def distinct_balanced(tokens: ArrayLike, experts: int, used: int) -> Array:
    """Return the distinct experts under perfect balancing, min(E, k B): the maximum for any routing.

    Source: counting.
    """
    check(experts, used)
    return np.minimum(float(experts), used * _batch(tokens))


def distinct_given(tokens: ArrayLike, popularity: ArrayLike) -> Array:
    """Return the expected distinct experts for given popularities: the sum of 1 - (1 - p_i)^B.

    Source: as `distinct`, each expert with its own chance.

    Args:
        tokens: B, any shape.
        popularity: p_i [experts], the probability that a token uses expert i; they add up to k.

    Raises:
        ConfigError: a popularity is not a probability.
    """
    batch, chances = _batch(tokens), array(popularity)
    if chances.ndim != 1 or not len(chances) or np.any(~((chances >= 0) & (chances <= 1 + 1e-12))):
        raise ConfigError(
            "popularities: expected one probability from 0 to 1 per expert, adding up to the experts used"
        )
    missed = np.log1p(-np.minimum(chances, 1.0 - 1e-16))
    return array(-np.expm1(batch[..., None] * missed).sum(axis=-1))


def power_law(experts: int, used: int, alpha: float) -> Array:
    """Return popularities p_i [experts] proportional to rank^-alpha, most popular first; they add up to k.

    Probabilities are capped at 1; the excess goes to the other experts in proportion. Alpha 0 is even.
    Source: Zipf's law, 1949, cut at 1.

    Raises:
        ConfigError: `used` is not between 1 and `experts`, or alpha is negative or infinite.
    """
    check(experts, used)
    if not 0 <= alpha < np.inf:
        raise ConfigError(f"a power law with alpha = {alpha}: expected 0 (even) or more")
    law = np.arange(1, experts + 1, dtype=np.float64) ** -alpha
    law = np.maximum(law, 1e-300)
    full = 0
    while full < used:
        rest = law[full:] * ((used - full) / law[full:].sum())
        over = int(np.sum(rest > 1))
        if not over:
            return np.concatenate((np.ones(full), rest))
        full += over
    return np.concatenate((np.ones(full), np.zeros(experts - full)))


def distinct_skewed(tokens: ArrayLike, experts: int, used: int, alpha: float) -> Array:
    """Return the expected distinct experts under a power law of popularity. See `power_law`.

    Source: as `distinct_given`.
    """
    return distinct_given(tokens, power_law(experts, used, alpha))


def grouped_popularity(experts: int, used: int, groups: int, groups_used: int, alpha: float = 0.0) -> Array:
    """Return popularities if a token uses experts from `groups_used` of `groups` groups (DeepSeek-V3: 4 of 8).

    The popularity of groups follows a power law with `alpha`; experts within a group are equally popular. At alpha 0
    every expert has k/E and D(B) is that of `distinct`: a limit on groups alone does not reduce the activated experts,
    because different tokens choose different groups. It bounds the ranks to which a token is sent. If all tokens
    choose the same groups (large alpha), D(B) never exceeds E groups_used / groups; synthetic router logits with ties
    show this on GPUs.

    Source: DeepSeek-V3 technical report, arXiv 2412.19437, 2.1.2 (node-limited routing).

    Raises:
        ConfigError: groups that do not divide the experts, or too few to hold the experts used.
    """
    check(experts, used)
    if groups < 1 or experts % groups or not 1 <= groups_used <= groups:
        raise ConfigError(f"{groups_used} of {groups} groups of {experts} experts: groups must divide the experts")
    size = experts // groups
    if groups_used * size < used:
        raise ConfigError(f"{groups_used} groups of {size} experts cannot hold the {used} that a token uses")
    return array(np.repeat(power_law(groups, groups_used, alpha), size) * (used / (groups_used * size)))


def effective_batch(tokens: ArrayLike, correlation: float) -> Array:
    """Return the batch of independent tokens that activates as many experts: 1 + (B - 1)(1 - correlation).

    `correlation` is the probability that a token repeats the choices of an earlier one (tokens with a shared prompt,
    drafts of one answer, drafted tokens of speculative decoding); 0 independent, 1 all equal. Source: ours, a model
    with one parameter, which `independent_tokens` helps to measure.

    Raises:
        ConfigError: the correlation is not between 0 and 1.
    """
    if not 0 <= correlation <= 1:
        raise ConfigError(f"a correlation of {correlation}: expected a share from 0 to 1")
    batch = _batch(tokens)
    return np.where(batch <= 1, batch, 1 + (batch - 1) * (1 - correlation))


def independent_tokens(activated: ArrayLike, experts: int, used: int) -> Array:
    """Return how many independent, evenly routed tokens activate `activated` distinct experts: `distinct` inverted.

    Infinite if all experts are activated. Source: `distinct`, solved for B.
    """
    check(experts, used)
    share = array(activated) / experts
    if np.any(~((share >= 0) & (share <= 1))):
        raise ConfigError(
            f"more than {experts} of {experts} experts, or fewer than 0, cannot be activated: give 0 to {experts}"
        )
    if used == experts:
        return array(share)
    with np.errstate(divide="ignore"):
        return array(np.log1p(-share) / np.log1p(-used / experts))


def reuse(tokens: ArrayLike, used: int, activated: ArrayLike) -> Array:
    """Return the mean tokens per loaded expert: k B / D. In a dense layer it is B.

    Source: choices over distinct experts; MoESD, arXiv 2505.19645.
    """
    count = array(activated)
    return np.divide(used * _batch(tokens), count, out=np.zeros(np.broadcast(tokens, count).shape), where=count > 0)


def busiest_rank(tokens: ArrayLike, popularity: ArrayLike, ranks: int) -> Array:
    """Return the expected token-expert pairs on the busiest of `ranks` ranks of expert parallelism.

    Rank r holds the experts from r E/ranks on. Its load has the mean B P_r (P_r: the sum of its popularities) and is
    modelled as normal with the variance of independent choices; the result is the expected maximum of independent
    normals. Because the loads add up to k B, the standard deviation gets the factor sqrt(R / (R - 1)) and a correction
    for the share of the mean. Within 8 % of simulation from one token per rank upwards. The mean load is k B / ranks.

    Source: order statistics of the multivariate normal (David and Nagaraja, 2003, 5.3).

    Raises:
        ConfigError: the ranks do not divide the experts.
    """
    batch, chances = _batch(tokens), array(popularity)
    if ranks < 1 or len(chances) % ranks:
        raise ConfigError(f"{len(chances)} experts do not divide over {ranks} ranks: give a divisor of {len(chances)}")
    table = chances.reshape(ranks, -1)
    shares, variances = table.sum(axis=1), (table * (1 - table)).sum(axis=1)
    if ranks == 1:
        return array(batch * shares[0])
    used, experts = shares.sum(), len(chances)
    # A token's choices add up to k, so they are negatively correlated: exact for even popularities.
    variances = variances * ((1 - 1 / ranks) * experts / max(1.0, experts - 1.0))
    means = batch[..., None] * shares
    deviations = np.sqrt(batch[..., None] * variances * ranks / (ranks - 1)) + 1e-12
    grid = np.linspace(-5.0, 8.0, 261)
    top = means.max(axis=-1, keepdims=True)
    widest = deviations.max(axis=-1, keepdims=True)
    points = top + grid * widest
    below = np.prod(_normal((points[..., None, :] - means[..., None]) / deviations[..., None]), axis=-2)
    most = np.sum(1 - below, axis=-1) * (13.0 / 260) * widest[..., 0] + points[..., 0]
    return array(np.clip(most, top[..., 0], batch * np.minimum(used, float(experts // ranks))))


def _normal(x: Array) -> Array:
    """Return the normal distribution function with an error below 1e-7. Source: Abramowitz and Stegun, 26.2.17."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * series
    return array(np.where(x >= 0, 1 - tail, tail))


def shares_of(counts: ArrayLike) -> Array:
    """Return each expert's share of all choices, most popular first.

    Source: counting.

    Raises:
        ConfigError: there are no choices, or a count is negative.
    """
    found = np.sort(array(counts).ravel())[::-1]
    if not len(found) or found[-1] < 0 or found.sum() <= 0:
        raise ConfigError("no choices were counted, so skew is not defined: count some tokens first")
    return array(found / found.sum())


def entropy(counts: ArrayLike) -> float:
    """Return the entropy of the experts' shares over that of even shares: 1 even, 0 all on one (1 for one expert).

    Source: Shannon, 1948.
    """
    shares = shares_of(counts)
    if len(shares) == 1:
        return 1.0
    seen = shares[shares > 0]
    return float(-(seen * np.log(seen)).sum() / np.log(len(shares)))


def gini(counts: ArrayLike) -> float:
    """Return the Gini coefficient of the experts' shares: 0 even, 1 - 1/E all on one.

    Source: Gini, 1912, as half the relative mean absolute difference.
    """
    shares = shares_of(counts)[::-1]
    count = len(shares)
    return float(2 * (np.arange(1, count + 1) * shares).sum() / count - (count + 1) / count)


def fitted_alpha(counts: ArrayLike) -> float:
    """Return the maximum-likelihood alpha of a power law of rank for the experts' counts; 0 if they are even.

    Sorting turns noise into skew: with n choices an even router still has an alpha of about sqrt(E / n) / 2.
    Source: maximum likelihood of a truncated zeta law (Clauset, Shalizi and Newman, arXiv 0706.1062, appendix B).
    """
    shares = shares_of(counts)
    ranks = np.log(np.arange(1, len(shares) + 1))
    wanted = float((shares * ranks).sum())
    low, high = 0.0, 20.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        law = np.exp(-middle * ranks)
        low, high = (middle, high) if float((law * ranks).sum() / law.sum()) > wanted else (low, middle)
    return low if low > 1e-12 else 0.0
