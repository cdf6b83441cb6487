"""What each kind of aggregator asks of models, as data: one row a kind.

The other half of a kind, how it turns drafts into the answer, is the module `engine/kinds/<kind>.py`. A new kind is a
row here and a module there; forecasts, demands on rate limits, time estimates and machine plans follow from the row.
"""

from typing import Literal, NamedTuple

from mixtura import prompts

AggregatorKind = Literal["synthesize", "select", "vote", "rank", "auto", "merge"]
CallRole = Literal["proposer", "escalation", "reviewer", "selector", "aggregator", "repair"]


class KindRow(NamedTuple):
    """The calls that a kind of aggregator makes.

    Attributes:
        model: whether the recipe has to name a model, may name one, or must not.
        role: what that model is asked for.
        instructions: the system text that it reads the drafts with, unless the recipe has one of its own.
        reviews: the author of every draft is asked to review all of them.
        certain: its model is asked whatever the drafts say.
        counts: the drafts' final answers are counted, so a bare number may be one.
        returns_drafts: a draft, or parts of several, can be the answer word for word, so what a caller asks of the
            answer's form is asked of the drafts as well. ("rank" returns one where it has no chairman.)
    """

    model: Literal["needed", "optional", "none"]
    role: CallRole = "aggregator"
    instructions: str = prompts.SYNTHESIZE
    reviews: bool = False
    certain: bool = True
    counts: bool = False
    returns_drafts: bool = False


KINDS: dict[AggregatorKind, KindRow] = {
    "synthesize": KindRow(model="needed"),
    "select": KindRow(model="needed", role="selector", instructions=prompts.SELECT, returns_drafts=True),
    "vote": KindRow(model="none", counts=True, returns_drafts=True),
    "rank": KindRow(model="optional", instructions=prompts.RANKED_SYNTHESIS, reviews=True),
    "auto": KindRow(model="needed", certain=False, counts=True, returns_drafts=True),
    # Drafts that are no JSON objects are composed, which takes more than deciding fields.
    "merge": KindRow(model="needed", certain=False, returns_drafts=True),
}
