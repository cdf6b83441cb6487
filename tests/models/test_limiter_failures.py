"""A limiter, or its store, is anybody's code: what it raises costs the counting of a call, never its answer."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from mixtura.errors import BrokenReplyError, RateLimitedError
from mixtura.limits.account import Account
from mixtura.limits.limiter import Limiter
from mixtura.limits.memory import MemoryStore
from mixtura.limits.queue import Need
from mixtura.limits.window import Limits
from mixtura.models.served import Accounting
from mixtura.models.wrappers.limited import Limited
from mixtura.virtual import run_virtual
from scripted import FREE, REQUEST, Scripted, completion

OPERATIONS = ("account", "breaker", "send", "settle", "refused", "lost", "release")


def raise_error(*_: Any, **__: Any) -> Any:
    raise RuntimeError("boom, with gsk_abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnop")


class FailingLimiter(Limiter):
    """Raises in the operations it is told to; the coroutines among them raise when they are awaited, or at once."""

    def __init__(self, *operations: str) -> None:
        super().__init__()
        for name in operations:
            setattr(self, name, raise_error)


class FailingStore(MemoryStore):
    """The same below a limiter that is sound."""

    def __init__(self, *operations: str) -> None:
        super().__init__()
        for name in operations:
            setattr(self, name, raise_error)


def limited(limiter: Limiter, *replies: Any, limits: Limits | None = FREE) -> Limited:
    accounting = Accounting(key="k/m", group="k", limits=limits, known=limits is not None, keeper=limiter)
    return Limited(Scripted(*replies, takes=0.0), "groq", accounting)


MADE: list[Callable[[str], Limiter]] = [FailingLimiter, lambda name: Limiter(FailingStore(name))]
NAMES = {"send": "take"}


@pytest.mark.parametrize("of_store", [False, True])
@pytest.mark.parametrize("operation", ["account", "send", "settle"])
def test_a_limiter_that_raises_loses_no_answer(
    operation: str, of_store: bool, caplog: pytest.LogCaptureFixture
) -> None:
    name = NAMES.get(operation, operation) if of_store else operation
    limiter = MADE[of_store](name)

    async def main() -> None:
        model = limited(limiter, completion(left=5000))
        for _ in range(3):
            assert (await model.chat(REQUEST)).text == "Because."

    run_virtual(main())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "RuntimeError: boom" in caplog.text
    assert "gsk_abc" not in caplog.text
    assert limiter.degraded
    assert limiter.problem.startswith("the limiter raised RuntimeError: boom")
    assert all(account.in_flight == 0 for account in limiter.accounts.values())


def test_a_limiter_without_breakers_loses_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    limiter = FailingLimiter("breaker")
    assert run_virtual(limited(limiter, completion()).chat(REQUEST)).text == "Because."
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("refused", RateLimitedError("groq", "m", "no", status=429)),
        ("lost", BrokenReplyError("groq", "m", "what?")),
        ("lost", asyncio.CancelledError()),
    ],
)
def test_a_call_that_fails_says_why_though_the_limiter_fails_too(
    operation: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = FailingLimiter(operation)

    async def main() -> None:
        with pytest.raises(type(error)):
            await limited(limiter, error).chat(REQUEST)

    run_virtual(main())
    assert limiter.accounts["k/m"].in_flight == 0
    assert len(caplog.records) == 1


def test_a_call_after_a_failure_is_counted_again() -> None:
    limiter = FailingLimiter("account", "send")

    async def main() -> None:
        model = limited(limiter, completion(left=5000))
        await model.chat(REQUEST)
        assert not limiter.accounts
        del limiter.account, limiter.send
        await model.chat(REQUEST)

    run_virtual(main())
    assert limiter.accounts["k/m"].buckets["tpm"].level(0.0) == 3000


def test_what_a_limiter_says_on_purpose_is_no_failure() -> None:
    limiter = Limiter()

    async def main() -> None:
        limiter.account("k/m", FREE, known=True).take(8000, 0.0)
        with pytest.raises(RateLimitedError, match="not sent"):
            await limited(limiter, completion()).chat(REQUEST, deadline=1.0)

    run_virtual(main())
    assert not limiter.degraded
    assert limiter.problem == ""


def test_a_cancelled_wait_for_room_is_cancelled() -> None:
    limiter = Limiter()

    async def main() -> None:
        limiter.account("k/m", FREE, known=True).take(8000, 0.0)
        waiting = asyncio.create_task(limited(limiter, completion()).chat(REQUEST))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert limiter.queue.ahead("k/m", 2) == (0, 0)  # type: ignore[arg-type]  # any priority

    run_virtual(main())
    assert not limiter.degraded


@pytest.mark.parametrize("of_store", [False, True])
def test_a_run_that_ends_is_not_lost_to_a_hold_that_cannot_be_closed(
    of_store: bool, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = MADE[of_store]("release")

    async def main() -> None:
        limiter.account("k/m", FREE, known=True)
        hold = await limiter.admit([Need("k/m", 1000)], owed={"k/m": 10})
        await hold.close()
        assert limiter.accounts["k/m"].owed_tokens == 0

    run_virtual(main())
    assert len(caplog.records) == 1
    assert limiter.degraded


def test_an_account_that_cannot_be_opened_limits_nothing() -> None:
    limiter = FailingLimiter("account")
    account = Accounting(key="k/m", group="k", limits=FREE, known=True, keeper=limiter).account(limiter)
    assert isinstance(account, Account)
    assert account.unlimited


def test_the_traceback_is_there_for_the_one_who_debugs_a_limiter(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mixtura")
    run_virtual(limited(FailingLimiter("settle"), completion(left=1)).chat(REQUEST))
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]
    assert "raise RuntimeError" in caplog.text
