"""The daily budget: it is never passed, whoever books at the same time, and a budget that cannot be kept refuses."""

import asyncio
import itertools
import math
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budgets import DAY, NOON, Place, books
from mixtura.errors import BudgetError, ConfigError, DailyBudgetError
from mixtura.limits.budget.stores import RedisBudget, SqliteBudget

# What another process does: book a hundredth of a dollar until it is refused, then say how often it was not.
SPENDER = """
import asyncio, sys, uuid
from pathlib import Path
from mixtura.errors import DailyBudgetError
from mixtura.limits.budget.stores import RedisBudget, SqliteBudget

async def main(place):
    def clock():
        return 20_000 * 86_400.0
    budget = RedisBudget(place, 1.0, clock) if "://" in place else SqliteBudget(Path(place), 1.0, clock)
    booked = 0
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        while True:
            run = uuid.uuid4().hex
            await budget.reserve(run, 0.01)
            booked += 1
            if booked % 2:
                await budget.settle(run, 0.01)
    except DailyBudgetError:
        print(booked)
    await budget.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.server)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place of each kind."""
    address = tmp_path / "budget.db" if request.param == "sqlite" else request.getfixturevalue("redis_url")
    return Place(address).emptied()


async def test_a_run_reserves_its_worst_and_settles_to_what_it_cost(place: Place) -> None:
    async with place.open(0.3) as budget:
        await budget.reserve("a", 0.1)
        await budget.reserve("b", 0.1)
        assert await books(budget) == (0.0, 0.2)
        await budget.settle("a", 0.04)
        today = await budget.today()
    assert (today.day, today.spent, today.reserved, today.allowed) == ("2024-10-04", 0.04, 0.1, 0.3)
    assert today.seconds_left == DAY / 2


# As floats, three times 0.1 is more than 0.3, and 0.067 is more than 67 million billionths.
@pytest.mark.parametrize(("allowed", "runs"), [(0.3, [0.1, 0.1, 0.1]), (0.201, [0.067, 0.134])])
async def test_the_whole_budget_can_be_used_and_nothing_more(place: Place, allowed: float, runs: list[float]) -> None:
    async with place.open(allowed) as budget:
        for number, dollars in enumerate(runs):
            await budget.reserve(str(number), dollars)
        await budget.reserve("free", 0.0)
        with pytest.raises(DailyBudgetError):
            await budget.reserve("more", 1e-8)
        assert await books(budget) == (0.0, allowed)


async def test_a_refusal_books_nothing_and_says_what_is_left_and_until_when(place: Place) -> None:
    place.clock.now = NOON + DAY / 2 - 3 * 3600 - 12 * 60 + 30
    async with place.open(5.0) as budget:
        await budget.settle("a", 4.0)
        await budget.reserve("b", 0.75)
        with pytest.raises(DailyBudgetError) as refused:
            await budget.reserve("c", 0.5)
        assert await books(budget) == (4.0, 0.75)
        await budget.reserve("d", 0.25)
    error = refused.value
    assert isinstance(error, BudgetError)
    assert (error.worst, error.allowed, error.spent, error.reserved) == (0.5, 5.0, 4.0, 0.75)
    assert error.seconds_left == 3 * 3600 + 12 * 60 - 30
    assert error.exit_code == 75
    assert error.message == (
        "the run could cost up to $0.500000 and $0.250000 is left of today's $5.000000 "
        "($4.000000 spent, $0.750000 reserved by runs not settled); nothing was sent: "
        "raise MIXTURA_DAILY_BUDGET, or wait 3 h 12 min until the next day begins (00:00 UTC)"
    )


def test_a_refusal_shortly_before_midnight_counts_in_minutes_and_never_says_less_than_nothing_is_left() -> None:
    assert "$0.000000 is left" in str(DailyBudgetError(1.0, 1.0, 1.5, 0.0, 61.0))
    assert "wait 2 min until" in str(DailyBudgetError(1.0, 1.0, 1.5, 0.0, 61.0))


async def test_a_run_of_unbounded_cost_is_refused(place: Place) -> None:
    async with place.open(1_000_000.0) as budget:
        with pytest.raises(DailyBudgetError):
            await budget.reserve("a", math.inf)


@pytest.mark.parametrize("dollars", [-0.01, math.nan, -math.inf])
async def test_what_is_no_amount_is_refused(place: Place, dollars: float) -> None:
    async with place.open() as budget:
        await budget.reserve("a", 0.5)
        with pytest.raises(ValueError, match="expected dollars"):
            await budget.reserve("b", dollars)
        with pytest.raises(ValueError, match="expected dollars"):
            await budget.settle("a", dollars)
        assert await books(budget) == (0.0, 0.5)


async def test_settling_twice_changes_nothing(place: Place) -> None:
    async with place.open() as budget:
        await budget.reserve("a", 0.5)
        await budget.settle("a", 0.2)
        await budget.settle("a", 0.3)
        await budget.settle("never reserved", 0.1)
        await budget.settle("never reserved", 0.1)
        assert await books(budget) == (0.3, 0.0)


async def test_a_second_reservation_replaces_the_first(place: Place) -> None:
    async with place.open() as budget:
        await budget.reserve("a", 0.5)
        await budget.reserve("a", 1.0)
        with pytest.raises(DailyBudgetError):
            await budget.reserve("a", 1.1)
        assert await books(budget) == (0.0, 1.0)
        await budget.settle("a", 0.2)
        await budget.reserve("a", 0.3)
        assert await books(budget) == (0.2, 0.3)


async def test_what_cost_more_than_its_worst_is_counted_all_the_same(place: Place) -> None:
    async with place.open() as budget:
        await budget.reserve("a", 0.5)
        await budget.settle("a", 1.5)
        assert await books(budget) == (1.5, 0.0)
        with pytest.raises(DailyBudgetError, match=r"\$0\.000000 is left"):
            await budget.reserve("b", 0.1)


async def test_a_new_day_begins_with_the_whole_budget(place: Place) -> None:
    async with place.open() as budget:
        await budget.settle("a", 1.0)
        place.clock.now = NOON + DAY / 2 - 0.001
        with pytest.raises(DailyBudgetError):
            await budget.reserve("b", 0.1)
        place.clock.now = NOON + DAY / 2
        await budget.reserve("b", 1.0)
        assert (await budget.today()).day == "2024-10-05"
        assert (await budget.today()).seconds_left == DAY


async def test_a_run_over_midnight_counts_for_the_day_it_was_reserved_on(place: Place) -> None:
    async with place.open() as budget:
        await budget.reserve("a", 0.8)
        place.clock.now += DAY
        await budget.settle("a", 0.3)
        assert await books(budget) == (0.0, 0.0)
        place.clock.now -= DAY
        assert await books(budget) == (0.3, 0.0)


async def test_a_run_that_is_never_settled_stays_at_its_worst_until_the_day_ends(place: Place) -> None:
    async with place.open() as budget:
        await budget.reserve("killed", 0.8)
    async with place.open() as budget:
        with pytest.raises(DailyBudgetError):
            await budget.reserve("b", 0.3)
        place.clock.now += DAY
        await budget.reserve("b", 0.3)


async def test_a_clock_that_is_set_back_gains_nothing(place: Place) -> None:
    async with place.open() as budget:
        await budget.settle("a", 1.0)
        place.clock.now += DAY
        await budget.settle("b", 1.0)
        for back in (3600.0, DAY):
            place.clock.now -= back
            with pytest.raises(DailyBudgetError):
                await budget.reserve("c", 0.1)
            assert 0 < (await budget.today()).seconds_left <= DAY


async def test_the_books_outlive_the_process_and_each_allowance_is_its_own(place: Place) -> None:
    async with place.open(1.0) as budget:
        await budget.settle("a", 0.9)
    async with place.open(2.0) as budget:
        await budget.reserve("b", 1.0)
    async with place.open(1.0) as budget:
        assert await books(budget) == (0.9, 1.0)
        with pytest.raises(DailyBudgetError):
            await budget.reserve("c", 0.05)


async def test_a_closed_budget_opens_again(place: Place) -> None:
    async with place.open() as budget:
        await budget.settle("a", 0.5)
        await budget.close()
        await budget.close()
        assert await books(budget) == (0.5, 0.0)


async def test_nothing_may_be_spent_of_nothing(place: Place) -> None:
    async with place.open(0.0) as budget:
        await budget.reserve("free", 0.0)
        await budget.settle("free", 0.0)
        with pytest.raises(DailyBudgetError):
            await budget.reserve("a", 1e-6)


@pytest.mark.parametrize("allowed", [-1.0, -0.0001, math.nan, math.inf, -math.inf, 1e300])
def test_a_budget_that_makes_no_sense_is_refused(place: Place, allowed: float) -> None:
    said = r"^daily budget: expected dollars, 0 or more, got .*: set MIXTURA_DAILY_BUDGET to"
    with pytest.raises(ConfigError, match=said):
        SqliteBudget(Path("budget.db"), allowed, place.clock)
    with pytest.raises(ConfigError, match=said):
        RedisBudget("redis://127.0.0.1:1", allowed, place.clock)


async def test_many_tasks_at_once_never_pass_the_budget(place: Place) -> None:
    async with place.open() as budget:
        tried = await asyncio.gather(
            *(budget.reserve(f"run {number}", 0.03) for number in range(60)), return_exceptions=True
        )
        assert [type(one) for one in tried if one is not None] == [DailyBudgetError] * 27
        assert await books(budget) == (0.0, 0.99)


def test_many_threads_at_once_never_pass_the_budget(place: Place) -> None:
    async def spend(thread: int) -> int:
        async with place.open() as budget:
            for number in itertools.count():
                try:
                    await budget.reserve(f"{thread} {number}", 0.02)
                except DailyBudgetError:
                    return number
                if number % 2:
                    await budget.settle(f"{thread} {number}", 0.02)
        raise AssertionError

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda thread: asyncio.run(spend(thread)), range(8))) == 50


def test_many_processes_at_once_never_pass_the_budget(place: Place) -> None:
    command = [sys.executable, "-c", SPENDER, str(place.address)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sum(int(process.communicate()[0]) for process in processes) == 100
    assert [process.returncode for process in processes] == [0] * 6


async def test_one_budget_serves_several_loops(place: Place) -> None:
    async with place.open() as budget:
        await budget.reserve("a", 0.1)

        async def elsewhere() -> None:
            await budget.reserve("b", 0.2)
            if isinstance(budget, RedisBudget):
                await budget.close()

        await asyncio.to_thread(asyncio.run, elsewhere())
        assert await books(budget) == (0.0, 0.3)


@pytest.fixture(scope="session", params=["sqlite", pytest.param("redis", marks=pytest.mark.server)])
def kept_in(request: pytest.FixtureRequest) -> str | None:
    """The address of Redis, or None for a file."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("redis_url"))


moves = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "next day"]),
        st.sampled_from("abcd"),
        st.floats(0, 0.6) | st.just(0.1),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(moves)
def test_spent_and_reserved_never_pass_what_is_allowed(
    kept_in: str | None, steps: list[tuple[str, str, float]]
) -> None:
    async def main(folder: str) -> None:
        place = Place(kept_in or Path(folder) / "budget.db").emptied()
        worst: dict[str, float] = {}
        async with place.open() as one, place.open() as other:
            for budget, (move, run, dollars) in zip(itertools.cycle((one, other)), steps):
                if move == "next day":
                    place.clock.now += DAY
                elif move == "reserve":
                    before = await books(other)
                    try:
                        await budget.reserve(run, dollars)
                        worst[run] = dollars
                    except DailyBudgetError:
                        assert await books(other) == before
                        held = worst.get(run, 0.0)
                        assert sum(before) + dollars > 1.0 or held + dollars > 1.0
                elif run in worst:
                    await budget.settle(run, dollars * worst.pop(run))
                spent, reserved = await books(one)
                assert (spent, reserved) == await books(other)
                assert spent >= 0 <= reserved
                assert spent + reserved <= 1.0 + 1e-9

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))
