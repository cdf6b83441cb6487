"""May the whole run begin? Limits, money and time are asked before anything is sent, and what does not fit is reduced.

recipe --latency_target--> one model, where the mixture would take too long
   |
   +--> fits its windows now, and its budget? ---------------- yes --> admitted
   |      no: policy.when_limited, step by step
   +--> wait     until the windows have drained, as long as the deadline leaves time to answer
   +--> shrink   smaller output limits              (each step also tries what the steps before it made)
   +--> swap     proposers of the crowded model moved to one with room
   +--> fewer    proposers, down to policy.min_drafts
   +--> single   one model answers alone
   +--> refused  with the window that binds and the time at which the run would fit
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from mixtura.chat import Message
from mixtura.errors import BudgetError, LimitError
from mixtura.limits.account import FITS, Quote
from mixtura.limits.failsafe import FailSafe
from mixtura.limits.limiter import Limiter
from mixtura.limits.queue import Need
from mixtura.limits.window import DIMENSIONS
from mixtura.models.served import Models
from mixtura.planning import demand, estimates, reductions
from mixtura.planning.deadline import deadline_seconds
from mixtura.planning.forecast import Forecast, forecast
from mixtura.planning.options import RunOptions
from mixtura.planning.schedule import count_calls, schedule
from mixtura.recipe import Recipe, Step

# Of the time until the deadline, what is kept for the calls themselves on top of what they are expected to take.
_RESERVE = 1.25


class RunPlan(NamedTuple):
    """What will be run: `recipe`, reduced by `steps` (in words, `why` is their reason).

    `needs` are held first, after about `wait` seconds for the window `binding`; `owed` is what is asked besides, tokens
    by account. `routed` is why one model answers. `may_hedge`: there is money for second tries. `most` is what the plan
    costs at most in dollars, where anybody asked.
    """

    recipe: Recipe
    steps: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    owed: Mapping[str, int] = MappingProxyType({})
    wait: float = 0.0
    binding: str = ""
    routed: str = ""
    why: str = ""
    may_hedge: bool = True
    most: float | None = None


class AdmissionRequest(NamedTuple):
    """What is to be planned, and what it may cost (None: anything). `patient`: it may wait for room."""

    recipe: Recipe
    conversation: Sequence[Message]
    models: Models
    options: RunOptions
    limiter: Limiter | None
    now: float
    most: float | None = None
    patient: bool = True


def choose(asked: AdmissionRequest) -> RunPlan:
    """Return what of the recipe can be run within its limits, budget and time.

    Raises:
        BudgetError: not even the smallest run that the policy allows is cheap enough.
        LimitError: not even that fits the rate limits in time.
    """
    recipe, routed = _routed(asked)
    if asked.limiter is None and asked.most is None:
        return RunPlan(recipe, routed=routed)
    return _Reducer(asked._replace(recipe=recipe), routed).reduce()


def plan_for_money(recipe: Recipe, conversation: Sequence[Message], models: Models, options: RunOptions) -> RunPlan:
    """Return what of the recipe can be run for `options.max_cost`, rate limits and expected times left aside.

    Raises:
        BudgetError: not even the smallest run that the policy allows is cheap enough.
    """
    # How long the mixture would take is known only where its models have been asked.
    policy = msgspec.structs.replace(recipe.policy, latency_target=None)
    recipe = msgspec.structs.replace(recipe, policy=policy)
    return choose(AdmissionRequest(recipe, conversation, models, options, None, 0.0, options.max_cost))


def _routed(asked: AdmissionRequest) -> tuple[Recipe, str]:
    """Return one model in the mixture's place where that would take longer than its policy's target, and why."""
    recipe, target = asked.recipe, asked.recipe.policy.latency_target
    if target is None or count_calls(recipe) < 2:
        return recipe, ""
    expected = _seconds(asked, recipe)
    if expected <= target:
        return recipe, ""
    alone = [variant for variant, _ in reductions.single(recipe)]
    seconds = {id(one): _seconds(asked, one) for one in alone}
    in_time = [one for one in alone if seconds[id(one)] <= target]
    chosen = in_time[0] if in_time else min(alone, key=lambda one: seconds[id(one)])
    model = chosen.layers[0].proposers[0].model
    words = estimates.describe_seconds(asked.models, schedule(recipe, asked.options.chat))
    why = f"the mixture is expected to take {words}, more than its target of {target:g} s; {model} answers alone"
    return chosen, why


def _seconds(asked: AdmissionRequest, recipe: Recipe) -> float:
    """Return the seconds that a run of `recipe` is expected to take."""
    return sum(estimates.stage_seconds(asked.models, schedule(recipe, asked.options.chat)))


class _Reducer:
    """The steps of `policy.when_limited`, tried in their order."""

    def __init__(self, asked: AdmissionRequest, routed: str) -> None:
        self._asked = asked
        self._routed = routed
        self._patience = 0.0
        self._bases: list[tuple[Recipe, tuple[str, ...]]] = [(asked.recipe, ())]
        self._soonest = Quote(math.inf)
        self._cheapest: Forecast | None = None
        self._tight = ""

    def reduce(self) -> RunPlan:
        """Return the first plan that fits."""
        asked = self._asked
        plan = self._try(asked.recipe, ())
        whole = self._soonest
        crowded = self._model_of(whole)
        for step in asked.recipe.policy.when_limited if plan is None else ():
            plan = self._step(step, crowded)
            if plan is not None:
                break
        if plan is not None:
            return plan._replace(routed=self._routed, why=self._tight if plan.steps else "")
        if self._soonest.wait < math.inf or self._cheapest is None:
            # A whole run that is too dear was never held against its limits.
            raise self._no_room(whole if whole.account else self._soonest)
        raise BudgetError(
            None if self._cheapest.unpriced else self._cheapest.cost,
            asked.most or 0.0,
            f"unknown for {', '.join(self._cheapest.unpriced)}",
        )

    def _step(self, step: Step, crowded: str) -> RunPlan | None:
        if step == "wait":
            if not self._asked.patient:
                return None
            longest = self._asked.recipe.policy.max_wait
            self._patience = math.inf if longest is None else longest
            return self._try(self._asked.recipe, ())
        models = self._asked.models
        ways: dict[Step, Callable[[Recipe], Iterator[tuple[Recipe, str]]]] = {
            "shrink": lambda recipe: reductions.shrunk(recipe, models),
            "swap": lambda recipe: reductions.swapped(recipe, models, crowded),
            "fewer": lambda recipe: reductions.fewer(recipe, crowded),
            "single": reductions.single,
        }
        made: list[tuple[Recipe, tuple[str, ...]]] = []
        for base, steps in list(self._bases):
            for variant, words in ways[step](base):
                # One model alone makes no difference between the proposers it would have had.
                done = (words,) if step == "single" else (*steps, words)
                plan = self._try(variant, done)
                if plan is not None:
                    return plan
                made.append((variant, done))
        self._bases += made
        return None

    def _try(self, recipe: Recipe, steps: tuple[str, ...]) -> RunPlan | None:
        """Return the plan of `recipe` if it fits budget, limits and time."""
        asked = self._asked
        if asked.most is not None:
            cost = forecast(recipe, asked.conversation, asked.models, asked.options.chat)
            if self._cheapest is None or (cost.cost or math.inf) < (self._cheapest.cost or math.inf):
                self._cheapest = cost
            if cost.unpriced or cost.cost is None or cost.cost > asked.most:
                self._tight = self._tight or f"the whole run could cost more than ${asked.most:.6f}"
                return None
        if asked.limiter is None:
            return RunPlan(recipe, steps)
        quote, needs, owed = self._quote(recipe, asked.limiter)
        if quote.wait < self._soonest.wait or not self._soonest.account:
            self._soonest = quote
        if quote.wait > 0:
            self._tight = self._tight or f"{self._model_of(quote)} has no room in {_window(quote)}"
            if not self._may_wait(recipe, quote.wait):
                return None
        return RunPlan(recipe, steps, needs, owed, quote.wait, f"{_window(quote)} of {self._model_of(quote)}")

    def _quote(self, recipe: Recipe, limiter: Limiter) -> tuple[Quote, tuple[Need, ...], Mapping[str, int]]:
        asked = self._asked
        found = demand.demands(recipe, asked.conversation, asked.models, asked.options.chat)
        if not found:
            return FITS, (), {}
        refused = demand.never(found)
        if refused is not None:
            return refused, (), {}
        held = demand.needs(found)
        with FailSafe(limiter):
            start = limiter.quote(held, asked.options.priority)
            drained = demand.drained_in(found, asked.now, limiter, asked.options.priority)
            return max(start, drained, key=lambda quote: quote.wait), tuple(held), demand.owed(found, held)
        # A limiter that fails keeps no run from beginning.
        return FITS, (), {}

    def _may_wait(self, recipe: Recipe, wait: float) -> bool:
        """Say whether the deadline leaves the time to wait and then to answer."""
        asked = self._asked
        deadline = deadline_seconds(recipe, asked.models, asked.options.deadline, asked.options.chat)
        needed = _seconds(asked, recipe) * _RESERVE
        return wait <= self._patience and wait + needed <= deadline

    def _model_of(self, quote: Quote) -> str:
        for call in schedule(self._asked.recipe).calls:
            if quote.account.endswith(f"/{call.slot.model}"):
                return call.slot.model
        return quote.account.split("/", 2)[-1]

    def _no_room(self, whole: Quote) -> LimitError:
        quote, model = whole, self._model_of(whole)
        if quote.wait == math.inf:
            over = quote.requested - quote.limit
            return LimitError(
                f"the run can never fit: a call of {model} asks for {quote.requested:,.0f} and the limit is "
                f"{_window(quote)}, {over:,.0f} less; nothing was sent: lower max_tokens or shorten the question",
                retry_after=None,
                window=_window(quote),
            )
        return LimitError(
            f"no room in {_window(quote)} of {model} within the deadline; nothing was sent: the run fits in about "
            f"{quote.wait:.0f} s, or with a longer deadline",
            retry_after=quote.wait,
            window=_window(quote),
        )


def _window(quote: Quote) -> str:
    for name, (words, _) in DIMENSIONS.items():
        if name == quote.dimension:
            return f"{quote.limit:,.0f} {words}"
    return "its rate limits"
