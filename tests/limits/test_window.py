"""Leaky buckets and Go durations, held against recorded figures and against their own laws."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtura.limits.window import LeakyBucket, Window, go_duration, parse_duration

DAY, MINUTE = 86_400.0, 60.0

limits = st.integers(1, 1_000_000)
spans = st.sampled_from([1.0, MINUTE, 3600.0, DAY])
moments = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("limit", "seconds", "level", "remaining", "reset"),
    [
        (14_400, DAY, 1, 14_399, "6s"),
        (14_400, DAY, 2.9, 14_397, "17.4s"),
        (14_400, DAY, 29.93, 14_370, "2m59.58s"),
        (1_000, DAY, 1, 999, "1m26.4s"),
        (6_000, MINUTE, 13, 5_987, "130ms"),
        (30_000, MINUTE, 13, 29_987, "26ms"),
    ],
)
def test_recorded_headers_follow_from_the_level(
    limit: float, seconds: float, level: float, remaining: int, reset: str
) -> None:
    window = Window(limit, seconds)
    assert window.remaining(level) == remaining
    assert go_duration(window.reset(level)) == reset


@pytest.mark.parametrize(
    ("limit", "seconds", "used", "requested", "wait"),
    [
        (6_000, MINUTE, 3_547, 3_572, "11.19s"),
        (100_000, DAY, 99_386, 692, "1m7.391999999s"),
        (30, MINUTE, 30, 1, "2s"),
    ],
)
def test_recorded_waits_follow_from_used_and_requested(
    limit: float, seconds: float, used: int, requested: int, wait: str
) -> None:
    assert go_duration(Window(limit, seconds).wait(used, requested)) == wait


def test_more_than_the_limit_never_fits() -> None:
    assert Window(6_000, MINUTE).wait(0, 6_001) == math.inf
    assert Window(6_000, MINUTE).wait(0, 6_000) == 0


@given(limits, spans, st.lists(st.tuples(st.floats(0, 100), st.integers(1, 500)), max_size=30))
def test_waiting_as_long_as_told_is_enough(limit: int, seconds: float, calls: list[tuple[float, int]]) -> None:
    bucket, now = LeakyBucket(Window(limit, seconds)), 0.0
    for pause, amount in calls:
        now += pause
        asked = min(amount, limit)
        now += bucket.wait(asked, now)
        assert bucket.wait(asked, now) < 1e-6
        bucket.take(asked, now)
        assert bucket.level(now) <= limit + 1e-3


@given(limits, spans, st.lists(st.integers(1, 100), min_size=1, max_size=50))
def test_admitted_units_in_any_window_stay_under_twice_the_limit(
    limit: int, seconds: float, amounts: list[int]
) -> None:
    bucket, now, taken = LeakyBucket(Window(limit, seconds)), 0.0, 0.0
    for amount in amounts:
        asked = min(amount, limit)
        now += bucket.wait(asked, now)
        bucket.take(asked, now)
        taken += asked
        assert taken <= limit + limit * now / seconds + 1e-3


@given(limits, spans, moments, st.floats(0, 1e6), st.integers(0, 1000))
def test_a_level_only_sinks_and_is_empty_when_the_reset_says(
    limit: int, seconds: float, now: float, later: float, amount: int
) -> None:
    bucket = LeakyBucket(Window(limit, seconds))
    bucket.take(amount, now)
    assert 0 <= bucket.level(now + later) <= bucket.level(now) == amount
    assert bucket.level(now + bucket.reset(now)) <= 1e-3
    assert bucket.remaining(now) == max(0, limit - amount)
    assert bucket.used(now) == amount


def test_a_started_unit_counts_as_a_whole() -> None:
    bucket = LeakyBucket(Window(30, MINUTE))
    bucket.take(2, 0.0)
    assert bucket.used(1.0) == 2
    assert bucket.used(2.0) == 1
    assert bucket.remaining(1.0) == 28


def test_units_can_be_given_back_but_never_below_nothing() -> None:
    bucket = LeakyBucket(Window(60, MINUTE))
    bucket.take(10, 0.0)
    bucket.give_back(4, 0.0)
    assert bucket.level(0.0) == 6
    bucket.give_back(100, 1.0)
    assert bucket.level(1.0) == 0


def test_a_providers_header_replaces_the_level() -> None:
    bucket = LeakyBucket(Window(6_000, MINUTE))
    bucket.observe(1_000, 5.0)
    assert bucket.used(5.0) == 5_000
    assert bucket.level(15.0) == 4_000


def test_time_that_goes_back_frees_nothing() -> None:
    bucket = LeakyBucket(Window(60, MINUTE))
    bucket.take(10, 100.0)
    assert bucket.level(50.0) == 10


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-9, "1ns"),
        (1.5e-6, "1.5µs"),
        (0.026, "26ms"),
        (0.130, "130ms"),
        (6, "6s"),
        (86.4, "1m26.4s"),
        (120, "2m0s"),
        (5103.847, "1h25m3.847s"),
        (3600, "1h0m0s"),
        (-1.5, "-1.5s"),
    ],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("17.399999999s", 17.399999999), ("7.66", 7.66), ("0", 0.0), (" 2m59.56s ", 179.56), (".5s", 0.5), ("3us", 3e-6)],
)
def test_durations_and_plain_seconds_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize("text", ["", "s", "1m 2s", "abc", "1x", "--1s", "1s2", "inf", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(0, 10**15))
def test_a_written_duration_reads_back(nanos: int) -> None:
    assert parse_duration(go_duration(nanos / 1e9)) == pytest.approx(nanos / 1e9, abs=2e-9, rel=1e-12)
