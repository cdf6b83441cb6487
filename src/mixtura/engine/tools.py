"""Calls of the caller's tools: which of a reply's are sound, whether proposals agree, and who decided."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from mixtura.answer_format import canonical
from mixtura.chat import ChatOptions, Completion, JsonObject
from mixtura.decisions import ActedDetail
from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.events import Draft


class SoundCalls(NamedTuple):
    """The calls of a reply that can be made, and in words what is wrong with the others."""

    calls: list[JsonObject]
    problems: tuple[str, ...]


def sound_calls(completion: Completion, options: ChatOptions, run: str) -> SoundCalls:
    """Return the calls that `completion` makes of the tools in `options`, each with an id and JSON as its arguments.

    A call whose arguments were cut off, or are no JSON object, or of a tool that was not offered, is no call.
    """
    tools = options.tools or []
    offered = {tool["function"]["name"] for tool in tools if "function" in tool}
    strict = len(offered) == len(tools)
    sound: list[JsonObject] = []
    problems: list[str] = []
    for place, call in enumerate(completion.tool_calls or ()):
        function = call.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or (strict and name not in offered):
            problems.append(f"it called {name!r}, which is no tool that was offered")
            continue
        arguments = _arguments(function.get("arguments"))
        if arguments is None:
            cut = completion.finish_reason == "length"
            problems.append(
                f"its call of {name} " + ("was cut off at its output limit" if cut else "has no JSON object")
            )
            continue
        whole = {**call, "function": {**function, "arguments": arguments}, "type": call.get("type") or "function"}
        whole["id"] = call.get("id") or f"call_{run[:12]}{place}"
        sound.append(whole)
    return SoundCalls(sound, tuple(problems))


def _arguments(given: object) -> str | None:
    """Return a call's arguments as the text of a JSON object, None if they are none; a text is kept as it is."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return "{}"
    if isinstance(given, dict):
        return msgspec.json.encode(given).decode()
    if not isinstance(given, str):
        return None
    try:
        return given if isinstance(json.loads(given), dict) else None
    except (ValueError, RecursionError):
        return None


def agreed(drafts: DraftSet, needed: int | None) -> tuple[Draft, int] | None:
    """Return a draft whose calls enough of the others propose as well, and how many do; None if no calls are so.

    Calls are equal if they are of the same tools with equal JSON, in any order. `needed` is how many have to be, None
    for more than half of the drafts.
    """
    proposals: dict[str, list[Draft]] = {}
    for draft in drafts:
        if draft.tool_calls:
            proposals.setdefault(_canonical(draft.tool_calls), []).append(draft)
    best = max(proposals.values(), key=len, default=[])
    enough = len(drafts) // 2 + 1 if needed is None else needed
    return (best[0], len(best)) if best and len(best) >= enough else None


def _canonical(calls: Sequence[JsonObject]) -> str:
    made: list[Any] = sorted(
        canonical([call["function"]["name"], json.loads(call["function"]["arguments"])]) for call in calls
    )
    return "\n".join(made)


def names_of(calls: Sequence[JsonObject] | None) -> list[str]:
    """Return the names of the tools that are called."""
    return [str(call["function"]["name"]) for call in calls or ()]


def decide_by_agreement(run: Run, drafts: DraftSet) -> Outcome | None:
    """Return the calls on which the proposers agree, where the recipe's policy lets them decide."""
    tools = run.recipe.tools
    if tools.policy != "agree" or not run.options.chat.tools:
        return None
    found = agreed(drafts, tools.agree)
    if found is None:
        return None
    draft, count = found
    names = names_of(draft.tool_calls)
    detail = ActedDetail(by="agreement", tools=names, votes=count, drafts=len(drafts))
    run.decide(detail, f"{count} of {len(drafts)} drafts propose the same calls: {', '.join(names)}")
    return outcome_of(draft)


def emit_acting(run: Run, outcome: Outcome, model: str) -> None:
    """Emit that one model decided on the tools that the caller offers."""
    names = names_of(outcome.tool_calls)
    called = f"called {', '.join(names)}" if names else "called no tool"
    run.decide(ActedDetail(by="model", model=model, tools=names), f"{model} {called}")
