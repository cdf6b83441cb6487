"""Before anything is sent: a whole run against its limits, its budget and its time, and the ladder down from it."""

import asyncio
import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asking import GEMMA, LLAMA, SEVENTY
from mixtura import Answer, MixturaError, Mixture, Policy, Recipe
from mixtura.chat import Message
from mixtura.decisions import WaitedDetail
from mixtura.engine.run import drive
from mixtura.errors import BudgetError, ConfigError, DailyBudgetError, InputError, LimitError
from mixtura.limits.budget.base import DailySpending
from mixtura.limits.window import Limits
from mixtura.models.registry import ModelRegistry
from mixtura.planning.options import RunOptions
from mixtura.sim import SimOptions, SimulatedCloud, simulated_cloud
from mixtura.virtual import run_virtual

ERA = dt.date(2025, 9, 1)
KEY = "gsk_test_secret"


def with_policy(name: str = "classic", **policy: Any) -> Recipe:
    """A built-in recipe under another policy."""
    return msgspec.structs.replace(Recipe.named(name), policy=Policy(deadline=60.0, **policy))


def ask(
    recipe: str | Recipe = "classic",
    times: int = 1,
    *,
    limits: Mapping[str, Limits] | None = None,
    plan: str | None = "free",
    env: Mapping[str, str] | None = None,
    **asked: Any,
) -> tuple[list[Answer | MixturaError], SimulatedCloud]:
    """Ask a recipe so many times at once, of a key of `plan`, in a cloud that keeps the free plan's limits."""

    async def main() -> tuple[list[Answer | MixturaError], SimulatedCloud]:
        options = SimOptions(as_of=ERA, plan="free", limits=dict(limits or {}), tokens=200, profile="rate:200")
        async with simulated_cloud(options) as cloud:
            settings = {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url, **(env or {})}
            mixture = Mixture(recipe, env=settings, plan=plan)

            async def one(number: int) -> Answer | MixturaError:
                try:
                    return await mixture.ask(f"Question {number}: which index suits heavy writes?", **asked)
                except MixturaError as error:
                    return error

            return await asyncio.gather(*(one(number) for number in range(times))), cloud

    return run_virtual(main())


def only(found: tuple[list[Answer | MixturaError], SimulatedCloud]) -> Answer:
    (answer,) = found[0]
    assert isinstance(answer, Answer), answer
    return answer


def kinds(answer: Answer) -> list[str]:
    return [said.kind for said in answer.decisions]


def test_a_mixture_that_fits_says_nothing_about_limits() -> None:
    answer = only(ask())
    assert kinds(answer) == ["synthesized"]


def test_a_plan_nobody_has_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown plan 'gold': expected free, developer, enterprise"):
        ask(plan="gold")
    with pytest.raises(ConfigError, match="MIXTURA_PLAN"):
        ask(plan=None, env={"MIXTURA_PLAN": "gold"})


def test_many_at_once_wait_in_turn_and_none_is_refused_by_the_cloud() -> None:
    answers, cloud = ask(with_policy(when_limited=("wait",)), 6, deadline=600.0)
    assert all(isinstance(answer, Answer) and answer.status == "ok" for answer in answers)
    assert cloud.ledger.refused == {}
    waits = [said for answer in answers if isinstance(answer, Answer) for said in answer.decisions]
    waited = [(said.detail, said.reason) for said in waits if isinstance(said.detail, WaitedDetail)]
    assert waited
    for detail, reason in waited:
        assert reason == f"no room yet in {detail.window}; the run waits about {detail.seconds:.1f} s for it"
    assert any(detail.seconds % 1 for detail, _ in waited)
    assert cloud.ledger.calls == {LLAMA: 12, GEMMA: 6, SEVENTY: 6}


def test_without_a_plan_the_limits_are_learned_and_nothing_is_lost() -> None:
    answers, cloud = ask(with_policy(), 6, plan=None, deadline=600.0)
    assert all(isinstance(answer, Answer) for answer in answers)
    assert set(cloud.ledger.refused) <= {429}


def test_output_limits_are_shrunk_when_there_is_no_time_to_wait() -> None:
    answers, cloud = ask(with_policy(when_limited=("shrink",)), 3)
    reduced = [answer for answer in answers if isinstance(answer, Answer) and "reduced" in kinds(answer)]
    assert reduced
    assert "output limits cut to 50%" in reduced[0].warnings[0]
    assert cloud.ledger.refused == {}
    assert min(body["max_completion_tokens"] for body in cloud.requests) == 512


def test_proposers_of_a_crowded_model_move_to_one_with_room() -> None:
    small = {LLAMA: Limits(tpm=1300), GEMMA: Limits(tpm=15_000)}
    answer = only(ask(with_policy(when_limited=("swap",)), limits=small, env={}, plan=None))
    assert answer.status == "ok"
    known = ask_twice(with_policy(when_limited=("swap",)), small)
    assert "swapped for gemma2-9b-it" in known.warnings[0]
    assert {draft.answered_by for draft in known.drafts} == {GEMMA}


def ask_twice(recipe: Recipe, limits: Mapping[str, Limits], **asked: Any) -> Answer:
    """The second answer of two, one after the other: the first has learned the limits from the replies' headers."""

    async def main() -> Answer:
        async with simulated_cloud(SimOptions(as_of=ERA, limits=dict(limits), tokens=200)) as cloud:
            mixture = Mixture(recipe, env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url})
            await mixture.ask("First?")
            return await mixture.ask("Second?", **asked)

    return run_virtual(main())


def test_fewer_proposers_are_asked_but_never_less_than_the_policy_says() -> None:
    small = {LLAMA: Limits(tpm=1300), GEMMA: Limits(tpm=15_000), SEVENTY: Limits(tpm=12_000)}
    answer = ask_twice(with_policy(when_limited=("fewer",)), small)
    assert "1 proposer in place of 3" in answer.warnings[0]
    assert len(answer.drafts) == 1
    with pytest.raises(LimitError):
        ask_twice(with_policy(when_limited=("fewer",), min_drafts=2), small)


def test_one_model_answers_alone_when_nothing_else_fits() -> None:
    small = {LLAMA: Limits(tpm=1300), GEMMA: Limits(tpm=1300), SEVENTY: Limits(tpm=1500)}
    answer = ask_twice(with_policy(when_limited=("single",)), small)
    assert "llama-3.3-70b-versatile answers alone" in answer.warnings[0]
    assert answer.n_calls == 1


def test_what_does_not_fit_is_refused_before_it_is_sent_with_the_time_at_which_it_would() -> None:
    (first, second), cloud = ask(with_policy(when_limited=()), 2, limits={SEVENTY: Limits(tpm=3000)}, plan=None)
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)  # nothing was known yet
    with pytest.raises(LimitError) as refused:
        ask_twice(with_policy(when_limited=()), {SEVENTY: Limits(tpm=3000)})
    error = refused.value
    assert error.exit_code == 75
    assert error.retry_after is not None
    assert 0 < error.retry_after < 60
    assert "3,000 tokens per minute of llama-3.3-70b-versatile" in error.message
    assert cloud.ledger.in_flight == 0


def test_what_can_never_fit_says_so_with_the_limit_and_by_how_much() -> None:
    with pytest.raises(
        LimitError, match=r"can never fit: .* the limit is 1,000 tokens per minute, [\d,]+ less"
    ) as never:
        ask_twice(with_policy(when_limited=("wait",)), {SEVENTY: Limits(tpm=1000)})
    assert never.value.retry_after is None


def test_waiting_stops_where_the_policy_s_patience_ends() -> None:
    answers, _ = ask(with_policy(when_limited=("wait",), max_wait=2.0), 5)
    errors = [answer for answer in answers if isinstance(answer, LimitError)]
    assert errors
    assert all(error.retry_after is not None and error.retry_after > 2 for error in errors)


@pytest.mark.parametrize("name", ["self", "deep", "lite", "council"])
def test_recipes_larger_than_a_minute_s_tokens_are_spread_over_their_deadline(name: str) -> None:
    async def main() -> Answer:
        options = SimOptions(as_of=dt.date(2026, 11, 21), plan="free", tokens=300, profile="lpu")
        async with simulated_cloud(options) as cloud:
            mixture = Mixture(name, env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}, plan="free")
            answer = await mixture.ask("Why is the sky blue?")
            assert cloud.ledger.refused == {}
            return answer

    answer = run_virtual(main())
    assert answer.status == "ok"
    assert answer.seconds < 120


def test_a_batch_lets_interactive_questions_go_first() -> None:
    async def main() -> list[str]:
        order: list[str] = []
        async with simulated_cloud(SimOptions(as_of=ERA, plan="free", tokens=200)) as cloud:
            mixture = Mixture(with_policy(), env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}, plan="free")

            async def one(name: str, priority: Any) -> None:
                await mixture.ask(f"{name}?", priority=priority, deadline=2000.0)
                order.append(name)

            async with asyncio.TaskGroup() as group:
                for number in range(4):
                    group.create_task(one(f"batch {number}", "batch"))
                await asyncio.sleep(1)
                for number in range(2):
                    group.create_task(one(f"asked {number}", "interactive"))
        return order

    order = run_virtual(main())
    assert order.index("asked 1") < order.index("batch 3")
    with pytest.raises(InputError, match="priority: expected interactive or batch, got 'soon'"):
        Mixture(Recipe.named("classic"), env={"GROQ_API_KEY": KEY}).forecast("Why?", priority="soon")  # type: ignore[arg-type]  # what a caller without types writes


def test_a_budget_is_kept_by_asking_less_before_nothing_is_asked_at_all() -> None:
    whole = Mixture("classic", env={"GROQ_API_KEY": KEY}).forecast("Question 0: which index suits heavy writes?").cost
    assert whole is not None
    answer = only(ask("classic", plan=None, max_cost=whole * 0.6))
    assert "the whole run could cost more than" in answer.warnings[0]
    assert answer.cost is not None
    assert answer.cost <= whole * 0.6
    (error,), cloud = ask("classic", plan=None, max_cost=1e-7)
    assert isinstance(error, BudgetError)
    assert cloud.requests == []


def test_a_daily_budget_is_shared_by_runs_and_settled_to_what_they_cost(tmp_path: Path) -> None:
    home = {"MIXTURA_HOME": str(tmp_path)}
    whole = Mixture("classic", env={"GROQ_API_KEY": KEY}).forecast("Question 0: which index suits heavy writes?").cost
    assert whole is not None
    env = {**home, "MIXTURA_DAILY_BUDGET": f"{whole * 1.02}"}
    first = only(ask("classic", plan=None, env=env))
    assert first.cost is not None
    assert first.cost < whole
    strict = with_policy(when_limited=())
    (second,), _ = ask(strict, plan=None, env={**home, "MIXTURA_DAILY_BUDGET": f"{first.cost + whole * 1.02}"})
    assert isinstance(second, Answer)
    (third,), cloud = ask(strict, plan=None, env=env)
    assert isinstance(third, DailyBudgetError)
    assert "left of today's" in third.message
    assert cloud.requests == []


def test_a_run_that_fits_neither_its_budget_nor_its_limits_names_the_limit_of_what_it_could_pay() -> None:
    recipe = with_policy(when_limited=("fewer",), min_drafts=2)
    whole = Mixture(recipe, env={"GROQ_API_KEY": KEY}).forecast("Second?").cost
    assert whole is not None
    small = {SEVENTY: Limits(tpm=3000)}
    with pytest.raises(LimitError, match=r"no room in 3,000 tokens per minute of llama-3.3-70b-versatile") as refused:
        ask_twice(recipe, small, max_cost=whole * 0.95)
    assert refused.value.retry_after is not None


class Books:
    """A daily budget of which more is left when it is asked a second time."""

    def __init__(self, left: list[float]) -> None:
        self.allowed = 10.0
        self.left = left
        self.booked: dict[str, float] = {}

    async def today(self) -> DailySpending:
        left = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return DailySpending(day="2026-11-22", spent=10.0 - left, reserved=0.0, allowed=10.0, seconds_left=60.0)

    async def reserve(self, run: str, dollars: float) -> None:
        self.booked[run] = dollars

    async def settle(self, run: str, dollars: float) -> None:
        self.booked[run] = dollars

    async def close(self) -> None:
        """Nothing is open."""


async def driven(books: Books, recipe: Recipe, max_cost: float | None = None) -> MixturaError | None:
    async with simulated_cloud(SimOptions(as_of=ERA, unlimited=True, tokens=50)) as cloud:
        models = ModelRegistry(env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url})
        options = RunOptions(budget=books, run="r", max_cost=max_cost)
        try:
            await drive(recipe, (Message(role="user", content="Why?"),), models, lambda event: None, options)
        except MixturaError as error:
            return error
    return None


def test_a_run_that_is_refused_leaves_nothing_booked_even_if_room_came_meanwhile() -> None:
    books = Books([0.0])
    assert isinstance(run_virtual(driven(books, with_policy(when_limited=()))), BudgetError)
    assert books.booked == {"r": 0.0}


def test_second_tries_and_repeated_attempts_are_reserved_where_there_is_money_for_them() -> None:
    reserved: list[float] = []

    class Watched(Books):
        async def reserve(self, run: str, dollars: float) -> None:
            reserved.append(dollars)

    strict = with_policy(when_limited=())
    assert run_virtual(driven(Watched([10.0]), strict)) is None
    whole = reserved.pop() / 2
    assert run_virtual(driven(Watched([whole * 1.9]), strict)) is None
    assert run_virtual(driven(Watched([10.0]), strict, max_cost=whole * 1.5)) is None
    assert reserved == pytest.approx([whole, whole * 1.5])


def test_a_reservation_that_another_run_was_faster_for_is_made_without_second_tries() -> None:
    class Contended(Books):
        async def reserve(self, run: str, dollars: float) -> None:
            if not self.booked:
                self.booked["other"] = dollars
                raise DailyBudgetError(dollars, 10.0, 0.0, dollars, 60.0)
            await super().reserve(run, dollars)

    books = Contended([10.0])
    assert run_virtual(driven(books, with_policy())) is None
    assert books.booked["r"] < books.booked["other"] / 2


@pytest.mark.parametrize("odd", ["-1", "much", "nan", "inf"])
def test_a_budget_that_is_no_amount_is_refused(odd: str) -> None:
    with pytest.raises(ConfigError, match="expected dollars"):
        Mixture("classic", env={"GROQ_API_KEY": KEY, "MIXTURA_DAILY_BUDGET": odd})


def test_a_second_try_is_made_only_where_there_is_money_for_it() -> None:
    async def main(most: float) -> Answer:
        options = SimOptions(as_of=ERA, unlimited=True, tokens=200, faults=f"silent@1:{GEMMA}")
        async with simulated_cloud(options) as cloud:
            return await Mixture("classic", env={"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}).ask(
                "Why?", max_cost=most
            )

    whole = Mixture("classic", env={"GROQ_API_KEY": KEY}).forecast("Why?").cost
    assert whole is not None
    assert "hedged" not in kinds(run_virtual(main(whole)))


def test_a_mixture_expected_to_be_too_slow_is_answered_by_one_model_and_says_so() -> None:
    slow = with_policy(latency_target=0.9)
    answer = only(ask(slow, plan=None))
    assert kinds(answer)[0] == "routed"
    assert "more than its target of 0.9 s" in answer.warnings[0]
    assert answer.n_calls == 1
    fast = only(ask(with_policy(latency_target=60.0), plan=None))
    assert fast.n_calls == 4


def test_what_was_measured_decides_over_what_is_published() -> None:
    async def main() -> list[list[str]]:
        options = SimOptions(as_of=ERA, unlimited=True, tokens=50, profile="fixed:3")
        async with simulated_cloud(options) as cloud:
            env = {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": cloud.url}
            mixture = Mixture(with_policy(latency_target=4.0), env=env)
            return [kinds(await mixture.ask(f"Question {number}?")) for number in range(12)]

    said = run_virtual(main())
    assert "routed" not in said[0]
    assert "routed" in said[-1]
