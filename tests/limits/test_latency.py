"""Running percentiles of how fast a model is, and the breaker that leaves alone what keeps failing."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.errors import OverloadedError
from mixtura.limits.breaker import CircuitBreaker
from mixtura.limits.latency import ENOUGH, LatencyHistory, RunningPercentiles

BUSY = OverloadedError("groq", "m", "over capacity", status=503)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=100))
def test_percentiles_are_those_of_the_values(values: list[float]) -> None:
    seen = RunningPercentiles()
    for value in values:
        seen.add(value)
    assert seen.at(0.5) == pytest.approx(statistics.median(values))
    assert seen.at(0.0) == min(values)
    assert seen.at(1.0) == max(values)


def test_only_the_latest_values_count() -> None:
    seen = RunningPercentiles(kept=10)
    for value in (*[100.0] * 50, *[1.0] * 10):
        seen.add(value)
    assert (len(seen), seen.at(1.0)) == (10, 1.0)
    assert RunningPercentiles().at(0.5) is None


def test_late_is_said_only_when_enough_calls_are_known() -> None:
    pace = LatencyHistory()
    for number in range(ENOUGH):
        assert pace.late_after(streamed=True) is None
        pace.add(total=2.0, first=0.1 + number / 100, tokens=100)
    assert pace.late_after(streamed=True) == pytest.approx(0.1665)
    assert pace.late_after(streamed=False) == 2.0
    assert pace.rate.at(0.5) == pytest.approx(99 / 1.865, rel=0.01)


def test_a_breaker_opens_after_failures_in_a_row_and_lets_one_try_after_a_pause() -> None:
    breaker = CircuitBreaker(3)
    for _ in range(2):
        breaker.record_failure(BUSY, 0.0)
    breaker.record_success()
    for _ in range(3):
        assert breaker.retry_in(0.0) == 0
        breaker.record_failure(BUSY, 0.0)
    assert breaker.retry_in(0.0) == 1.0
    assert breaker.retry_in(0.4) == pytest.approx(0.6)
    assert breaker.retry_in(1.0) == 0
    breaker.enter(1.0)
    assert breaker.retry_in(1.0) > 0
    breaker.record_success()
    assert breaker.retry_in(1.0) == 0
    assert breaker.healthy


def test_a_breaker_whose_probe_fails_stays_open_twice_as_long_up_to_a_minute() -> None:
    breaker = CircuitBreaker(1)
    breaker.record_failure(BUSY, 0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        pause = breaker.retry_in(now)
        pauses.append(pause)
        now += pause
        breaker.enter(now)
        breaker.record_failure(BUSY, now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_probe_that_is_given_up_frees_the_next_one() -> None:
    breaker = CircuitBreaker(1)
    breaker.record_failure(BUSY, 0.0)
    breaker.enter(1.0)
    breaker.release_probe()
    assert breaker.retry_in(1.0) == 0


def test_a_probe_that_is_never_heard_of_again_blocks_nobody_for_ever() -> None:
    breaker = CircuitBreaker(1)
    breaker.record_failure(BUSY, 0.0)
    breaker.enter(1.0)
    assert breaker.retry_in(1.5) > 0
    assert breaker.retry_in(2.1) == 0


def test_a_clock_set_back_does_not_keep_a_breaker_open() -> None:
    breaker = CircuitBreaker(1)
    breaker.record_failure(BUSY, 10_000.0)
    assert breaker.retry_in(6_400.0) == 0
