"""What failed attempts took: it is billed and stays counted; and a probe that is stopped frees the next."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from mixtura.chat import ChatRequest, Completion, Usage
from mixtura.engine.progress import Progress
from mixtura.errors import BrokenReplyError, ModelError, OverloadedError, RateLimitedError, RejectedError
from mixtura.limits.current import current_limiter
from mixtura.models.card import Price
from mixtura.models.served import Accounting
from mixtura.models.wrappers.limited import Limited
from mixtura.models.wrappers.priced import Priced
from mixtura.models.wrappers.retry import Retrying, RetryPolicy
from mixtura.virtual import run_virtual
from scripted import FREE, REQUEST, Scripted, completion

ACCOUNTING = Accounting(key="groq/key/m", group="groq/key", limits=FREE, known=True)
PRICE = Price(input=1.0, output=2.0)
FIRST = Usage(prompt_tokens=20, completion_tokens=7)
SECOND = Usage(prompt_tokens=20, completion_tokens=11)


def failed(kind: type[ModelError], usage: Usage | None) -> ModelError:
    error = kind("groq", "m", "no")
    error.usage = usage
    return error


def retrying(*replies: Completion | ModelError, attempts: int = 4) -> Retrying:
    return Retrying(Scripted(*replies), RetryPolicy(attempts=attempts), random.Random(1))


def test_a_completion_costs_what_the_attempts_before_it_took_as_well() -> None:
    once = run_virtual(Priced(retrying(completion()), PRICE).chat(REQUEST))
    broken = [failed(BrokenReplyError, FIRST), failed(OverloadedError, None), failed(BrokenReplyError, SECOND)]
    answered = run_virtual(Priced(retrying(*broken, completion()), PRICE).chat(REQUEST))
    assert answered.wasted == FIRST + SECOND
    assert answered.cost is not None
    assert once.cost is not None
    assert answered.cost == pytest.approx(once.cost + PRICE.cost(FIRST) + PRICE.cost(SECOND))


@pytest.mark.parametrize("attempts", [1, 2])
def test_an_error_carries_what_all_attempts_took(attempts: int) -> None:
    broken = (failed(BrokenReplyError, FIRST), failed(BrokenReplyError, SECOND))
    with pytest.raises(BrokenReplyError) as caught:
        run_virtual(retrying(*broken, attempts=attempts).chat(REQUEST))
    assert caught.value.usage == (FIRST if attempts == 1 else FIRST + SECOND)


def test_an_error_that_is_not_waited_for_carries_what_the_attempts_before_it_took() -> None:
    late = RateLimitedError("groq", "m", "no", retry_after=90.0)
    with pytest.raises(RateLimitedError, match="would have to wait 90 s") as caught:
        run_virtual(retrying(failed(BrokenReplyError, FIRST), late).chat(REQUEST, deadline=30.0))
    assert caught.value.usage == FIRST


def test_whoever_stops_a_call_knows_what_its_attempts_have_taken_by_then() -> None:
    progress = Progress("groq", "m")
    asked = ChatRequest(model="m", messages=REQUEST.messages, context=progress)

    async def main() -> None:
        model = retrying(failed(BrokenReplyError, FIRST), failed(BrokenReplyError, SECOND), completion())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.chat(asked), 0.25)

    run_virtual(main())
    assert progress.wasted == FIRST


@pytest.mark.parametrize("kind", [OverloadedError, RejectedError])
@pytest.mark.parametrize("usage", [None, FIRST])
def test_a_refusal_that_took_something_stays_counted(kind: type[ModelError], usage: Usage | None) -> None:
    async def main() -> Any:
        limiter = current_limiter()
        with pytest.raises(kind):
            await Limited(Scripted(failed(kind, usage), takes=0.0), "groq", ACCOUNTING).chat(REQUEST)
        account = ACCOUNTING.account(limiter)
        assert account.in_flight == 0
        return account.buckets["tpm"].level(0.0)

    assert (run_virtual(main()) > 0) is (usage is not None)


@pytest.mark.parametrize("estimated", [False, True])
def test_what_the_headers_say_counts_also_where_the_usage_is_an_estimate(estimated: bool) -> None:
    async def main() -> float:
        usage = Usage(prompt_tokens=20, completion_tokens=100, estimated=estimated)
        said = msgspec.structs.replace(completion(left=5000), usage=usage)
        await Limited(Scripted(said, takes=0.0), "groq", ACCOUNTING).chat(REQUEST)
        account = ACCOUNTING.account(current_limiter())
        assert (account.ratio == 1.0) is estimated, "an estimate teaches nothing about estimates"
        return float(account.buckets["tpm"].level(0.0))

    assert run_virtual(main()) == pytest.approx(3000.0)


def test_a_probe_that_is_stopped_lets_the_next_call_probe() -> None:
    async def main() -> None:
        busy = OverloadedError("groq", "m", "over capacity")
        model = Scripted(*[busy] * 8, completion(), takes=1.0)
        limited = Limited(model, "groq", ACCOUNTING)
        await asyncio.gather(*(limited.chat(REQUEST) for _ in range(7)), return_exceptions=True)
        with pytest.raises(OverloadedError, match="over capacity"):
            await limited.chat(REQUEST, deadline=300.0)
        with pytest.raises(OverloadedError, match="not asked again"):
            await limited.chat(REQUEST, deadline=300.0)
        await asyncio.sleep(1.1)
        probe = asyncio.create_task(limited.chat(REQUEST))
        await asyncio.sleep(0.1)
        with pytest.raises(OverloadedError, match="not asked again"):
            await limited.chat(REQUEST)
        probe.cancel()
        await asyncio.wait([probe])
        assert (await limited.chat(REQUEST)).text == "Because."

    run_virtual(main())
