"""The invariants of runs under faults. Each check yields a sentence for every violation."""

import re
from collections.abc import Iterator

import msgspec

from bench.chaos import bills, gold
from bench.chaos.recipes import MOST_DOLLARS
from bench.chaos.scenarios import KEY
from bench.chaos.speech import THOUGHT
from bench.chaos.world import FinishedRun, PlayedScenario
from mixtura import Event, MixturaError, fold
from mixtura.errors import BudgetError, ConfigError, DeadlineError, LimitError, NoAnswerError, RateLimitedError
from mixtura.events import (
    AnswerDelta,
    AnswerFinished,
    AnswerRestarted,
    CallDelta,
    CallStarted,
    Decision,
    RunFinished,
    RunStarted,
)
from mixtura.models.wrappers.retry import RetryPolicy
from mixtura.planning.deadline import HOSTED_SECONDS, QUEUED_SECONDS
from mixtura.planning.schedule import count_calls
from mixtura.sim.bodies import organisation_id

_GRACE = 0.05
_NO_LIMIT = 8192
# Errors write the seconds that are left with three digits.
_ROUNDED = 6e-3
# A call that hangs keeps its slot, and a machine with few of them then answers nobody.
_HANGS = ("silent", "stall", "drip", "comments")
# Seconds that books may take to settle at least, however little of the deadline is left.
_SETTLING = 0.4
_UNTOLD = "the daily budget could not be told"
# A billionth of a dollar for each run is rounding.
_DUST = 1e-8
_WAITS = RetryPolicy().waits
# Texts of the cloud's faults. The text of a failure must never appear in a prompt.
_FAILURE_WORDS = ("simulated fault", "Internal Server Error", "Bad Gateway", "rate_limit_exceeded", "over capacity")
_WAIT = re.compile(r"would have to wait ([\d.e+-]+) s.*?only ([\d.e+-]+) s are left", re.DOTALL)
_DECODER = msgspec.json.Decoder(Event)


def find_broken(played: PlayedScenario) -> list[str]:
    """Return the broken invariants of a played scenario, each as `invariant: problem`."""
    case = played.scenario
    found: list[str] = []

    def add(name: str, problems: Iterator[str]) -> None:
        found.extend(f"{name}: {problem}" for problem in problems)

    refused = case.books.startswith(("today", "reserve"))
    for ran in played.runs:
        add("one end", _one_end(ran, refused=refused, settles=case.books.startswith("settle")))
        add("deadline", _in_time(played, ran))
        add("calls", _calls_end_once(ran))
        add("replay", _replays(ran))
        add("pieces", _pieces(ran, watched=case.watched))
        add("cost", _within_cost(played, ran))
        if not refused and not (case.slots and any(aim.kind.startswith(_HANGS) for aim in case.aims)):
            add("answer", gold.check(played, ran))
        add("429", _no_limit_comes_back(played, ran))
        add("secret", _no_secret(ran))
    add("secret", _prompts_are_clean(played))
    if case.slots is not None:
        add("queue", _nothing_is_sent_twice(played))
    add("books", _books(played))
    add("in flight", _nothing_is_left(played))
    limits = [body.get("max_completion_tokens") or body.get("max_tokens") or 0 for body in played.cloud.requests]
    # A machine of one's own is asked without a limit, for nothing is known of its models.
    room = max([*limits, _NO_LIMIT if case.slots else 0])
    add("usage", bills.check(played.bill, [ran.answer for ran in played.runs], room, thinks=case.thinks))
    return found


def _one_end(ran: FinishedRun, *, refused: bool, settles: bool) -> Iterator[str]:
    error = ran.error
    refusals = (BudgetError, LimitError, ConfigError, DeadlineError) if refused else (BudgetError, LimitError)
    if error is not None and not isinstance(error, MixturaError) and not ran.left:
        yield f"{type(error).__name__} came out: {error}"
    if not ran.events:
        # The run was refused before it sent anything.
        if not ran.left and not isinstance(error, refusals):
            yield f"no event at all, and {error!r}"
        return
    ends = [event for event in ran.events if isinstance(event, RunFinished)]
    starts = sum(isinstance(event, RunStarted) for event in ran.events)
    if len(ends) != 1 or starts != 1:
        yield f"{starts} RunStarted and {len(ends)} RunFinished"
        return
    if ran.events[-1] is not ends[0] or not isinstance(ran.events[0], RunStarted):
        yield "RunStarted is not the first event, or RunFinished not the last"
    # A caller who leaves while the books are told of an answer that is there gets its events.
    answered = error is None or (ran.left and settles and ends[0].status != "failed")
    if (ends[0].status == "failed") == answered:
        yield f"the status is {ends[0].status} and the error {error!r}"
    answers = sum(isinstance(event, AnswerFinished) for event in ran.events)
    if answers != answered:
        yield f"{answers} AnswerFinished"
    if any(one.at > other.at for one, other in zip(ran.events, ran.events[1:], strict=False)):
        yield "events are not in the order of their times"


def _within_cost(played: PlayedScenario, ran: FinishedRun) -> Iterator[str]:
    most, cost = MOST_DOLLARS.get(played.scenario.recipe), ran.answer.cost or 0.0
    if most is not None and cost > most:
        yield f"it cost ${cost:.6f} of at most ${most:.6f}"


def _books(played: PlayedScenario) -> Iterator[str]:
    """Check that a run is booked at what it cost, or says that it is not; and that none begins where none is booked."""
    books = played.scenario.books
    if books.startswith(("today", "reserve")):
        if played.cloud.ledger.arrived or any(ran.events for ran in played.runs):
            yield f"{played.cloud.ledger.arrived} calls were sent, though the books failed before"
        return
    untold = books.startswith("settle") and books != "settle deleted"
    for ran in played.runs:
        said = any(isinstance(event, Decision) and _UNTOLD in event.reason for event in ran.events)
        if ran.events and said != untold and not ran.left:
            yield f"the run {'says' if said else 'does not say'} that the books could not be told of its cost"
    if books == "kept" and played.booked is not None:
        cost = sum(ran.answer.cost or 0.0 for ran in played.runs)
        spent, reserved = played.booked
        if abs(spent - cost) > _DUST or reserved:
            yield f"${spent:.9f} spent and ${reserved:.9f} reserved are booked, the runs cost ${cost:.9f}"


def _deadline(played: PlayedScenario) -> float:
    stated = played.scenario.deadline or played.recipe.policy.deadline
    if stated != "auto":
        return stated
    queued = count_calls(played.recipe) if played.scenario.slots else 0
    return max(HOSTED_SECONDS, QUEUED_SECONDS * queued)


def _in_time(played: PlayedScenario, ran: FinishedRun) -> Iterator[str]:
    deadline = _deadline(played)
    # Every call is stopped before a run ends; a layer and the aggregator may have some to stop after another.
    grace = _GRACE + 3 * played.scenario.stops + (_SETTLING if played.scenario.books == "settle hangs" else 0.0)
    if ran.seconds > deadline + grace:
        yield f"{ran.seconds:.3f} s of {deadline:g} s"
    if isinstance(ran.error, DeadlineError) and ran.seconds < deadline - _GRACE:
        yield f"DeadlineError after {ran.seconds:.3f} s of {deadline:g} s"


def _nothing_is_sent_twice(played: PlayedScenario) -> Iterator[str]:
    """Check that no call was made a second time where it would only have waited for the first."""
    for ran in played.runs:
        for decision in ran.answer.decisions:
            if decision.kind == "hedged" and "is slower than usual" in decision.reason:
                yield f"at one machine: {decision.reason}"


def _calls_end_once(ran: FinishedRun) -> Iterator[str]:
    answer = ran.answer
    started = [event.call for event in ran.events if isinstance(event, CallStarted)]
    ended = [done.call for done in (*answer.drafts, *answer.calls)] + [failure.call for failure in answer.failures]
    if sorted(started) != list(range(len(started))):
        yield f"started were {started}"
    if sorted(ended) != sorted(started):
        yield f"started were {sorted(started)}, ended {sorted(ended)}"
    if any(not failure.reason for failure in answer.failures):
        yield "a failure without a reason"


def _replays(ran: FinishedRun) -> Iterator[str]:
    stored = [msgspec.json.encode(event) for event in ran.events]
    again = fold(_DECODER.decode(line) for line in stored)
    if again.to_json() != ran.answer.to_json():
        yield "the stored events give another answer"


def _pieces(ran: FinishedRun, *, watched: bool) -> Iterator[str]:
    pieces: list[str] = []
    for event in ran.events:
        if isinstance(event, AnswerDelta):
            pieces.append(event.text)
        elif isinstance(event, AnswerRestarted):
            pieces.clear()
    if not watched and pieces:
        yield "the run had no listener, and it emitted pieces"
    if watched and ran.error is None and "".join(pieces).strip() != ran.answer.text.strip():
        yield f"the pieces are {''.join(pieces)[:80]!r}, the answer {ran.answer.text[:80]!r}"


def _no_limit_comes_back(played: PlayedScenario, ran: FinishedRun) -> Iterator[str]:
    """Check that a run with a known plan waits for a limit that refills before its deadline."""
    case, error = played.scenario, ran.error
    if not case.plan_known:
        return
    left = _deadline(played) - ran.seconds
    if isinstance(error, LimitError) and error.retry_after is not None and error.retry_after < left / 2:
        yield f"{left:.1f} s were left and the limit refills in {error.retry_after:.1f} s: {error}"
    # Where faults make the proposers fail again and again, waiting would not have helped.
    planned = any(aim.reach != "first" and (aim.stage == "proposer" or "429" in aim.kind) for aim in case.aims)
    limits = isinstance(error, NoAnswerError) and [isinstance(one, RateLimitedError) for one in error.failures]
    if limits and all(limits) and isinstance(error, NoAnswerError) and not planned:
        waits = [one.retry_after or 0.0 for one in error.failures]
        if min(waits) < left / 2:
            yield f"{left:.1f} s were left and the shortest wait was {min(waits):.1f} s: {error}"
    for failure in ran.answer.failures:
        if failure.kind == "rate_limited" and failure.attempts <= _WAITS:
            said = _WAIT.search(failure.reason)
            if said is None and "not asked again" not in failure.reason:
                yield f"a call failed for a limit without waiting for it: {failure.reason}"
            elif said is not None and float(said[1]) < float(said[2]) * (1 - _ROUNDED):
                yield f"there was time to wait: {failure.reason}"


def _no_secret(ran: FinishedRun) -> Iterator[str]:
    said = msgspec.json.encode(ran.events).decode() + str(ran.error)
    for secret in (KEY, organisation_id(KEY), "org_01"):
        if secret in said:
            at = said.index(secret)
            yield f"{secret[:9]}... in {said[max(0, at - 60) : at + 10]!r}"
    if isinstance(ran.error, NoAnswerError) and any(KEY in f"{one!r}" for one in ran.error.failures):
        yield "the key stands in the repr of an error"
    texts = [ran.answer.text, *(draft.text for draft in ran.answer.drafts), *(done.text for done in ran.answer.calls)]
    texts += [event.text for event in ran.events if isinstance(event, AnswerDelta | CallDelta)]
    for text in texts:
        if "<think" in text or THOUGHT in text:
            yield f"thinking in {text[:80]!r}"
            break


def _prompts_are_clean(played: PlayedScenario) -> Iterator[str]:
    for body in played.cloud.requests:
        prompt = f"{body['messages']}"
        for word in (THOUGHT, KEY, "org_01", *_FAILURE_WORDS):
            if word in prompt:
                yield f"{word!r} was shown to {body['model']}"


def _nothing_is_left(played: PlayedScenario) -> Iterator[str]:
    ledger = played.cloud.ledger
    if ledger.in_flight:
        yield f"{ledger.in_flight} calls are still in flight"
    if played.still:
        yield f"tasks are left: {played.still[:3]}"
    if played.open_books:
        yield f"the limiter still counts {played.open_books[:3]}"
    if played.complaints:
        yield f"the event loop complains: {played.complaints[0][:300]}"
    if ledger.arrived and not any(ran.events for ran in played.runs):
        yield f"the run sent nothing by its events, and {ledger.arrived} calls arrived"
