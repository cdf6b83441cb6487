"""A run whose promised room does not come: it runs what has room now, for no more money, or says why not."""

import datetime as dt
from collections.abc import Mapping, Sequence

import msgspec
import pytest

from asking import GEMMA, LLAMA, SEVENTY
from mixtura import Answer, LimitError, Mixture, Policy, Recipe
from mixtura.decisions import ReducedDetail
from mixtura.limits.account import Quote
from mixtura.limits.limiter import Hold, Limiter, NoRoomError
from mixtura.limits.queue import Need, Priority
from mixtura.planning.schedule import count_calls
from mixtura.sim import SimOptions, simulated_cloud
from mixtura.virtual import run_virtual


class Overtaken(Limiter):
    """A limiter whose room for whole runs is taken by somebody else at the last moment, so many times.

    Somebody who `stays` has filled the window of the large model; one who does not has left again.
    """

    def __init__(self, times: int, *, stays: bool = True) -> None:
        super().__init__()
        self.times = times
        self.stays = stays
        self.asked: list[tuple[list[str], float, float]] = []

    async def admit(
        self,
        needs: Sequence[Need],
        *,
        priority: Priority = Priority.INTERACTIVE,
        until: float = 0.0,
        lifetime: float = 600.0,
        owed: Mapping[str, int] | None = None,
    ) -> Hold:
        self.asked.append(([need.account for need in needs], until, lifetime))
        if len(self.asked) <= self.times:
            for account in self.accounts.values():
                if self.stays and SEVENTY in account.key:
                    account.take(11_900, 0.0)
            raise NoRoomError(Quote(31.0, needs[0].account, "tpm", 12_000.0, 1_000.0))
        return await super().admit(needs, priority=priority, until=until, lifetime=lifetime, owed=owed)


def ask(limiter: Limiter, max_cost: float | None = None) -> Answer:
    told = msgspec.structs.replace(
        Recipe.named("classic"), policy=Policy(deadline=20.0, when_limited=("wait", "fewer", "single"))
    )

    async def main() -> Answer:
        options = SimOptions(as_of=dt.date(2025, 9, 1), plan="free", tokens=50, profile="fixed:1")
        async with simulated_cloud(options) as cloud:
            env = {"GROQ_API_KEY": "gsk_x", "GROQ_BASE_URL": cloud.url}
            return await Mixture(told, env=env, plan="free", limiter=limiter).ask("Why?", max_cost=max_cost)

    return run_virtual(main())


def test_what_has_room_now_is_run_in_place_of_the_whole_and_that_is_said() -> None:
    limiter = Overtaken(1)
    answer = ask(limiter)
    assert answer.n_calls == 1
    assert {draft.model for draft in answer.drafts} <= {LLAMA, GEMMA}
    assert "answers alone" in answer.warnings[0]
    assert len(limiter.asked) == 2
    (whole, *_), (alone, *_) = limiter.asked
    assert len(set(whole)) > len(set(alone)) == 1


def test_what_is_run_in_its_place_costs_no_more_than_the_run_may() -> None:
    whole = Mixture("classic", env={"GROQ_API_KEY": "gsk_x"}).forecast("Why?").cost
    assert whole is not None
    answer = ask(Overtaken(1), max_cost=whole * 1.1)
    assert answer.n_calls == 1
    assert answer.cost is not None
    assert answer.cost <= whole


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("share", [0.9, 0.6, 0.3, 0.1])
def test_what_is_run_in_its_place_fits_what_the_run_may_cost_at_worst(share: float, stays: bool) -> None:
    mixture = Mixture("classic", env={"GROQ_API_KEY": "gsk_x"})
    whole = mixture.forecast("Why?").cost
    assert whole is not None
    answer = ask(Overtaken(1, stays=stays), max_cost=whole * share)
    (*_, last) = [said.detail for said in answer.decisions if isinstance(said.detail, ReducedDetail)]
    assert last.recipe is not None
    worst = Mixture(last.recipe, env={"GROQ_API_KEY": "gsk_x"}).forecast("Why?").cost
    assert worst is not None
    assert worst <= whole * share
    assert answer.n_calls <= count_calls(last.recipe)


def test_room_is_waited_for_only_while_the_run_can_still_be_done_by_its_deadline() -> None:
    limiter = Overtaken(0)
    answer = ask(limiter)
    assert answer.n_calls == 4
    ((_, until, lifetime),) = limiter.asked
    # Two stages of calls are expected to take some seconds of the twenty, and the hold outlives the deadline by one.
    assert 5.0 < until < 20.0
    assert lifetime == pytest.approx(21.0)


def test_a_run_for_which_no_room_comes_at_all_says_when_to_try_again() -> None:
    with pytest.raises(
        LimitError, match=r"before \d+ s of the run had passed; nothing was sent: try again in about 31 s"
    ):
        ask(Overtaken(2))


class Breaks(Limiter):
    """A limiter that cannot say any more, once calls were sent, whether it keeps limits as it should."""

    @property
    def degraded(self) -> bool:
        if any(account.latency.total.at(0.5) for account in self.accounts.values()):
            raise RuntimeError("broken")
        return False


def test_a_limiter_that_breaks_at_the_end_of_a_run_costs_no_answer() -> None:
    limiter = Breaks()
    assert ask(limiter).n_calls == 4
    assert limiter.problem.startswith("the limiter raised RuntimeError: broken")
