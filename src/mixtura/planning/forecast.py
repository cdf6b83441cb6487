"""What a run would take, before anything is sent: calls, tokens, dollars, all at most."""

from collections.abc import Sequence

import msgspec

from mixtura import prompts
from mixtura.chat import Message, Usage
from mixtura.engine import calls
from mixtura.events import Role
from mixtura.models.card import ModelCard
from mixtura.models.served import Models
from mixtura.recipe import Recipe
from mixtura.tokens import estimate_messages, estimate_tokens

# What is taken for a model whose output limit nobody knows.
_UNKNOWN_OUTPUT = 4096


class ForecastRow(msgspec.Struct, frozen=True, kw_only=True):
    """`count` alike calls: tokens of all of them together; prompt estimated, completion at most."""

    role: Role
    model: str
    provider: str
    count: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a run takes at most: every draft as long as its limit, no early end, no retry.

    `cost` is dollars for what has a price; models without one are in `unpriced`.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    unpriced: list[str]
    rows: list[ForecastRow]
    notes: list[str] = []


def forecast(recipe: Recipe, conversation: Sequence[Message], models: Models) -> Forecast:
    """Return what `recipe` takes at most for `conversation`; nothing is sent."""
    base = estimate_messages(conversation)
    rows: list[ForecastRow] = []
    drafts = 0

    def add(role: Role, slot: calls.Slot, count: int, prompt: int) -> int:
        asked = [_of(slot, models.card(*one), role, prompt) for one in _models(slot, recipe, models)]
        prices = [cost for _, cost in asked if cost is not None]
        usage = max((usage for usage, _ in asked), key=lambda usage: usage.completion_tokens)
        rows.append(
            ForecastRow(
                role=role,
                model=slot.model,
                provider=slot.provider,
                count=count,
                prompt_tokens=usage.prompt_tokens * count,
                completion_tokens=usage.completion_tokens * count,
                cost=max(prices) * count if len(prices) == len(asked) else None,
            )
        )
        return usage.completion_tokens * count

    synthesis = estimate_tokens(prompts.SYNTHESIZE)
    for layer in recipe.layers:
        prompt = base + (drafts + synthesis if drafts else 0)
        drafts = sum(
            add("proposer", proposer, proposer.samples, prompt + estimate_tokens(proposer.system or ""))
            for proposer in layer.proposers
        )
    for proposer in recipe.escalate.proposers if recipe.escalate else ():
        drafts += add("escalation", proposer, proposer.samples, base + estimate_tokens(proposer.system or ""))
    aggregator = recipe.aggregator
    if aggregator is not None:
        prompt = base + drafts + synthesis
        if aggregator.kind == "rank":
            for proposer in (*recipe.layers[-1].proposers, *(recipe.escalate.proposers if recipe.escalate else ())):
                add("reviewer", proposer, proposer.samples, prompt)
        if aggregator.model:
            add("selector" if aggregator.kind == "select" else "aggregator", aggregator, 1, prompt)
    costs = [row.cost for row in rows if row.cost is not None]
    return Forecast(
        calls=sum(row.count for row in rows),
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cost=sum(costs) if costs else None,
        unpriced=sorted({row.model for row in rows if row.cost is None}),
        rows=rows,
    )


def _models(slot: calls.Slot, recipe: Recipe, models: Models) -> list[tuple[str, str]]:
    """Return every (provider, id) that may answer for a slot: its own, and those that may take its place."""
    found: list[tuple[str, str]] = []
    for link in (slot, *slot.fallbacks):
        following: str | None = link.model
        while following is not None and (link.provider, following) not in found:
            found.append((link.provider, following))
            instead = recipe.policy.substitutes.get(following)
            if instead is None and recipe.policy.substitute:
                instead = models.replacement(link.provider, following)
            following = instead
    return found


def _of(slot: calls.Slot, card: ModelCard, role: Role, prompt: int) -> tuple[Usage, float | None]:
    """Return what one call of a slot takes at most of the model of `card`, and its dollars."""
    if card.window is not None:
        prompt = min(prompt, card.window)
    output = calls.max_tokens(slot, card, role) or _UNKNOWN_OUTPUT
    usage = Usage(prompt_tokens=prompt, completion_tokens=output)
    return usage, card.price.cost(usage) if card.price else None
