"""What a run decides on its way: each kind of decision, and the facts that belong to it."""

from typing import Any, Literal

import msgspec

from mixtura.recipe import Recipe

DecisionKind = Literal[
    "agreed",  # the drafts end in the same answer: what would have followed was left out
    "escalated",  # they do not: a stronger model was asked as well
    "voted",  # the answer was counted, not written
    "selected",  # a model named the best draft
    "ranked",  # the proposers ranked the drafts
    "synthesized",  # a model wrote the answer from the drafts
    "fell_back",  # the aggregator gave nothing defensible: a draft (or its answer alone) took its place
    "substituted",  # a model is gone or failed, and another was asked
    "trimmed",  # drafts were shortened to fit
    "dropped",  # a draft was left out: empty, or too late
    "waited",  # the limits had no room yet
    "reduced",  # for want of room, money or time less was asked than the recipe says
    "routed",  # one model answers, since the mixture was expected to take longer than it may
    "hedged",  # a call was slower than usual and was tried a second time
    "cut",  # a straggler was stopped and what it had written is used, marked as incomplete
    "merged",  # JSON drafts were merged field by field
    "acted",  # who decided on the tools that the caller offers, and what is called
    "repaired",  # the answer had not the form that was asked for and was written again
    "edited",  # words about the drafts, or round the JSON that was asked for, were taken off the answer
    "noticed",  # something a reader should know; nothing was changed
]


class _Detail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    pass


class AgreedDetail(_Detail, frozen=True, kw_only=True, tag="agreed"):
    """`winner` is the final answer that all drafts end in, "" when they are the same word for word."""

    winner: str = ""


class EscalatedDetail(_Detail, frozen=True, kw_only=True, tag="escalated"):
    """`models` were asked as well."""

    models: list[str] = []


class VotedDetail(_Detail, frozen=True, kw_only=True, tag="voted"):
    """`votes` holds the final answer of each draft by its call; `winner` is "" when none could be counted."""

    winner: str = ""
    votes: dict[int, str] = {}


class SelectedDetail(_Detail, frozen=True, kw_only=True, tag="selected"):
    """`call` is the draft that was named."""

    call: int | None = None


class RankedDetail(_Detail, frozen=True, kw_only=True, tag="ranked"):
    """`points` by call, 1 for a draft that every reviewer puts first, 0 for one that all put last."""

    points: dict[int, float] = {}


class SynthesizedDetail(_Detail, frozen=True, kw_only=True, tag="synthesized"):
    """`order` lists the drafts, by call, as the aggregator saw them."""

    order: list[int] = []


class FellBackDetail(_Detail, frozen=True, kw_only=True, tag="fell_back"):
    """`call` is the draft that became the answer, None when the aggregator answered alone."""

    call: int | None = None


class SubstitutedDetail(_Detail, frozen=True, kw_only=True, tag="substituted"):
    """`by` was asked in place of `model`; `gone` says that the provider no longer serves `model`."""

    model: str = ""
    by: str = ""
    gone: bool = False


class TrimmedDetail(_Detail, frozen=True, kw_only=True, tag="trimmed"):
    """What `model` reads had no room for `characters_left_out` of the drafts, by call."""

    model: str = ""
    characters_left_out: dict[int, int] = {}


class DroppedDetail(_Detail, frozen=True, kw_only=True, tag="dropped"):
    """`call` gave an empty draft; None when `lost` calls gave none at all."""

    call: int | None = None
    lost: int = 0


class WaitedDetail(_Detail, frozen=True, kw_only=True, tag="waited"):
    """The run was expected to wait `seconds` for `window`."""

    seconds: float = 0.0
    window: str = ""


class ReducedDetail(_Detail, frozen=True, kw_only=True, tag="reduced"):
    """`steps` made the run smaller; from here on `recipe` is what is run."""

    steps: list[str] = []
    recipe: Recipe | None = None


class RoutedDetail(_Detail, frozen=True, kw_only=True, tag="routed"):
    """`model` answers alone."""

    model: str = ""


class HedgedDetail(_Detail, frozen=True, kw_only=True, tag="hedged"):
    """`model` was too slow or broke off; `by` was asked beside it or in its place."""

    model: str = ""
    by: str = ""


class CutDetail(_Detail, frozen=True, kw_only=True, tag="cut"):
    """`call` is the incomplete draft that is used."""

    call: int | None = None


class MergedDetail(_Detail, frozen=True, kw_only=True, tag="merged"):
    """`fields` of the JSON are in the answer; about those in `disputed` (JSON pointers) a model was asked."""

    fields: int = 0
    disputed: list[str] = []


class ActedDetail(_Detail, frozen=True, kw_only=True, tag="acted"):
    """Who decided on the caller's tools, and which are called.

    `by` is "agreement" where `votes` of `drafts` proposals were equal, else "model": then `model` decided.
    """

    by: str = "model"
    model: str = ""
    tools: list[str] = []
    votes: int = 0
    drafts: int = 0


class RepairedDetail(_Detail, frozen=True, kw_only=True, tag="repaired"):
    """`call` wrote the answer again."""

    call: int | None = None


class EditedDetail(_Detail, frozen=True, kw_only=True, tag="edited"):
    """The answer lost its opening words, or what stood round its JSON."""


class NoticedDetail(_Detail, frozen=True, kw_only=True, tag="noticed"):
    """`call` is the call it is about, None when it is about the run."""

    call: int | None = None


Detail = (
    AgreedDetail
    | EscalatedDetail
    | VotedDetail
    | SelectedDetail
    | RankedDetail
    | SynthesizedDetail
    | FellBackDetail
    | SubstitutedDetail
    | TrimmedDetail
    | DroppedDetail
    | WaitedDetail
    | ReducedDetail
    | RoutedDetail
    | HedgedDetail
    | CutDetail
    | MergedDetail
    | ActedDetail
    | RepairedDetail
    | EditedDetail
    | NoticedDetail
)


def kind_of(detail: Detail) -> DecisionKind:
    """Return the kind of decision that `detail` belongs to."""
    kind: DecisionKind = _KINDS[type(detail)]
    return kind


_KINDS: dict[type, Any] = {detail: detail.__struct_config__.tag for detail in _Detail.__subclasses__()}
