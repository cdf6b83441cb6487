"""What a limiter raises unexpectedly is reported and goes no further; all else passes."""

import asyncio

import pytest

from mixtura.errors import LimitError, MixturaError
from mixtura.limits.account import FITS
from mixtura.limits.failsafe import FailSafe
from mixtura.limits.store import NoRoomError


class Reports:
    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def report_failure(self, error: Exception) -> None:
        self.errors.append(error)


def test_a_block_without_an_error_reports_nothing() -> None:
    limiter, done = Reports(), []
    with FailSafe(limiter):
        done.append(1)
    assert (done, limiter.errors) == ([1], [])


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("x"), TimeoutError()])
def test_an_unexpected_error_ends_the_block_and_is_reported_each_time(error: Exception) -> None:
    limiter = Reports()
    safe = FailSafe(limiter)
    for _ in range(2):
        with safe:
            raise error
    assert limiter.errors == [error, error]


@pytest.mark.parametrize(
    "error",
    [
        NoRoomError(FITS),
        MixturaError("no"),
        LimitError("no", retry_after=None, window=""),
        asyncio.CancelledError(),
        KeyboardInterrupt(),
    ],
)
def test_what_is_expected_and_what_is_no_error_passes(error: BaseException) -> None:
    limiter = Reports()
    with pytest.raises(type(error)), FailSafe(limiter):
        raise error
    assert limiter.errors == []


def test_where_nothing_is_expected_only_a_cancellation_passes() -> None:
    limiter = Reports()
    with FailSafe(limiter, passes=()):
        raise NoRoomError(FITS)
    with pytest.raises(asyncio.CancelledError), FailSafe(limiter, passes=()):
        raise asyncio.CancelledError
    assert len(limiter.errors) == 1
