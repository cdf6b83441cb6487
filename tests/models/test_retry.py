import asyncio
import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from mixtura.chat import ChatRequest, Completion, Delta, Message, Timing
from mixtura.errors import (
    BadGenerationError,
    BrokenReplyError,
    ModelError,
    ModelGoneError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TooLargeError,
    UnauthorizedError,
    UnreachableError,
)
from mixtura.models.base import Emit
from mixtura.models.wrappers.retry import Retrying, RetryPolicy
from mixtura.virtual import run_virtual

REQUEST = ChatRequest(model="m", messages=(Message(role="user", content="hi"),))
DONE = Completion(model="m", text="done", timing=Timing(total=1.0, first_token=0.5))
Failing = Callable[[], ModelError]
T = TypeVar("T")


class Scripted:
    """Fails with each given error in turn, then answers; every call takes a second."""

    def __init__(self, *failures: Failing, shown: str = "") -> None:
        self.failures = list(failures)
        self.shown = shown
        self.calls: list[float] = []

    async def chat(
        self, request: ChatRequest, *, emit: Emit | None = None, deadline: float | None = None
    ) -> Completion:
        self.calls.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1.0)
        if self.shown and emit is not None:
            emit(Delta(self.shown))
        if self.failures:
            error = self.failures.pop(0)()
            raise error
        return DONE


def failing(kind: type[ModelError] = OverloadedError, wait: float | None = None) -> Failing:
    return lambda: kind("p", "m", "no", retry_after=wait)


def limited(wait: float | None) -> Failing:
    return failing(RateLimitedError, wait)


def retrying(model: Scripted, **policy: Any) -> Retrying:
    return Retrying(model, RetryPolicy(**policy), random.Random(7))


def virtually(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return run_virtual(main())


def test_a_first_success_is_passed_on_as_it_is() -> None:
    model = Scripted()
    assert virtually(lambda: retrying(model).chat(REQUEST)) is DONE
    assert len(model.calls) == 1


@pytest.mark.parametrize("kind", [UnreachableError, OverloadedError, BrokenReplyError, BadGenerationError])
def test_passing_failures_are_tried_again_after_growing_pauses(kind: type[ModelError]) -> None:
    model = Scripted(*[failing(kind)] * 3)
    completion = virtually(lambda: retrying(model).chat(REQUEST))
    pauses = [later - earlier - 1.0 for earlier, later in itertools.pairwise(model.calls)]
    assert [0.125 <= pauses[0] <= 0.25, 0.25 <= pauses[1] <= 0.5, 0.5 <= pauses[2] <= 1.0] == [True] * 3
    assert completion.attempts == 4
    assert completion.timing.waited == pytest.approx(sum(pauses))
    assert completion.timing.total == pytest.approx(4.0 + sum(pauses))
    assert completion.timing.first_token == pytest.approx(3.5 + sum(pauses))


def alike() -> ModelError:
    error = BrokenReplyError("p", "m", "no choices")
    error.alike = True
    return error


@pytest.mark.parametrize("before", [[], [failing()], [failing(UnreachableError), failing()]])
def test_a_reply_that_came_whole_and_is_none_is_asked_for_once_more_and_not_more_often(before: list[Failing]) -> None:
    model = Scripted(*before, *[alike] * 9)
    with pytest.raises(BrokenReplyError) as caught:
        virtually(lambda: retrying(model, patient=True).chat(REQUEST, deadline=600.0))
    assert caught.value.attempts == len(model.calls) == len(before) + 2
    assert virtually(lambda: retrying(Scripted(alike)).chat(REQUEST)).attempts == 2


def test_after_the_last_attempt_the_error_is_raised_with_their_number() -> None:
    model = Scripted(*[failing()] * 9)
    with pytest.raises(OverloadedError) as caught:
        virtually(lambda: retrying(model, attempts=3).chat(REQUEST))
    assert (caught.value.attempts, len(model.calls)) == (3, 3)


def gone() -> ModelError:
    return ModelGoneError("p", "m", "no")


@pytest.mark.parametrize("failure", [gone, failing(RejectedError), failing(TooLargeError), failing(UnauthorizedError)])
def test_failures_that_do_not_pass_are_raised_at_once(failure: Failing) -> None:
    model = Scripted(failure)
    with pytest.raises(type(failure())):
        virtually(lambda: retrying(model).chat(REQUEST))
    assert len(model.calls) == 1


@pytest.mark.parametrize("wait", [0.0, 0.5, 61.0, 420.0])
def test_a_rate_limit_is_waited_for_as_long_as_the_provider_says_when_there_is_time(wait: float) -> None:
    model = Scripted(limited(wait))
    completion = virtually(lambda: retrying(model).chat(REQUEST, deadline=1000.0))
    assert model.calls[1] == pytest.approx(1.0 + wait)
    assert completion.timing.waited == pytest.approx(wait)


def test_a_wait_past_the_deadline_is_not_begun_and_says_how_long_it_would_be() -> None:
    model = Scripted(limited(420.0))
    with pytest.raises(RateLimitedError, match=r"would have to wait 420 s, only 9 s are left: no") as caught:
        virtually(lambda: retrying(model).chat(REQUEST, deadline=10.0))
    assert caught.value.retry_after == 420.0
    assert len(model.calls) == 1


def test_without_a_deadline_a_wait_is_bounded_by_the_policy() -> None:
    assert virtually(lambda: retrying(Scripted(limited(60.0))).chat(REQUEST)).attempts == 2
    with pytest.raises(RateLimitedError, match="would have to wait 61 s, without a deadline at most 60 s"):
        virtually(lambda: retrying(Scripted(limited(61.0))).chat(REQUEST))


def test_without_a_deadline_all_waits_together_are_bounded() -> None:
    model = Scripted(limited(25.0), limited(25.0), limited(25.0))
    with pytest.raises(RateLimitedError, match="would have to wait 25 s"):
        virtually(lambda: retrying(model).chat(REQUEST))
    assert len(model.calls) == 3


def test_waits_for_a_shared_limit_do_not_use_up_the_attempts() -> None:
    model = Scripted(*[limited(2.0)] * 9, failing(), failing())
    completion = virtually(lambda: retrying(model, attempts=3).chat(REQUEST, deadline=1000.0))
    assert completion.attempts == 12


def test_a_limit_that_never_lets_a_call_through_is_given_up_at_the_deadline_and_not_asked_in_a_tight_loop() -> None:
    model = Scripted(*[limited(0.3)] * 999)
    with pytest.raises(RateLimitedError) as caught:
        virtually(lambda: retrying(model, waits=5).chat(REQUEST, deadline=100.0))
    assert caught.value.attempts == len(model.calls)
    assert 100 > model.calls[-1] > 85
    assert len(model.calls) < 20


def test_a_rate_limit_is_waited_for_as_often_as_the_deadline_allows() -> None:
    model = Scripted(*[limited(5.0)] * 30)
    assert virtually(lambda: retrying(model).chat(REQUEST, deadline=300.0)).attempts == 31


def test_a_rate_limit_that_names_no_wait_is_backed_off_from() -> None:
    model = Scripted(limited(None))
    virtually(lambda: retrying(model).chat(REQUEST))
    assert 1.125 <= model.calls[1] <= 1.25


def test_an_overload_that_names_a_wait_is_given_it() -> None:
    model = Scripted(failing(OverloadedError, 5.0))
    virtually(lambda: retrying(model).chat(REQUEST))
    assert model.calls[1] == pytest.approx(6.0)


def test_a_pause_never_outlives_the_deadline() -> None:
    model = Scripted(*[failing()] * 99)

    async def clocked() -> float:
        with pytest.raises(OverloadedError):
            await retrying(model, attempts=99).chat(REQUEST, deadline=20.0)
        return asyncio.get_running_loop().time()

    ended = virtually(clocked)
    assert all(call < 20.0 for call in model.calls)
    assert ended <= 21.0


def test_pauses_are_capped() -> None:
    policy = RetryPolicy()
    assert all(policy.pause(attempt, random.Random(attempt)) <= 8.0 for attempt in range(1, 80))


def test_nothing_is_tried_again_once_a_piece_was_shown() -> None:
    model = Scripted(failing(), shown="half")
    seen: list[Delta] = []
    with pytest.raises(OverloadedError) as caught:
        virtually(lambda: retrying(model).chat(REQUEST, emit=seen.append))
    assert (seen, len(model.calls), caught.value.attempts) == ([Delta("half")], 1, 1)


def test_a_stream_that_fails_before_its_first_piece_is_tried_again() -> None:
    model = Scripted(failing())
    assert virtually(lambda: retrying(model).chat(REQUEST, emit=lambda delta: None)).attempts == 2


def test_a_cancelled_wait_ends_at_once() -> None:
    model = Scripted(limited(50.0))

    async def cancelled() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await retrying(model).chat(REQUEST)
        return asyncio.get_running_loop().time()

    assert virtually(cancelled) == pytest.approx(5.0)
    assert len(model.calls) == 1


def test_a_patient_call_waits_for_a_machine_that_loads_its_model() -> None:
    model = Scripted(*[failing(OverloadedError)] * 12)
    assert virtually(lambda: retrying(model, patient=True).chat(REQUEST, deadline=300.0)).attempts == 13
    assert model.calls[-1] > 20
    broken = Scripted(*[failing(BrokenReplyError)] * 12)
    with pytest.raises(BrokenReplyError):
        virtually(lambda: retrying(broken, patient=True).chat(REQUEST, deadline=300.0))
    assert len(broken.calls) == 4


def loading(wait: float | None = None) -> ModelError:
    error = OverloadedError("p", "m", "Loading model", retry_after=wait)
    error.loading = True
    return error


def test_a_model_that_is_still_loaded_is_waited_for_wherever_it_is() -> None:
    model = Scripted(*[loading] * 12)
    assert virtually(lambda: retrying(model).chat(REQUEST, deadline=300.0)).attempts == 13
    assert model.calls[-1] > 20


def test_a_guess_of_how_long_a_model_loads_is_heeded_and_never_a_reason_to_give_up() -> None:
    heeded = Scripted(lambda: loading(20.0))
    virtually(lambda: retrying(heeded).chat(REQUEST, deadline=300.0))
    assert heeded.calls[1] == pytest.approx(21.0)
    early = Scripted(*[lambda: loading(600.0)] * 5)
    assert virtually(lambda: retrying(early).chat(REQUEST, deadline=60.0)).attempts == 6


def test_a_wait_of_hours_is_written_in_hours() -> None:
    with pytest.raises(RateLimitedError, match=r"would have to wait 11 h 7 min, only 9 s are left: no"):
        virtually(lambda: retrying(Scripted(limited(40_000.0))).chat(REQUEST, deadline=10.0))


def test_the_time_of_a_call_counts_from_its_first_attempt() -> None:
    async def late() -> Completion:
        await asyncio.sleep(100.0)
        return await retrying(Scripted(limited(5.0))).chat(REQUEST)

    completion = virtually(late)
    assert completion.timing.waited >= 5.0
    assert completion.timing.total == pytest.approx(1.0 + completion.timing.waited + 1.0)


def test_of_failures_the_last_that_was_sent_is_the_cause() -> None:
    def unsent(reason: str, wait: float) -> Failing:
        def made() -> ModelError:
            error = RateLimitedError("p", "m", reason, retry_after=wait)
            error.sent = False
            return error

        return made

    model = Scripted(failing(OverloadedError), unsent("first", 1.0), unsent("second", 900.0))
    with pytest.raises(RateLimitedError) as caught:
        virtually(lambda: retrying(model).chat(REQUEST, deadline=60.0))
    assert "second" in caught.value.reason
    assert "first" not in caught.value.reason
    assert isinstance(caught.value.__cause__, ModelError)
