"""The experts that a batch activates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware import routing


@st.composite
def routers(draw: st.DrawFn) -> tuple[int, int]:
    experts = draw(st.integers(2, 400))
    return experts, draw(st.integers(1, experts))


BATCHES = np.arange(1, 300, dtype=np.float64)


def simulated(tokens: int, popularity: np.ndarray, rounds: int = 4000) -> float:
    """Count distinct experts, each chosen independently: the formula only needs independent tokens."""
    rng = np.random.default_rng(7)
    missed = rng.random((rounds, len(popularity))) < (1 - popularity) ** tokens
    return float((~missed).sum(1).mean())


@given(routers(), st.floats(0, 4))
def test_activated_experts_lie_between_one_token_and_all_and_grow_ever_slower(
    router: tuple[int, int], alpha: float
) -> None:
    experts, used = router
    for found in (routing.distinct(BATCHES, experts, used), routing.distinct_skewed(BATCHES, experts, used, alpha)):
        assert np.all(found >= used - 1e-6)
        assert np.all(found <= routing.distinct_balanced(BATCHES, experts, used) + 1e-6)
        assert np.all(np.diff(found) >= -1e-9)
        assert np.all(np.diff(found, 2) <= 1e-7)


@given(routers(), st.floats(0, 4))
def test_skew_never_activates_more_experts(router: tuple[int, int], alpha: float) -> None:
    experts, used = router
    even = routing.distinct(BATCHES, experts, used)
    assert np.all(routing.distinct_skewed(BATCHES, experts, used, alpha) <= even + 1e-6)
    assert routing.distinct_skewed(BATCHES, experts, used, 0.0) == pytest.approx(even, abs=1e-6)


@given(routers(), st.floats(0, 30))
def test_a_power_law_has_probabilities_that_add_up_to_the_experts_used(router: tuple[int, int], alpha: float) -> None:
    law = routing.power_law(*router, alpha)
    assert law.sum() == pytest.approx(router[1])
    assert np.all((law >= 0) & (law <= 1 + 1e-9))
    assert np.all(np.diff(law) <= 1e-12)


@pytest.mark.parametrize(("tokens", "experts", "used"), [(1, 128, 4), (8, 32, 4), (64, 384, 8), (16, 8, 2)])
def test_tokens_that_draw_without_repetition_activate_as_many_as_expected(tokens: int, experts: int, used: int) -> None:
    rng = np.random.default_rng(3)
    chosen = np.argsort(rng.random((600, tokens, experts)), axis=2)[:, :, :used].reshape(600, -1)
    counted = np.mean([len(np.unique(row)) for row in chosen])
    assert counted == pytest.approx(float(routing.distinct(tokens, experts, used)), rel=0.02)


@pytest.mark.parametrize("alpha", [0.5, 1.2])
def test_skewed_tokens_activate_as_many_as_expected(alpha: float) -> None:
    law = routing.power_law(64, 4, alpha)
    assert simulated(24, law) == pytest.approx(float(routing.distinct_given(24, law)), rel=0.02)


def test_distinct_experts_match_published_shares() -> None:
    shares = routing.distinct([1, 8, 32, 64, 128], 128, 4) / 128
    assert np.round(100 * shares).tolist() == [3, 22, 64, 87, 98]
    assert routing.reuse(256, 4, routing.distinct(256, 128, 4)) == pytest.approx(8.0, abs=0.05)


def test_group_limited_tokens_activate_as_many_unless_all_choose_the_same_groups() -> None:
    even = routing.distinct_given(BATCHES, routing.grouped_popularity(256, 8, 8, 4))
    assert even == pytest.approx(routing.distinct(BATCHES, 256, 8))
    same = routing.distinct_given(BATCHES, routing.grouped_popularity(256, 8, 8, 4, alpha=40.0))
    assert same == pytest.approx(routing.distinct(BATCHES, 128, 8), rel=1e-3)


@given(st.floats(0, 1), routers())
def test_correlated_tokens_activate_fewer(correlation: float, router: tuple[int, int]) -> None:
    fewer = routing.distinct(routing.effective_batch(BATCHES, correlation), *router)
    assert np.all(fewer <= routing.distinct(BATCHES, *router) + 1e-9)
    assert np.all(fewer >= router[1] - 1e-6)


@given(st.integers(1, 100), st.integers(10, 300))
def test_independent_tokens_inverts_distinct(tokens: int, experts: int) -> None:
    activated = routing.distinct(tokens, experts, 2)
    if experts - activated > 1e-3:
        assert routing.independent_tokens(activated, experts, 2) == pytest.approx(tokens, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.8])
@pytest.mark.parametrize(("tokens", "ranks"), [(8, 8), (64, 8), (256, 32), (1024, 2)])
def test_the_busiest_rank_is_as_busy_as_simulated(tokens: int, ranks: int, alpha: float) -> None:
    law = routing.power_law(64, 4, alpha)
    law = law[np.random.default_rng(5).permutation(64)]
    rng = np.random.default_rng(11)
    loads = []
    for _ in range(200):
        # Systematic sampling in a random order: k without repetition, with exactly these probabilities.
        order = np.argsort(rng.random((tokens, 64)), axis=1)
        ends = np.cumsum(law[order], axis=1)
        marks = np.floor(ends + rng.random((tokens, 1)))
        chosen = order[np.diff(marks, axis=1, prepend=0.0) > 0]
        loads.append(np.bincount(chosen // (64 // ranks), minlength=ranks))
    expected = routing.busiest_rank(tokens, law, ranks)
    assert float(np.max(loads, axis=1).mean()) == pytest.approx(float(expected), rel=0.08)


def test_skew_is_measured() -> None:
    even, one = np.full(16, 5.0), np.eye(16)[3]
    assert routing.entropy(even) == pytest.approx(1.0)
    assert routing.gini(even) == pytest.approx(0.0, abs=1e-12)
    assert routing.fitted_alpha(even) == 0.0
    assert routing.entropy(one) == 0.0
    assert routing.gini(one) == pytest.approx(15 / 16)


@given(st.floats(0.05, 3), st.integers(4, 200))
def test_the_fit_recovers_the_alpha_of_a_power_law(alpha: float, experts: int) -> None:
    assert routing.fitted_alpha(routing.power_law(experts, 1, alpha)) == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: routing.distinct(1, 8, 9), "cannot use 9 of 8"),
        (lambda: routing.distinct(-1, 8, 2), "negative"),
        (lambda: routing.power_law(8, 2, -1.0), "alpha"),
        (lambda: routing.distinct_given(1, [0.5, 2.0]), "one probability"),
        (lambda: routing.grouped_popularity(10, 2, 3, 1), "divide"),
        (lambda: routing.grouped_popularity(16, 8, 8, 2), "cannot hold"),
        (lambda: routing.busiest_rank(1, [0.5, 0.5, 1.0], 2), "divide"),
        (lambda: routing.effective_batch(4, 2.0), "share from 0 to 1"),
        (lambda: routing.independent_tokens(9.0, 8, 2), "cannot be activated"),
        (lambda: routing.entropy([0, 0]), "no choices"),
    ],
)
def test_impossible_routing_raises_a_one_sentence_error(call: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        call()  # type: ignore[operator]
