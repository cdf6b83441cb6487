"""The model slots of a recipe: which model to ask, how, and what for."""

import math
from typing import Any

import msgspec

from mixtura.caller_options import COPIES, OUTPUT_LIMITS, SET_ELSEWHERE
from mixtura.kinds import KINDS, AggregatorKind
from mixtura.recipe_checks import check_sampling


class Fallback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A model to ask in place of one that fails or has no room, of the same or another provider."""

    model: str
    provider: str = "groq"

    def __post_init__(self) -> None:
        _check_text("model", self.model)


class Slot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A model to ask, and how.

    Attributes:
        model: the provider's id for it.
        provider: a name from the catalogue, or a base URL.
        temperature: 0 to 2; None leaves it to the provider, as with every setting here.
        top_p, min_p: shares of probability, up to 1.
        top_k: the most tokens to choose among; 0: all.
        repeat_penalty: above 0; 1 for none.
        stop: texts that end a reply.
        system: said to this model only, after the conversation's own system prompt.
        max_tokens: the most it may write, reasoning included; None takes what suits the model.
        seed: sample i is asked with seed + i.
        reasoning_effort: one of the values the model takes (see `mixtura models`).
        fallbacks: asked in turn where this model fails or has no room; the first also takes its second tries.
        extra: further fields of the request, as the provider names them.
    """

    model: str
    provider: str = "groq"
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    stop: tuple[str, ...] = ()
    system: str | None = None
    max_tokens: int | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    fallbacks: tuple[Fallback, ...] = ()
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_p, self.max_tokens, self.min_p, self.top_k, self.repeat_penalty)
        if not all(self.stop):
            raise ValueError("stop: expected texts that are not empty")
        for key in self.extra:
            if key in SET_ELSEWHERE or key in COPIES:
                raise ValueError(f"extra.{key}: cannot be set there; {SET_ELSEWHERE.get(key, 'see samples')}")
            if key in _CALLERS:
                raise ValueError(f"extra.{key}: cannot be set there; whoever asks says it")
            if key in _SLOT_KEYS:
                raise ValueError(f"extra.{key}: expected as a key of its own, {_SLOT_KEYS[key]}")

    @property
    def links(self) -> tuple["Fallback | Slot", ...]:
        """The model, and those that are asked in its place."""
        return (self, *self.fallbacks)

    @property
    def sampling_extra(self) -> dict[str, Any]:
        """The fields of the request that not every provider knows."""
        named = {"top_k": self.top_k, "min_p": self.min_p, "repeat_penalty": self.repeat_penalty}
        return {**{name: value for name, value in named.items() if value is not None}, **self.extra}


_CALLERS = ("tool_choice", "parallel_tool_calls", "response_format")
_SLOT_KEYS = {
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "repeat_penalty", "stop", "seed")},
    "max_tokens": "max_tokens",
    **dict.fromkeys(OUTPUT_LIMITS, "max_tokens"),
    "reasoning_effort": "reasoning_effort",
}


class Proposer(Slot, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One model that drafts, `samples` times (each sample is a call of its own).

    Attributes:
        samples: how often it is asked, 1 to 64.
        weight: what its draft counts in a vote.
    """

    samples: int = 1
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_text("model", self.model)
        super().__post_init__()
        if not 1 <= self.samples <= 64:
            raise ValueError(f"samples: expected 1 to 64, got {self.samples}")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight: expected a number above 0, got {self.weight}")


class Aggregator(Slot, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How drafts become the answer.

    Kinds: `synthesize` (a model writes it from the drafts), `select` (a model names the best draft, returned
    word for word), `vote` (final answers are extracted and counted; no call), `rank` (every proposer ranks the
    anonymous drafts; `model`, when given, is the chairman who then writes), `auto` (vote where a clear majority
    of drafts ends in the same checkable answer, else synthesize), `merge` (JSON drafts are merged field by field, and
    a model is asked only about the fields in which they differ).

    Attributes:
        kind: one of these.
        system: takes the place of Mixtura's own instructions.
        template: the prompt that shows the drafts, in place of Mixtura's: `{drafts}` in it are the drafts, fenced, and
            `{question}` is the text of the last message, which the prompt then replaces. Mixtura adds no instructions
            to a prompt with a template: `system` says all of them.
        draft_template: how one draft stands in `{drafts}`: `{draft}` is its fenced text, `{number}` counts from 1,
            `{letter}` from A.
    """

    model: str = ""
    kind: AggregatorKind = "synthesize"
    template: str | None = None
    draft_template: str | None = None

    def __post_init__(self) -> None:
        model = KINDS[self.kind].model
        if not self.model.strip() and model == "needed":
            raise ValueError(f"model: expected one, since kind {self.kind!r} makes a call")
        if self.model and model == "none":
            raise ValueError(f"model: expected none, since kind {self.kind!r} makes no call")
        if self.template is not None and "{drafts}" not in self.template:
            raise ValueError("template: expected a place for the drafts, {drafts}")
        if self.draft_template is not None and "{draft}" not in self.draft_template:
            raise ValueError("draft_template: expected a place for the draft, {draft}")
        if self.draft_template is not None and self.template is None:
            raise ValueError("draft_template: expected a template beside it")
        if self.template is not None and (not self.model or self.kind == "merge"):
            raise ValueError(f"template: kind {self.kind!r} shows no drafts with one")
        super().__post_init__()


def _check_text(key: str, value: str) -> None:
    if not value.strip():
        raise ValueError(f"{key}: expected text, got {value!r}")
