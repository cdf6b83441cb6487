"""Does reading weights and KV cache from HBM explain a GPU's time?"""

from mixtura.hardware.chip import chip
from mixtura.hardware.precision import bytes_of
from mixtura.hardware.shapes import shape
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, Verdict, digits, with_range
from mixtura.room.studies.sweeps import MeasuredSweep, data, source, sweep

_READ = ("weights", "experts", "kv")
_FIXED = ("layers", "links", "host")
_ENDS = (4, 64)
_MOST = 0.5  # share of the time from which reading dominates


def study() -> Study:
    """Compare the time of reading with measured times, and attribute the rest."""
    points = [_MeasuredPoint(each, batch) for each in data().sweeps for batch in _ENDS]
    low, high = min(points, key=lambda point: point.share), max(points, key=lambda point: point.share)
    fixed = sum(point.fixed > point.read for point in points if point.batch == _ENDS[0])
    verdict: Verdict = "holds" if low.share >= _MOST else "does not hold" if high.share < _MOST else "holds when"
    ridge, experts = _ridge()
    computed = max(float(point.step.parts["compute"] / point.step.seconds) for point in points)
    return Study(
        name="hbm-time",
        title="Time is weights and KV cache from HBM",
        claim="A GPU's performance can be calculated from how long it takes to load the weights and the KV cache from "
        "HBM; it has far more compute than memory.",
        who=ARTICLE,
        verdict=verdict,
        sentence=(
            f"Reading takes most of the time if a step reads many bytes, and little if it reads few: reading all bytes "
            f"once at the data sheet's bandwidth is {high.share:.0%} of the measured time for {high.sweep.name} with "
            f"{high.batch} in flight, and {low.share:.0%} for {low.sweep.name} with {low.batch}. With {_ENDS[0]} in "
            f"flight, the fitted fixed times of layers, links and host exceed reading on {fixed} of "
            f"{len(data().sweeps)} machines. Arithmetic adds at most {computed:.0%}: on an H100 in fp8 a step needs "
            f"{digits(ridge)} tokens before arithmetic takes longer than reading the weights, and {digits(experts)} "
            "for the experts of gpt-oss-120b in fp8."
        ),
        assumption="Whether the bytes that a GPU reads in a step take longer than about 100 us of fixed time per "
        "layer: many active weights on few GPUs do, few active weights spread over many GPUs do not.",
        table=StudyTable(
            ("machine", "in flight", "measured", "reading alone", "share", "predicted", "largest part, as fitted"),
            tuple(point.row for point in points),
        ),
        charts=(_against_batch(), _parts(points)),
        sources=(source(), "roofline: Williams, Waterman and Patterson, 2009; chips' data sheets"),
        method="Reading alone is arithmetic: the bytes of unrouted weights, of the distinct experts that a batch is "
        "expected to activate, and of KV cache, over the data sheet's bandwidth. Predicted times and their parts come "
        "from the GPU step model with fitted factors. The fit includes these machines, except Kimi-K2.5, so this "
        "study does not test it (docs/fit.md does). The division of a time between weights and layers is the fit's "
        "own estimate.",
    )


class _MeasuredPoint:
    """One machine at one number of requests in flight, measured and predicted."""

    def __init__(self, each: MeasuredSweep, batch: int) -> None:
        self.sweep, self.batch = each, batch
        self.measured = each.times[batch] / 1e3
        self.reading = float(each.reading(batch))
        self.share = self.reading / self.measured
        self.step = each.predict(batch)
        self.read = sum(float(self.step.parts[part]) for part in _READ)
        self.fixed = sum(float(self.step.parts[part]) for part in _FIXED)

    @property
    def row(self) -> tuple[str, ...]:
        step = self.step
        middle, low, high = (float(value) * 1e3 for value in (step.seconds, step.low, step.high))
        part = float(step.parts[step.bound]) / float(step.seconds)
        return (
            self.sweep.name,
            str(self.batch),
            f"{digits(self.measured * 1e3)} ms",
            f"{digits(self.reading * 1e3)} ms",
            f"{self.share:.0%}",
            with_range(middle, low, high, "ms"),
            f"{step.bound}, {part:.0%}",
        )


def _ridge() -> tuple[float, float]:
    """Return the tokens from which arithmetic takes longer than reading: in a dense layer, in gpt-oss-120b's experts.

    FLOP/s over bytes/s, at 2 FLOP per weight and token; an expert gets B k/E of B tokens.
    """
    gpu, model = chip("h100_sxm"), shape("gpt-oss-120b")
    tokens = gpu.flops("fp8") * bytes_of("fp8") / (2 * gpu.bandwidth)
    return tokens, tokens * model.experts / model.used


def _against_batch() -> Chart:
    series: list[Series] = []
    for each in (sweep("deepseek-r1", "h200_sxm", 8), sweep("gpt-oss-120b", "h100_sxm", 8)):
        batches, step = each.batches.tolist(), each.predict(each.batches)
        low, high = (1e3 * step.low).tolist(), (1e3 * step.high).tolist()
        series += [
            Series(f"{each.name}, measured", batches, (1e3 * each.measured).tolist(), kind="dots"),
            Series(f"{each.name}, model", batches, (1e3 * step.seconds).tolist(), low, high),
            Series(f"{each.name}, reading alone", batches, (1e3 * each.reading(each.batches)).tolist()),
        ]
    return Chart(
        title="Reading explains a part of the time per token",
        x="requests in flight",
        y="ms per token",
        series=tuple(series),
        log_x=True,
        log_y=True,
        note="Bands hold eight of ten real values, as estimated by the fit.",
    )


def _parts(points: list[_MeasuredPoint]) -> Chart:
    names = tuple(each.name for each in data().sweeps)
    places = list(range(len(names)))
    series = [
        Series(
            f"{what}, {batch} in flight",
            places,
            [100 * getattr(point, kind) / float(point.step.seconds) for point in points if point.batch == batch],
            kind="bars",
        )
        for batch in _ENDS
        for what, kind in (("reading", "read"), ("layers, links and host", "fixed"))
    ]
    return Chart(
        title="Parts of a step's time, as fitted",
        x="",
        y="share of the predicted time, %",
        series=tuple(series),
        labels=names,
        note="The rest is arithmetic, and prompts mixed into the steps.",
    )
