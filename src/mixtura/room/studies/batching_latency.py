"""What do larger batches cost in latency?"""

import numpy as np

from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, Verdict, digits, with_range
from mixtura.room.studies.sweeps import MeasuredSweep, data, source

_FEW, _MANY = 4, 64
_DEAR = 1.2  # times the time for a token, from which a batch has a price


def study() -> Study:
    """Lay the growth of the time for a token from 4 to 64 requests in flight beside the predicted one."""
    sweeps = data().sweeps
    dense = [each for each in sweeps if each.dense]
    routed = sorted((each for each in sweeps if not each.dense), key=_growth)
    dearer = all(_growth(each) > max(map(_growth, dense)) for each in routed)
    verdict: Verdict = "holds" if dearer and _growth(routed[0]) > _DEAR else "holds when"
    ends = data().frontiers
    return Study(
        name="batching-latency",
        title="The latency price of batching",
        claim="To make up for mixtures of experts GPUs are given larger batches, which increases latency.",
        who=ARTICLE,
        verdict=verdict,
        sentence=(
            f"From {_FEW} to {_MANY} requests in flight the time for a token grows {_growth(dense[0]):.2f} times for a "
            f"dense model and {_growth(routed[0]):.1f} to {_growth(routed[-1]):.1f} times for models with experts, "
            f"measured; predicted are {_growth_text(dense[0])} and {_growth_text(routed[0])} to {_growth_text(routed[-1])}. Over the whole "
            f"measured frontier of DeepSeek-R1 on GB200, {digits(ends[0].rate[1] / ends[0].rate[0])} times the tokens "
            f"a second a GPU cost {digits(ends[0].token[1] / ends[0].token[0], 2)} times the time for a token."
        ),
        assumption="That throughput is wanted at all costs: the same machine at 4 requests is fast for each of them. "
        "What a larger batch costs depends on how much of the step is fixed, and on how many experts are still asleep.",
        table=StudyTable(
            ("machine", f"{_FEW} in flight", f"{_MANY} in flight", "grows, measured", "grows, predicted"),
            tuple(_row(each) for each in sweeps),
        ),
        charts=(_times(sweeps), _frontier(sweeps)),
        sources=(source(), "GB200: the same sweeps, prefill on machines of its own"),
        method="Times are the mean time per output token with prompts mixed into the steps, as measured. Predictions "
        "are of the GPU step model under the same load; their range takes the errors at both ends as independent.",
    )


def _growth(each: MeasuredSweep) -> float:
    return each.times[_MANY] / each.times[_FEW]


def _growth_text(each: MeasuredSweep) -> str:
    gain, low, high = each.predicted_gain()
    ideal = _MANY / _FEW
    return with_range(ideal / gain, ideal / high, ideal / low)


def _row(each: MeasuredSweep) -> tuple[str, ...]:
    times = (f"{digits(each.times[batch])} ms" for batch in (_FEW, _MANY))
    return (each.name, *times, f"{_growth(each):.2f}", _growth_text(each))


def _times(sweeps: tuple[MeasuredSweep, ...]) -> Chart:
    series: list[Series] = []
    for each in sweeps:
        if each.name.startswith(("Llama", "gpt-oss-120b, 2", "DeepSeek")):
            batches = np.geomspace(each.batches[0], each.batches[-1], 25)
            step = each.predict(batches)
            low, high = (1e3 * step.low).tolist(), (1e3 * step.high).tolist()
            series += [
                Series(f"{each.name}, measured", each.batches.tolist(), (1e3 * each.measured).tolist(), kind="dots"),
                Series(f"{each.name}, model", batches.tolist(), (1e3 * step.seconds).tolist(), low, high),
            ]
    return Chart(
        title="Time for a token against requests in flight",
        x="requests in flight",
        y="ms a token",
        series=tuple(series),
        log_x=True,
        log_y=True,
        note="Bands hold eight of ten real values, as far as the fit can tell.",
    )


def _frontier(sweeps: tuple[MeasuredSweep, ...]) -> Chart:
    series: list[Series] = []
    for each in sweeps:
        if each.name.startswith(("Llama", "gpt-oss-120b, 2", "DeepSeek")):
            rates = each.batches / each.measured / each.chips
            series.append(Series(f"{each.name}", (1 / each.measured).tolist(), rates.tolist(), kind="dots"))
    for end in data().frontiers:
        speeds = [1e3 / token for token in end.token]
        series.append(Series(f"DeepSeek-R1, GB200 {end.name}, both ends", speeds, list(end.rate), kind="dots"))
    return Chart(
        title="Speed for one user against what a GPU makes, measured",
        x="tokens a second a user",
        y="tokens a second a GPU",
        series=tuple(series),
        log_x=True,
        log_y=True,
        note="Each point is a batch: to the left they grow. Requests in flight over the time for a token, prompts "
        "included; GB200 as published.",
    )
