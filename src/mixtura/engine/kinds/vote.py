"""The answer is counted: the draft that speaks best for the winning final answer. No call is made."""

from mixtura.decisions import VotedDetail
from mixtura.engine import answers
from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.recipe import Aggregator


async def answer(run: Run, _aggregator: Aggregator, drafts: DraftSet) -> Outcome:
    """Return the draft that the votes choose. See `engine.aggregate.KindModule`."""
    return count(run, drafts)


def count(run: Run, drafts: DraftSet) -> Outcome:
    """Count the final answers and return the draft that speaks best for the winner."""
    chosen, reason = drafts.best
    if not chosen.choice:
        said = f"no draft states an answer that can be counted; took the one that is {reason}"
        run.decide(VotedDetail(), said, warning=True)
        return outcome_of(chosen)
    groups = answers.groups([draft.choice for draft in drafts])
    winner = groups[chosen.choice]
    votes = sum(draft.weight for draft in drafts if groups[draft.choice] == winner)
    total = sum(draft.weight for draft in drafts)
    run.decide(
        VotedDetail(winner=winner, votes={draft.call: groups[draft.choice] for draft in drafts}),
        f"{votes:g} of {total:g} votes for {winner!r}" + (" (a tie)" if drafts.tally.tied else ""),
    )
    return outcome_of(chosen)
