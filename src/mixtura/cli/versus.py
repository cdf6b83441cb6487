"""`mixtura ask --vs MODEL`: the answer of a mixture and that of one model alone, with what each of them took."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from mixtura.cli.access import environment_for, mixture_of
from mixtura.cli.common import dollars, fitting, notice, write_json, write_lines, write_text
from mixtura.cli.measured import Measured, Recorder, measured
from mixtura.cli.session import Window, environment, follow
from mixtura.errors import BudgetError, MixturaError
from mixtura.mixture import AskOptions, Mixture
from mixtura.planning.forecast import Forecast
from mixtura.recipe import Recipe
from mixtura.sim.options import SimOptions


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One question for two: a mixture, and `model` alone.

    Attributes:
        question: what is asked of both.
        recipe: the mixture's.
        model: the model that is asked alone.
        alone: the recipe that does.
        options: of both runs; `max_cost` covers the two together.
        make: makes a mixture of a recipe and an environment.
    """

    question: str
    recipe: Recipe
    model: str
    alone: Recipe
    options: AskOptions
    make: Callable[[Recipe, Mapping[str, str]], Mixture]

    @property
    def titles(self) -> tuple[str, str]:
        """What stands above the two answers."""
        return self.recipe.name, f"{self.model} alone"

    def forecasts(self) -> tuple[Forecast, Forecast]:
        """Return what the two runs take at most, the mixture's first; nothing is sent, and no key is needed."""
        whole: AskOptions = {**self.options, "max_cost": None}
        return (
            mixture_of(self.recipe, environment_for(self.recipe)).forecast(self.question, **whole),
            mixture_of(self.alone, environment_for(self.alone)).forecast(self.question, **whole),
        )

    def shares(self) -> tuple[float | None, float | None]:
        """Return what the mixture, and what both together, may cost, in dollars; None for any amount.

        The mixture leaves what the model alone costs at most.

        Raises:
            BudgetError: not even the smallest mixture leaves as much, or a price is not known.
        """
        most = self.options.get("max_cost")
        if most is None:
            return None, None
        first, second = self.forecasts()
        unpriced = sorted({*first.unpriced, *second.unpriced})
        if unpriced:
            raise BudgetError(None, most, f"unknown for {', '.join(unpriced)}")
        left = most - (second.cost or 0.0)
        try:
            if left < 0:
                raise BudgetError(first.cost, left)
            smaller: AskOptions = {**self.options, "max_cost": left}
            mixture_of(self.recipe, environment_for(self.recipe)).forecast(self.question, **smaller)
        except BudgetError as error:
            raise BudgetError((error.worst or 0.0) + (second.cost or 0.0), most) from None
        return left, most


def write_forecasts(pair: Pair, write: Callable[[Forecast], None], *, as_json: bool) -> None:
    """Show what both runs take at most; `write` shows one forecast."""
    first, second = pair.forecasts()
    known = [found.cost for found in (first, second) if found.cost is not None]
    total = sum(known) if known else None
    if as_json:
        write_json(msgspec.json.encode({"mixture": first, "vs": second, "cost": total}))
        return
    for title, found in zip(pair.titles, (first, second), strict=True):
        write_lines(f"--- {title}")
        write(found)
    write_lines(f"both at most {dollars(total)}")
    try:
        pair.shares()
    except BudgetError as error:
        notice(f"mixtura: with this --max-cost both would be refused: {error.message}")


def answer_both(pair: Pair, window: Window, simulated: SimOptions | None, *, as_json: bool) -> None:
    """Ask the mixture, then the model alone, and show both answers and what each took.

    One after the other: two runs at the same time would share rate limits, and the seconds of neither would be its own.

    Raises:
        MixturaError: what the first run that failed raised; what came before it is shown.
    """
    runs = (Recorder(), Recorder())
    try:
        asyncio.run(_ask(pair, window, simulated, runs))
    except MixturaError as error:
        if as_json:
            _write_document(pair, runs, error.message)
        elif runs[0].answer().status != "failed":
            _write_figures(pair, runs[:1], window)
        raise
    if as_json:
        _write_document(pair, runs, "")
    else:
        _write_figures(pair, runs, window)


async def _ask(pair: Pair, window: Window, simulated: SimOptions | None, runs: tuple[Recorder, Recorder]) -> None:
    first, most = pair.shares()
    async with environment(simulated, pair.recipe, pair.alone) as env:
        for title, recipe, run in zip(pair.titles, (pair.recipe, pair.alone), runs, strict=True):
            options: AskOptions = {**pair.options, "max_cost": first}
            if run is runs[1] and most is not None:
                options["max_cost"] = most - (runs[0].answer().cost or 0.0)
            heading = "\n" * (run is runs[1]) + f"--- {title}"
            if window.streams:
                write_lines(heading)
            answer = await follow(pair.make(recipe, env), pair.question, window, run, options)
            if not (window.streams or window.own_answer):
                write_lines(heading)
                write_text(answer.text)


def _figures(pair: Pair, runs: tuple[Recorder, ...]) -> list[Measured]:
    return [measured(title, run) for title, run in zip(pair.titles, runs, strict=False)]


def _write_figures(pair: Pair, runs: tuple[Recorder, ...], window: Window) -> None:
    asked = _figures(pair, runs)
    if not window.quiet:
        rows = [[found.name, found.word, f"{found.seconds:.2f} s", found.money, found.tokens] for found in asked]
        heading = ["", "first word", "seconds", "dollars", "tokens"]
        notice(fitting([heading, *rows], ["tokens", "first word"], right=heading[1:]))


def _write_document(pair: Pair, runs: tuple[Recorder, Recorder], error: str) -> None:
    """Write both answers as one document; one that was not begun is null."""
    begun = [run.answer() if run.events else None for run in runs]
    asked = [run for run in runs if run.events]
    document = {
        "status": "failed" if error else "ok",
        "error": error,
        "mixture": begun[0] and msgspec.Raw(begun[0].to_json()),
        "vs": begun[1] and msgspec.Raw(begun[1].to_json()),
        "compared": _figures(pair, tuple(asked)),
    }
    write_json(msgspec.json.encode(document))
