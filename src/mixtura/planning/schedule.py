"""The calls that a run may make, listed once: who is asked, in which role and stage, what it reads, how certainly.

Forecasts, demands on rate limits, estimates of time, smaller runs and the machine room read this list. None of them
walks a recipe, so none of them can disagree about what it asks for.
"""

import math
import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from mixtura import prompts
from mixtura.chat import ChatOptions
from mixtura.kinds import KINDS, CallRole
from mixtura.models.card import ModelCard
from mixtura.recipe import Aggregator, Layer, Proposer, Recipe
from mixtura.tokens import estimate_tokens

Slot = Proposer | Aggregator
"""A model slot of a recipe: what to ask, and how."""

# The output limit of a call whose recipe sets none. Groq counts the limit that a request asks for against the tokens of
# a minute, so it is not simply large; and a model that reasons spends most of it before the first word of the answer.
_DRAFT_TOKENS = 1024
_ANSWER_TOKENS = 2048
_REASONING_TOKENS = {"none": 1024, "low": 2048, "medium": 4096, "default": 4096, "high": 8192}
_OUTPUT_FIELDS = ("max_tokens", "max_completion_tokens")


class PlannedCall(NamedTuple):
    """One call that a run may make.

    Attributes:
        role: what it is for.
        slot: who is asked; of a slot with several samples each sample is a call.
        stage: place of its stage in `Schedule.stages`; calls of a stage are made at the same time.
        system: what is added to the conversation's system prompt.
        reads: places in `Schedule.calls` of the drafts that it reads.
        certain: it is made whatever the drafts end in, as long as nothing fails. (Drafts that are the same, word for
            word, still need no aggregator.)
        answers: its reply can be the answer, so the caller's tools and response format go to it.
    """

    role: CallRole
    slot: Slot
    stage: int
    system: str = ""
    reads: tuple[int, ...] = ()
    certain: bool = True
    answers: bool = False

    @property
    def held(self) -> bool:
        """The run is promised room for it before it begins; see `is_held`."""
        return is_held(self.role, self.stage)


class Schedule(NamedTuple):
    """The calls of a run in the order of their stages, and what each stage is called."""

    calls: tuple[PlannedCall, ...]
    stages: tuple[str, ...]

    def of_stage(self, stage: int) -> list[PlannedCall]:
        """Return the calls of one stage."""
        return [call for call in self.calls if call.stage == stage]


def schedule(recipe: Recipe, options: ChatOptions | None = None) -> Schedule:
    """Return the calls that a run of `recipe` may make when no call fails.

    Left out are second tries, repeated attempts, fall-backs and substitutes: they stand in for a listed call.
    """
    tools = options is not None and bool(options.tools)
    if tools:
        return _Builder(recipe, tools=True).build()
    known = _CACHE.get(id(recipe))
    if known is not None and known[0]() is recipe:
        return known[1]
    place = id(recipe)
    planned = _Builder(recipe, tools=False).build()
    _CACHE[place] = weakref.ref(recipe, lambda _: _CACHE.pop(place, None)), planned
    return planned


# A recipe is asked again and again, and its list is always the same: kept as long as the recipe is.
_CACHE: dict[int, tuple[weakref.ref[Recipe], Schedule]] = {}


def count_calls(recipe: Recipe) -> int:
    """Return how many calls a run of `recipe` makes when no call fails and the drafts do not end it early."""
    return len(schedule(recipe).calls)


def is_held(role: CallRole, stage: int) -> bool:
    """Say whether a run is promised room for such a call before it begins: the first layer, and the last word."""
    return role in ("aggregator", "selector") or (role == "proposer" and stage == 0)


class _Builder:
    """Walks through a recipe once."""

    def __init__(self, recipe: Recipe, *, tools: bool) -> None:
        self._recipe = recipe
        self._tools = tools
        self._calls: list[PlannedCall] = []
        self._stages: list[str] = []

    def build(self) -> Schedule:
        recipe, several = self._recipe, len(self._recipe.layers) > 1
        drafts: tuple[int, ...] = ()
        for number, layer in enumerate(recipe.layers, 1):
            drafts = self._layer(f"layer {number}" if several else "drafts", layer, "proposer", drafts)
        asked = list(recipe.layers[-1].slots)
        if recipe.escalate is not None:
            drafts += self._layer("escalation", recipe.escalate, "escalation", ())
            asked += recipe.escalate.slots
        if recipe.aggregator is not None:
            self._aggregation(recipe.aggregator, asked, drafts)
        return Schedule(tuple(self._calls), tuple(self._stages))

    def _layer(self, name: str, layer: Layer, role: CallRole, reads: tuple[int, ...]) -> tuple[int, ...]:
        stage, first = self._stage(name), len(self._calls)
        alone = self._recipe.aggregator is None
        for slot in layer.slots:
            system = _joined(slot.system, prompts.SYNTHESIZE if reads else None)
            self._calls.append(PlannedCall(role, slot, stage, system, reads, certain=role == "proposer", answers=alone))
        return tuple(range(first, len(self._calls)))

    def _aggregation(self, aggregator: Aggregator, authors: Sequence[Proposer], drafts: tuple[int, ...]) -> None:
        kind = KINDS[aggregator.kind]
        # Drafts that agree end the run, unless the caller's tools have yet to be shown to a model.
        ends_early = (self._recipe.policy.stop_when_agree or self._recipe.escalate is not None) and not self._tools
        certain = not ends_early and (kind.certain or self._tools)
        if kind.reviews:
            stage = self._stage("reviews")
            for slot in authors:
                self._calls.append(PlannedCall("reviewer", slot, stage, prompts.RANK, drafts, certain=certain))
        if aggregator.model:
            system = aggregator.system or kind.instructions
            stage = self._stage("answer")
            self._calls.append(PlannedCall(kind.role, aggregator, stage, system, drafts, certain, answers=True))

    def _stage(self, name: str) -> int:
        self._stages.append(name)
        return len(self._stages) - 1


def output_limit(slot: Slot, card: ModelCard, role: CallRole, options: ChatOptions | None = None) -> int | None:
    """Return the most tokens that a reply may have: the slot's own limit, else one that does not starve the model.

    A limit in `options.extra` is sent in its place. None (the provider's default) where the catalogue does not know
    the model.
    """
    if options is not None and options.extra:
        given = [options.extra.get(name) for name in _OUTPUT_FIELDS]
        sent = [limit for limit in given if isinstance(limit, int) and limit > 0]
        if sent:
            return max(sent)
    if slot.max_tokens is not None:
        return slot.max_tokens
    if card.max_output is None:
        return None
    wanted = _ANSWER_TOKENS if role == "aggregator" else _DRAFT_TOKENS
    if card.reasons:
        effort = slot.reasoning_effort or card.default_effort or "default"
        wanted = max(wanted, _REASONING_TOKENS.get(effort, 4096))
    return min(wanted, card.max_output)


def prompt_tokens(
    planned: Schedule,
    conversation: int,
    reply: Callable[[PlannedCall], float],
    options: ChatOptions | None = None,
) -> list[int]:
    """Return the estimated prompt tokens of each call, in the order of `planned.calls`.

    Args:
        planned: the calls.
        conversation: estimated tokens of the conversation.
        reply: the tokens of a draft by its call, as far as they are known: at most, or on the average.
        options: the caller's; tools and a schema are part of the prompt of the call that answers.
    """
    attached = 0 if options is None else _attached(options)
    systems: dict[str, int] = {"": 0}
    found: list[int] = []
    for call in planned.calls:
        if call.system not in systems:
            systems[call.system] = estimate_tokens(call.system)
        size = conversation + systems[call.system] + attached * call.answers
        if call.reads:
            drafts = sum(reply(planned.calls[place]) + prompts.FENCE_TOKENS for place in call.reads)
            size += math.ceil(drafts) + prompts.READING_TOKENS
        found.append(size)
    return found


def replace_slots(recipe: Recipe, change: Callable[[Slot, CallRole], Slot]) -> Recipe:
    """Return `recipe` with every slot replaced by what `change` makes of it."""

    def layer(old: Layer, role: CallRole) -> Layer:
        changed = (change(slot, role) for slot in old.proposers)
        return Layer(proposers=tuple(slot for slot in changed if isinstance(slot, Proposer)))

    aggregator = recipe.aggregator
    if aggregator is not None and aggregator.model:
        changed = change(aggregator, KINDS[aggregator.kind].role)
        aggregator = changed if isinstance(changed, Aggregator) else aggregator
    return msgspec.structs.replace(
        recipe,
        layers=tuple(layer(one, "proposer") for one in recipe.layers),
        escalate=None if recipe.escalate is None else layer(recipe.escalate, "escalation"),
        aggregator=aggregator,
    )


def _attached(options: ChatOptions) -> int:
    """Return the estimated tokens of what the caller attaches to the request besides its messages."""
    parts = [part for part in (options.tools, options.response_format) if part]
    return sum(estimate_tokens(msgspec.json.encode(part).decode()) for part in parts)


def _joined(*texts: str | None) -> str:
    return "\n\n".join(text for text in texts if text)
