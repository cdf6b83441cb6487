"""Usage against the bill: what a run says it took, call by call, against what the cloud charged.

Every call that came back whole says exactly what was billed: it is matched with its row of the bill. What is left of
the bill are attempts that broke off, were stopped, or came back as no completion. Nobody told the client what those
cost, so a run estimates them, and the estimates are bounded row by row:

    completion, streamed      the cloud bills the pieces it sent and the client counts those that it read. They differ
                              by what was on the wire when the call was stopped, and by tags of thinking, which are
                              taken out of the text before its pieces are counted.
    completion, not streamed  nobody saw how far it was: anything from nothing to the most it might write.
    prompt                    the library's estimate of a prompt it sent, see `_prompt`.

Two faults are billed for more than anybody was shown: `error_event` (all was generated, few pieces came) and `drip`
(billed by bytes, and the first piece takes hundreds).
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from mixtura.chat import Usage
from mixtura.events import Answer, Draft
from mixtura.sim import SimulatedCloud
from mixtura.sim.cloud import Admitted

# Pieces that may be on the wire when a call is stopped; tags and white space of thinking written into the text are as
# many pieces that are read and never shown.
_ON_THE_WIRE, _TAGS = 2, 14
# The estimate of a prompt against the cloud's count of it: 60 %, or so many tokens where the prompt is short.
_OFF, _FEW = 0.6, 40
# Whole replies that are no completion: the client sees that something came. Only `empty_choices` says what it took.
_NO_COMPLETION = ("not_json", "not_completion", "empty_choices")


class Row(NamedTuple):
    """One row of the bill: what an admitted call was charged; `most` is all that it could have written."""

    model: str
    kind: str
    streamed: bool
    whole: bool
    prompt: int
    cached: int
    completion: int
    most: int

    @property
    def told(self) -> tuple[str, int, int, int]:
        """What a whole reply says of itself."""
        return self.model, self.prompt, self.cached, self.completion


class Bill:
    """The rows that a cloud has charged."""

    def __init__(self, running: SimulatedCloud) -> None:
        self.rows: list[Row] = []
        cloud = running.cloud
        settle = cloud.settle

        def listed(call: Admitted, tokens: int, *, whole: bool) -> None:
            if whole or tokens:
                kind = call.fault.kind if call.fault else ""
                usage = call.usage
                self.rows.append(
                    Row(call.head.model, kind, call.stream, whole, usage.prompt, usage.cached, tokens, usage.completion)
                )
            settle(call, tokens, whole=whole)

        cloud.settle = listed  # type: ignore[method-assign]  # the ledger keeps sums, and sums hide what cancels out


class _Estimate(NamedTuple):
    """What a run says that calls without a word from the cloud took; of one call, which may have been tried often."""

    prompt: int
    completion: int
    attempts: int


def check(bill: Bill, answers: list[Answer], room: int, *, thinks: bool) -> Iterator[str]:
    """Yield what is wrong with the usage of `answers`, the runs that one cloud billed.

    Args:
        bill: what the cloud charged.
        answers: those of all runs that asked it.
        room: the most tokens that any call asked for.
        thinks: whether thinking stood in the text.
    """
    left = Counter(row.told for row in bill.rows if row.whole)
    estimates: list[_Estimate] = []
    for answer in answers:
        for done in (*answer.drafts, *answer.calls):
            told = done.usage
            if done.wasted is not None:
                estimates.append(_of(done.wasted, done.attempts))
            if isinstance(done, Draft) and done.incomplete:
                estimates.append(_of(told, done.attempts))
                continue
            key = (done.answered_by, told.prompt_tokens, told.cached_tokens, told.completion_tokens)
            if told.estimated:
                yield f"call {done.call} came back whole and its usage is an estimate"
            elif left[key] < 1:
                yield f"call {done.call} says {key}, which was never billed"
            left[key] -= 1
        estimates += [_of(failure.usage, failure.attempts) for failure in answer.failures if failure.usage is not None]
        yield from _adds_up(answer)
    rows: list[Row] = []
    # Of rows alike, those that no run can have had whole are the ones left.
    for row in sorted(bill.rows, key=lambda row: (row.kind not in _NO_COMPLETION, not row.kind)):
        if row.whole and left[row.told] <= 0:
            continue
        left[row.told] -= row.whole
        rows.append(row)
    most = max(room, max((row.most for row in bill.rows), default=0)) + _ON_THE_WIRE
    for one in estimates:
        if one.completion > most * one.attempts:
            yield f"{one.completion} completion tokens are estimated for {one.attempts} attempts at {room} at most"
    yield from _interrupted(rows, estimates, any(answer.usage.estimated for answer in answers), thinks=thinks)


def _adds_up(answer: Answer) -> Iterator[str]:
    """The total is the sum of its parts, and says so when a part is an estimate."""
    parts = [done.usage for done in (*answer.drafts, *answer.calls)]
    parts += [done.wasted for done in (*answer.drafts, *answer.calls) if done.wasted is not None]
    parts += [failure.usage for failure in answer.failures if failure.usage is not None]
    total = sum((part.total_tokens for part in parts), 0)
    if total != answer.usage.total_tokens:
        yield f"the parts are {total} tokens and the whole is {answer.usage.total_tokens}"
    if any(part.estimated for part in parts) != answer.usage.estimated:
        yield "a part is an estimate and the whole does not say so"


def _interrupted(rows: list[Row], estimates: list[_Estimate], admitted: bool, *, thinks: bool) -> Iterator[str]:
    """Compare what is billed for calls that did not come back whole with what is estimated for them."""
    slack = _ON_THE_WIRE + _TAGS * thinks
    claimed_prompt = sum(one.prompt for one in estimates)
    claimed_completion = sum(one.completion for one in estimates)
    least = most = 0
    least_prompt = most_prompt = 0.0
    for row in rows:
        low, high = _completion(row, slack)
        least, most = least + low, most + high
        # A stream of which not one piece was certainly read may have cost nothing, for all the client knows; and so
        # may a reply with status 400, which a generation that failed the cloud's checks ends in.
        known = low > 0 if row.streamed else row.kind != "error_event"
        least_prompt += _prompt(row.prompt)[0] * known
        most_prompt += _prompt(row.prompt)[1]
    said = f"{len(rows)} interrupted calls {sorted({row.kind or 'stopped' for row in rows})}"
    if least_prompt and not admitted:
        yield f"{said} were billed and the usage is not marked as an estimate"
    if claimed_prompt < least_prompt:
        yield f"{said}: prompts of {least_prompt:.0f} tokens at least are estimated as {claimed_prompt}"
    if claimed_completion < least:
        yield f"{said}: {least} completion tokens at least are estimated as {claimed_completion}"
    if all(row.streamed for row in rows):
        # A call that was not streamed may be estimated though it was stopped before it cost anything.
        if claimed_prompt > most_prompt and rows:
            yield f"{said}: prompts of {most_prompt:.0f} tokens at most are estimated as {claimed_prompt}"
        if claimed_completion > most and rows:
            yield f"{said}: {most} completion tokens at most are estimated as {claimed_completion}"


def _completion(row: Row, slack: int) -> tuple[int, int]:
    """Return between what the completion tokens of an interrupted call may be estimated."""
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
    """Return between what a prompt of `tokens` may be estimated."""
    off = max(_OFF * tokens, _FEW)
    return max(0.0, tokens - off), tokens + off


def _of(usage: Usage, attempts: int) -> _Estimate:
    return _Estimate(usage.prompt_tokens, usage.completion_tokens, attempts)
