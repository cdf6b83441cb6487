"""What a run reserves of the day, what it settles, and what it says when the day's books are closed or silent."""

import asyncio
from typing import Any

import pytest

from mixtura import BudgetError, DailyBudgetError, DeadlineError, Layer, MixturaError, Mixture, Price, Proposer, Recipe
from mixtura.errors import RejectedError
from mixtura.limits.budget.base import DailySpending
from mixtura.recipe import Policy
from mixtura.virtual import run_virtual
from own_models import Told, card, failed

DOLLAR = Price(input=0.0, output=1e6)  # a dollar a token that is written
# One call, of ten dollars at most.
TEN = Recipe(
    layers=(Layer(proposers=(Proposer(model="a", provider="own", max_tokens=10),)),),
    policy=Policy(deadline=60.0, when_limited=()),
)


class Day:
    """A day with so many dollars left, of which some are spent and some reserved; it refuses what is in `refuses`."""

    def __init__(self, left: float, *, refuses: float = -1.0, takes: float = 0.0) -> None:
        self.allowed = left + 30.0
        self.refuses = refuses
        self.takes = takes
        self.calls: list[tuple[str, float]] = []
        self.runs: set[str] = set()

    async def today(self) -> DailySpending:
        await asyncio.sleep(self.takes)
        return DailySpending(day="2026-11-26", spent=10.0, reserved=20.0, allowed=self.allowed, seconds_left=60.0)

    async def reserve(self, run: str, dollars: float) -> None:
        self._note("reserve", run, dollars)
        if dollars == self.refuses:
            raise DailyBudgetError(dollars, self.allowed, 10.0, 20.0, 60.0)

    async def settle(self, run: str, dollars: float) -> None:
        self._note("settle", run, dollars)

    def _note(self, name: str, run: str, dollars: float) -> None:
        self.calls.append((name, dollars))
        self.runs.add(run)

    async def close(self) -> None: ...


def ask(day: Day, models: Told | None = None, recipe: Recipe = TEN, **options: Any) -> MixturaError | None:
    models = models or Told([card("a", DOLLAR)], a="one two three")
    try:
        answer = run_virtual(Mixture(recipe, models=models, budget=day).ask("Why?", **options))
    except MixturaError as error:
        return error
    assert day.runs == {answer.run}
    return None


@pytest.mark.parametrize(
    ("left", "most", "reserved"),
    [
        (100.0, None, 20.0),  # as much again, for second tries
        (20.0, None, 20.0),
        (19.9, None, 10.0),
        (10.0, None, 10.0),
        (100.0, 15.0, 15.0),
        (100.0, 50.0, 20.0),
        (100.0, 10.0, 10.0),
        (12.0, 15.0, 10.0),
    ],
)
def test_a_run_reserves_its_worst_case_twice_where_there_is_as_much(
    left: float, most: float | None, reserved: float
) -> None:
    day = Day(left)
    assert ask(day, max_cost=most) is None
    assert day.calls == [("reserve", reserved), ("settle", 3.0)]


def test_where_twice_is_refused_after_all_once_is_reserved() -> None:
    day = Day(100.0, refuses=20.0)
    assert ask(day) is None
    assert day.calls == [("reserve", 20.0), ("reserve", 10.0), ("settle", 3.0)]


def test_where_once_is_refused_after_all_nothing_is_sent() -> None:
    day, models = Day(10.0, refuses=10.0), Told([card("a", DOLLAR)], a="one")
    error = ask(day, models)
    assert isinstance(error, DailyBudgetError)
    assert models.requests == []


def test_what_the_day_has_no_room_for_is_refused_in_the_days_own_words() -> None:
    day, models = Day(9.9, refuses=10.0), Told([card("a", DOLLAR)], a="one")
    error = ask(day, models)
    assert isinstance(error, DailyBudgetError)
    assert (day.calls, models.requests) == ([("reserve", 10.0)], [])


def test_room_that_comes_only_then_is_given_back() -> None:
    day = Day(9.9)
    error = ask(day)
    assert isinstance(error, BudgetError)
    assert not isinstance(error, DailyBudgetError)
    assert day.calls == [("reserve", 10.0), ("settle", 0.0)]


def test_what_one_run_may_cost_is_refused_without_asking_the_day_for_it() -> None:
    day = Day(100.0)
    error = ask(day, max_cost=9.0)
    assert isinstance(error, BudgetError)
    assert day.calls == []


def test_a_day_that_is_overdrawn_has_nothing_left() -> None:
    day = Day(-5.0, refuses=10.0)
    assert isinstance(ask(day), DailyBudgetError)


def test_calls_that_failed_are_settled_with_what_they_took() -> None:
    day = Day(100.0)
    recipe = Recipe(
        layers=(Layer(proposers=tuple(Proposer(model=name, provider="own", max_tokens=10) for name in "ab")),),
        aggregator=Recipe.from_toml('[[proposers]]\nmodel="a"\n[aggregator]\nkind="vote"').aggregator,
    )
    models = Told([card("a", DOLLAR), card("b", DOLLAR)], a=failed("a", 4), b="one two three")
    assert ask(day, models, recipe) is None
    assert day.calls[-1] == ("settle", 7.0)


def test_a_run_that_fails_is_settled_too() -> None:
    day = Day(100.0)
    error = ask(day, Told([card("a", DOLLAR)], a=failed("a", 4, RejectedError)))
    assert error is not None
    assert day.calls[-1] == ("settle", 4.0)


def test_what_a_day_that_answers_slowly_takes_is_gone_from_the_deadline() -> None:
    class Waits(Told):
        async def chat(self, request: Any, **more: Any) -> Any:
            self.until = more["deadline"]
            return await super().chat(request, **more)

    models = Waits([card("a", DOLLAR)], a="one")
    assert ask(Day(100.0, takes=15.0), models) is None
    assert models.until == pytest.approx(60.0)


def test_a_day_that_does_not_answer_in_time_refuses_the_run() -> None:
    error = ask(Day(100.0, takes=61.0))
    assert isinstance(error, DeadlineError)
    assert error.message == "the daily budget (Day) did not answer within the deadline of 60 s; nothing was sent"
    error = ask(Day(100.0, takes=61.0), deadline=2.5)
    assert isinstance(error, DeadlineError)
    assert "within the deadline of 2.5 s" in error.message


@pytest.mark.parametrize(("wrote", "seconds"), [(1.0, "5"), (57.0, "3"), (59.9, "0.4")])
def test_books_that_do_not_answer_at_the_end_are_waited_for_until_the_deadline_or_a_moment(
    wrote: float, seconds: str
) -> None:
    class Silent(Day):
        async def settle(self, run: str, dollars: float) -> None:
            await asyncio.Event().wait()

    class Writes(Told):
        async def chat(self, request: Any, **more: Any) -> Any:
            await asyncio.sleep(wrote)
            return await super().chat(request, **more)

    async def main() -> None:
        models = Writes([card("a", DOLLAR)], a="one two three")
        answer = await Mixture(TEN, models=models, budget=Silent(100.0)).ask("Why?")
        assert answer.text == "one two three"
        assert answer.warnings == [
            f"the daily budget could not be told that the run cost $3.000000 (no reply within {seconds} s)"
        ]
        assert asyncio.get_running_loop().time() == pytest.approx(wrote + float(seconds))

    run_virtual(main())
