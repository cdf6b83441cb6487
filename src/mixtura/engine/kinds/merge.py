"""JSON drafts become one: each field by the majority of the drafts, and a model decides those without one."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from mixtura import prompts
from mixtura.answer_format import AnswerFormat, canonical
from mixtura.decisions import MergedDetail, NoticedDetail
from mixtura.engine import results
from mixtura.engine.alone import call_within
from mixtura.engine.ask import Ask
from mixtura.engine.context import Run
from mixtura.engine.drafts import DraftSet
from mixtura.engine.kinds import synthesize
from mixtura.engine.outcome import Outcome, outcome_of
from mixtura.engine.own_words import find_slip
from mixtura.engine.race import Race
from mixtura.errors import ModelError
from mixtura.events import Draft
from mixtura.planning.schedule import other_options
from mixtura.recipe import Aggregator

_JSON_OBJECT = AnswerFormat({"type": "json_object"})
_ASKED = {"type": "json_object"}
_MISSING: Any = msgspec.UNSET


class Vote(NamedTuple):
    """A value of a draft, and the weight that stands behind it."""

    value: Any
    weight: float


async def answer(run: Run, aggregator: Aggregator, drafts: DraftSet) -> Outcome:
    """Return the drafts merged. See `engine.aggregate.KindModule`.

    Drafts that are no JSON objects are not merged; if fewer than two are, a model writes the answer from all of them.
    """
    form = run.form or _JSON_OBJECT
    parsed = [(draft, one) for draft in drafts if (one := _object(form, draft)) is not None]
    if len(parsed) < 2:
        if len(parsed) == 1 and run.form is not None:
            run.decide(MergedDetail(), "only one draft has the form that was asked for; nothing to merge")
            return outcome_of(parsed[0][0])
        run.decide(NoticedDetail(), "the drafts are no JSON objects, so they cannot be merged", warning=True)
        return await synthesize.write(run, aggregator, drafts)
    merged = Merge([Vote(one, draft.weight) for draft, one in parsed])
    merged.value()
    disputed = list(merged.disputed)
    if disputed:
        await _settle(run, aggregator, merged)
    value = merged.value()
    text = msgspec.json.encode(value).decode()
    said = f"{merged.fields} fields of {len(parsed)} drafts merged"
    if disputed:
        said += f"; {len(disputed)} in which they differ: {', '.join(disputed[:8])}"
    run.decide(MergedDetail(fields=merged.fields, disputed=disputed), said)
    if form.problem(text):
        # Each field has a majority, and together they do not hold the schema; a whole draft does.
        chosen, reason = DraftSet([draft for draft, _ in parsed]).best
        said = f"the merged fields do not hold together; took the draft of {chosen.model} ({reason})"
        run.decide(NoticedDetail(call=chosen.call), said, warning=True)
        return outcome_of(chosen)
    same = next((draft for draft, one in parsed if canonical(one) == canonical(value)), None)
    return Outcome(text, None if same is None else same.call)


def _object(form: AnswerFormat, draft: Draft) -> dict[str, Any] | None:
    try:
        value = form.value(draft.text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class Merge:
    """JSON objects merged field by field.

    Attributes:
        disputed: the values given for each field without a majority, by its JSON pointer.
        fields: how many fields were compared.
    """

    def __init__(self, votes: Sequence[Vote]) -> None:
        self.disputed: dict[str, list[Vote]] = {}
        self.fields = 0
        self._decided: dict[str, Any] = {}
        self._root = votes

    def decide(self, pointer: str, value: Any) -> None:
        """Give a disputed field its value."""
        self._decided[pointer] = value

    def value(self) -> Any:
        """Return the merged object; a disputed field that nobody decided has the value with the most weight."""
        self.fields = 0
        self.disputed = {}
        return self._merge("", self._root)

    def _merge(self, pointer: str, votes: Sequence[Vote]) -> Any:
        present = [vote for vote in votes if vote.value is not _MISSING]
        if len(present) == len(votes) and all(isinstance(vote.value, dict) for vote in votes):
            return self._merge_objects(pointer, votes)
        lengths = {len(vote.value) if isinstance(vote.value, list) else -1 for vote in votes}
        if len(lengths) == 1 and -1 not in lengths and len(present) == len(votes):
            places = range(len(votes[0].value))
            return [
                self._merge(f"{pointer}/{place}", [Vote(vote.value[place], vote.weight) for vote in votes])
                for place in places
            ]
        self.fields += 1
        if pointer in self._decided:
            return self._decided[pointer]
        counted = _count(votes)
        top = counted[0]
        if 2 * top.weight <= sum(vote.weight for vote in votes):
            self.disputed[pointer] = [vote for vote in counted if vote.value is not _MISSING]
        return top.value

    def _merge_objects(self, pointer: str, votes: Sequence[Vote]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for key in dict.fromkeys(key for vote in votes for key in vote.value):
            below = [Vote(vote.value.get(key, _MISSING), vote.weight) for vote in votes]
            value = self._merge(f"{pointer}/{_escaped(key)}", below)
            if value is not _MISSING:
                merged[key] = value
        return merged


def _count(votes: Sequence[Vote]) -> list[Vote]:
    """Return the different values with the weight behind each, the weightiest first; the first given among equals."""
    weights: dict[str, Vote] = {}
    for vote in votes:
        key = "missing" if vote.value is _MISSING else canonical(vote.value)
        known = weights.get(key)
        weights[key] = vote if known is None else Vote(known.value, known.weight + vote.weight)
    return sorted(weights.values(), key=lambda vote: -vote.weight)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


async def _settle(run: Run, aggregator: Aggregator, merged: Merge) -> None:
    """Ask the aggregator's model about the disputed fields; where it says nothing usable the weights decide."""
    asked = dict(merged.disputed)
    marker = run.marker([canonical(vote.value) for votes in asked.values() for vote in votes])
    block = "\n\n".join(_shown(marker, pointer, votes) for pointer, votes in asked.items())
    head = f"Fields, each between lines that begin with <{marker} and </{marker}:"
    options = msgspec.structs.replace(other_options(run.options.chat), response_format=_ASKED)
    conversation = run.conversation_for(options)
    messages = prompts.with_block(conversation, aggregator.system or prompts.MERGE, f"{head}\n\n{block}")
    ask = Ask("aggregator", aggregator, messages, len(run.recipe.layers), options)
    try:
        number, completion = await call_within(Race(run, ask, run.deadline))
    except ModelError as error:
        said = f"{aggregator.model} could not be asked about the fields in which the drafts differ ({error.reason})"
        run.decide(NoticedDetail(), said, warning=True)
        run.fell_back = True
        return
    results.emit_finished(run, number, ask, completion)
    decided = {
        pointer: value
        for pointer, value in _decisions(completion.text, asked).items()
        if find_slip(canonical(value), run.markers, run.asked) is None
    }
    for pointer in asked:
        if pointer in decided:
            merged.decide(pointer, decided[pointer])
    if missing := [pointer for pointer in asked if pointer not in decided]:
        said = f"{aggregator.model} said nothing of {', '.join(missing[:8])}; the most weight decides"
        run.decide(NoticedDetail(call=number), said, warning=True)


def _shown(marker: str, pointer: str, votes: Sequence[Vote]) -> str:
    values = "\n".join(canonical(vote.value) for vote in votes)
    return f"<{marker} field>\n{pointer}\n</{marker} field>\n<{marker} values>\n{values}\n</{marker} values>"


def _decisions(text: str, asked: Iterable[str]) -> dict[str, Any]:
    """Return the fields of `asked` that a reply decides, by their pointers or in an object like the drafts."""
    try:
        said = _JSON_OBJECT.value(text)
    except ValueError:
        return {}
    decided: dict[str, Any] = {}
    for pointer in asked:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        value: Any = said.get(pointer, said.get(pointer[1:], said))
        for step in steps if value is said else ():
            value = _below(value, step)
        if value is not _MISSING:
            decided[pointer] = value
    return decided


def _below(value: Any, step: str) -> Any:
    """Return what stands at one step of a pointer below `value`, an object or a list."""
    if isinstance(value, dict):
        return value.get(step, _MISSING)
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    return _MISSING
