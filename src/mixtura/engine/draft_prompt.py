"""What a model is shown of the drafts: shuffled, trimmed to fit, fenced."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mixtura import prompts
from mixtura.chat import NO_OPTIONS, ChatOptions, Message
from mixtura.decisions import TrimmedDetail
from mixtura.engine import trim
from mixtura.engine.context import Run
from mixtura.events import Draft, Role
from mixtura.planning.schedule import output_limit
from mixtura.recipe import Aggregator, Slot
from mixtura.tokens import characters, estimate_messages, estimate_tokens

After = Callable[[str, Sequence[int]], str]


class Reading(NamedTuple):
    """A prompt with drafts in it.

    `order[k]` is the place, among the drafts given, of the one labelled k; `calls[k]` is its call.
    """

    messages: tuple[Message, ...]
    order: tuple[int, ...] = ()
    calls: tuple[int, ...] = ()


class Reader(NamedTuple):
    """Who reads the drafts, and what for.

    `after(marker, order)` gives the text behind the drafts. `share` is the part of the drafts' tokens to show at most,
    for a reader that turned out to take less than its window. `options` are those of its call.
    """

    slot: Slot
    role: Role
    instructions: str
    after: After | None = None
    share: float = 1.0
    options: ChatOptions = NO_OPTIONS


def read_drafts(
    run: Run, reader: Reader, drafts: Sequence[Draft], conversation: Sequence[Message] | None = None
) -> Reading:
    """Return what `reader` is sent to work on `drafts`, below the run's conversation or the one given.

    Only the text of a draft is shown, never its reasoning, its author or an error. The order is drawn anew for
    every reader, so that no draft profits from its place.
    """
    slot, instructions = reader.slot, reader.instructions
    conversation = run.conversation_for(reader.options) if conversation is None else conversation
    order = list(range(len(drafts)))
    run.rng.shuffle(order)
    shown = [_shown(draft) for draft in drafts]
    marker = run.marker(shown)
    ending = reader.after(marker, order) if reader.after else ""
    card = run.models.card(slot.provider, slot.model)
    room = None
    window = _window(run, slot, card.window)
    if window is not None:
        output = output_limit(slot, card, reader.role, reader.options)
        room = _room(window, output, conversation, shown, instructions + ending)
    if reader.share < 1:
        size = int(reader.share * sum(map(estimate_tokens, shown)))
        room = size if room is None else min(room, size)
    texts, left_out = trim.trim([shown[place] for place in order], room)
    if left_out:
        lost = {drafts[order[place]].call: count for place, count in left_out.items()}
        run.decide(
            TrimmedDetail(model=slot.model, characters_left_out=lost),
            f"{len(left_out)} of {len(drafts)} drafts shortened to fit what {slot.model} reads",
        )
    texts = [text + prompts.INCOMPLETE if drafts[order[place]].incomplete else text for place, text in enumerate(texts)]
    messages = prompts.with_drafts(conversation, instructions, texts, marker, ending, _template(slot))
    return Reading(messages, tuple(order), tuple(drafts[place].call for place in order))


def _shown(draft: Draft) -> str:
    """Return what is shown of a draft: its text, and the calls of tools that it proposes."""
    if not draft.tool_calls:
        return draft.text
    return "\n".join(filter(None, (draft.text, prompts.describe_calls(draft.tool_calls))))


def _template(slot: Slot) -> prompts.Template | None:
    if not isinstance(slot, Aggregator) or slot.template is None:
        return None
    return prompts.Template(slot.template, slot.draft_template)


def _window(run: Run, slot: Slot, window: int | None) -> int | None:
    """Return the tokens a call of `slot` has at most: its window, or less where a rate limit is smaller."""
    account = run.account(slot.provider, slot.model)
    if account is None or account.unlimited or not account.known:
        return window
    limits = [bucket.window.limit for name, bucket in account.buckets.items() if name in ("tpm", "tpd")]
    return int(min(*limits, window or math.inf)) if limits else window


def _room(
    window: int, output: int | None, conversation: Sequence[Message], drafts: Sequence[str], words: str
) -> int | None:
    """Return the tokens that are left for drafts, None when their characters alone say that they fit."""
    fences = prompts.FENCE_TOKENS * (len(drafts) + 1)
    at_most = characters(conversation) + len(words) + fences
    at_most += sum(map(len, drafts))
    if trim.room(window, output, at_most) > 0:
        return None
    return trim.room(window, output, estimate_messages(conversation) + estimate_tokens(words) + fences)
