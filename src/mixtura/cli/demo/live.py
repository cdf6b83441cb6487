"""A mixture beside its strongest model alone, asked for real: right or not, seconds, dollars, and a record of it all.

Nothing is sent before it is known what that costs at most, and the record has its file before it has anything to hold.
"""

import asyncio
import datetime as dt
import ipaddress
import os
import shutil
import sys
import textwrap
import urllib.parse
from importlib.resources import files
from pathlib import Path
from statistics import median

import msgspec

from mixtura.cli.access import environment_for, mixture_of
from mixtura.cli.common import dollars, notice, table, write_json, write_lines
from mixtura.cli.demo.predicted import predict
from mixtura.cli.demo.recorded import is_right
from mixtura.cli.measured import Measured, Recorder, alone, measured, strongest
from mixtura.cli.session import Window, follow
from mixtura.cli.settings import command_environment
from mixtura.columns import one_line
from mixtura.errors import BudgetError, ConfigError, MixturaError
from mixtura.events import Event, UnknownEvent
from mixtura.mixture import AskOptions
from mixtura.models.registry import ModelRegistry
from mixtura.places import make_folders, state_folder
from mixtura.planning.schedule import count_calls, models_of
from mixtura.recipe import Aggregator, Layer, Proposer, Recipe
from mixtura.stored import write_events

MAX_COST = 0.02
"""Dollars that the whole demo may cost unless told otherwise."""
_OUTPUT = 800  # tokens that a call may write at most: short questions, whose cost is known beforehand
_FORM = " Work it out briefly. End with a line of this form: The answer is NUMBER."


class _Question(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    question: str
    answer: str

    @property
    def asked(self) -> str:
        return self.question + _FORM


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What `mixtura demo --live` was told on the command line; None where it was not."""

    recipe: Recipe
    max_cost: float | None
    questions: int | None
    save: Path | None
    as_json: bool


class _Ran(msgspec.Struct, frozen=True, kw_only=True):
    """One run: its question, whether the answer is right, its figures and what the simulated cloud takes for it."""

    question: str
    right: bool
    figures: Measured
    text: str
    run: str
    predicted: float | None = None


def show_live(told: Told) -> None:
    """Ask our questions of the recipe and of its strongest model, show and record what comes.

    Raises:
        ConfigError: a key is missing, or the record cannot be written.
        BudgetError: it could cost more than allowed, or nobody knows what; nothing was sent.
        MixturaError: what the run that failed raised; the record holds what came before.
    """
    demo: _Live | None = None
    try:
        demo = _Live(told)
        demo.run()
    except MixturaError as error:
        if told.as_json:
            write_json(
                msgspec.json.encode({"status": "failed", "error": error.message, **(demo.summary if demo else {})})
            )
        raise
    if told.as_json:
        write_json(msgspec.json.encode({"status": "ok", "error": "", **demo.summary}))


class _Live:
    """The questions on their way through the mixture and its strongest model."""

    def __init__(self, told: Told) -> None:
        lines = (files("mixtura.cli.demo") / "live.jsonl").read_bytes().splitlines()
        self.told = told
        self.questions = [msgspec.json.decode(line, type=_Question) for line in lines][: told.questions]
        provider, model = strongest(told.recipe)
        if count_calls(told.recipe) == 1:
            raise ConfigError(
                f"{told.recipe.name} asks {model} alone, so there is nothing to compare: "
                "take another --recipe, or give --model twice"
            )
        self.names = (told.recipe.name, f"{model} alone")
        self.recipes = (_short(told.recipe), _short(alone(model, provider)))
        self.ran: dict[str, list[_Ran]] = {name: [] for name in self.names}
        self.begun: list[tuple[_Question, str, Recorder]] = []
        self.worst: float | None = None
        self.unpriced: list[str] = []
        self.file: Path | None = None
        self.why_not = ""

    def run(self) -> None:
        """Check keys and money, ask, and show; whatever ends it, the record holds what came by then."""
        for provider, _ in models_of(self.told.recipe):
            if not ModelRegistry().is_in_process(provider):
                ModelRegistry(env=command_environment([provider])).endpoint(provider)
        worst = self._forecast()
        self.file = _new_file(self.told.save)
        try:
            asyncio.run(self._ask(worst))
            self._predict()
            self._say(self._table())
            self._tell(f"\n{self._legend()}")
        finally:
            self._save()

    def _say(self, text: str) -> None:
        if not self.told.as_json:
            write_lines(text)

    def _tell(self, prose: str) -> None:
        """Say `prose`, its lines broken between words where a terminal is too narrow for them."""
        if sys.stdout.isatty():
            width = max(20, shutil.get_terminal_size().columns - 1)
            prose = "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in prose.split("\n"))
        self._say(prose)

    def _forecast(self) -> dict[tuple[str, str], float]:
        """Return the dollars each run costs at most, by question and name; say what all of them do.

        Raises:
            BudgetError: more than is allowed, or no price is known where money may be spent.
        """
        most = MAX_COST if self.told.max_cost is None else self.told.max_cost
        worst: dict[tuple[str, str], float] = {}
        unpriced: set[str] = set()
        for row in self.questions:
            for name, recipe in zip(self.names, self.recipes, strict=True):
                found = mixture_of(recipe, environment_for(recipe)).forecast(row.asked)
                worst[row.id, name] = found.cost or 0.0
                unpriced |= set(found.unpriced)
        self.worst, self.unpriced = sum(worst.values()), sorted(unpriced)
        if unpriced and (self.told.max_cost is not None or not self._is_local()):
            raise BudgetError(None, most, f"unknown for {', '.join(self.unpriced)}")
        if self.worst > most:
            raise BudgetError(self.worst, most)
        self._say_forecast(f"At most {dollars(self.worst)} of the {dollars(most)} allowed (--max-cost).")
        return worst

    def _say_forecast(self, money: str) -> None:
        asked = len(self.questions)
        calls = [asked * count_calls(recipe) for recipe in self.recipes]
        if self.unpriced:
            names = ", ".join(self.unpriced)
            money = f"Dollars unknown: no price is known for {names}, served on this machine or in its network."
        self._tell(f"{asked} question{'s' * (asked > 1)}, each asked of {self.names[0]} and of {self.names[1]}.")
        self._tell(f"At most {calls[0]} + {calls[1]} calls. {money}\n\n")

    def _is_local(self) -> bool:
        """Say whether whoever has no price serves on this machine or in a private network, where no bill comes from."""
        registry = ModelRegistry(env=environment_for(self.told.recipe))
        asked = {provider for provider, model in models_of(self.told.recipe) if model in self.unpriced}
        return all(
            registry.is_in_process(provider) or _is_private(registry.endpoint(provider).url) for provider in asked
        )

    async def _ask(self, worst: dict[tuple[str, str], float]) -> None:
        allowed = None if self.unpriced else (MAX_COST if self.told.max_cost is None else self.told.max_cost)
        # Second tries are no part of the forecast; with `max_cost` there are some where they fit.
        recipes = self.recipes if allowed is not None else map(_without_second_tries, self.recipes)
        mixtures = {
            name: mixture_of(recipe, environment_for(recipe)) for name, recipe in zip(self.names, recipes, strict=True)
        }
        for number, row in enumerate(self.questions):
            self._tell(f"Question {number + 1} of {len(self.questions)}: {one_line(row.question)}")
            # They take turns in going first: whoever does opens the connections that both use.
            for name in self.names if number % 2 == 0 else self.names[::-1]:
                own = worst.pop((row.id, name))
                options = AskOptions()
                if allowed is not None:
                    # What later runs cost at most stays theirs.
                    options["max_cost"] = max(own, allowed - self._spent() - sum(worst.values()))
                self._say(f"--- {name}")
                recorder = Recorder()
                self.begun.append((row, name, recorder))
                window = Window(quiet=self.told.as_json, one_stream=True)
                await follow(mixtures[name], row.asked, window, recorder, options)
                self._count(row, name, recorder)

    def _spent(self) -> float:
        return sum(recorder.answer().cost or 0.0 for _, _, recorder in self.begun)

    def _count(self, row: _Question, name: str, recorder: Recorder) -> None:
        answer, figures = recorder.answer(), measured(name, recorder)
        right = is_right(answer.text, row.answer)
        self.ran[name].append(_Ran(question=row.id, right=right, figures=figures, text=answer.text, run=answer.run))
        verdict = "right" if right else f"WRONG, the answer is {row.answer}"
        self._tell(f"=> {verdict}; first word {figures.word}, whole answer {figures.seconds:.2f} s\n\n")

    def _predict(self) -> None:
        """Note what the simulated cloud takes for the same runs, with replies as long as the real ones were."""
        others = sorted({provider for recipe in self.recipes for provider, _ in models_of(recipe)} - {"groq"})
        if others:
            self.why_not = f"No prediction: the simulated cloud stands for groq, and not for {', '.join(others)}."
            return
        recipes = dict(zip(self.names, self.recipes, strict=True))
        try:
            seconds = predict([(recipes[name], row.asked, recorder.answer()) for row, name, recorder in self.begun])
        except MixturaError as error:
            self.why_not = f"No prediction: {error.message}."
            return
        for (row, name, _), took in zip(self.begun, seconds, strict=True):
            rows = self.ran[name]
            place = next(at for at, found in enumerate(rows) if found.question == row.id)
            rows[place] = msgspec.structs.replace(rows[place], predicted=took)

    def _save(self) -> None:
        """Write the record; where not one call was answered there is none."""
        assert self.file is not None
        events: list[Event] = [event for _, _, recorder in self.begun for event in recorder.events]
        if not any(recorder.answer().n_calls for _, _, recorder in self.begun):
            self.file.unlink()
            self.file = None
            return
        summary = UnknownEvent(data={"event": "demo_summary", **msgspec.to_builtins(self.summary)})
        self.file.write_bytes(write_events([*events, summary]))
        many = f"{len(self.begun)} run{'s' * (len(self.begun) > 1)}"
        notice(f"mixtura: the record of {many} is in {self.file}")

    @property
    def summary(self) -> dict[str, object]:
        """What came of it, as it goes into the record and the document of `--json`."""
        return {
            "recipe": self.told.recipe.name,
            "alone": strongest(self.told.recipe)[1],
            "worst": None if self.unpriced else self.worst,
            "allowed": MAX_COST if self.told.max_cost is None else self.told.max_cost,
            "unpriced": self.unpriced,
            "cost": self._spent(),
            "questions": [msgspec.to_builtins(row) for row in self.questions],
            "runs": {"mixture": self.ran[self.names[0]], "alone": self.ran[self.names[1]]},
            "prediction": self.why_not,
            "record": None if self.file is None else str(self.file),
        }

    def _table(self) -> str:
        columns = [_column(self.ran[name], len(self.questions)) for name in self.names]
        short = [self.names[0], strongest(self.told.recipe)[1].rpartition("/")[2]]
        labels = ["", "right", "first word", "seconds", "dollars", "tokens", "simulated", "ratio"]
        first, second = ([name, *cells] for name, cells in zip(short, columns, strict=True))
        return table(list(zip(labels, first, second, strict=True)), right=(1, 2))

    def _legend(self) -> str:
        said = (
            "Seconds are medians of the questions, waits for rate limits included; dollars and tokens are sums."
            f" {self.names[1].partition(' ')[0]} was asked alone."
        )
        simulated = (
            "simulated: seconds of the same calls in the simulated cloud, with replies as long and no rate limits; "
            "ratio: measured seconds to simulated ones."
        )
        return f"{said}\n{self.why_not or simulated}"


def _column(ran: list[_Ran], asked: int) -> list[str]:
    """Return the cells of one contestant, in the order of the table's labels."""
    words = [run.figures.first_word for run in ran if run.figures.first_word is not None]
    costs = [run.figures.cost for run in ran if run.figures.cost is not None]
    missing = any(run.figures.unpriced for run in ran)
    seconds = median(run.figures.seconds for run in ran)
    predicted = [run.predicted for run in ran if run.predicted is not None]
    simulated = median(predicted) if predicted else None
    return [
        f"{sum(run.right for run in ran)} of {asked}",
        f"{median(words):.2f} s" if words else "none",
        f"{seconds:.2f} s",
        (dollars(sum(costs)) + "+" * missing) if costs else "?",
        f"{sum(run.figures.prompt_tokens + run.figures.completion_tokens for run in ran):,}",
        "?" if simulated is None else f"{simulated:.2f} s",
        "?" if not simulated else f"{seconds / simulated:.2f}",
    ]


def _short(recipe: Recipe) -> Recipe:
    """Return `recipe` with at most `_OUTPUT` tokens a call."""

    def limited(slot: Proposer) -> Proposer:
        return msgspec.structs.replace(slot, max_tokens=min(slot.max_tokens or _OUTPUT, _OUTPUT))

    def layer(found: Layer) -> Layer:
        return Layer(proposers=tuple(limited(slot) for slot in found.proposers))

    last: Aggregator | None = recipe.aggregator
    if last is not None:
        last = msgspec.structs.replace(last, max_tokens=min(last.max_tokens or _OUTPUT, _OUTPUT))
    return msgspec.structs.replace(
        recipe,
        layers=tuple(layer(found) for found in recipe.layers),
        escalate=recipe.escalate and layer(recipe.escalate),
        aggregator=last,
    )


def _without_second_tries(recipe: Recipe) -> Recipe:
    return msgspec.structs.replace(recipe, policy=msgspec.structs.replace(recipe.policy, hedge=False))


def _is_private(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def _new_file(given: Path | None) -> Path:
    """Return a file that is new, empty and for its owner only.

    Raises:
        ConfigError: there is one already, or it cannot be made.
    """
    path = given
    try:
        if path is None:
            folder = state_folder(os.environ) / "demo"
            make_folders(folder)
            path = folder / f"live-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S.%fZ}.jsonl"
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        raise ConfigError(f"--save {path}: there is such a file already; name another one") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: the record cannot be written: {error.strerror or error}; nothing was sent"
        ) from None
    return path
