"""The output of `mixtura plan` on limits: how many mixtures the rate limits of a plan allow, and which window binds."""

import math
from collections.abc import Collection, Sequence

from mixtura.cli.common import fitting, today
from mixtura.cli.models import life
from mixtura.limits.window import DIMENSIONS, Limits
from mixtura.models.catalog import Tier
from mixtura.models.registry import ModelRegistry
from mixtura.planning import reductions
from mixtura.planning.capacity import Bound, Capacity, Share, capacity, with_substitutes
from mixtura.planning.schedule import planned_models
from mixtura.recipe import Recipe

_DISPENSABLE = ("calls", "tokens")


def describe(found: Capacity, half: Capacity | None, plan: Tier) -> str:
    """Return the sentence, its details and the table."""
    lines = [sentence(found, plan), *_more(found), "", _table(found.shares)]
    if half is not None and half.day is not None:
        rates = "still not one" if half.day.mixtures == 0 else _rates(half.minute, half.day)
        lines += ["", f"With output limits (max_tokens) halved: {rates}."]
    return "\n".join(lines)


def mixtures_a_minute(found: Capacity) -> tuple[float | None, str]:
    """Return the sustained mixtures per minute that a plan allows (None: not known), and the binding limit."""
    bounds = [
        (per_minute, bound)
        for bound, per_minute in (
            (found.minute, found.minute.mixtures if found.minute else 0.0),
            (found.day, found.day.mixtures / 1440 if found.day else 0.0),
        )
        if bound is not None
    ]
    if not bounds:
        return None, ""
    per_minute, bound = min(bounds, key=lambda pair: pair[0])
    return per_minute, f"{_words(bound)} of {bound.model}"


class CapacityCounter:
    """Counts the mixtures that a plan's rate limits allow, for one registry of models and one size of questions."""

    def __init__(self, registry: ModelRegistry, plan: Tier, question_tokens: int) -> None:
        self.plan = plan
        self.registry = registry
        self.question_tokens = question_tokens

    def count(self, recipe: Recipe, models: Collection[tuple[str, str]] | None = None) -> Capacity:
        """Return the capacity of the plan for `recipe`; with `models`, count only the limits of these models."""

        def limits(provider: str, model: str) -> Limits | None:
            row = self.registry.catalog.get(provider, model)
            return (
                None
                if row is None or (models is not None and (provider, model) not in models)
                else row.limits(self.plan)
            )

        return capacity(recipe, self.question_tokens, self.registry, limits)

    def count_halved(self, recipe: Recipe) -> Capacity | None:
        """Return the capacity with halved output limits; None if they cannot be halved."""
        return next((self.count(less) for less, _ in reductions.shrunk(recipe, self.registry)), None)

    def replace_gone(self, recipe: Recipe) -> tuple[Recipe, list[str]]:
        """Return `recipe` with retired models replaced, as a run would do, and notes on those models."""
        policy, notes = recipe.policy, []
        instead: dict[tuple[str, str], str] = {}
        for provider, model in planned_models(recipe):
            self.registry.provider(provider)
            row = self.registry.catalog.get(provider, model)
            if row is None or row.is_served(today(), self.plan):
                continue
            found = policy.substitutes.get(model)
            if found is None and policy.substitute:
                found = self.registry.replacement(provider, model)
            status = f"{model} is {life(row, today())} by the catalogue"
            if found is None:
                notes.append(f"{status}: a key of this plan gets no answer of it, and is counted as if it did")
            else:
                instead[provider, model] = found
                notes.append(f"{status}; its substitute {found} is counted")
        return with_substitutes(recipe, instead), notes


def sentence(found: Capacity, plan: Tier) -> str:
    """Return the capacity as a sentence."""
    head = f"{found.recipe} on {'an' if plan == 'enterprise' else 'a'} {plan} key: "
    if found.day is None:
        return head + "no limits of its models are known; they are learned from the first replies."
    too_large = [share for share in found.shares if share.excess]
    if too_large:
        share = too_large[0]
        return head + (
            f"not one mixture as it is; a call of {share.model} asks for {share.largest:,} tokens and its smallest "
            f"window holds {share.largest - share.excess:,}, {share.excess:,} less: lower max_tokens or shorten the "
            "question."
        )
    minute, day = found.minute, found.day
    if minute is None:
        return f"{head}{_rates(minute, day)}; {_words(day)} of {day.model} bind."
    if day.dimension == minute.dimension:
        binds = f"{_words(minute)} of {minute.model} bind, and no limit per day is known"
    elif day.model == minute.model:
        binds = f"{_words(minute)} and {_words(day)} of {day.model} bind"
    else:
        binds = f"{_words(minute)} of {minute.model} and {_words(day)} of {day.model} bind"
    return f"{head}{_rates(minute, day)}; {binds}."


def _more(found: Capacity) -> list[str]:
    """Return the details below the sentence: mixtures at once, and the cost of a day."""
    lines = []
    if found.at_once and found.minute is not None:
        lines.append(f"{found.at_once:,} can begin at once, then one every {_seconds(60 / found.minute.mixtures)}.")
    elif found.at_once == 0 and not any(share.excess for share in found.shares):
        wait = f", about {_seconds(found.spread)} when it is alone" if found.spread >= 1 else ""
        lines.append(f"One asks for more than fits at once: its calls wait for room{wait}.")
    if found.dollars:
        lines.append(f"A day of them costs at most ${found.dollars:,.2f}.")
    return lines


def _rates(minute: Bound | None, day: Bound) -> str:
    if minute is None:
        return f"{_figure(day.mixtures)} mixtures a day"
    one = _figure(minute.mixtures) == "1"
    return f"{_figure(minute.mixtures)} mixture{'s' * (not one)} a minute, {_figure(day.mixtures)} a day"


def _words(bound: Bound) -> str:
    return DIMENSIONS[bound.dimension][0]


def _table(shares: Sequence[Share]) -> str:
    """Return a table with a row per model; on a narrow terminal with shorter names, then fewer columns."""
    rows = [["model", "calls", "tokens", *DIMENSIONS]]
    for share in shares:
        allowed = [_figure(share.allows[name]) if name in share.allows else "" for name in DIMENSIONS]
        rows.append([share.model, str(share.calls), f"{share.tokens:,}", *allowed])
    return fitting(rows, _DISPENSABLE, right=rows[0][1:])


def _figure(mixtures: float) -> str:
    """Return a number of mixtures as text, rounded down because the limits must allow it."""
    if mixtures >= 10:
        return f"{math.floor(mixtures):,}"
    digits = 10 if mixtures >= 1 else 100
    return f"{math.floor(mixtures * digits) / digits:g}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
