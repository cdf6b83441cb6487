"""Does batching gain less with mixture-of-experts models than with dense ones?"""

import numpy as np

from mixtura.hardware.fitted import token_step
from mixtura.hardware.gpu import ExpertCount, all_experts, one_tokens_experts
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, Verdict, digits, with_range
from mixtura.room.studies.sweeps import MeasuredSweep, data, source

_CLEAR = 1.1  # least ratio of the dense gain to the largest other gain that counts as a difference


def study() -> Study:
    """Compare measured gains of throughput from 4 to 64 requests in flight with predicted ones."""
    sweeps = data().sweeps
    dense = [each for each in sweeps if each.dense]
    routed = [each for each in sweeps if not each.dense]
    wide = max(routed, key=_gain)
    usual = [each for each in routed if each is not wide]
    least, most = min(usual, key=_gain), max(usual, key=_gain)
    back = max(routed, key=lambda each: _growth(each, 64, 256) / _growth(each, 4, 16))
    best = max(map(_gain, dense))
    verdict: Verdict = "holds when" if best > _CLEAR * _gain(wide) else "does not hold"
    return Study(
        name="batching-gain",
        title="What batching gains: dense against experts",
        claim="GPUs reach their performance by batching; mixture-of-experts models break that advantage.",
        who=ARTICLE,
        verdict=verdict,
        sentence=(
            f"It holds when batches are small or medium: with sixteen times as many requests (4 to 64) the measured "
            f"tokens per second of a dense model grow {best:.1f} times, those of models with experts "
            f"{_gain(least):.1f} to {_gain(most):.1f} times ({_gain(wide):.1f} for {wide.name}, whose time is mostly "
            f"not spent on reading). The predictions are {_gain_text(dense[0])}, and {_gain_text(least)} to "
            f"{_gain_text(most)}. The advantage of batching is halved, not lost, and returns once nearly all experts "
            f"are activated: from 64 to 256 requests the model predicts a gain of {_growth(back, 64, 256):.1f} of 4 "
            f"times for {back.name}, after {_growth(back, 4, 16):.1f} from 4 to 16. The dense model, then limited by "
            f"KV cache and prompts, gains {_growth(dense[0], 64, 256):.1f} after {_growth(dense[0], 4, 16):.1f}."
        ),
        assumption="That a step reads every expert that its tokens activate, once. If a step read one token's experts "
        f"whatever the batch, {least.name} would gain {_other(least, one_tokens_experts):.1f} times from 4 to 64; if "
        f"every step read all experts, {_other(least, all_experts):.1f} times; the measured gain is "
        f"{_gain(least):.1f}.",
        table=StudyTable(
            ("machine", "measured, 4 to 64", "predicted, 4 to 64", "4 to 16", "64 to 256", "how near the fit came"),
            tuple(_row(each) for each in sweeps),
        ),
        charts=(_curves(sweeps), _bars(sweeps)),
        sources=(source(),),
        method="Measured gains are ratios of tokens per second per GPU if recorded, else 16 times the ratio of the "
        "times per token. Predicted gains come from the GPU step model under the same load; their range assumes "
        "independent errors of both times. The gains from 4 to 16 and 64 to 256, of at most 4, are predictions; these "
        "machines were measured only at the batches of the chart.",
    )


def _gain(each: MeasuredSweep) -> float:
    return each.measured_gain


def _gain_text(each: MeasuredSweep) -> str:
    return with_range(*each.predicted_gain())


def _growth(each: MeasuredSweep, few: float, many: float) -> float:
    """Return the predicted growth of throughput between two batches; 0 if the second does not fit."""
    if each.host.room(data().prompt + data().output) < many:
        return 0.0
    first, last = each.predict([few, many]).seconds
    return float(many / few * first / last)


def _other(each: MeasuredSweep, expert_count: ExpertCount) -> float:
    """Return the predicted gain from 4 to 64 requests if a step read `expert_count` experts per layer."""
    host = each.host
    assert host.by is not None, "sweeps are measured on GPUs"
    first, last = token_step(host.shape, host.chip, host.setup, each.load([4.0, 64.0]), host.by, expert_count).seconds
    return float(16 * first / last)


def _row(each: MeasuredSweep) -> tuple[str, ...]:
    return (
        each.name,
        f"{each.measured_gain:.1f}",
        _gain_text(each),
        *(f"{growth:.1f}" if growth else "does not fit" for growth in (_growth(each, 4, 16), _growth(each, 64, 256))),
        each.level,
    )


def _curves(sweeps: tuple[MeasuredSweep, ...]) -> Chart:
    series = [Series("ideal", [4.0, 128.0], [1.0, 32.0])]
    for each in sweeps:
        if each.name.startswith(("Llama", "gpt-oss-120b, 2", "DeepSeek", "Kimi")):
            batches = np.geomspace(4, each.batches[-1], 25)
            seconds = each.predict(batches).seconds
            gains = each.batches / 4 * each.measured[0] / each.measured
            series += [
                Series(f"{each.name}, measured", each.batches.tolist(), gains.tolist(), kind="dots"),
                Series(f"{each.name}, model", batches.tolist(), (batches / 4 * seconds[0] / seconds).tolist()),
            ]
    return Chart(
        title="Throughput relative to 4 requests in flight",
        x="requests in flight",
        y="times the tokens per second",
        series=tuple(series),
        log_x=True,
        log_y=True,
        note="Measured gains follow from the times per token.",
    )


def _bars(sweeps: tuple[MeasuredSweep, ...]) -> Chart:
    places = list(range(len(sweeps)))
    predicted = [each.predicted_gain() for each in sweeps]
    return Chart(
        title="Gain of throughput from 4 to 64 requests in flight",
        x="",
        y="times the tokens per second, 16 at most",
        series=(
            Series("measured", places, [each.measured_gain for each in sweeps], kind="bars"),
            Series(
                "predicted",
                places,
                [middle for middle, _, _ in predicted],
                [low for _, low, _ in predicted],
                [high for _, _, high in predicted],
                "bars",
            ),
        ),
        labels=tuple(each.name for each in sweeps),
        note=f"Kimi-K2.5 was left out of the fit. Measured gains range from {digits(min(map(_gain, sweeps)))} to "
        f"{digits(max(map(_gain, sweeps)))}.",
    )
