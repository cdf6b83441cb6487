"""One call and its limits: headers read, refusals learned from, breakers, and what is never sent at all."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from mixtura.chat import ChatRequest, RateLimitHeaders, Usage
from mixtura.errors import (
    BrokenReplyError,
    Exceeded,
    ModelError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    TooLargeError,
    UnreachableError,
)
from mixtura.limits.current import current_limiter
from mixtura.limits.limiter import Limiter
from mixtura.models.openai.failures import exceeded, rate_limit_headers, retry_after
from mixtura.models.served import Accounting
from mixtura.models.wrappers.limited import Limited
from mixtura.models.wrappers.retry import Retrying, RetryPolicy
from mixtura.virtual import run_virtual
from scripted import FREE, REQUEST, Scripted, completion

ACCOUNTING = Accounting(key="groq/key/m", group="groq/key", limits=FREE, known=True)


def virtually(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return run_virtual(main())


def account(limiter: Limiter | None = None) -> Any:
    return ACCOUNTING.account(limiter or current_limiter())


def test_calls_beyond_the_window_wait_until_it_has_drained() -> None:
    async def main() -> list[float]:
        model = Scripted(completion())
        limited = Limited(model, "groq", ACCOUNTING)
        await asyncio.gather(*(limited.chat(REQUEST) for _ in range(9)))
        return model.calls

    calls = virtually(main)
    assert calls[:7] == [0.0] * 7
    # 1,000 and a few of prompt each: the eighth needs what a minute's tokens leave after some ten seconds.
    assert 0 < calls[7] < calls[8] < 20


def test_a_call_that_would_wait_past_its_deadline_is_not_sent() -> None:
    async def main() -> None:
        model = Scripted(completion())
        limited = Limited(model, "groq", ACCOUNTING)
        account().take(8000, 0.0)
        with pytest.raises(
            RateLimitedError, match=r"it would have to wait .* for room in 8,000 tokens per minute"
        ) as no:
            await limited.chat(REQUEST, deadline=1.0)
        assert not no.value.sent
        assert model.calls == []

    virtually(main)


def test_a_call_larger_than_its_window_is_not_sent_and_says_by_how_much() -> None:
    async def main() -> None:
        model = Scripted(completion())
        big = ChatRequest(model="m", messages=REQUEST.messages, max_tokens=9000)
        with pytest.raises(TooLargeError, match=r"9,0\d\d of 8,000 tokens per minute, 1,0\d\d too many"):
            await Limited(model, "groq", ACCOUNTING).chat(big)
        assert model.calls == []

    virtually(main)


def test_a_refusal_teaches_the_window_and_the_next_attempt_waits_in_line() -> None:
    async def main() -> list[float]:
        refused = RateLimitedError("groq", "m", "Rate limit reached", status=429, retry_after=3.0)
        refused.exceeded = Exceeded("tpm", 8000, 7900)
        model = Scripted(refused, completion())
        retrying = Retrying(Limited(model, "groq", ACCOUNTING), RetryPolicy(), random.Random(1))
        await retrying.chat(REQUEST, deadline=60.0)
        return model.calls

    first, second = virtually(main)
    assert first == 0
    assert second == pytest.approx((7900 + 1010 - 8000) / (8000 / 60), abs=0.6)


def test_a_wait_without_a_window_keeps_every_call_of_its_account_and_no_other() -> None:
    async def main() -> tuple[list[float], list[float]]:
        refused = RateLimitedError("own", "m", "Too many requests", status=429, retry_after=39.0)
        model, other = Scripted(refused, completion(), takes=0.0), Scripted(completion(), takes=0.0)
        unlimited = Limited(model, "own", Accounting(key="own/key/m", group="own/key"))
        with pytest.raises(RateLimitedError):
            await unlimited.chat(REQUEST)
        with pytest.raises(RateLimitedError, match=r"would have to wait 39 s .*, only 5 s are left; not sent") as late:
            await unlimited.chat(REQUEST, deadline=5.0)
        assert (late.value.sent, late.value.retry_after) == (False, 39.0)
        await Limited(other, "own", Accounting(key="own/key/n", group="own/key")).chat(REQUEST)
        await asyncio.gather(*(unlimited.chat(REQUEST, deadline=60.0) for _ in range(3)))
        await unlimited.chat(REQUEST)
        return model.calls, other.calls

    calls, others = virtually(main)
    assert calls == pytest.approx([0.0, 39.0, 39.0, 39.0, 39.0])
    assert others == [0.0]


def test_a_model_that_is_still_loaded_opens_no_breaker() -> None:
    async def main() -> int:
        error = OverloadedError("own", "m", "Loading model", status=503)
        error.loading = True
        model = Scripted(error, takes=0.0)
        limited = Limited(model, "own", Accounting(key="own/key/m", group="own/key"))
        for _ in range(20):
            with pytest.raises(OverloadedError):
                await limited.chat(REQUEST)
        return len(model.calls)

    assert virtually(main) == 20


def test_cached_prompt_tokens_come_back_and_the_rest_of_the_reservation_does_not() -> None:
    async def main() -> None:
        limited = Limited(Scripted(completion(cached=16), takes=0.0), "groq", ACCOUNTING)
        await limited.chat(REQUEST)
        # The window holds the most output, and the prompt as it really was, less what was cached.
        assert account().buckets["tpm"].level(0.0) == pytest.approx(1000 + 20 - 16)

    virtually(main)


def test_the_header_has_the_last_word() -> None:
    async def main() -> None:
        limited = Limited(Scripted(completion(left=5000), takes=0.0), "groq", ACCOUNTING)
        await limited.chat(REQUEST)
        assert account().buckets["tpm"].level(0.0) == pytest.approx(3000)

    virtually(main)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (RejectedError("groq", "m", "no"), False),
        (OverloadedError("groq", "m", "busy"), False),
        (BrokenReplyError("groq", "m", "what?"), True),
        (asyncio.CancelledError, True),
    ],
)
def test_what_the_provider_refused_is_not_counted_and_what_broke_off_is(error: Any, kept: bool) -> None:
    async def main() -> float:
        with pytest.raises((ModelError, asyncio.CancelledError)):
            await Limited(Scripted(error, takes=0.0), "groq", ACCOUNTING).chat(REQUEST)
        assert account().in_flight == 0
        return float(account().buckets["tpm"].level(0.0))

    assert (virtually(main) > 0) is kept


def test_a_refusal_that_says_what_it_took_is_counted() -> None:
    async def main() -> float:
        error = RejectedError("groq", "m", "no")
        error.usage = Usage(prompt_tokens=100)
        with pytest.raises(RejectedError):
            await Limited(Scripted(error, takes=0.0), "groq", ACCOUNTING).chat(REQUEST)
        return float(account().buckets["tpm"].level(0.0))

    assert virtually(main) > 0


def test_a_model_that_keeps_failing_is_left_alone_and_tried_with_one_call() -> None:
    async def main() -> None:
        busy = OverloadedError("groq", "m", "over capacity", status=503)
        model = Scripted(*[busy] * 8, completion(), takes=0.0)
        limited = Limited(model, "groq", ACCOUNTING)
        for _ in range(8):
            with pytest.raises(OverloadedError, match="over capacity"):
                await limited.chat(REQUEST)
        with pytest.raises(OverloadedError, match=r"not asked again for 1 s after 8 failures in a row") as left_alone:
            await limited.chat(REQUEST)
        assert not left_alone.value.sent
        assert left_alone.value.retry_after == pytest.approx(1.0)
        await asyncio.sleep(1.0)
        assert (await limited.chat(REQUEST)).text == "Because."
        assert account().breaker.healthy

    virtually(main)


def test_a_provider_that_cannot_be_reached_is_left_alone_for_all_its_models() -> None:
    async def main() -> None:
        gone = UnreachableError("groq", "m", "nothing answers")
        limited = Limited(Scripted(gone, takes=0.0), "groq", ACCOUNTING)
        sibling = Scripted(completion())
        other = Limited(sibling, "groq", Accounting(key="groq/key/n", group="groq/key"))
        elsewhere = Limited(Scripted(completion()), "openai", Accounting(key="openai/key/n", group="openai/key"))
        for _ in range(8):
            with pytest.raises(UnreachableError):
                await limited.chat(REQUEST)
        with pytest.raises(UnreachableError, match="not asked again"):
            await other.chat(REQUEST)
        assert sibling.calls == []
        await elsewhere.chat(REQUEST)

    virtually(main)


def test_what_this_machine_lacks_opens_no_breaker_and_closes_none() -> None:
    async def main() -> None:
        own = UnreachableError("groq", "m", "no file descriptor left")
        own.sent = own.connected = False
        model = Scripted(own)
        limited = Limited(model, "groq", ACCOUNTING)
        for _ in range(20):
            with pytest.raises(UnreachableError):
                await limited.chat(REQUEST)
        assert len(model.calls) == 20
        assert account().breaker.healthy
        model.replies = [OverloadedError("groq", "m", "busy"), own]
        for _ in range(2):
            with pytest.raises(ModelError):
                await limited.chat(REQUEST)
        assert account().breaker.failures == 1

    virtually(main)


def test_refusals_open_no_breaker() -> None:
    async def main() -> None:
        limited = Limited(Scripted(RejectedError("groq", "m", "no"), takes=0.0), "groq", ACCOUNTING)
        for _ in range(20):
            with pytest.raises(RejectedError, match=": no"):
                await limited.chat(REQUEST)

    virtually(main)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, None),
        (
            {"x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "5987"},
            RateLimitHeaders(None, None, 6000, 5987),
        ),
        ({"x-ratelimit-limit-requests": "14400"}, RateLimitHeaders(14400, None, None, None)),
        ({"x-ratelimit-limit-tokens": "plenty", "x-ratelimit-remaining-tokens": "-1"}, RateLimitHeaders()),
        ({"x-ratelimit-limit-tokens": "nan", "x-ratelimit-remaining-tokens": "inf"}, RateLimitHeaders()),
        ({"x-ratelimit-remaining-tokens": "100"}, None),
    ],
)
def test_headers_are_read_as_far_as_they_are_numbers(headers: dict[str, str], said: RateLimitHeaders | None) -> None:
    assert rate_limit_headers(headers) == said


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("on tokens per minute (TPM): Limit 6000, Used 3547, Requested 3572.", Exceeded("tpm", 6000, 3547)),
        ("on requests per day (RPD): Limit 1000, Used 1000, Requested 1.", Exceeded("rpd", 1000, 1000)),
        ("on tokens per day (TPD): Limit 100000, Used 99386, Requested 692.", Exceeded("tpd", 100_000, 99_386)),
        ("on tokens per minute (TPM): Limit 8000, Requested 66536, please", Exceeded("tpm", 8000, None)),
        ("Too Many Requests", None),
    ],
)
def test_refusals_are_read_as_far_as_they_name_their_window(text: str, window: Exceeded | None) -> None:
    assert exceeded(text) == window


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "7.66"}, 7.66),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "86400"}, 86_400.0),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT", "Date": "Sun, 22 Nov 2026 12:00:00 GMT"}, 30.0),
        ({"Retry-After": "Sun, 22 Nov 2026 11:00:00 GMT", "Date": "Sun, 22 Nov 2026 12:00:00 GMT"}, 0.0),
        ({"Retry-After": "Sun, 22 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 1.5),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize("wait", [0.0, None])
def test_a_provider_that_always_says_at_once_is_not_asked_in_a_tight_loop(wait: float | None) -> None:
    async def main() -> list[float]:
        refused = RateLimitedError("groq", "m", "no", status=429, retry_after=wait)
        model = Scripted(refused, takes=0.0)
        retrying = Retrying(Limited(model, "groq", ACCOUNTING), RetryPolicy(), random.Random(1))
        with pytest.raises(RateLimitedError):
            await retrying.chat(REQUEST, deadline=60.0)
        return model.calls

    calls = virtually(main)
    assert len(calls) <= 20
    assert calls[-1] > 5
