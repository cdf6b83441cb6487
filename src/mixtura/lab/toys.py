"""Measures the toy models: proposers, vote, aggregator, its controls, and one larger model, on the same problems."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from mixtura import prompts
from mixtura.chat import ChatRequest, Message, Usage
from mixtura.engine import agree, answers
from mixtura.events import Answer, Draft
from mixtura.lab.statistics import PairedTest, mcnemar, p_in_words
from mixtura.mixture import Mixture
from mixtura.models.registry import ModelRegistry
from mixtura.models.served import Models
from mixtura.models.toy.provider import AGGREGATOR, PROPOSERS, SINGLE, folder
from mixtura.recipe import Layer, Recipe

TEMPERATURE = 0.7
MAJORITY = "majority of the drafts"
MIXTURE = "the mixture"
ALONE = "aggregator, no drafts"
SHUFFLED = "another problem's drafts"
_MAX_TOKENS = 160  # tokens; the longest solution has 112
_CONCURRENCY = 24
_MARKER = "control"
_SIGNIFICANT = 0.05  # a p-value below this is called significant

_Found = TypeVar("_Found")


class ToyProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A held-out problem. Its numbers were not in the training data; with `new_wordings`, nor were its sentences."""

    question: str
    answer: int
    family: str
    new_wordings: bool


class ToyCard(msgspec.Struct, frozen=True, kw_only=True):
    """How a toy model was made: its sizes, its training data and the cost of training.

    `weights` counts all weights, `active` those that take part in one token. `operations` counts two per multiply-add,
    over the whole training, forward and backward. `seconds` is the training time, `loss` the final training loss.
    """

    title: str
    layers: int
    width: int
    experts: int
    used: int
    weights: int
    active: int
    problems: int
    tokens: int
    operations: float
    seconds: float
    loss: float
    seed: int
    kept: str

    def forward(self, usage: Usage) -> float:
        """Return the operations of an answer: a forward pass over every prompt and completion token."""
        length = usage.prompt_tokens + usage.completion_tokens
        return length * (2.0 * self.active + 2.0 * self.layers * self.width * length)


class ModelAnswer(NamedTuple):
    """One answer: its text, and the number of operations that it took."""

    text: str
    operations: float


class StudyRow(NamedTuple):
    """One answerer: its name, whether it was right on each problem, and the operations per answer.

    `against` is the paired test against the mixture, with the mixture first. It is None in the mixture's own row.
    """

    name: str
    right: tuple[bool, ...]
    operations: float
    against: PairedTest | None = None


class ToyStudy(NamedTuple):
    """The result of a study: the problems, a row for each answerer, and the completion tokens in all."""

    problems: tuple[ToyProblem, ...]
    rows: tuple[StudyRow, ...]
    tokens: int

    def row(self, name: str) -> StudyRow:
        """Return the row called `name`."""
        return next(row for row in self.rows if row.name == name)

    @property
    def rival(self) -> StudyRow:
        """The larger model's better row: sampled or greedy, the one that was right more often."""
        rows = [row for row in self.rows if row.name.startswith(SINGLE)]
        return max(rows, key=lambda row: sum(row.right))

    @property
    def verdict(self) -> str:
        """The study's result for the mixture, in one sentence."""
        mixture, rival = self.row(MIXTURE), self.rival
        assert rival.against is not None, "every row but the mixture's is tested against it"
        shares = f"{_share(mixture)} against {_share(rival)} right, {p_in_words(rival.against.p)}"
        against = f"one larger model of about equal cost ({rival.name})"
        if rival.against.p >= _SIGNIFICANT:
            return f"The mixture does not win against {against}: {shares}, which chance explains."
        if sum(mixture.right) < sum(rival.right):
            return f"The mixture loses against {against}: {shares}."
        return f"The mixture wins against {against}: {shares}."


def cards() -> dict[str, ToyCard]:
    """Return the card of each toy model, by name."""
    return msgspec.json.decode((folder() / "cards.json").read_bytes(), type=dict[str, ToyCard])


def problems() -> tuple[ToyProblem, ...]:
    """Return the held-out problems in the package, alternating between known and new wordings."""
    lines = (folder() / "problems.jsonl").read_bytes().splitlines()
    return tuple(msgspec.json.decode(line, type=ToyProblem) for line in lines)


def is_right(text: str, problem: ToyProblem) -> bool:
    """Return whether a solution ends in the right answer."""
    return answers.is_right(text, str(problem.answer))


def at_temperature(model: str) -> str:
    """Return the row name of a model that samples at `TEMPERATURE`."""
    return f"{model}, T = {TEMPERATURE:g}"


def greedy(model: str) -> str:
    """Return the row name of a model that decodes greedily."""
    return f"{model}, greedy"


async def study(
    asked: Sequence[ToyProblem],
    env: Mapping[str, str],
    *,
    seed: int = 0,
    note: Callable[[int, int], None] | None = None,
) -> ToyStudy:
    """Ask every answerer all problems.

    Args:
        asked: the problems.
        env: the environment, as for `Mixture`.
        seed: seeds the sampling of the drafts and of the larger model.
        note: called after every 25th call with the number of calls made and the number of all calls.

    Raises:
        MixturaError: a call failed.
    """
    return await _StudyRun(asked, env, seed, note).run()


class _StudyRun:
    """Runs one study."""

    def __init__(
        self, asked: Sequence[ToyProblem], env: Mapping[str, str], seed: int, note: Callable[[int, int], None] | None
    ) -> None:
        self._asked = asked
        self._env = env
        self._seed = seed
        self._note = note
        self._models: Models = ModelRegistry(env=env)
        self._recipe = Recipe.named("toy")
        self._cards = cards()
        self._tokens = 0
        self._done = 0
        # The mixture, its control, and each row of a single model.
        self._all = len(asked) * (2 + len(PROPOSERS) + 3)

    async def run(self) -> ToyStudy:
        """Ask every answerer and build the rows."""
        asked: dict[str, Callable[[int], Awaitable[ModelAnswer]]] = {
            **{greedy(name): self._asker(name, 0.0) for name in PROPOSERS},
            ALONE: self._asker(AGGREGATOR, 0.0),
            at_temperature(SINGLE): self._asker(SINGLE, TEMPERATURE),
            greedy(SINGLE): self._asker(SINGLE, 0.0),
        }
        # Ask all of them at the same time: each file has threads of its own.
        try:
            async with asyncio.TaskGroup() as group:
                mixtures = group.create_task(self._ask_mixtures())
                others = {name: group.create_task(self._for_each(ask)) for name, ask in asked.items()}
        except ExceptionGroup as failed:
            # A command prints one sentence. The first failure has cancelled the other tasks.
            raise failed.exceptions[0] from failed
        said = mixtures.result() | {name: task.result() for name, task in others.items()}
        order = [how(name) for name in PROPOSERS for how in (at_temperature, greedy)]
        order += [MAJORITY, ALONE, MIXTURE, SHUFFLED, at_temperature(SINGLE), greedy(SINGLE)]
        return ToyStudy(tuple(self._asked), tuple(self._rows({name: said[name] for name in order})), self._tokens)

    async def _ask_mixtures(self) -> dict[str, list[ModelAnswer]]:
        """Ask the mixture, then the control: its aggregator with the drafts of another question."""
        runs = await self._for_each(self._ask_mixture)
        drafts = [sorted(run.drafts, key=lambda draft: draft.model) for run in runs]
        said = {at_temperature(name): [self._answer_of_draft(name, row) for row in drafts] for name in PROPOSERS}
        said[MAJORITY] = [
            ModelAnswer(
                row[agree.best(row)[0]].text, sum(self._answer_of_draft(name, row).operations for name in PROPOSERS)
            )
            for row in drafts
        ]
        said[MIXTURE] = [ModelAnswer(run.text, self._operations_of(run)) for run in runs]
        said[SHUFFLED] = await self._for_each(
            self._ask_with_wrong_drafts([[draft.text for draft in row] for row in drafts])
        )
        return said

    def _rows(self, said: Mapping[str, Sequence[ModelAnswer]]) -> list[StudyRow]:
        right = {
            name: tuple(is_right(one.text, problem) for one, problem in zip(answers, self._asked, strict=True))
            for name, answers in said.items()
        }
        return [
            StudyRow(
                name,
                marks,
                sum(one.operations for one in said[name]) / len(marks),
                None if name == MIXTURE else mcnemar(right[MIXTURE], marks),
            )
            for name, marks in right.items()
        ]

    def _answer_of_draft(self, name: str, drafts: Sequence[Draft]) -> ModelAnswer:
        for draft in drafts:
            if draft.model == name:
                return ModelAnswer(draft.text, self._cards[name].forward(draft.usage))
        return ModelAnswer("", 0.0)

    def _operations_of(self, run: Answer) -> float:
        calls = [*run.drafts, *run.calls]
        return sum(self._cards[call.model].forward(call.usage) for call in calls)

    async def _for_each(self, ask: Callable[[int], Awaitable[_Found]]) -> list[_Found]:
        gate = asyncio.Semaphore(_CONCURRENCY)

        async def one(place: int) -> _Found:
            async with gate:
                found = await ask(place)
            self._done += 1
            if self._note is not None and self._done % 25 == 0:
                self._note(self._done, self._all)
            return found

        return await asyncio.gather(*(one(place) for place in range(len(self._asked))))

    async def _ask_mixture(self, place: int) -> Answer:
        """Ask the mixture problem number `place`."""
        layer = self._recipe.layers[0]
        seeded = Layer(
            proposers=tuple(
                msgspec.structs.replace(proposer, seed=self._seed + 10 * place + number)
                for number, proposer in enumerate(layer.proposers)
            )
        )
        recipe = msgspec.structs.replace(self._recipe, layers=(seeded,))
        answer = await Mixture(recipe, models=self._models).ask(self._asked[place].question, seed=self._seed + place)
        self._tokens += answer.usage.completion_tokens
        return answer

    def _asker(self, model: str, temperature: float) -> Callable[[int], Awaitable[ModelAnswer]]:
        async def ask(place: int) -> ModelAnswer:
            return await self._call(model, place, (_user(self._asked[place].question),), temperature)

        return ask

    def _ask_with_wrong_drafts(self, drafts: Sequence[Sequence[str]]) -> Callable[[int], Awaitable[ModelAnswer]]:
        """Return a function that asks the aggregator a problem's question with the next problem's drafts."""

        async def ask(place: int) -> ModelAnswer:
            conversation = (_user(self._asked[place].question),)
            others = drafts[(place + 1) % len(drafts)]
            messages = prompts.with_drafts(conversation, prompts.SYNTHESIZE, others, _MARKER)
            return await self._call(AGGREGATOR, place, messages, 0.0)

        return ask

    async def _call(self, model: str, place: int, messages: tuple[Message, ...], temperature: float) -> ModelAnswer:
        request = ChatRequest(
            model=model, messages=messages, temperature=temperature, max_tokens=_MAX_TOKENS, seed=self._seed + place
        )
        completion = await self._models.find("toy", model).chat.chat(request)
        self._tokens += completion.usage.completion_tokens
        return ModelAnswer(completion.text, self._cards[model].forward(completion.usage))


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _share(row: StudyRow) -> str:
    return f"{sum(row.right)} of {len(row.right)}"
