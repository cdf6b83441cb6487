"""What has to hold of the answer itself: never worse than what the drafts that came support."""

from collections.abc import Iterator

from bench.chaos.world import FinishedRun, PlayedScenario
from mixtura.engine.answers import extract
from mixtura.errors import LimitError
from mixtura.events import Draft

# Faults after which no call they befall can have given an answer. The rest are slow, odd, or said again later.
_FATAL = frozenset(
    "400 401 403 404 409 413 422 498 500 502 503 context decommissioned json_validate cut error_event reset "  # noqa: SIM905
    "reset_headers silent stall truncated drip empty_choices empty_text not_completion not_json null_content "
    "only_reasoning".split()
)


def check(played: PlayedScenario, ran: FinishedRun) -> Iterator[str]:
    """Yield what is wrong with the answer of one run."""
    answer, error = ran.answer, ran.error
    if ran.left:
        return
    drafts = [draft for draft in answer.drafts if draft.text.strip()]
    if error is not None:
        if drafts:
            yield f"{len(drafts)} drafts had come and the run raised {type(error).__name__}: {error}"
        if _must_answer(played) and not isinstance(error, LimitError):
            yield f"nothing kept the run from answering and it raised {type(error).__name__}: {error}"
        return
    if not answer.text.strip():
        yield "no error and no answer"
    wrote = {done.call for done in answer.calls if done.role == "aggregator"}
    if answer.source in wrote:
        if drafts and _aggregator_is_lost(played):
            yield "every call of the aggregator was spoilt, and yet the answer is from one of them"
        return
    chosen = {said.kind for said in answer.decisions}
    if chosen & {"selected", "ranked"} and "fell_back" not in chosen:
        return
    yield from _supported(played, ran, last_drafts(drafts))


def last_drafts(drafts: list[Draft]) -> list[Draft]:
    """Return the drafts that an answer is made of: the last layer's that gave any, and the escalation's."""
    layers = [draft.layer for draft in drafts if draft.role == "proposer"]
    return [draft for draft in drafts if draft.role == "escalation" or draft.layer == max(layers)]


def _supported(played: PlayedScenario, ran: FinishedRun, drafts: list[Draft]) -> Iterator[str]:
    """An answer that no model composed is a draft, and the majority's where there is one."""
    answer = ran.answer
    if answer.text not in [draft.text for draft in drafts]:
        yield f"the answer is no draft: {answer.text[:80]!r}"
        return
    # A draft that was stopped, or ran into its limit, is not whole: it has not said what it comes to.
    whole = [draft for draft in drafts if not draft.incomplete and draft.finish_reason == "stop"]
    if not whole:
        return
    if answer.text not in [draft.text for draft in whole]:
        yield f"the answer is an incomplete draft, and {len(whole)} whole ones had come"
    votes: dict[str, float] = {}
    for draft in whole:
        final = str(extract(draft.text))
        votes[final] = votes.get(final, 0.0) + draft.weight
    total = sum(votes.values())
    for final, weight in votes.items():
        if final and 2 * weight > total and extract(answer.text) != final:
            gold = " (the right answer)" if final == played.question.gold else ""
            yield f"{weight:g} of {total:g} votes are for {final!r}{gold}, and the answer is {extract(answer.text)!r}"


def _aggregator_is_lost(played: PlayedScenario) -> bool:
    # Of several faults that fit a call the first befalls it.
    first = next((aim for aim in played.scenario.aims if aim.stage == "aggregator"), None)
    if first is None or first.reach != "all":
        return False
    kind = first.kind.partition("=")[0]
    # A model that thinks aloud closes its thinking before the answer: where both came as reasoning, it is found there.
    return kind in _FATAL and not (kind == "only_reasoning" and played.scenario.thinks)


def _must_answer(played: PlayedScenario) -> bool:
    """Say whether a run has to answer: room and time are there, and in every layer some model is not touched."""
    case, recipe = played.scenario, played.recipe
    if case.limited or case.deadline is not None or recipe.policy.latency_target or case.recipe == "frugal":
        return False
    hit = {aim.model for aim in case.aims if aim.stage == "proposer"}
    return "" not in hit and all({slot.model for slot in layer.proposers} - hit for layer in recipe.layers)
