"""What a run would take, before anything is sent: calls, tokens, dollars, all at most."""

from collections.abc import Sequence

import msgspec

from mixtura.chat import Message, Usage
from mixtura.engine import calls, prompts
from mixtura.engine.context import RunOptions
from mixtura.events import Role
from mixtura.models.base import Models
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


def forecast(recipe: Recipe, conversation: Sequence[Message], models: Models, options: RunOptions) -> Forecast:
    """Return what `recipe` takes at most for `conversation`; nothing is sent."""
    base = estimate_messages(conversation)
    rows: list[ForecastRow] = []
    drafts = 0

    def add(role: Role, seat: calls.Seat, count: int, prompt: int) -> int:
        card = models.card(seat.provider, seat.model)
        output = calls.max_tokens(seat, card, role) or _UNKNOWN_OUTPUT
        if card.window is not None:
            prompt = min(prompt, card.window)
        usage = Usage(prompt_tokens=prompt * count, completion_tokens=output * count)
        cost = card.price.cost(usage) if card.price else None
        rows.append(
            ForecastRow(
                role=role,
                model=seat.model,
                provider=seat.provider,
                count=count,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                cost=cost,
            )
        )
        return usage.completion_tokens

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
            for proposer in recipe.layers[-1].proposers:
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
