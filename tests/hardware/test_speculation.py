"""Speculative decoding: tokens per step, and the cost of a verifying step."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixtura.errors import ConfigError
from mixtura.hardware.routing import distinct
from mixtura.hardware.speculation import AcceptanceRate, cost_ratio, curves, expected_tokens, fit, gain

# InferenceX golden acceptance lengths, SPEED-Bench coding, by drafted tokens from 1; fitted first and decay.
GOLDEN = {
    "kimi-k2-eagle3": ([1.83, 2.43, 2.88, 3.24, 3.46, 3.62, 3.71, 3.77], 0.805, 0.965),
    "qwen3.5-397b-mtp": ([1.93, 2.73, 3.39, 3.97, 4.41, 4.80, 5.04, 5.21], 0.915, 0.965),
    "deepseek-v4-pro-mtp": ([1.79, 2.27, 2.49, 2.54, 2.55], 0.80, 0.735),
}


def error(lengths: list[float], acceptance: AcceptanceRate) -> float:
    drafts = np.arange(1, len(lengths) + 1)
    return float(np.mean(np.abs(expected_tokens(drafts, acceptance) / np.array(lengths) - 1)))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_decaying_acceptance_fits_the_golden_curves(name: str) -> None:
    lengths, first, decay = GOLDEN[name]
    found = fit(lengths)
    assert (found.first, found.decay) == pytest.approx((first, decay), abs=0.008)
    assert error(lengths, found) < 0.006
    assert error(lengths, AcceptanceRate(first, decay)) < 0.006


@pytest.mark.parametrize(("name", "constant"), [("kimi-k2-eagle3", 0.77), ("qwen3.5-397b-mtp", 0.87)])
def test_a_constant_acceptance_is_several_times_worse(name: str, constant: float) -> None:
    lengths = GOLDEN[name][0]
    found = fit(lengths, decaying=False)
    assert (found.first, found.decay) == pytest.approx((constant, 1), abs=0.005)
    assert 0.02 < error(lengths, found) < 0.055
    assert error(lengths, found) > 4 * error(lengths, fit(lengths))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_kept_curves_are_the_golden_ones_and_their_own_fit(name: str) -> None:
    kept = curves()[name]
    assert list(kept.lengths) == GOLDEN[name][0]
    found, constant = fit(kept.lengths), fit(kept.lengths, decaying=False)
    assert (kept.first, kept.decay, kept.constant) == pytest.approx(
        (found.first, found.decay, constant.first), abs=6e-4
    )


@given(rate=st.floats(0, 0.999), drafts=st.integers(0, 30))
def test_a_constant_acceptance_is_the_closed_formula(rate: float, drafts: int) -> None:
    closed = (1 - rate ** (drafts + 1)) / (1 - rate)
    assert float(expected_tokens(drafts, AcceptanceRate(rate))) == pytest.approx(closed)


@given(first=st.floats(0, 1), decay=st.floats(0.01, 1), drafts=st.integers(0, 30))
def test_a_step_yields_between_one_token_and_all_drafts_plus_one(first: float, decay: float, drafts: int) -> None:
    few, more = expected_tokens([drafts, drafts + 1], AcceptanceRate(first, decay))
    assert 1 <= few <= more <= drafts + 2
    assert few <= drafts + 1


@example(first=0.203125, decay=1.0)
@given(first=st.floats(0.2, 0.98), decay=st.floats(0.6, 1))
def test_the_fit_recovers_the_acceptance_behind_a_curve(first: float, decay: float) -> None:
    curve = expected_tokens(np.arange(1, 9), AcceptanceRate(first, decay))
    assert error(list(curve), fit(curve)) < 1e-4  # curves are measured to three digits


def test_all_accepted_is_every_draft_and_one() -> None:
    assert list(expected_tokens([0, 1, 7], AcceptanceRate(1.0))) == [1, 2, 8]


def test_one_length_alone_says_nothing_about_decay() -> None:
    assert fit([1.8]) == AcceptanceRate(fit([1.8], decaying=False).first, 1.0)
    assert fit([1.8]).first == pytest.approx(0.8, abs=1e-4)


def test_verifying_costs_a_dense_model_nothing_and_an_moe_model_its_experts() -> None:
    def dense(tokens: np.ndarray) -> np.ndarray:
        return np.ones_like(tokens)

    def sparse(tokens: np.ndarray) -> np.ndarray:
        return 0.1 + 0.9 * distinct(tokens, 384, 8) / 384

    batch = np.array([1.0, 16.0, 64.0, 1024.0])
    assert list(cost_ratio(dense, batch, 3)) == [1, 1, 1, 1]
    ratios = cost_ratio(sparse, batch, 3)
    assert ratios[1] > ratios[2] > ratios[3] == pytest.approx(1, abs=1e-6)
    accepted = curves()["kimi-k2-eagle3"].acceptance
    assert np.all(np.diff(gain(sparse, batch[1:], 3, accepted)) > 0)
    assert float(gain(dense, 1, 3, accepted)) == pytest.approx(2.88, rel=0.01)


def test_drafts_cost_time_too() -> None:
    def same(tokens: np.ndarray) -> np.ndarray:
        return np.ones_like(tokens)

    half = float(gain(same, 1, 3, AcceptanceRate(0.0), draft_cost=0.5))
    assert half == pytest.approx(1 / 2.5)


@pytest.mark.parametrize(("first", "decay"), [(-0.1, 1), (1.1, 1), (0.5, 0), (0.5, 1.1), (float("nan"), 1)])
def test_acceptances_out_of_range_raise_an_error(first: float, decay: float) -> None:
    with pytest.raises(ConfigError, match="expected a first acceptance from 0 to 1"):
        AcceptanceRate(first, decay)


def test_numbers_out_of_range_raise_an_error() -> None:
    with pytest.raises(ConfigError, match="whole numbers from 0"):
        expected_tokens(-1, AcceptanceRate(0.5))
    with pytest.raises(ConfigError, match="whole numbers from 0"):
        expected_tokens(1.5, AcceptanceRate(0.5))
    with pytest.raises(ConfigError, match="expected at least one"):
        fit([])
    with pytest.raises(ConfigError, match="each from 1"):
        fit([2.5])
    with pytest.raises(ConfigError, match="a batch of 0: expected more than 0"):
        cost_ratio(lambda tokens: tokens, 0, 1)
    with pytest.raises(ConfigError, match="draft cost of -1: expected 0"):
        gain(lambda tokens: tokens, 1, 1, AcceptanceRate(0.5), draft_cost=-1)
