"""Calls of the caller's tools: which of a reply's are sound, whether proposals agree, and who decided."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mixtura.answer_format import canonical, decode_json
from mixtura.chat import ChatOptions, Completion, JsonObject, tool_name
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

    A call whose arguments were cut off, or are no JSON object, or of a tool that was not offered, is no call. Nor is
    one of another tool than the one that `tool_choice` names, or a second one where calls in parallel are refused.
    """
    sound: list[JsonObject] = []
    problems: list[str] = []
    for place, call in enumerate(completion.tool_calls or ()):
        problem = _problem_of(call, completion, options)
        if not problem and sound and options.parallel_tool_calls is False:
            problem = "it made several calls, though one at a time was asked for"
        if problem:
            problems.append(problem)
            continue
        whole = {**call, "type": call.get("type") or "function"}
        whole["id"] = call.get("id") or f"call_{run[:12]}{place}"
        if isinstance(function := call.get("function"), dict):
            whole["function"] = {**function, "arguments": _arguments(function.get("arguments"))}
        sound.append(whole)
    return SoundCalls(sound, tuple(problems))


def requires_call(options: ChatOptions) -> bool:
    """Say whether the caller wants a tool to be called whatever the model thinks."""
    return bool(options.tools) and options.tool_choice is not None and options.tool_choice != "auto"


def _problem_of(call: JsonObject, completion: Completion, options: ChatOptions) -> str:
    """Return why `call` cannot be made, "" if it can."""
    name = tool_name(call)
    offered = {tool_name(tool) for tool in options.tools or ()}
    if name is None or name not in offered:
        return f"it called {name!r}, which is no tool that was offered"
    if isinstance(options.tool_choice, dict) and name != tool_name(options.tool_choice):
        return f"it called {name}, though {tool_name(options.tool_choice)} was asked for"
    function = call.get("function")
    if not isinstance(function, dict):
        return ""
    given, cut = function.get("arguments"), completion.finish_reason == "length"
    # The last call of a reply that was cut off before the first sign of its arguments is none without arguments.
    blank = given is None or (isinstance(given, str) and not given.strip())
    last = call is (completion.tool_calls or (None,))[-1]
    if _arguments(given) is None or (blank and cut and last):
        return f"its call of {name} " + ("was cut off at its output limit" if cut else "has no JSON object")
    return ""


def _arguments(given: object) -> str | None:
    """Return a call's arguments as the text of a JSON object, None if they are none; a text is kept as it is."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return "{}"
    if isinstance(given, dict):
        return msgspec.json.encode(given).decode()
    if not isinstance(given, str):
        return None
    try:
        return given if isinstance(decode_json(given), dict) else None
    except ValueError:
        return None


def agreed(drafts: DraftSet, needed: int) -> tuple[Draft, int] | None:
    """Return a draft whose calls are proposed by `needed` drafts, and by how many; None if no calls are.

    Calls are equal if they are of the same tools with equal JSON, in any order.
    """
    proposals: dict[str, list[Draft]] = {}
    for draft in drafts:
        if draft.tool_calls:
            proposals.setdefault(_canonical(draft.tool_calls), []).append(draft)
    best = max(proposals.values(), key=len, default=[])
    return (best[0], len(best)) if best and len(best) >= needed else None


def _canonical(calls: Sequence[JsonObject]) -> str:
    return "\n".join(sorted(map(_canonical_call, calls)))


def _canonical_call(call: JsonObject) -> str:
    function = call.get("function")
    if not isinstance(function, dict):
        return canonical({key: value for key, value in call.items() if key not in ("id", "index")})
    return canonical([function["name"], decode_json(function["arguments"])])


def names_of(calls: Sequence[JsonObject] | None) -> list[str]:
    """Return the names of the tools that are called."""
    return [tool_name(call) or "a tool" for call in calls or ()]


def decide_by_agreement(run: Run, drafts: DraftSet) -> Outcome | None:
    """Return the calls on which the proposers agree, where the recipe's policy lets them decide."""
    tools = run.recipe.tools
    if tools.policy != "agree" or not run.options.chat.tools:
        return None
    # Drafts that did not come agree with nobody.
    most = run.recipe.layers[-1].size // 2 + 1
    found = agreed(drafts, max(2, most) if tools.agree is None else tools.agree)
    if found is None:
        return None
    draft, count = found
    names = names_of(draft.tool_calls)
    detail = ActedDetail(by="agreement", tools=names, votes=count, drafts=len(drafts))
    run.decide(detail, f"{count} of {len(drafts)} drafts propose the same calls: {', '.join(names)}")
    return outcome_of(draft)


def emit_acting(run: Run, outcome: Outcome) -> None:
    """Emit that the model that wrote the answer decided on the tools that the caller offers."""
    names = names_of(outcome.tool_calls)
    called = f"called {', '.join(names)}" if names else "called no tool"
    run.decide(ActedDetail(by="model", model=outcome.model, tools=names), f"{outcome.model} {called}")
