"""What each kind of aggregator asks of models, as data: one row a kind.

The other half of a kind, how it turns drafts into the answer, is the module `engine/kinds/<kind>.py`. A new kind is a
row here and a module there; forecasts, demands on rate limits, time estimates and machine plans follow from the row.
"""

from typing import Literal, NamedTuple

from mixtura import prompts

AggregatorKind = Literal["synthesize", "select", "vote", "rank", "auto"]
CallRole = Literal["proposer", "escalation", "reviewer", "selector", "aggregator"]


class KindRow(NamedTuple):
    """The calls that a kind of aggregator makes.

    Attributes:
        model: whether the recipe has to name a model, may name one, or must not.
        role: what that model is asked for.
        instructions: the system text that it reads the drafts with, unless the recipe has one of its own.
        reviews: the author of every draft is asked to review all of them.
        certain: its model is asked whatever the drafts say.
        counts: the drafts' final answers are counted, so a bare number may be one.
    """

    model: Literal["needed", "optional", "none"]
    role: CallRole = "aggregator"
    instructions: str = prompts.SYNTHESIZE
    reviews: bool = False
    certain: bool = True
    counts: bool = False


KINDS: dict[AggregatorKind, KindRow] = {
    "synthesize": KindRow(model="needed"),
    "select": KindRow(model="needed", role="selector", instructions=prompts.SELECT),
    "vote": KindRow(model="none", counts=True),
    "rank": KindRow(model="optional", instructions=prompts.RANKED_SYNTHESIS, reviews=True),
    "auto": KindRow(model="needed", certain=False, counts=True),
}
