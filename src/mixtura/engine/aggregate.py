"""Drafts become one answer: synthesize, select, vote, rank or auto; the guard stands behind each of them."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from mixtura import prompts
from mixtura.chat import Completion, Delta, FinishReason, JsonObject, Message
from mixtura.engine import agree, calls, guard, results
from mixtura.engine.context import Run
from mixtura.engine.draft_prompt import Reader, read_drafts
from mixtura.engine.race import Race, call_within
from mixtura.engine.ranking import Ranking, in_words, rank, winner
from mixtura.errors import BrokenReplyError, ModelError, TimedOutError, TooLargeError, UnreachableError
from mixtura.events import AnswerDelta, AnswerRestarted, Draft
from mixtura.recipe import Aggregator

# Of the drafts' tokens, what is shown to an aggregator that finds the whole too large (its window is not known, the
# estimate was wrong, or a per-minute limit is smaller than the window).
_SECOND_SHARE = 0.4


# An answer that was begun and not ended: nothing is wrong with the question, so it is worth another try.
_BROKE_OFF = (BrokenReplyError, TimedOutError, UnreachableError)


class Outcome(NamedTuple):
    """The answer: its text, where it came from (a call's number), and whether its pieces have been said."""

    text: str
    source: int | None
    reasoning: str = ""
    finish_reason: FinishReason = "stop"
    tool_calls: list[JsonObject] | None = None
    said: bool = False


async def aggregate(run: Run, drafts: Sequence[Draft]) -> Outcome:
    """Return the answer that `drafts` (at least one) lead to, by the recipe's kind of aggregator.

    Never raises for a model's failure: the drafts are there, so there is an answer.
    """
    aggregator = run.recipe.aggregator
    if aggregator is None:
        return _of(drafts[0])
    if agree.identical(drafts) and not run.options.chat.tools:
        run.decide("agreed", f"all {len(drafts)} drafts are the same; nothing to aggregate")
        return _of(drafts[agree.best(drafts)[0]])
    if aggregator.kind == "vote":
        return vote(run, drafts)
    if aggregator.kind == "auto" and agree.tally(drafts).majority and not run.options.chat.tools:
        return vote(run, drafts)
    if aggregator.kind == "select":
        return await _select(run, aggregator, drafts)
    if aggregator.kind == "rank":
        return await _rank(run, aggregator, drafts)
    return await _synthesize(run, aggregator, drafts)


def vote(run: Run, drafts: Sequence[Draft]) -> Outcome:
    """Count the final answers and return the draft that speaks best for the winner; no call is made."""
    place, reason = agree.best(drafts)
    chosen = drafts[place]
    if chosen.choice:
        votes = sum(draft.weight for draft in drafts if draft.choice == chosen.choice)
        total = sum(draft.weight for draft in drafts)
        run.decide(
            "voted",
            f"{votes:g} of {total:g} votes for {chosen.choice!r}" + (" (a tie)" if agree.tally(drafts).tied else ""),
            winner=chosen.choice,
            votes={draft.call: draft.choice for draft in drafts},
        )
    else:
        run.decide(
            "voted", f"no draft states an answer that can be counted; took the one that is {reason}", warning=True
        )
    return _of(chosen)


def fall_back(run: Run, drafts: Sequence[Draft], why: str, restart: bool) -> Outcome:
    """Return the best draft in the aggregator's place, and say why."""
    place, reason = agree.best(drafts)
    chosen = drafts[place]
    run.fell_back = True
    run.decide(
        "fell_back",
        f"the aggregator {why}; the answer is the draft of {chosen.model} ({reason})",
        warning=True,
        call=chosen.call,
    )
    if restart:
        run.say(AnswerRestarted(at=run.now))
    return _of(chosen)


async def _synthesize(
    run: Run, aggregator: Aggregator, drafts: Sequence[Draft], ranking: Ranking | None = None
) -> Outcome:
    instructions = aggregator.system or (prompts.SYNTHESIZE if ranking is None else prompts.RANKED_SYNTHESIS)
    after = None if ranking is None else lambda _tag, order: in_words(drafts, ranking, order)
    share, seen, began = 1.0, False, run.loop.time()
    while True:
        reader = Reader(aggregator, "aggregator", instructions, after, share)
        reading = read_drafts(run, reader, drafts, run.conversation)
        writer = _Writer(run)
        result = await writer.write(aggregator, reading.messages, drafts)
        seen = seen or writer.said
        if isinstance(writer.error, TooLargeError) and share == 1.0:
            share = _SECOND_SHARE
        elif writer.said and isinstance(writer.error, _BROKE_OFF) and _time_for_another(run, began):
            # What a reader has seen of it is withdrawn, once.
            began = -math.inf
            seen = False
            run.decide("noticed", f"the answer of {aggregator.model} broke off and is begun anew", warning=True)
            run.say(AnswerRestarted(at=run.now))
        else:
            break
    if isinstance(result, str):
        return fall_back(run, drafts, result, seen)
    shown = [drafts[place] for place in reading.order]
    run.decide(
        "synthesized",
        f"{aggregator.model} wrote the answer from {len(drafts)} draft{'s' * (len(drafts) > 1)}",
        order=[draft.call for draft in shown],
    )
    said = result.text.strip()
    copied = next((draft for draft in drafts if draft.text.strip() == said), None)
    if copied is not None and said:
        run.decide("noticed", f"the answer is the draft of {copied.model}, word for word", call=copied.call)
    if guard.mentions_drafts(result.text, run.question):
        run.decide("noticed", "the answer speaks of drafts", warning=True)
    return result


def _time_for_another(run: Run, began: float) -> bool:
    """Say whether as much time is left as an answer that broke off has taken."""
    now = run.loop.time()
    return run.deadline - now > now - began


async def answer_alone(run: Run, aggregator: Aggregator) -> Outcome:
    """Let the aggregator answer the conversation itself, when no draft came.

    Raises:
        ModelError: it could not either.
    """
    run.fell_back = True
    run.decide("fell_back", f"no usable draft came; {aggregator.model} was asked to answer alone", warning=True)
    writer = _Writer(run)
    result = await writer.write(aggregator, run.conversation, ())
    if isinstance(result, Outcome):
        return result
    raise writer.error or BrokenReplyError(aggregator.provider, aggregator.model, result)


class _Writer:
    """The aggregator's own call: streamed when watched, less an opening about drafts, judged by the guard."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.said = False
        self.error: ModelError | None = None
        self._filter = guard.LeadInFilter(self._say, run.question) if run.options.watched else None

    async def write(
        self, aggregator: Aggregator, messages: tuple[Message, ...], drafts: Sequence[Draft]
    ) -> Outcome | str:
        """Return the answer, or in words why what came cannot be one."""
        run = self.run
        ask = calls.Ask("aggregator", aggregator, messages, len(run.recipe.layers), run.options.chat)
        watch = None if self._filter is None else self._watch
        try:
            number, completion = await call_within(Race(run, ask, run.deadline, watch, exclusive=True))
        except ModelError as error:
            self.error = error
            return f"failed ({error.reason})"
        results.finished(run, number, ask, completion)
        problem = guard.problem(completion, drafts)
        if problem and not self._stands_anyway(completion, drafts):
            return problem
        text = completion.text if "draft" in run.question.casefold() else guard.without_lead_in(completion.text)
        if text != completion.text:
            run.decide("edited", "words about the drafts were taken off the front of the answer")
        if self._filter is not None:
            self._filter.close()
        return Outcome(
            text, number, completion.reasoning, completion.finish_reason, completion.tool_calls, said=self.said
        )

    def _stands_anyway(self, completion: Completion, drafts: Sequence[Draft]) -> bool:
        """A cut-off answer is still the best there is when every draft is cut off as well (or none is there)."""
        if completion.finish_reason != "length" or not completion.text.strip():
            return False
        if all(draft.finish_reason == "length" for draft in drafts):
            self.run.decide("noticed", "the answer is cut off at its output limit", warning=True)
            return True
        return False

    def _watch(self, _number: int, delta: Delta) -> None:
        if delta.reasoning:
            self.run.say(AnswerDelta(at=self.run.now, reasoning=delta.reasoning))
        if delta.text and self._filter is not None:
            self._filter.add(delta.text)

    def _say(self, text: str) -> None:
        self.said = True
        self.run.say(AnswerDelta(at=self.run.now, text=text))


async def _select(run: Run, aggregator: Aggregator, drafts: Sequence[Draft]) -> Outcome:
    if len(drafts) == 1:
        run.decide("selected", "only one draft came; nothing to select from")
        return _of(drafts[0])
    reader = Reader(aggregator, "selector", aggregator.system or prompts.SELECT, _how_to_choose)
    reading = read_drafts(run, reader, drafts, run.conversation)
    ask = calls.Ask("selector", aggregator, reading.messages, len(run.recipe.layers))
    try:
        number, completion = await call_within(Race(run, ask, run.deadline))
    except ModelError as error:
        return fall_back(run, drafts, f"failed ({error.reason})", restart=False)
    results.finished(run, number, ask, completion)
    place = parse_choice(completion.text, run.marker(()), len(drafts))
    if place is None:
        return fall_back(run, drafts, "named no draft", restart=False)
    chosen = drafts[reading.order[place]]
    run.decide("selected", f"{aggregator.model} chose the draft of {chosen.model}", call=chosen.call)
    return _of(chosen)


def _how_to_choose(tag: str, _order: Sequence[int]) -> str:
    return f"End with the letter of the best draft: <{tag} choice>A</{tag} choice>"


def parse_choice(text: str, tag: str, count: int) -> int | None:
    """Return the place of the draft named between the run's tags, or by a reply that is a letter alone."""
    found = re.findall(rf"<{re.escape(tag)} choice>(.*?)</", text, re.DOTALL)
    named = str(found[-1]) if found else text
    bare = re.fullmatch(r"\W*(?:(?:draft|answer|response|option)\s*)?([A-Z]\d*)\W*", named, re.IGNORECASE)
    name = bare[1] if bare else ""
    by_label = {prompts.label(place): place for place in range(count)}
    return by_label.get(name.upper())


async def _rank(run: Run, aggregator: Aggregator, drafts: Sequence[Draft]) -> Outcome:
    if len(drafts) == 1:
        run.decide("ranked", "only one draft came; nothing to rank")
        return await _synthesize(run, aggregator, drafts) if aggregator.model else _of(drafts[0])
    ranking = await rank(run, drafts, run.until([1.0, 1.0] if aggregator.model else [1.0]))
    if not ranking.reviewers:
        run.decide("noticed", "no review could be counted", warning=True)
        return await _synthesize(run, aggregator, drafts) if aggregator.model else vote(run, drafts)
    top = drafts[winner(drafts, ranking)]
    run.decide(
        "ranked",
        f"{ranking.reviewers} reviews put the draft of {top.model} first",
        points={draft.call: round(points, 4) for draft, points in zip(drafts, ranking.points, strict=True)},
    )
    return await _synthesize(run, aggregator, drafts, ranking) if aggregator.model else _of(top)


def _of(draft: Draft) -> Outcome:
    return Outcome(draft.text, draft.call, draft.reasoning, draft.finish_reason, draft.tool_calls)
