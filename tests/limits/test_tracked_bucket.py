"""A bucket that a late reply can correct: what was taken since the reply's call was sent is kept."""

import pytest

from mixtura.limits.tracked_bucket import BucketSnapshot, TrackedBucket
from mixtura.limits.window import LeakyBucket, Window

MINUTE = Window(60.0, 60.0)


def test_what_is_taken_or_counted_is_summed_up_and_drains() -> None:
    bucket = TrackedBucket(MINUTE)
    bucket.take(30.0, 0.0)
    assert bucket.count(10.0, 5.0) == BucketSnapshot(level=35.0, taken=40.0, corrected=0.0)
    assert bucket.level(15.0) == pytest.approx(25.0)


def test_a_clock_that_two_threads_read_does_not_let_a_bucket_drain_twice() -> None:
    bucket = TrackedBucket(MINUTE)
    bucket.count(30.0, 10.0)
    bucket.count(0.0, 9.5)
    bucket.release(0.0, 9.5)
    bucket.uncount(0.0, 9.5)
    assert bucket.level(10.0) == pytest.approx(30.0)


def test_units_the_provider_never_counted_are_gone_for_replies_to_come_as_well() -> None:
    bucket = TrackedBucket(MINUTE)
    snapshot = bucket.count(20.0, 0.0)
    bucket.count(30.0, 0.0)
    bucket.uncount(30.0, 0.0)
    assert bucket.level(0.0) == 20.0
    # The reply of the first call says what was believed of it: nothing is left to correct.
    assert bucket.correct(snapshot, 0.0, 20.0, 0.0) == pytest.approx(-30.0)
    assert bucket.level(0.0) == pytest.approx(50.0)
    assert bucket.corrected == 0.0, "the two corrections cancel out"


def test_units_that_are_given_back_are_a_negative_take_and_never_more_than_there_are() -> None:
    bucket = TrackedBucket(MINUTE)
    snapshot = bucket.count(20.0, 0.0)
    bucket.release(5.0, 0.0)
    assert (bucket.level(0.0), bucket.taken, bucket.corrected) == (15.0, 15.0, 0.0)
    assert bucket.correct(snapshot, 0.0, 20.0, 0.0) == 0.0
    assert bucket.level(0.0) == 15.0
    bucket.release(50.0, 0.0)
    assert (bucket.level(0.0), bucket.taken) == (0.0, 0.0)


def test_a_new_limit_changes_how_fast_a_bucket_drains_from_now_on() -> None:
    bucket = TrackedBucket(MINUTE)
    bucket.count(50.0, 0.0)
    bucket.rescale(120.0, 10.0)
    assert bucket.window == Window(120.0, 60.0)
    assert bucket.level(10.0) == pytest.approx(40.0)
    assert bucket.level(20.0) == pytest.approx(20.0)


def test_a_bucket_may_begin_with_something_in_it() -> None:
    bucket = LeakyBucket(MINUTE, 30.0, 0.0)
    assert bucket.level(10.0) == pytest.approx(20.0)
    assert (bucket.used(9.5), bucket.remaining(9.5)) == (21, 39)
    assert bucket.reset(9.5) == pytest.approx(20.5)
