"""What a run takes at most, before anything is sent: calls, tokens, dollars."""

import itertools
import math
from collections.abc import Sequence

import msgspec

from mixtura.chat import NO_OPTIONS, ChatOptions, Message, Usage
from mixtura.kinds import CallRole
from mixtura.models.card import ModelCard
from mixtura.models.served import Models
from mixtura.planning.schedule import PlannedCall, attached_tokens, output_limit, prompt_tokens, schedule, stand_ins
from mixtura.recipe import Recipe, Slot
from mixtura.tokens import PROMPT_HEAD, PROMPT_MARGIN, estimate_messages

# What is taken for a model whose output limit is not known.
_UNKNOWN_OUTPUT = 4096


class ForecastRow(msgspec.Struct, frozen=True, kw_only=True):
    """`count` alike calls: tokens of all of them together and their dollars, all at most."""

    role: CallRole
    model: str
    provider: str
    count: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a run takes at most: every call made, every draft as long as its limit, no second try.

    `cost` is dollars for what has a price; models without one are in `unpriced`. `notes` are sentences for a person.
    """

    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    unpriced: list[str]
    rows: list[ForecastRow]
    notes: list[str] = []


def forecast(
    recipe: Recipe, conversation: Sequence[Message], models: Models, options: ChatOptions = NO_OPTIONS
) -> Forecast:
    """Return what a run of `recipe` takes at most; nothing is sent, and of `models` only the cards are read.

    A prompt counts as its estimate times `tokens.PROMPT_MARGIN`, and `tokens.PROMPT_HEAD` more. Where a fall-back or a
    substitute may answer for a slot, the dearest of them counts.
    """
    planned = schedule(recipe, options, repair=True)
    worst = _Worst(recipe, models)
    sizes = prompt_tokens(planned, estimate_messages(conversation), worst.output)
    prompts = [_most_prompt(size) for size in sizes]
    rows = [worst.row(call, size) for call, size in zip(planned.calls, prompts, strict=True)]
    merged = [_merged(list(alike)) for _, alike in itertools.groupby(rows)]
    costs = [row.cost for row in merged if row.cost is not None]
    return Forecast(
        calls=sum(row.count for row in merged),
        prompt_tokens=sum(row.prompt_tokens for row in merged),
        completion_tokens=sum(row.completion_tokens for row in merged),
        cost=sum(costs) if costs else None,
        unpriced=sorted({row.model for row in merged if row.cost is None}),
        rows=merged,
    )


class _Worst:
    """The most that single calls can take."""

    def __init__(self, recipe: Recipe, models: Models) -> None:
        self._policy = recipe.policy
        self._models = models

    def output(self, call: PlannedCall) -> int:
        """Return the most tokens that the reply to `call` may have, whichever model answers."""
        return max(self._output(call, *name) for name in self._names(call))

    def row(self, call: PlannedCall, prompt: int) -> ForecastRow:
        """Return what `call` takes at most with a prompt of `prompt` tokens."""
        usages, costs = [], []
        for provider, model in self._names(call):
            card = self._models.card(provider, model)
            usage = _most_usage(card, prompt, self._output(call, provider, model))
            usages.append(usage)
            costs.append(card.price.cost(usage) if card.price else None)
        known = [cost for cost in costs if cost is not None]
        return ForecastRow(
            role=call.role,
            model=call.slot.model,
            provider=call.slot.provider,
            count=1,
            prompt_tokens=max(usage.prompt_tokens for usage in usages),
            completion_tokens=max(usage.completion_tokens for usage in usages),
            cost=max(known) if len(known) == len(costs) else None,
        )

    def _output(self, call: PlannedCall, provider: str, model: str) -> int:
        return _most_output(self._models.card(provider, model), call.slot, call.role, call.options)

    def _names(self, call: PlannedCall) -> list[tuple[str, str]]:
        return stand_ins(self._policy, call.slot.links, self._models.replacement)


def attempt_cost(
    card: ModelCard, slot: Slot, role: CallRole, messages: Sequence[Message], options: ChatOptions
) -> float | None:
    """Return the dollars that one attempt to ask `card`'s model costs at most; None where no price is known."""
    if card.price is None:
        return None
    prompt = _most_prompt(estimate_messages(messages) + attached_tokens(slot, options))
    return card.price.cost(_most_usage(card, prompt, _most_output(card, slot, role, options)))


def _most_prompt(estimate: int) -> int:
    return math.ceil(estimate * PROMPT_MARGIN) + PROMPT_HEAD


def _most_output(card: ModelCard, slot: Slot, role: CallRole, options: ChatOptions) -> int:
    return output_limit(slot, card, role, options) or _UNKNOWN_OUTPUT


def _most_usage(card: ModelCard, prompt: int, output: int) -> Usage:
    size = prompt if card.window is None else min(prompt, card.window)
    return Usage(prompt_tokens=size, completion_tokens=output)


def _merged(alike: Sequence[ForecastRow]) -> ForecastRow:
    """Return one row for calls that take the same."""
    first, count = alike[0], len(alike)
    return msgspec.structs.replace(
        first,
        count=count,
        prompt_tokens=first.prompt_tokens * count,
        completion_tokens=first.completion_tokens * count,
        cost=None if first.cost is None else first.cost * count,
    )
