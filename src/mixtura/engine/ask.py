"""What is asked of a slot, and with which settings."""

from typing import NamedTuple

import msgspec

from mixtura.chat import NO_OPTIONS, ChatOptions, JsonObject, Message
from mixtura.events import Role
from mixtura.models.card import ModelCard
from mixtura.planning.schedule import attached_tokens, effort_of, fitting_limit, output_limit
from mixtura.recipe import Fallback, Slot
from mixtura.tokens import estimate_messages


class Ask(NamedTuple):
    """What to ask of a slot, in which role, with which options of the caller.

    `instead` is the model to begin with in place of the slot's own; `again` marks a second try. `reads` are the drafts,
    by call, that the messages show. `options` are those of the caller that reach the call; `place` is its place among
    the drafts of its layer.
    """

    role: Role
    slot: Slot
    messages: tuple[Message, ...]
    layer: int = 0
    options: ChatOptions = NO_OPTIONS
    instead: Fallback | None = None
    again: bool = False
    reads: tuple[int, ...] = ()
    place: int = 0


class Settings(NamedTuple):
    """How a model is asked: the caller's wishes before the slot's."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None
    reasoning_effort: str | None
    options: ChatOptions


def settings_of(card: ModelCard, ask: Ask) -> Settings:
    """Return how the model of `card` is asked in `ask`."""
    slot, options = ask.slot, ask.options
    limit = fitting_limit(
        output_limit(slot, card, ask.role, options),
        card,
        lambda: estimate_messages(ask.messages) + attached_tokens(slot, options),
    )
    effort = effort_of(slot, card, options)
    sent = _sent(slot, options, stops=ask.role not in ("reviewer", "selector"))
    if options is NO_OPTIONS:
        return Settings(slot.temperature, slot.top_p, limit, slot.seed, effort, sent)
    return Settings(
        slot.temperature if options.temperature is None else options.temperature,
        slot.top_p if options.top_p is None else options.top_p,
        limit,
        slot.seed if options.seed is None else options.seed + ask.place,
        effort,
        sent,
    )


def _sent(slot: Slot, options: ChatOptions, *, stops: bool) -> ChatOptions:
    """Return what the body of a request holds besides sampling: the slot's own fields, and the caller's over them."""
    stop = slot.stop if stops and slot.stop and options.stop is None else ()
    plain = slot.top_k is None and slot.min_p is None and slot.repeat_penalty is None and not slot.extra
    if options is NO_OPTIONS and plain and not stop:
        return NO_OPTIONS
    return msgspec.structs.replace(
        options,
        temperature=None,
        top_p=None,
        max_tokens=None,
        seed=None,
        reasoning_effort=None,
        stop=list(stop) if stop else options.stop,
        extra=options.extra if plain else {**_unset(slot.sampling_extra, options), **options.extra},
    )


def _unset(extra: JsonObject, options: ChatOptions) -> JsonObject:
    """Return a slot's further fields without those that the caller sets."""
    return {name: value for name, value in extra.items() if getattr(options, name, None) is None}
