"""How much latency do larger batches cost?"""

import numpy as np

from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, Verdict, digits, with_range
from mixtura.room.studies.sweeps import MeasuredSweep, data, source

_FEW, _MANY = 4, 64
_DEAR = 1.2  # growth of the time per token from which a batch costs latency


def study() -> Study:
    """Compare the growth of the time per token from 4 to 64 requests in flight with the predicted growth."""
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
            f"From {_FEW} to {_MANY} requests in flight the measured time per token grows {_growth(dense[0]):.2f} "
            f"times for a dense model and {_growth(routed[0]):.1f} to {_growth(routed[-1]):.1f} times for models with "
            f"experts; the predictions are {_growth_text(dense[0])}, and {_growth_text(routed[0])} to "
            f"{_growth_text(routed[-1])}. Over the whole measured frontier of DeepSeek-R1 on GB200, "
            f"{digits(ends[0].rate[1] / ends[0].rate[0])} times the tokens per second per GPU cost "
            f"{digits(ends[0].token[1] / ends[0].token[0], 2)} times the time per token."
        ),
        assumption="That operators maximise throughput: the same machine with 4 requests is fast for each of them. The "
        "cost of a larger batch depends on the fixed share of the step, and on how many experts are not yet activated.",
        table=StudyTable(
            ("machine", f"{_FEW} in flight", f"{_MANY} in flight", "grows, measured", "grows, predicted"),
            tuple(_row(each) for each in sweeps),
        ),
        charts=(_times(sweeps), _frontier(sweeps)),
        sources=(source(), "GB200: the same sweeps, prefill on machines of its own"),
        method="Times are measured mean times per output token with prompts mixed into the steps. Predictions come "
        "from the GPU step model under the same load; their range assumes independent errors at both ends.",
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
        title="Time per token against requests in flight",
        x="requests in flight",
        y="ms per token",
        series=tuple(series),
        log_x=True,
        log_y=True,
        note="Bands hold eight of ten real values, as estimated by the fit.",
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
        title="Measured speed of one user against throughput of a GPU",
        x="tokens per second per user",
        y="tokens per second per GPU",
        series=tuple(series),
        log_x=True,
        log_y=True,
        note="Each point is a batch, growing to the left: requests in flight over the time per token, prompts "
        "included; GB200 as published.",
    )
