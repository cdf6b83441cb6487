"""Compares the usage that a run reports with the bill of the cloud, call by call.

A call with a complete reply reports exactly what was billed, and is matched with its row of the bill. The remaining
rows are attempts that broke off, were stopped, or did not return a completion. The client is not told their usage, so
the run estimates it, and the estimates are bounded row by row:

    completion, streamed      The cloud bills the pieces that it sent, and the client counts those that it read. They
                              differ by the pieces in flight when the call was stopped, and by reasoning tags, which
                              are removed from the text before its pieces are counted.
    completion, not streamed  The client cannot see the progress: anything from 0 to the call's token limit.
    prompt                    The library's estimate of the prompt that it sent, see `_prompt`.

Two faults are billed for more than the client receives: `error_event` (all tokens were generated, few pieces were
sent) and `drip` (billed by bytes, and the first piece takes hundreds).
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from mixtura.chat import Usage
from mixtura.events import Answer, Draft
from mixtura.sim import SimulatedCloud
from mixtura.sim.cloud import AdmittedCall

# The pieces that may be in flight when a call is stopped. Tags and white space of reasoning in the text are up to
# `_TAGS` pieces that the client reads and removes.
_ON_THE_WIRE, _TAGS = 2, 14
# How far the estimate of a prompt may be from the cloud's count: 60 %, or 40 tokens for short prompts.
_OFF, _FEW = 0.6, 40
# Complete replies that are not completions. Of these only `empty_choices` reports its usage.
_NO_COMPLETION = ("not_json", "not_completion", "empty_choices", "nested")


class BillRow(NamedTuple):
    """The charge for one admitted call. `most` is the number of completion tokens that it could have generated."""

    model: str
    kind: str
    streamed: bool
    whole: bool
    prompt: int
    cached: int
    completion: int
    most: int

    @property
    def key(self) -> tuple[str, int, int, int]:
        """The figures by which a complete reply is matched with its row."""
        return self.model, self.prompt, self.cached, self.completion


class CloudBill:
    """Records the charges of a cloud, row by row."""

    def __init__(self, running: SimulatedCloud) -> None:
        self.rows: list[BillRow] = []
        cloud = running.cloud
        settle = cloud.settle

        def record(call: AdmittedCall, tokens: int, *, whole: bool) -> None:
            if whole or tokens:
                kind = call.fault.kind if call.fault else ""
                usage = call.usage
                self.rows.append(
                    BillRow(
                        call.head.model, kind, call.stream, whole, usage.prompt, usage.cached, tokens, usage.completion
                    )
                )
            settle(call, tokens, whole=whole)

        cloud.settle = record  # type: ignore[method-assign]  # the ledger keeps only sums, in which errors cancel out


class _UsageEstimate(NamedTuple):
    """A run's estimate for all attempts of a call whose usage the cloud did not report."""

    prompt: int
    completion: int
    attempts: int


def check(bill: CloudBill, answers: list[Answer], room: int, *, thinks: bool) -> Iterator[str]:
    """Yield what is wrong with the usage in `answers`, compared with the cloud's bill.

    Args:
        bill: the cloud's charges.
        answers: the answers of all runs that called this cloud.
        room: the largest token limit of any call.
        thinks: whether the models wrote their reasoning into the text.
    """
    left = Counter(row.key for row in bill.rows if row.whole)
    estimates: list[_UsageEstimate] = []
    for answer in answers:
        for done in (*answer.drafts, *answer.calls):
            usage = done.usage
            if done.wasted is not None:
                estimates.append(_of(done.wasted, done.attempts))
            if isinstance(done, Draft) and done.incomplete and done.finish_reason == "unknown":
                estimates.append(_of(usage, done.attempts))
                continue
            key = (done.answered_by, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
            if usage.estimated:
                yield f"call {done.call} came back whole and its usage is an estimate"
            elif left[key] < 1:
                yield f"call {done.call} says {key}, which was never billed"
            left[key] -= 1
        estimates += [_of(failure.usage, failure.attempts) for failure in answer.failures if failure.usage is not None]
        yield from _check_sum(answer)
    rows: list[BillRow] = []
    # Of equal rows, those that no run can have received completely remain.
    for row in sorted(bill.rows, key=lambda row: (row.kind not in _NO_COMPLETION, not row.kind)):
        if row.whole and left[row.key] <= 0:
            continue
        left[row.key] -= row.whole
        rows.append(row)
    most = max(room, max((row.most for row in bill.rows), default=0)) + _ON_THE_WIRE
    for one in estimates:
        if one.completion > most * one.attempts:
            yield f"{one.completion} completion tokens are estimated for {one.attempts} attempts at {room} at most"
    yield from _check_interrupted(rows, estimates, any(answer.usage.estimated for answer in answers), thinks=thinks)


def _check_sum(answer: Answer) -> Iterator[str]:
    """Check that the total is the sum of its parts, and is marked as an estimate if a part is one."""
    parts = [done.usage for done in (*answer.drafts, *answer.calls)]
    parts += [done.wasted for done in (*answer.drafts, *answer.calls) if done.wasted is not None]
    parts += [failure.usage for failure in answer.failures if failure.usage is not None]
    total = sum((part.total_tokens for part in parts), 0)
    if total != answer.usage.total_tokens:
        yield f"the parts are {total} tokens and the whole is {answer.usage.total_tokens}"
    if any(part.estimated for part in parts) != answer.usage.estimated:
        yield "a part is an estimate and the whole does not say so"


def _check_interrupted(
    rows: list[BillRow], estimates: list[_UsageEstimate], admitted: bool, *, thinks: bool
) -> Iterator[str]:
    """Compare the bill for calls without a complete reply with the estimates for them."""
    slack = _ON_THE_WIRE + _TAGS * thinks
    claimed_prompt = sum(one.prompt for one in estimates)
    claimed_completion = sum(one.completion for one in estimates)
    least = most = 0
    least_prompt = most_prompt = unreported = 0.0
    for row in rows:
        low, high = _completion(row, slack)
        least, most = least + low, most + high
        # For all the client knows, a stream of which it may not have read one piece cost nothing. The same holds for
        # a reply with status 400, which ends a generation that failed the cloud's checks.
        known = low > 0 if row.streamed else row.kind != "error_event"
        least_prompt += _prompt(row.prompt)[0] * known
        # A reply without choices reports its usage, which is then no estimate.
        unreported += _prompt(row.prompt)[0] * (known and row.kind != "empty_choices")
        most_prompt += _prompt(row.prompt)[1]
    said = f"{len(rows)} interrupted calls {sorted({row.kind or 'stopped' for row in rows})}"
    if unreported and not admitted:
        yield f"{said} were billed and the usage is not marked as an estimate"
    if claimed_prompt < least_prompt:
        yield f"{said}: prompts of {least_prompt:.0f} tokens at least are estimated as {claimed_prompt}"
    if claimed_completion < least:
        yield f"{said}: {least} completion tokens at least are estimated as {claimed_completion}"
    if all(row.streamed for row in rows) and len(estimates) <= len(rows):
        # An unstreamed call may be estimated although it was stopped before it cost anything: it is then no row.
        if claimed_prompt > most_prompt and rows:
            yield f"{said}: prompts of {most_prompt:.0f} tokens at most are estimated as {claimed_prompt}"
        if claimed_completion > most and rows:
            yield f"{said}: {most} completion tokens at most are estimated as {claimed_completion}"


def _completion(row: BillRow, slack: int) -> tuple[int, int]:
    """Return the bounds of the estimate of an interrupted call's completion tokens."""
    if row.kind == "empty_choices":
        return row.completion, row.completion
    if not row.streamed:
        return 0, row.most
    if row.kind in _NO_COMPLETION:
        return 0, row.completion
    if row.kind in ("error_event", "drip"):
        return 0, row.most + slack
    return max(0, row.completion - slack), row.completion + _ON_THE_WIRE


def _prompt(tokens: int) -> tuple[float, float]:
    """Return the bounds of the estimate of a prompt that the cloud counts as `tokens`."""
    off = max(_OFF * tokens, _FEW)
    return max(0.0, tokens - off), tokens + off


def _of(usage: Usage, attempts: int) -> _UsageEstimate:
    return _UsageEstimate(usage.prompt_tokens, usage.completion_tokens, attempts)
