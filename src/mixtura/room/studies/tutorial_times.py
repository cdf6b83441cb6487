"""420 ms for three proposers, 760 ms for the aggregator: how long can the answers be?"""

import math
from typing import NamedTuple

from mixtura.hardware.gpu import GpuSetup, SteadyLoad
from mixtura.hardware.host import ModelHost, host
from mixtura.hardware.step import NINETIETH
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.ratios import to
from mixtura.room.studies.study import TUTORIAL, Study, StudyTable, digits, with_range
from mixtura.room.studies.tutorial import tutorial

_LENGTHS = (50, 100, 150, 200, 300, 400, 600, 800, 1024)  # tokens of each draft and of the answer
_GPUS = (("h100_sxm", 1, 4), ("b200_sxm", 1, 2))  # chip, chips of each proposer's model, of the aggregator's
_BUSY = 8  # calls that a GPU machine serves at once: ours and other users'
_EIGHT = GpuSetup(precision="fp8")  # the usual format of dense models on these GPUs


class MixtureTimes(NamedTuple):
    """Seconds of the slowest proposer and of the aggregator: queueing, per prompt token, per output token."""

    name: str
    wait: tuple[float, float]
    reading: tuple[float, float]
    token: tuple[float, float]
    known: str
    spread: float = 0.0

    def proposers(self, draft: float) -> float:
        """Return the seconds until the last draft of `draft` tokens ends."""
        return self.wait[0] + self.reading[0] * tutorial().question_tokens + self.token[0] * draft

    def aggregator(self, draft: float, answer: float) -> float:
        """Return the seconds of an answer of `answer` tokens to such drafts."""
        return self.wait[1] + self.reading[1] * tutorial().aggregator_prompt(draft) + self.token[1] * answer

    def total(self, length: float) -> float:
        """Return the seconds of the mixture if drafts and answer have `length` tokens each."""
        return self.proposers(length) + self.aggregator(length, length)

    def draft(self, seconds: float) -> float:
        """Return the tokens per draft with which the last draft ends after `seconds`."""
        return max(0.0, (seconds - self.proposers(0)) / self.token[0])

    def answer(self, seconds: float, draft: float) -> float:
        """Return the tokens of an answer that ends after `seconds`."""
        return max(0.0, (seconds - self.aggregator(draft, 0)) / self.token[1])


def recorded_times(name: str, end: str, share: float) -> MixtureTimes:
    """Return the tutorial's cloud at recorded speeds.

    Args:
        name: the name shown.
        end: "low", "usual" or "high" of the recorded speeds.
        share: quantile of the recorded queueing times, from 0 to 1.
    """
    claims = tutorial()
    speeds = [getattr(claims.speeds[each], end) for each in (*claims.proposers, claims.aggregator)]
    reading = [float(host(each, "lpu_v1").prefill(1)) for each in (claims.proposers[0], claims.aggregator)]
    waits = claims.queue.longest(len(claims.proposers), share), claims.queue.at(share)
    return MixtureTimes(name, waits, (reading[0], reading[1]), (1 / min(speeds[:-1]), 1 / speeds[-1]), "recorded")


def _predict_times() -> tuple[MixtureTimes, ...]:
    """Return the times of the same models by the step models: on LPUs with median waits, and on GPUs."""
    claims = tutorial()
    usual = recorded_times("", "usual", 0.5)
    hosts = [host(each, "lpu_v1") for each in (*claims.proposers, claims.aggregator)]
    steps = [each.decode(_BUSY, claims.aggregator_prompt(claims.draft_tokens)) for each in hosts]
    tokens = max(float(step.seconds) for step in steps[:-1]), float(steps[-1].seconds)
    found = [MixtureTimes("LPUs, model, median wait", usual.wait, usual.reading, tokens, "fitted", steps[-1].spread)]
    for chip, few, many in _GPUS:
        small = [host(each, chip, few, setup=_EIGHT) for each in claims.proposers]
        large = host(claims.aggregator, chip, many, setup=_EIGHT)
        slowest = max(small, key=_token)
        waits, reading = zip(_first(slowest), _first(large), strict=True)
        name = f"{chip}, 8 bits: {few} a proposer's model, {many} the aggregator's"
        by = large.by
        spread = by.token_spread if by is not None else 0.0
        found.append(MixtureTimes(name, waits, reading, (_token(slowest), _token(large)), "fitted", spread))
    return tuple(found)


def _token(machine: ModelHost) -> float:
    claims = tutorial()
    return float(machine.token(SteadyLoad(_BUSY, claims.question_tokens, claims.draft_tokens)).seconds)


def _first(machine: ModelHost) -> tuple[float, float]:
    """Return the time to first token as a line: seconds without prompt, and seconds per prompt token."""
    output = tutorial().draft_tokens
    short, long = (float(machine.first(SteadyLoad(_BUSY, tokens, output)).seconds) for tokens in (1, 1001))
    return short - (long - short) / 1000, (long - short) / 1000


def study() -> Study:
    """Convert the times into lengths of answers, and compute the times of the tutorial's own lengths."""
    claims = tutorial()
    second = claims.total_seconds - claims.proposer_seconds
    usual = recorded_times("LPUs, usual speed and median wait", "usual", 0.5)
    best = recorded_times("LPUs, highest speed and least wait", "high", 0.0)
    worst = recorded_times("LPUs, least speed, 90 % wait less", "low", 0.9)
    model, *others = _predict_times()
    machines = (usual, best, worst, model, *others)
    gpus = sorted(each.total(claims.draft_tokens) for each in others)
    lengths = [round(each.draft(claims.proposer_seconds)) for each in (usual, best)]
    answers = [round(each.answer(second, each.draft(claims.proposer_seconds))) for each in (usual, best)]
    own, top = usual.total(claims.draft_tokens), best.total(claims.draft_tokens)
    return Study(
        name="tutorial-times",
        title="420 ms and 760 ms",
        claim=(
            f"Three proposers end after {claims.proposer_seconds * 1e3:.0f} ms and the aggregator "
            f"{second * 1e3:.0f} ms later, {claims.total_seconds * 1e3:,.0f} ms in all."
        ),
        who=TUTORIAL,
        verdict="holds when" if own > claims.total_seconds and lengths[1] > 0 else "holds",
        sentence=(
            f"It holds when answers are short: drafts of {lengths[0]} tokens and an answer of {answers[0]} at usual "
            f"recorded speeds and median waits, {lengths[1]} and {answers[1]} at the best of both. With the "
            f"{claims.draft_tokens} tokens that the tutorial itself gives, a mixture takes {digits(own)} s, "
            f"{digits(top)} s at best, and {to(gpus[0], gpus[-1])} s on GPUs."
        ),
        assumption=(
            "The length of the answers, which the tutorial does not give, and the queueing time, of which the longest "
            "of three counts. Network time is left out, so real lengths are shorter still."
        ),
        table=StudyTable(
            (
                "machines",
                f"tokens per draft in {claims.proposer_seconds * 1e3:.0f} ms",
                f"tokens of the answer in {second * 1e3:.0f} ms",
                f"proposers, {claims.draft_tokens} tokens",
                f"whole, {claims.draft_tokens} tokens each",
                "how known",
            ),
            tuple(_row(each, second) for each in machines),
        ),
        charts=(_chart(machines),),
        sources=(*claims.sources, "step models of LPUs and GPUs, factors in hardware/data"),
        method=(
            "Recorded: queueing, prompt tokens over recorded prompt speed, and answer over recorded speed; the slowest "
            "proposer and the longest of three independent waits count, and each model has machines of its own. "
            f"Fitted: step models with {_BUSY} calls in flight; the range holds 80 %, for the aggregator's time per "
            "token."
        ),
    )


def _row(each: MixtureTimes, second: float) -> tuple[str, ...]:
    claims = tutorial()
    draft, whole = each.draft(claims.proposer_seconds), each.total(claims.draft_tokens)
    aside = math.exp(NINETIETH * each.spread)
    return (
        each.name,
        digits(round(draft)),
        digits(round(each.answer(second, draft))),
        f"{digits(each.proposers(claims.draft_tokens))} s",
        with_range(whole, whole / aside, whole * aside, "s") if each.spread else f"{digits(whole)} s",
        each.known,
    )


def _chart(machines: tuple[MixtureTimes, ...]) -> Chart:
    claims = tutorial()
    lines = [Series(each.name, _LENGTHS, tuple(each.total(length) for length in _LENGTHS)) for each in machines]
    claimed = Series("the tutorial's figure", (_LENGTHS[0], _LENGTHS[-1]), (claims.total_seconds,) * 2)
    return Chart(
        title="Seconds of the tutorial's mixture by the length of its answers",
        x="tokens of each draft and of the answer",
        y="seconds",
        series=(*lines, claimed),
        note=f"The tutorial gives {claims.draft_tokens} tokens per answer, and a limit of {claims.limit_tokens:,}.",
    )
