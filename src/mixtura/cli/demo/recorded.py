"""Recorded answers of large models, asked over HTTP: the mixture against each of its members."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path

import msgspec

from mixtura.cli.common import dollars, table, write_lines
from mixtura.cli.session import Window, chosen_recipe, environment, follow
from mixtura.columns import one_line
from mixtura.engine import answers
from mixtura.errors import ConfigError
from mixtura.events import Answer, Draft
from mixtura.folding import Fold
from mixtura.lab.statistics import wilson
from mixtura.mixture import AskOptions, Mixture
from mixtura.models.recorded import RecordedQuestion, RecordingIndex
from mixtura.recipe import Recipe
from mixtura.sim.options import TUTORIAL_ERA, SimOptions

_SHARED = Path("../shared/data/recordings/gsm8k-dev.jsonl.gz")
_AT_ONCE = 8  # questions in work at the same time in the counted part


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    """The questions, and the file they came from."""

    path: Path
    said: str
    rows: tuple[RecordedQuestion, ...]
    aliases: Mapping[str, str]


class Score(msgspec.Struct, kw_only=True):
    """How one model, or the mixture, did. `cost` leaves out calls without a known price: then not `priced`."""

    right: int = 0
    wrong: int = 0
    calls: int = 0
    tokens: int = 0
    cost: float = 0.0
    priced: bool = True

    def add(self, right: bool, calls: int, tokens: int, cost: float | None, priced: bool = True) -> None:
        """Count one more question; `cost` None: nothing of it has a price."""
        self.right += right
        self.wrong += not right
        self.calls += calls
        self.tokens += tokens
        self.cost += cost or 0.0
        self.priced = self.priced and priced and cost is not None


def show_recorded(recordings: Path | None, questions: int | None, show: int) -> None:
    """Ask recorded questions of a mixture and of its members, and compare with the right answers.

    Args:
        recordings: the file; None takes the shared one, else a dozen questions with scripted answers.
        questions: how many are asked; None for all.
        show: how many are shown as they go.
    """
    with ExitStack() as opened:
        source = _source(recordings, opened)
        rows = source.rows[:questions]
        recipe = Recipe.from_toml((files("mixtura.cli.demo") / "recorded.toml").read_text("utf-8"), "recorded.toml")
        write_lines(f"{source.said}\n\n")
        asyncio.run(_Demo(recipe, source).run(rows, show))


def _source(given: Path | None, opened: ExitStack) -> _Source:
    """Return the questions: the file given, the shared recordings, else our own."""
    if given is not None:
        path, said = given, f"Recordings: {given}."
    elif _SHARED.is_file():
        path, said = _SHARED, f"Recordings: {_SHARED}: what real models once wrote to these questions."
    else:
        path = opened.enter_context(as_file(files("mixtura.cli.demo") / "questions.jsonl"))
        said = (
            "No recordings at hand: a dozen questions of our own with scripted drafts. "
            "They show how a mixture works, not how well."
        )
    loaded = RecordingIndex.load(path)
    rows = tuple(row for row in loaded.rows if row.answer)
    if not rows:
        raise ConfigError(f"{path}: none of its rows has an `answer` to compare with")
    return _Source(path=path, said=said, rows=rows, aliases=loaded.aliases)


class _Demo:
    """The questions on their way through the mixture and through the large model alone."""

    def __init__(self, recipe: Recipe, source: _Source) -> None:
        assert recipe.escalate is not None, "recorded.toml has a large model"
        self.recipe = recipe
        self.source = source
        self.small = [proposer.model for proposer in recipe.layers[0].proposers]
        self.large = recipe.escalate.proposers[0].model
        self.scores = {name: Score() for name in (*self.small, self.large, "mixture")}
        self.verdicts: dict[tuple[int, str], bool] = {}
        self.escalated = 0

    async def run(self, rows: Sequence[RecordedQuestion], show: int) -> None:
        """Show the first `show` questions as they go, count the rest, print what came of all."""
        for number, row in enumerate(rows[:show], start=1):
            async with environment(self._cloud("lpu")) as env:
                await self._show(number, row, env)
        rest = len(rows) - min(show, len(rows))
        if rest:
            write_lines(f"... and {rest} more, quietly, in a cloud that takes no time ...\n\n")
        async with environment(self._cloud("instant")) as env:
            gate = asyncio.Semaphore(_AT_ONCE)

            async def count(number: int, row: RecordedQuestion) -> None:
                async with gate:
                    if number > show:
                        self._count_mixture(number, row, await Mixture(self.recipe, env=env).ask(_asked(row)))
                    alone = Mixture(chosen_recipe("single", [self.large]), env=env)
                    self._count_single(number, row, (await alone.ask(_asked(row))).drafts)

            try:
                async with asyncio.TaskGroup() as group:
                    for number, row in enumerate(rows, start=1):
                        group.create_task(count(number, row))
            except ExceptionGroup as failed:
                # One sentence is what the command tells; the first failure cancelled all other questions.
                raise failed.exceptions[0] from failed
        write_lines(self._report(len(rows)))

    def _cloud(self, profile: str) -> SimOptions:
        return SimOptions(as_of=TUTORIAL_ERA, recordings=(str(self.source.path),), profile=profile, unlimited=True)

    async def _show(self, number: int, row: RecordedQuestion, env: Mapping[str, str]) -> None:
        write_lines(f"Question {number}: {one_line(row.question)}\n")
        mixture = Mixture(self.recipe, env=env)
        answer = await follow(mixture, _asked(row), Window(one_stream=True), Fold(), AskOptions())
        self._count_mixture(number, row, answer)
        verdict = "right" if self.verdicts[number, "mixture"] else "WRONG"
        write_lines(f"=> {verdict}: the right answer is {row.answer}\n\n")

    def _count_mixture(self, number: int, row: RecordedQuestion, answer: Answer) -> None:
        self._count_single(number, row, [draft for draft in answer.drafts if draft.model in self.small])
        self.escalated += any(draft.role == "escalation" for draft in answer.drafts)
        right = is_right(answer.text, row.answer)
        self.verdicts[number, "mixture"] = right
        self.scores["mixture"].add(right, answer.n_calls, answer.usage.total_tokens, answer.cost, not answer.unpriced)

    def _count_single(self, number: int, row: RecordedQuestion, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            right = is_right(draft.text, row.answer)
            self.verdicts[number, draft.model] = right
            self.scores[draft.model].add(right, 1, draft.usage.total_tokens, draft.cost)

    def _report(self, asked: int) -> str:
        heading = ["", "right", "wrong", "share", "95 % interval", "calls", "tokens", "dollars"]
        lines = [[name, *_figures(score)] for name, score in self.scores.items()]
        own = [number for number in range(1, asked + 1) if self._differs(number)]
        better = sum(self.verdicts[number, "mixture"] for number in own)
        said = [
            table([heading, *lines], right=range(1, len(heading))) + "\n",
            (
                f"The small models agreed on {asked - self.escalated} of {asked} questions; "
                f"{self.large} was asked about {self.escalated}."
            ),
            (
                f"Where the mixture and {self.large} alone differ: {_times(better)} only the mixture is right, "
                f"{_times(len(own) - better)} only {self.large}."
            ),
            "Tokens as the simulated cloud counts them; dollars by the catalogue, + or ? where a price is unknown.",
        ]
        return "\n".join(said + self._stand_ins())

    def _differs(self, number: int) -> bool:
        return self.verdicts[number, "mixture"] != self.verdicts.get((number, self.large), False)

    def _stand_ins(self) -> list[str]:
        names = {name: self.source.aliases.get(name, name) for name in (*self.small, self.large)}
        others = [f"{recorded} for {name}" for name, recorded in names.items() if recorded != name]
        return [f"Recorded under another name: {', '.join(others)}."] if others else []


def _asked(row: RecordedQuestion) -> str:
    return row.prompt or row.question


def is_right(text: str, gold: str) -> bool:
    """Say whether the final answer of `text` is the right one."""
    return answers.is_right(text, gold)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _figures(score: Score) -> list[str]:
    total = score.right + score.wrong
    low, high = wilson(score.right, total)
    return [
        str(score.right),
        str(score.wrong),
        f"{score.right / total:.1%}" if total else "",
        f"{low:.1%} - {high:.1%}",
        f"{score.calls:,}",
        f"{score.tokens:,}",
        dollars(score.cost) + "+" * (not score.priced) if score.cost else "?",
    ]
