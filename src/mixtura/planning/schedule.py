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
from mixtura.caller_options import reaching, wants_json
from mixtura.chat import NO_OPTIONS, ChatOptions
from mixtura.errors import InputError
from mixtura.kinds import KINDS, CallRole
from mixtura.models.card import ModelCard
from mixtura.recipe import Aggregator, Fallback, Layer, Policy, Proposer, Recipe, Slot
from mixtura.tokens import PROMPT_HEAD, PROMPT_MARGIN, estimate_tokens

# The output limit of a call whose recipe sets none. Groq counts the limit that a request asks for against the tokens of
# a minute, so it is not simply large; and a model that reasons spends most of it before the first word of the answer.
_DRAFT_TOKENS = 1024
_ANSWER_TOKENS = 2048
_REASONING_TOKENS = {"none": 1024, "low": 2048, "medium": 4096, "default": 4096, "high": 8192}
# What stands in a repair besides the reply: the instruction, and what is wrong.
_REPAIR_TOKENS = 120
# What is said of the form of an answer, besides a schema, to a model that takes none.
_FORMAT_WORDS = 40


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
        options: what of the caller's options it is asked with.
    """

    role: CallRole
    slot: Slot
    stage: int
    system: str = ""
    reads: tuple[int, ...] = ()
    certain: bool = True
    options: ChatOptions = NO_OPTIONS

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


def schedule(recipe: Recipe, options: ChatOptions = NO_OPTIONS, *, repair: bool = False) -> Schedule:
    """Return the calls that a run of `recipe` may make when no call fails; with tools, that of `acting_recipe`.

    Left out are second tries, repeated attempts, fall-backs and substitutes: they stand in for a listed call, and
    `models_of` names them. With
    `repair` the list has the call that asks for JSON once more where the answer is none.
    """
    if options is not NO_OPTIONS:
        return _Builder(recipe, options, repair=repair).build()
    known = _CACHE.get(id(recipe))
    if known is not None and known[0]() is recipe:
        return known[1]
    place = id(recipe)
    planned = _Builder(recipe, options, repair=False).build()
    _CACHE[place] = weakref.ref(recipe, lambda _: _CACHE.pop(place, None)), planned
    return planned


# A recipe is asked again and again, and its list is always the same: kept as long as the recipe is.
_CACHE: dict[int, tuple[weakref.ref[Recipe], Schedule]] = {}


def models_of(
    recipe: Recipe, replacement: Callable[[str, str], str | None] | None = None, *, acting: bool = False
) -> list[tuple[str, str]]:
    """Return every (provider, model) that a run of `recipe` may ask, each once: fall-backs and substitutes as well.

    Args:
        recipe: what is run.
        replacement: what the catalogue names in place of a (provider, model); without it only the recipe's own
            substitutes are known.
        acting: the caller offers tools, so the recipe's model that acts is one of them.
    """
    slots = [call.slot for call in schedule(recipe).calls]
    if acting and recipe.tools.acting is not None:
        slots.append(recipe.tools.acting)
    return list(dict.fromkeys(name for slot in slots for name in stand_ins(recipe.policy, slot.links, replacement)))


def stand_ins(
    policy: Policy, links: Sequence[Fallback | Slot], replacement: Callable[[str, str], str | None] | None = None
) -> list[tuple[str, str]]:
    """Return every (provider, model) that may answer for `links`: they themselves, and their substitutes."""
    found: list[tuple[str, str]] = []
    for link in links:
        following: str | None = link.model
        while following is not None and (link.provider, following) not in found:
            found.append((link.provider, following))
            instead = policy.substitutes.get(following)
            if instead is None and policy.substitute and replacement is not None:
                instead = replacement(link.provider, following)
            following = instead
    return found


def planned_models(recipe: Recipe) -> list[tuple[str, str]]:
    """Return every (provider, model) that a run of `recipe` asks when no call fails, each once."""
    return list(dict.fromkeys((call.slot.provider, call.slot.model) for call in schedule(recipe).calls))


def count_calls(recipe: Recipe) -> int:
    """Return how many calls a run of `recipe` makes when no call fails and the drafts do not end it early."""
    return len(schedule(recipe).calls)


def is_held(role: CallRole, stage: int) -> bool:
    """Say whether a run is promised room for such a call before it begins: the first layer, and the last word."""
    return role in ("aggregator", "selector") or (role == "proposer" and stage == 0)


def acting_recipe(recipe: Recipe, options: ChatOptions) -> Recipe:
    """Return what is run of `recipe` where the caller offers tools: its drafts, and one model that acts.

    Raises:
        InputError: the recipe has no model that could act.
    """
    if not options.tools or (recipe.aggregator is None and recipe.tools.acting is None):
        return recipe
    acting, aggregator = recipe.tools.acting, recipe.aggregator
    if acting is None and aggregator is not None and aggregator.model:
        # The instructions of a kind that does not write are for choosing among drafts.
        writes = KINDS[aggregator.kind].role == "aggregator"
        system, template = (aggregator.system, aggregator.template) if writes else (None, None)
        per_draft = aggregator.draft_template if writes else None
        acting = msgspec.structs.replace(
            aggregator, kind="synthesize", system=system, template=template, draft_template=per_draft
        )
    if acting is None:
        raise InputError(
            f"the recipe {recipe.name!r} takes no tools: nobody in it writes an answer; "
            "name a model under [tools.acting], or take another recipe"
        )
    policy = msgspec.structs.replace(recipe.policy, stop_when_agree=False)
    return msgspec.structs.replace(recipe, aggregator=acting, escalate=None, policy=policy)


def returns_drafts(recipe: Recipe) -> bool:
    """Say whether a draft of the last layer can be the answer word for word."""
    aggregator = recipe.aggregator
    if aggregator is None or recipe.policy.stop_when_agree or recipe.escalate is not None:
        return True
    return KINDS[aggregator.kind].returns_drafts or not aggregator.model


def draft_options(recipe: Recipe, options: ChatOptions, *, last: bool) -> ChatOptions:
    """Return what of the caller's options a draft is asked with; `last`: of the last layer, or of the escalation."""
    if options is NO_OPTIONS:
        return options
    alone = recipe.aggregator is None
    return reaching(
        options,
        writes=last and alone,
        answers=last and returns_drafts(recipe),
        acts=last and (alone or recipe.tools.policy == "agree"),
    )


def writer_options(options: ChatOptions) -> ChatOptions:
    """Return what of the caller's options the call that writes the answer is asked with."""
    return reaching(options, writes=True, answers=True, acts=True)


def other_options(options: ChatOptions) -> ChatOptions:
    """Return what of the caller's options a call is asked with whose reply is not for the caller."""
    return reaching(options, writes=False, answers=False, acts=False)


def repairer(recipe: Recipe) -> Slot | None:
    """Return who is asked once more when the answer has not the form that was asked for; None: nobody."""
    aggregator = recipe.aggregator
    if aggregator is not None:
        return aggregator if aggregator.model else None
    return recipe.layers[-1].slots[0]


class _Builder:
    """Walks through a recipe once."""

    def __init__(self, recipe: Recipe, options: ChatOptions, *, repair: bool) -> None:
        self._recipe = recipe
        self._options = options
        self._repair = repair and wants_json(options)
        self._calls: list[PlannedCall] = []
        self._stages: list[str] = []

    def build(self) -> Schedule:
        recipe, several = self._recipe, len(self._recipe.layers) > 1
        drafts: tuple[int, ...] = ()
        for number, layer in enumerate(recipe.layers, 1):
            name = f"layer {number}" if several else "drafts"
            drafts = self._layer(name, layer, "proposer", drafts, last=number == len(recipe.layers))
        asked = list(recipe.layers[-1].slots)
        if recipe.escalate is not None:
            drafts += self._layer("escalation", recipe.escalate, "escalation", (), last=True)
            asked += recipe.escalate.slots
        if recipe.aggregator is not None:
            self._aggregation(recipe.aggregator, asked, drafts)
        if self._repair and (slot := repairer(recipe)) is not None:
            options = writer_options(self._options)
            stage, last = self._stage("repair"), len(self._calls) - 1
            system = (slot.system or "") if isinstance(slot, Proposer) else ""
            self._calls.append(PlannedCall("repair", slot, stage, system, (last,), certain=False, options=options))
        return Schedule(tuple(self._calls), tuple(self._stages))

    def _layer(self, name: str, layer: Layer, role: CallRole, reads: tuple[int, ...], *, last: bool) -> tuple[int, ...]:
        stage, first = self._stage(name), len(self._calls)
        options = draft_options(self._recipe, self._options, last=last)
        for slot in layer.slots:
            system = _joined(slot.system, prompts.SYNTHESIZE if reads else None)
            certain = role == "proposer"
            self._calls.append(PlannedCall(role, slot, stage, system, reads, certain, options))
        return tuple(range(first, len(self._calls)))

    def _aggregation(self, aggregator: Aggregator, authors: Sequence[Proposer], drafts: tuple[int, ...]) -> None:
        kind = KINDS[aggregator.kind]
        ends_early = self._recipe.policy.stop_when_agree or self._recipe.escalate is not None
        certain = not ends_early and kind.certain
        if kind.reviews:
            stage = self._stage("reviews")
            for slot in authors:
                options = other_options(self._options)
                self._calls.append(PlannedCall("reviewer", slot, stage, prompts.RANK, drafts, certain, options))
        if aggregator.model:
            system = instructions_of(aggregator) + _template_words(aggregator)
            writes = kind.role == "aggregator"
            options = writer_options(self._options) if writes else other_options(self._options)
            stage = self._stage("answer")
            self._calls.append(PlannedCall(kind.role, aggregator, stage, system, drafts, certain, options))

    def _stage(self, name: str) -> int:
        self._stages.append(name)
        return len(self._stages) - 1


def instructions_of(aggregator: Aggregator) -> str:
    """Return the system text that the aggregator's model reads the drafts with."""
    if aggregator.template is not None:
        return aggregator.system or ""
    return aggregator.system or KINDS[aggregator.kind].instructions


def _template_words(aggregator: Aggregator) -> str:
    """Return the words of a template, once for itself and often enough for what stands round each draft."""
    return (
        "".join(("\n", aggregator.template or "", 8 * (aggregator.draft_template or ""))) if aggregator.template else ""
    )


def output_limit(slot: Slot, card: ModelCard, role: CallRole, options: ChatOptions = NO_OPTIONS) -> int | None:
    """Return the most tokens that a reply may have: the caller's limit, the slot's, or one that suits the model.

    `options` are those of the call. None (the provider's default) where the catalogue does not know the model.
    """
    if options.max_tokens is not None:
        return options.max_tokens if card.max_output is None else min(options.max_tokens, card.max_output)
    if slot.max_tokens is not None:
        return slot.max_tokens if card.max_output is None else min(slot.max_tokens, card.max_output)
    if card.max_output is None:
        return None
    wanted = _ANSWER_TOKENS if role in ("aggregator", "repair") else _DRAFT_TOKENS
    if card.reasons:
        effort = effort_of(slot, card, options) or card.default_effort or "default"
        wanted = max(wanted, _REASONING_TOKENS.get(effort, 4096))
    return min(wanted, card.max_output)


def fitting_limit(limit: int | None, card: ModelCard, prompt: Callable[[], int]) -> int | None:
    """Return an output limit that leaves the prompt its room in the window of `card`'s model.

    A limit that was set for one model may be more than a fall-back can write, whose server then refuses the call.

    Args:
        limit: the limit so far.
        card: the model that is asked.
        prompt: estimates the tokens of the prompt; called only where the limit takes much of the window.
    """
    window = card.window
    if limit is None or window is None or 4 * limit <= window:
        return limit
    size = prompt()
    if size + limit <= window:
        return limit
    # Too long a limit is refused; one that is half as long as it could be answers. Nothing fits: the server says so.
    room = max(window - math.ceil(size * PROMPT_MARGIN) - PROMPT_HEAD, (window - size) // 2)
    return min(limit, room) if room > 0 else limit


def effort_of(slot: Slot, card: ModelCard, options: ChatOptions) -> str | None:
    """Return the reasoning effort that `card`'s model is asked for; one that it does not take is left out.

    A slot's own effort for its own model is sent whatever the catalogue says, and so is a caller's where the catalogue
    does not know the model.
    """
    wanted = options.reasoning_effort
    if wanted is not None and (wanted in card.efforts or card.window is None):
        return wanted
    effort = slot.reasoning_effort
    return effort if card.id == slot.model or effort in card.efforts else None


def prompt_tokens(
    planned: Schedule,
    conversation: int,
    reply: Callable[[PlannedCall], float],
) -> list[int]:
    """Return the estimated prompt tokens of each call, in the order of `planned.calls`.

    Args:
        planned: the calls.
        conversation: estimated tokens of the conversation.
        reply: the tokens of a draft by its call, as far as they are known: at most, or on the average.
    """
    systems: dict[str, int] = {"": 0}
    found: list[int] = []
    for call in planned.calls:
        if call.system not in systems:
            systems[call.system] = estimate_tokens(call.system)
        size = conversation + systems[call.system] + attached_tokens(call.slot, call.options)
        if call.role == "repair":
            size += math.ceil(reply(call)) + _REPAIR_TOKENS
        elif call.reads:
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


def attached_tokens(slot: Slot, options: ChatOptions) -> int:
    """Return the estimated prompt tokens of what a request holds besides its messages."""
    if options is NO_OPTIONS and not slot.extra:
        return 0
    # What a further field means is not known here; a long one is most often something that the model reads.
    extra = {**slot.extra, **options.extra}
    parts = [part for part in (options.tools, options.response_format, extra) if part]
    words = _FORMAT_WORDS if wants_json(options) else 0
    return words + sum(estimate_tokens(msgspec.json.encode(part).decode()) for part in parts)


def _joined(*texts: str | None) -> str:
    return "\n\n".join(text for text in texts if text)
