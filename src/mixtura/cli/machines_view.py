"""The output of `mixtura plan` on machines: the recommendation, the options, time per stage, the frontier."""

import math
from collections.abc import Iterable
from pathlib import Path

from mixtura.cli.common import fitting
from mixtura.errors import ConfigError
from mixtura.hardware.chip import chip
from mixtura.room.draw.charts import Chart, Series, svg
from mixtura.room.plan.advice import DeploymentAdvice
from mixtura.room.plan.machines import ModelServer, read_spec, text_of
from mixtura.room.plan.option import DeploymentOption, DeploymentRequest, PlanningContext, place_models
from mixtura.room.plan.sweep import frontier
from mixtura.room.plan.work import Name, work_of

_WIDTHS = (1, 2, 4, 8)  # chips of a copy on the frontier, in multiples of the option's


def text(advice: DeploymentAdvice, limits: str) -> str:
    """Return the whole output: recommendation, limits, options, machines, stages, alternatives, assumptions."""
    shown = advice.options[advice.best] if advice.best is not None else _first(advice)
    blocks = [
        "\n".join([recommend(advice), limits]),
        _options(advice),
        f"{shown.on}, machine by machine:\n{_placements(shown)}",
        _time(shown),
        f"On {shown.on}, other ways to answer:\n{_others(advice, shown)}",
        _assumptions(advice, shown),
    ]
    return "\n\n".join(blocks)


def recommend(advice: DeploymentAdvice) -> str:
    """Return the recommendation as a sentence."""
    rate = _rate(advice.rate)
    within = f" within {text_of(advice.within)} (95 %)" if advice.within is not None else ""
    refused = [option for option in advice.options if not option.problem and not option.allows(advice.rate)]
    if advice.best is None or advice.fastest is None:
        option = refused[0]
        return (
            f"{advice.recipe} at {rate}: no option allows this rate; {option.on} would take {_range(option)}, but its "
            f"limits allow only {_flow(option)} ({option.binds})."
        )
    best, fastest = advice.options[advice.best], advice.options[advice.fastest]
    how = "is the cheapest way" if len(advice.options) > 1 else "takes"
    sentence = f"{advice.recipe} at {rate}{within}: {_whole(best)} {how}"
    sentence += f", p95 {_range(best)}" if len(advice.options) > 1 else f" {_range(best)} (p95)"
    sentence += f", {_dollars(best)} for 1,000 mixtures" if best.dollars else ", at an unknown cost"
    if fastest is not best:
        sentence += f"; the fastest is {fastest.on}, p95 {text_of(fastest.seconds[1])} for {_dollars(fastest)}"
    for option in refused:
        cost = f" for {_dollars(option)}" if option.dollars else ""
        sentence += (
            f"; {option.on} would take {text_of(option.seconds[1])}{cost}, but its limits allow only {_flow(option)}"
        )
    return sentence + "."


def draw(path: Path, request: DeploymentRequest, advice: DeploymentAdvice, context: PlanningContext) -> None:
    """Write the frontier as SVG: a line for each chip kept busy, a dot for each option at the requested rate.

    Raises:
        ConfigError: the file cannot be written.
    """
    options = [option for option in advice.options if option.seconds and option.dollars]
    series = [made for option in options if (made := _line(option, request, context)) is not None]
    series += [
        Series(
            f"{option.on}, at {_rate(advice.rate)}",
            [option.seconds[0]],
            [option.price],
            [option.dollars[0]] if option.dollars else None,
            [option.dollars[1]] if option.dollars else None,
            "dots",
        )
        for option in options
    ]
    if not series:
        raise ConfigError("there is nothing to draw: no option has a known price")
    chart = Chart(
        title=f"{advice.recipe}: latency against cost",
        x="seconds of a mixture (median)",
        y="dollars for 1,000 mixtures",
        series=tuple(series),
        log_x=True,
        log_y=True,
        note="Lines: machines always kept at a batch of 1 to 1,024, mean lengths, no queue. Dots: Poisson arrivals of "
        f"{_rate(advice.rate)}, idle time included in the cost. Predicted; whiskers are the range of prices.",
    )
    try:
        path.write_text(svg(chart), "utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def _line(option: DeploymentOption, request: DeploymentRequest, context: PlanningContext) -> Series | None:
    if any(post.chips is None for post in option.posts):
        return None  # a provider's batch is not known
    work = work_of(request.recipe, context.models, request.assumed)
    left = {model for model in work.models if model[1] in option.left_out}
    work = work.without(left) if left else work
    fleets = []
    for times in _WIDTHS:
        chips = {(post.provider, post.model): post.chips * times for post in option.posts if post.chips is not None}
        fleets.append(_fleet(work.models, option, chips, (request, context)))
    points = frontier(work, [fleet for fleet in fleets if fleet])
    if not points:
        return None
    return Series(
        f"{option.on}, kept busy",
        [point.seconds for point in points],
        [(point.low * point.high) ** 0.5 for point in points],
        [point.low for point in points],
        [point.high for point in points],
    )


def _fleet(
    models: Iterable[Name],
    option: DeploymentOption,
    chips: dict[Name, int],
    known: tuple[DeploymentRequest, PlanningContext],
) -> dict[Name, ModelServer]:
    """Return an option's machines with other chip counts; empty if these exceed a node or a model does not fit."""
    request, context = known
    work = work_of(request.recipe, context.models, request.assumed)
    on = read_spec(option.on)._replace(chips=None)
    if chip(on.on).kind not in ("lpu", "wafer") and any(many > chip(on.on).node for many in chips.values()):
        return {}
    try:
        found = place_models(work, on, request, context, chips)
    except ConfigError:
        return {}
    return {model: found.machines[model] for model in models}


def _options(advice: DeploymentAdvice) -> str:
    heading = ["on", "chips", "p50", "p95", "range", "p99", "$/1,000", "Wh each", "note"]
    rows = [heading]
    for place, option in enumerate(advice.options):
        if option.problem:
            rows.append([option.on, *[""] * 7, "cannot: see below"])
            continue
        rows.append(
            [
                option.on,
                f"{option.chips:,}" if option.chips is not None else "",
                *(text_of(value) for value in option.seconds[:2]),
                f"{text_of(option.p95[0])} to {text_of(option.p95[1])}",
                text_of(option.seconds[2]),
                _dollars(option) if option.dollars else "?",
                _between(*option.watt_hours) if option.watt_hours else "?",
                _note(advice, place),
            ]
        )
    right = ("chips", "p50", "p95", "p99")
    shown = fitting(rows, ("Wh each", "p99", "note", "range", "chips", "p50"), right=right)
    why = [f"{option.on}: {option.problem}." for option in advice.options if option.problem]
    return "\n".join([shown, *why])


def _note(advice: DeploymentAdvice, place: int) -> str:
    option = advice.options[place]
    words = []
    if place == advice.best:
        words.append("advised")
    if option.limit is not None:
        words.append(f"limits allow {_flow(option)}")
    if option.left_out:
        words.append(f"without {_names(option)}")
    if option.cut >= 0.01:
        words.append(f"a draft comes too late in {option.cut:.0%}")
    return "; ".join(words)


def _placements(option: DeploymentOption) -> str:
    rows = [["model", "machine", "copies", "busy", "in flight", "waited for", "times are"]]
    rows += [
        [
            post.model,
            post.machine,
            str(post.copies) if post.chips is not None else "",
            f"{post.busy:.0%}" if post.busy is not None else "",
            f"{post.in_flight:.1f}",
            f"{post.waits:.0%}",
            post.basis,
        ]
        for post in option.posts
    ]
    return fitting(
        rows, ("times are", "in flight", "busy", "machine"), right=("copies", "busy", "in flight", "waited for")
    )


def _time(option: DeploymentOption) -> str:
    stages = []
    for stage in option.stages:
        last = max(stage.last, key=lambda name: stage.last[name])
        who = f", {last} last in {stage.last[last]:.0%} of them" if len(stage.last) > 1 else ""
        stages.append(f"{stage.name} {text_of(stage.seconds)}{who}")
    tokens = f"{option.prompts:,.0f} prompt and {option.outputs:,.0f} output tokens a mixture"
    return f"Of a mixture's time (means): {'; '.join(stages)}. {tokens}."


def _others(advice: DeploymentAdvice, shown: DeploymentOption) -> str:
    rows = [["recipe", "tokens", "p50", "p95", "$/1,000", "chips"]]
    for option in (shown, *advice.against):
        if option.problem:
            rows.append([option.recipe, "", "", "", "", "cannot"])
            continue
        rows.append(
            [
                option.recipe,
                f"{option.prompts + option.outputs:,.0f}",
                *(text_of(value) for value in option.seconds[:2]),
                _dollars(option) if option.dollars else "?",
                f"{option.chips:,}" if option.chips is not None else "",
            ]
        )
    return fitting(rows, ("chips", "tokens", "p50"), right=("tokens", "p50", "p95", "chips"))


def _assumptions(advice: DeploymentAdvice, shown: DeploymentOption) -> str:
    sizes = advice.assumed
    words = (
        f"Assumed, not measured: questions of {sizes.question:,} tokens, replies of {sizes.output:,} on average, "
        f"mixtures that come at random, prices of machines with 50 to 90 % of their time used"
    )
    if any(stage.name == "escalation" for option in (shown, *advice.against) for stage in option.stages):
        words += f", drafts that differ in {sizes.differ:.0%} (--differ)"
    if shown.drift > 0.01 * shown.seconds[1]:
        words += f". Calls of one model in several stages are approximate: p95 is settled to {text_of(shown.drift)}"
    words += f". Percentiles are of {shown.mixtures:,} simulated mixtures"
    return words + ". Second tries, retries and a cached prompt are left out."


def _first(advice: DeploymentAdvice) -> DeploymentOption:
    return next(option for option in advice.options if not option.problem)


def _whole(option: DeploymentOption) -> str:
    """Return an option's machines as text."""
    sentence = [f"{option.chips:,} in all"] if option.chips is not None and option.chips > 1 else []
    if option.left_out:
        sentence.append(f"without {_names(option)}")
    return f"{option.on} ({', '.join(sentence)})" if sentence else option.on


def _range(option: DeploymentOption) -> str:
    low, high = option.p95
    return f"{text_of(option.seconds[1])} ({text_of(low)} to {text_of(high)})"


def _dollars(option: DeploymentOption) -> str:
    return f"${_between(*option.dollars)}" if option.dollars else "?"


def _between(low: float, high: float) -> str:
    low_text, high_text = _money(low), _money(high)
    return low_text if low_text == high_text else f"{low_text} to {high_text}"


def _money(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.2f}" if amount >= 1 else f"{amount:.2g}"


def _names(option: DeploymentOption) -> str:
    return ", ".join(name.rpartition("/")[2] for name in option.left_out)


def _flow(option: DeploymentOption) -> str:
    """Return the sustained rate that an option's limits allow, rounded down."""
    limit = option.limit or 0.0
    if limit >= 1:
        return f"{math.floor(limit * 10) / 10:,g} a minute"
    return f"{math.floor(limit * 1440):,} a day"


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _rate(rate: float) -> str:
    return f"{_figure(rate * 60)} a minute"
