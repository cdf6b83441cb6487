"""What is said of a call for which there is no room, and what a refusal blocks."""

import asyncio

import pytest

from mixtura.errors import Exceeded, ModelError, OverloadedError, RateLimitedError, RejectedError
from mixtura.limits.account import Account
from mixtura.limits.current import current_limiter
from mixtura.models.served import Accounting
from mixtura.models.wrappers.limited import Limited
from mixtura.virtual import run_virtual
from scripted import FREE, REQUEST, Scripted, completion

ACCOUNTING = Accounting(key="groq/key/m", group="groq/key", limits=FREE, known=True)


def account() -> Account:
    return ACCOUNTING.account(current_limiter())


def test_a_block_without_a_window_is_told_as_a_rate_limit_with_the_time_to_wait() -> None:
    async def main() -> None:
        account().learn_refusal(Exceeded("", 0.0), 40.0, 0.0)
        with pytest.raises(RateLimitedError) as caught:
            await Limited(Scripted(completion()), "groq", ACCOUNTING).chat(REQUEST, deadline=15.0)
        error = caught.value
        assert error.reason == "it would have to wait 40 s for room in its rate limit, only 15 s are left; not sent"
        assert (error.retry_after, error.sent) == (40.0, False)

    run_virtual(main())


def test_a_full_window_is_named_with_its_limit() -> None:
    async def main() -> None:
        account().take(8000, 0.0)
        with pytest.raises(
            RateLimitedError, match=r"for room in 8,000 tokens per minute, only 0\.5 s are left"
        ) as caught:
            await Limited(Scripted(completion()), "groq", ACCOUNTING).chat(REQUEST, deadline=0.5)
        assert caught.value.retry_after == pytest.approx((8000 + 1010 - 8000) / (8000 / 60), abs=0.6)

    run_virtual(main())


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (RejectedError("groq", "m", "no"), 0.0),
        (OverloadedError("groq", "m", "busy", retry_after=20.0), 0.0),
        (RateLimitedError("groq", "m", "slow down"), 0.0),
        (RateLimitedError("groq", "m", "slow down", retry_after=20.0), 20.0),
    ],
)
def test_only_a_rate_limit_that_says_how_long_blocks_the_calls_after_it(error: ModelError, wait: float) -> None:
    async def main() -> None:
        model = Scripted(error, completion(), takes=0.0)
        limited = Limited(model, "groq", ACCOUNTING)
        with pytest.raises(type(error)):
            await limited.chat(REQUEST)
        begun = asyncio.get_running_loop().time()
        await limited.chat(REQUEST)
        assert model.calls[1] - begun == pytest.approx(wait, abs=0.5)

    run_virtual(main())
