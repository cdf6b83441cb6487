"""How a run begins and how its accounts are closed: keys and limits checked, money reserved, room held."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from mixtura.chat import Message
from mixtura.decisions import NoticedDetail, ReducedDetail, RoutedDetail, WaitedDetail
from mixtura.engine.context import CostMeter, Run
from mixtura.errors import BudgetError, ConfigError, DailyBudgetError, DeadlineError, LimitError, MixturaError
from mixtura.limits.budget.base import DailyBudget
from mixtura.limits.failsafe import FailSafe
from mixtura.limits.limiter import Hold, Limiter, NoRoomError
from mixtura.models.served import Models
from mixtura.planning import admission, estimates
from mixtura.planning.admission import AdmissionRequest, RunPlan
from mixtura.planning.deadline import deadline_seconds
from mixtura.planning.forecast import forecast
from mixtura.planning.options import RunOptions
from mixtura.planning.schedule import schedule
from mixtura.recipe import Recipe
from mixtura.secret import scrub

# Seconds that a finished answer waits for the daily budget to settle, at most; the deadline may leave less, but never
# so little that books which are merely busy are not told. Our own budgets settle as soon as they can afterwards.
_SETTLE_SECONDS, _LEAST_SETTLE_SECONDS = 5.0, 0.4


class Limiters(NamedTuple):
    """Who counts the calls of a run: `keeper` (None: no call is counted), and whether it knows limits to plan with.

    `notes` are what is to be said of how its models are reached.
    """

    keeper: Limiter | None
    planning: Limiter | None
    notes: tuple[str, ...] = ()


def find_limiters(recipe: Recipe, models: Models) -> Limiters:
    """Return the limiter that counts the calls of `recipe`, and the same one if it knows limits of any of its models.

    Raises:
        ConfigError: a provider is unknown, or its key is missing: better said before anything is sent.
    """
    limiter: Limiter | None = None
    keeper: Limiter | None = None
    notes: tuple[str, ...] = ()
    for call in schedule(recipe).calls:
        for link in call.slot.links:
            served = models.find(link.provider, link.model)
            accounting = served.accounting
            if served.notes:
                notes += served.notes
            if accounting is None or limiter is not None:
                continue
            keeper = accounting.limiter() if keeper is None else keeper
            if accounting.known or keeper.keeps:
                account = accounting.account(keeper)
                if account.known and not account.unlimited:
                    limiter = keeper
    return Limiters(keeper, limiter, notes)


async def plan_run(
    recipe: Recipe, conversation: Sequence[Message], models: Models, options: RunOptions, limiter: Limiter | None
) -> tuple[RunPlan, AdmissionRequest | None]:
    """Return what of `recipe` can be run, its worst cost reserved from the day's budget; and what was asked for.

    Raises:
        BudgetError, LimitError: not even the smallest run that the policy allows fits; nothing was sent.
        DeadlineError: the day's budget did not answer.
        ConfigError: the day's budget cannot be kept.
    """
    budget = options.budget
    if limiter is None and options.max_cost is None and budget is None and not recipe.policy.latency_target:
        return RunPlan(recipe, options.chat), None
    request = AdmissionRequest(recipe, conversation, models, options, limiter, asyncio.get_running_loop().time())
    seconds = deadline_seconds(recipe, models, options.deadline, options.chat)
    if budget is None:
        return _priced(admission.choose(request._replace(most=options.max_cost)), request, options.max_cost), request
    try:
        async with asyncio.timeout(seconds) as limit:
            return await _reserve(budget, request), request
    except MixturaError:
        raise
    except Exception as error:
        # A budget that was handed in is somebody's code; one that cannot be kept refuses.
        name = type(budget).__name__
        if limit.expired():
            raise DeadlineError(
                f"the daily budget ({name}) did not answer within the deadline of {seconds:g} s; nothing was sent"
            ) from None
        raise ConfigError(
            f"the daily budget ({name}) raised {type(error).__name__}: {error}; nothing was sent"
        ) from error


async def _reserve(budget: DailyBudget, request: AdmissionRequest) -> RunPlan:
    """Return the plan of the largest run that what is left of the day allows, its worst cost reserved."""
    options = request.options
    today = await budget.today()
    left = max(0.0, today.allowed - today.spent - today.reserved)
    most = left if options.max_cost is None else min(left, options.max_cost)
    try:
        plan = _priced(admission.choose(request._replace(most=most)), request, most)
    except BudgetError as error:
        if error.worst is not None and most != options.max_cost:
            # The budget's own error says it better: how much is left, and when there is more.
            await budget.reserve(options.run, error.worst)
            # Room came meanwhile; the run was refused all the same, and must leave nothing reserved.
            await budget.settle(options.run, 0.0)
        raise
    cost = plan.most or 0.0
    # As much again, where there is as much: for second tries, and for attempts that fail and are billed.
    wanted = 2 * cost if options.max_cost is None else min(2 * cost, options.max_cost)
    for dollars in dict.fromkeys((wanted, cost)) if wanted <= left else (cost,):
        try:
            await budget.reserve(options.run, dollars)
        except DailyBudgetError:
            if dollars == cost:
                raise
        else:
            return plan._replace(allowed=dollars)
    raise AssertionError("the last amount is reserved, or refused")


def _priced(plan: RunPlan, request: AdmissionRequest, most: float | None) -> RunPlan:
    """Return `plan` with what it costs at worst, and what it may cost."""
    if most is None:
        return plan
    cost = forecast(plan.recipe, request.conversation, request.models, plan.chat).cost or 0.0
    return plan._replace(most=cost, allowed=most)


def emit_deadline(run: Run) -> None:
    """Emit how long the run may take where its calls wait for each other and nobody has said how long.

    Once the first model has answered in this process, who asks knows how long its machine takes.
    """
    queued = run.queued
    if queued < 2:
        return
    first = run.recipe.layers[0].proposers[0]
    account = run.account(first.provider, first.model)
    if account is None or not len(account.latency.total):
        minutes = (run.deadline - run.start) / 60
        said = f"{queued} calls may have to wait for each other there: {minutes:.0f} minutes at most (--deadline)"
        run.decide(NoticedDetail(), said)


def emit_notes(run: Run, notes: Sequence[str]) -> None:
    """Emit what is to be said of how the models are reached, each once."""
    for note in dict.fromkeys(notes):
        run.decide(NoticedDetail(), note)


def emit_plan(run: Run, plan: RunPlan) -> None:
    """Emit what the plan changes of the recipe."""
    if plan.routed:
        run.decide(RoutedDetail(model=plan.recipe.layers[0].proposers[0].model), plan.routed, warning=True)
    if plan.steps:
        detail = ReducedDetail(steps=list(plan.steps), recipe=plan.recipe)
        run.decide(detail, f"{plan.why}: {', '.join(plan.steps)}", warning=True)
    if plan.wait > 0:
        reason = f"no room yet in {plan.binding}; the run waits about {plan.wait:.1f} s for it"
        run.decide(WaitedDetail(seconds=round(plan.wait, 3), window=plan.binding), reason)


async def hold_room(run: Run, plan: RunPlan, limiter: Limiter, request: AdmissionRequest) -> None:
    """Wait for the room that the run needs before it spends anything; if it does not come, run what has room now.

    Raises:
        LimitError: no run that the policy allows has room.
    """
    if not (plan.needs or plan.owed):
        return
    try:
        run.hold = await _held(run, plan, limiter)
    except LimitError:
        if "wait" not in run.recipe.policy.when_limited or run.loop.time() >= run.deadline:
            raise
        # The estimate was too good. What the policy allows besides waiting may still be run, for what is reserved.
        most = request.options.max_cost if request.options.budget is None else plan.most
        smaller = admission.choose(request._replace(now=run.loop.time(), patient=False, most=most))
        run.recipe = smaller.recipe
        run.limit_options(smaller.chat)
        emit_plan(run, smaller)
        if smaller.needs or smaller.owed:
            run.hold = await _held(run, smaller, limiter)


async def _held(run: Run, plan: RunPlan, limiter: Limiter) -> Hold | None:
    """Return the hold on what `plan` needs; None where the limiter fails: the run then begins without one."""
    expected = estimates.stage_seconds(run.models, schedule(run.recipe, run.options.chat))
    latest = max(run.start, run.deadline - sum(expected))
    if run.recipe.policy.max_wait is not None:
        latest = min(latest, run.start + run.recipe.policy.max_wait)
    try:
        with FailSafe(limiter):
            async with asyncio.timeout_at(run.deadline):
                return await limiter.admit(
                    plan.needs,
                    priority=run.options.priority,
                    until=latest,
                    lifetime=run.deadline - run.start + 1.0,
                    owed=plan.owed,
                )
    except NoRoomError as error:
        quote = error.quote
        raise LimitError(
            f"no room in {plan.binding} before {latest - run.start:.0f} s of the run had passed; nothing was sent: "
            f"try again in about {quote.wait:.0f} s, or with a longer deadline",
            retry_after=quote.wait,
            window=plan.binding,
        ) from None
    return None


async def close_accounts(run: Run, meter: CostMeter | None, keeper: Limiter | None) -> None:
    """Give back the room that was not used and settle the day's budget; whatever fails here costs no answer."""
    if run.hold is not None:
        await run.hold.close()
    budget = run.options.budget
    if meter is not None and budget is not None:
        seconds = min(_SETTLE_SECONDS, max(_LEAST_SETTLE_SECONDS, run.deadline - run.loop.time()))
        try:
            async with asyncio.timeout(seconds) as closing:
                await budget.settle(run.options.run, meter.dollars)
        except Exception as error:  # noqa: BLE001  # a budget may be a caller's own; it is emitted below
            said = error.message if isinstance(error, MixturaError) else scrub(f"{type(error).__name__}: {error}")
            if closing.expired():
                said = f"no reply within {seconds:.2g} s"
            reason = f"the daily budget could not be told that the run cost ${meter.dollars:.6f} ({said})"
            run.decide(NoticedDetail(), reason, warning=True)
    if keeper is not None:
        with FailSafe(keeper, passes=()):
            if keeper.degraded:
                run.decide(NoticedDetail(), keeper.problem, warning=True)
