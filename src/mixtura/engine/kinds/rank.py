"""The authors of the drafts rank them anonymously; the best is the answer, or a chairman writes one."""

from collections.abc import Sequence

from mixtura.decisions import NoticedDetail, RankedDetail
from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.engine.kinds import synthesize, vote
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.engine.ranking import describe_ranking, rank_drafts, winner
from mixtura.recipe import Aggregator


async def answer(run: Run, aggregator: Aggregator, drafts: DraftSet) -> Outcome:
    """Return what the reviews lead to. See `engine.aggregate.KindModule`."""
    if len(drafts) == 1:
        run.decide(RankedDetail(), "only one draft came; nothing to rank")
        return await synthesize.write(run, aggregator, drafts) if aggregator.model else outcome_of(drafts[0])
    # Half of the time is the chairman's.
    ranking = await rank_drafts(run, drafts, run.until((1.0, 1.0)) if aggregator.model else run.deadline)
    if not ranking.reviewers:
        run.decide(NoticedDetail(), "no review could be counted", warning=True)
        return await synthesize.write(run, aggregator, drafts) if aggregator.model else vote.count(run, drafts)
    top = drafts[winner(drafts.all, ranking)]
    points = {draft.call: round(ranking.points[place], 4) for place, draft in enumerate(drafts)}
    reviews = "1 review puts" if ranking.reviewers == 1 else f"{ranking.reviewers} reviews put"
    run.decide(RankedDetail(points=points), f"{reviews} the draft of {top.model} first")
    if not aggregator.model:
        return outcome_of(top)

    def below(_tag: str, order: Sequence[int]) -> str:
        return describe_ranking(len(drafts), ranking, order)

    return await synthesize.write(run, aggregator, drafts, below)
