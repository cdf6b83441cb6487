"""Does a wafer generate 3,000 tokens per second with gpt-oss-120b?"""

import functools

import msgspec

from mixtura.hardware import wafer
from mixtura.hardware.chip import chip
from mixtura.hardware.shapes import shape
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.facts import facts
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, digits, with_range

_CONTEXT = 1024  # tokens


class _WaferSpeed(msgspec.Struct, forbid_unknown_fields=True):
    who: str
    when: str
    rate: float
    kind: str


class _WaferFacts(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    chip: str
    claimed: float
    sources: tuple[str, ...]
    speeds: tuple[_WaferSpeed, ...]


@functools.cache
def _facts() -> _WaferFacts:
    return facts("wafer_speeds", _WaferFacts)


def study() -> Study:
    """Compare the vendor's figure with later measurements and with the range of the wafer model."""
    model, machine, claimed = shape(_facts().model), chip(_facts().chip), _facts().claimed
    step = wafer.step(model, machine, 1, _CONTEXT)
    rate, low, high = (1 / float(each) for each in (step.seconds, step.high, step.low))
    guessed = 1 / float(wafer.step(model, machine, 1, _CONTEXT, speculative=True).seconds)
    measured = [each.rate for each in _facts().speeds if each.kind == "measured"]
    within = low <= claimed <= high
    later = f"{digits(min(measured), 4)} to {digits(max(measured), 4)}"
    rows = [
        *(
            (f"{each.who}, {each.when}", digits(each.rate, 4), _layer(each.rate, model.layers), each.kind)
            for each in _facts().speeds
        ),
        ("wafer model, one user", with_range(rate, low, high), _layer(rate, model.layers), "fitted"),
        (
            "wafer model, with speculative decoding",
            digits(guessed),
            _layer(guessed, model.layers),
            "fitted to one speed",
        ),
    ]
    return Study(
        name="wafer-speed",
        title="3,000 tokens per second on a wafer",
        claim=f"Cerebras generates over {claimed:,.0f} tokens per second with {model.name}, according to Artificial "
        "Analysis.",
        who=ARTICLE,
        verdict="holds when" if max(measured) < claimed and within else "holds" if within else "does not hold",
        sentence=(
            f"It held in August 2025 as the vendor's figure, and no longer does: measurements of 2026 give {later} "
            f"tokens per second, {digits(claimed / max(measured), 2)} to {digits(claimed / min(measured), 2)} times "
            f"less. Our wafer model predicts {with_range(rate, low, high)} tokens per second, so the figure is "
            f"{'within' if within else 'outside'} the range that the speeds of other models suggest."
        ),
        assumption=(
            "The endpoint's configuration: load, lengths and speculative decoding are not published, and the latter "
            f"alone would allow {digits(guessed)}, by the only speed published with it."
        ),
        table=StudyTable(("who", "tokens per second", "us per layer", "how known"), tuple(rows)),
        charts=(_chart((rate, low, high)),),
        sources=(*_facts().sources, *wafer.coefficients().sources),
        method=(
            f"The wafer model's latency of a layer is fitted to published speeds of {wafer.coefficients().models} "
            "models, including this one; the range holds 80 % of models left out of the fit. The model needs "
            f"{int(wafer.wafers_needed(model, machine, 1, _CONTEXT))} wafers."
        ),
    )


def _layer(rate: float, layers: int) -> str:
    return digits(1e6 / rate / layers)


def _chart(model: tuple[float, float, float]) -> Chart:
    speeds = _facts().speeds
    rate, low, high = model
    return Chart(
        title=f"Tokens per second of one user, {_facts().model} on WSE-3",
        x="source and date",
        y="tokens per second",
        series=(
            Series("published", tuple(range(len(speeds))), tuple(each.rate for each in speeds), kind="bars"),
            Series("wafer model", (len(speeds),), (rate,), (low,), (high,), kind="bars"),
        ),
        labels=(*(f"{each.who}, {each.when}" for each in speeds), "wafer model"),
    )
