"""What a breaker that is open says in a model's place."""

import pytest

from mixtura.errors import OverloadedError, UnreachableError
from mixtura.limits.breaker import CircuitBreaker


def test_a_breaker_says_the_latest_failure_and_for_how_long_it_counts() -> None:
    breaker = CircuitBreaker(2)
    assert breaker.refusal("groq", "m", 0.0) is None
    breaker.record_failure(UnreachableError("groq", "m", "nothing answers"), 0.0)
    assert breaker.refusal("groq", "m", 0.0) is None
    breaker.record_failure(OverloadedError("groq", "m", "over capacity", status=503, code="busy"), 0.0)
    error = breaker.refusal("openai", "n", 0.25)
    assert isinstance(error, OverloadedError)
    assert (error.provider, error.model, error.status, error.code) == ("openai", "n", 503, "busy")
    assert (error.retry_after, error.sent) == (0.75, False)
    assert error.reason == "over capacity; not asked again for 0.75 s after 2 failures in a row"
    assert breaker.refusal("openai", "n", 1.0) is None


@pytest.mark.parametrize(("asked", "told"), [(30.0, 29.5), (0.1, 0.5)])
def test_the_longer_of_its_pause_and_of_what_the_provider_asked_for_is_to_be_waited(asked: float, told: float) -> None:
    breaker = CircuitBreaker(1)
    breaker.record_failure(OverloadedError("groq", "m", "over capacity", retry_after=asked), 10.0)
    error = breaker.refusal("groq", "m", 10.5)
    assert error is not None
    assert error.retry_after == pytest.approx(told)


def test_after_a_success_pauses_begin_at_a_second_again() -> None:
    breaker = CircuitBreaker(1)
    busy = OverloadedError("groq", "m", "over capacity")
    breaker.record_failure(busy, 0.0)
    breaker.enter(1.0)
    breaker.record_failure(busy, 1.0)
    assert breaker.retry_in(1.0) == 2.0
    breaker.enter(3.0)
    breaker.record_success()
    assert (breaker.failures, breaker.healthy, breaker.retry_in(3.0)) == (0, True, 0.0)
    breaker.record_failure(busy, 4.0)
    assert breaker.retry_in(4.0) == 1.0
