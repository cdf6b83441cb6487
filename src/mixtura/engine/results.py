"""How calls end: as a draft or another whole reply, as a failure, or stopped; and what each of them took."""

import contextlib
import math
from typing import Any

import msgspec

from mixtura.answer_format import AnswerFormat, canonical
from mixtura.chat import Completion, Timing, Usage
from mixtura.engine import agree, answers
from mixtura.engine.answers import Expected
from mixtura.engine.ask import Ask
from mixtura.engine.context import Run
from mixtura.engine.progress import Progress
from mixtura.errors import LoopedError, ModelError, TimedOutError
from mixtura.events import Call, CallFailed, CallFinished, Draft, Failure
from mixtura.limits.account import Account
from mixtura.planning.schedule import output_limit
from mixtura.recipe import Proposer
from mixtura.tokens import estimate_messages

LEAST_PARTIAL = 80
"""Characters below which what a stopped call had written says too little to be shown to anybody."""


def timeout_error(run: Run, ask: Ask, until: float) -> TimedOutError:
    """Return the error of a call that was stopped at `until`."""
    seconds = until - run.start
    return TimedOutError(ask.slot.provider, ask.slot.model, f"no whole answer within {seconds:.3g} s of the run")


def loop_error(progress: Progress) -> LoopedError | None:
    """Return the error of a call that repeats itself without end; None for one that does not."""
    loop = None if progress.loops is None else progress.loops.loop
    return None if loop is None else LoopedError(progress.provider, progress.model, f"it repeats itself: {loop}")


def emit_failed(run: Run, number: int, ask: Ask, error: ModelError, progress: Progress) -> None:
    """Say that a call failed for good, and what it will be billed for all the same."""
    usage = error.usage
    if usage is None and isinstance(error, TimedOutError | LoopedError):
        usage = usage_so_far(run, ask, progress)
    lost = _failure(number, ask, error.kind, error.reason)
    lost = msgspec.structs.replace(lost, status=error.status, attempts=error.attempts)
    _emit_failure(run, lost, progress, usage)


def emit_abandoned(
    run: Run, number: int, ask: Ask, reason: str, progress: Progress, whole: Completion | ModelError | None = None
) -> None:
    """Say that a call was stopped because nobody waits for it any more, and what it took until then.

    Args:
        run: the run it belongs to.
        number: its number.
        ask: what was asked.
        reason: why nobody waits, in words.
        progress: how far it came.
        whole: its reply, where it was whole all the same.
    """
    usage = usage_so_far(run, ask, progress)
    lost = _failure(number, ask, "abandoned", reason)
    if isinstance(whole, Completion):
        usage = whole.usage if whole.wasted is None else whole.usage + whole.wasted
        lost = lost if whole.charged is None else msgspec.structs.replace(lost, cost=whole.cost)
    _emit_failure(run, lost, progress, usage)


def _failure(number: int, ask: Ask, kind: str, reason: str) -> Failure:
    slot = ask.slot
    return Failure(
        call=number, role=ask.role, model=slot.model, provider=slot.provider, kind=kind, reason=reason, layer=ask.layer
    )


def _emit_failure(run: Run, lost: Failure, progress: Progress, usage: Usage | None) -> None:
    if usage is not None:
        cost = _price(run, progress, usage) if lost.cost is None else lost.cost
        lost = msgspec.structs.replace(lost, usage=usage, cost=cost)
    run.emit(CallFailed(at=run.now, failure=lost))


def _price(run: Run, progress: Progress, usage: Usage) -> float | None:
    price = run.models.card(progress.provider, progress.model).price
    return None if price is None else price.cost(usage)


def usage_so_far(run: Run, ask: Ask, progress: Progress) -> Usage | None:
    """Return what a call that was stopped will be billed for, as far as anybody here can know; None for nothing.

    A streamed call is billed for the pieces it sent, one that was not for the time that it was left to write; both for
    what attempts before took.
    """
    progress.catch_up()
    prompt = written = 0
    if progress.since is not None and (progress.pieces or not progress.streamed):
        account = run.account(progress.provider, progress.model)
        prompt += math.ceil(estimate_messages(ask.messages) * (1.0 if account is None else account.ratio))
        written += progress.pieces or _written(run, ask, progress, account)
    if not (prompt or written):
        return progress.wasted
    usage = Usage(prompt_tokens=prompt, completion_tokens=written, estimated=True)
    return usage if progress.wasted is None else progress.wasted + usage


def _written(run: Run, ask: Ask, progress: Progress, account: Account | None) -> int:
    """Return the tokens that a call which is not streamed may have written since it was sent, by its model's pace."""
    rate = None if account is None else account.latency.rate.at(0.5)
    since = progress.since
    if account is None or rate is None or since is None:
        return 0
    writing = run.loop.time() - since - (account.latency.first.at(0.5) or 0.0)
    card = run.models.card(progress.provider, progress.model)
    limit = output_limit(ask.slot, card, ask.role, ask.options)
    # Without a limit nothing says how long it would have become but the longest reply of its model so far.
    most = limit if limit is not None else account.latency.tokens.at(1.0) or 0.0
    return int(min(max(0.0, writing) * rate, most))


def partial_draft(run: Run, number: int, ask: Ask, progress: Progress, why: str) -> Draft | None:
    """Return what a stopped call had written as an incomplete draft; None when that is too little to be of use."""
    progress.catch_up()
    text = progress.text if progress.loops is None else progress.loops.before(progress.text)
    if len(text.strip()) < LEAST_PARTIAL:
        return None
    usage = usage_so_far(run, ask, progress) or Usage(estimated=True)
    begun = progress.last if progress.since is None else progress.since
    completion = Completion(
        model=progress.model,
        text=text,
        reasoning=progress.reasoning,
        finish_reason="unknown",
        usage=usage,
        cost=_price(run, progress, usage),
        timing=Timing(total=run.loop.time() - begun),
    )
    return Draft(
        **_common(number, ask, completion),
        layer=ask.layer,
        weight=ask.slot.weight if isinstance(ask.slot, Proposer) else 1.0,
        incomplete=why,
    )


def make_draft(
    number: int, ask: Ask, completion: Completion, *, expected: Expected = "", form: AnswerFormat | None = None
) -> Draft:
    """Return a proposer's completion as a draft, its final answer extracted (see `answers.find`).

    With a `form` that states no answer of its own, all of the JSON is the final answer.
    """
    choice, sure = "", True
    if not agree.refuses(completion.text):
        found = answers.find(completion.text, expected if form is None else "")
        if found.value is not None:
            choice, sure = str(found.value), found.sure
        elif form is not None:
            with contextlib.suppress(ValueError):
                choice = canonical(form.value(completion.text))
    return Draft(
        **_common(number, ask, completion),
        layer=ask.layer,
        weight=ask.slot.weight if isinstance(ask.slot, Proposer) else 1.0,
        choice=choice,
        sure=sure,
    )


def emit_finished(run: Run, number: int, ask: Ask, completion: Completion) -> None:
    """Say that a call other than a proposer's is whole."""
    run.emit(CallFinished(at=run.now, done=Call(**_common(number, ask, completion))))


def emit_whole(run: Run, number: int, ask: Ask, completion: Completion) -> None:
    """Say that a call is whole that nobody waits for any more."""
    if ask.role in ("proposer", "escalation"):
        run.emit(CallFinished(at=run.now, done=make_draft(number, ask, completion)))
    else:
        emit_finished(run, number, ask, completion)


def _common(number: int, ask: Ask, completion: Completion) -> dict[str, Any]:
    return {
        "call": number,
        "role": ask.role,
        "model": ask.slot.model,
        "provider": ask.slot.provider,
        "answered_by": completion.model,
        "text": completion.text,
        "reasoning": completion.reasoning,
        "finish_reason": completion.finish_reason,
        "tool_calls": completion.tool_calls,
        "usage": completion.usage,
        "cost": completion.cost,
        "timing": completion.timing,
        "attempts": completion.attempts,
        "service_tier": completion.service_tier,
        "extra": completion.extra,
        "wasted": completion.wasted,
        "charged": completion.charged,
        "estimate": completion.estimate,
    }
