"""The study `real-moe`: a MoE layer measured on this machine, and the routers of the package's toy models.

It takes ten to twenty seconds and its figures differ between machines, so it runs only by name.
"""

from collections.abc import Mapping

import numpy as np

from mixtura.hardware.observed import LayerObservation, LayerSizes, observe_apart, observe_on_gpu
from mixtura.hardware.step import array
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.experts import alike, toy_routing
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, digits

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_SKEWED = LayerSizes(alpha=1.0)
_GPU = LayerSizes(hidden=4096, inner=1536)  # of a real model, so that kernel launches do not dominate the time
_NEAR = 0.25  # median relative error up to which the prediction counts as correct
_PROBLEMS = 12  # problems that the toy models read


def study(env: Mapping[str, str]) -> Study:
    """Measure a MoE layer on this machine with an even and a skewed router, and the toy models' routers.

    Args:
        env: the environment of the measuring process.

    Raises:
        ConfigError: the measurement failed.
    """
    layers = {
        "even router": observe_apart(LayerSizes(), _BATCHES, env),
        "skewed router": observe_apart(_SKEWED, _BATCHES, env),
    }
    toys = tuple(toy_routing.observe(model, problems=_PROBLEMS) for model in toy_routing.MODELS)
    return study_of(layers, toys, alike.observe(_PROBLEMS), observe_on_gpu(_GPU, _BATCHES))


def study_of(
    layers: Mapping[str, LayerObservation],
    toys: tuple[toy_routing.RoutingObservation, ...],
    drafts: tuple[alike.DraftOverlap, ...],
    gpu: tuple[tuple[int, float, float], ...] = (),
) -> Study:
    """Return the study of the given measurements."""
    even = next(iter(layers.values()))
    first, last = even.batches[0], even.batches[-1]
    errors = {name: _error(seen) for name, seen in layers.items()}
    worst = max(errors.values())
    sizes = even.sizes
    return Study(
        name="real-moe",
        title="A real MoE layer on this machine",
        claim="In a mixture-of-experts model every batch loads other weights, so batching saves less than elsewhere.",
        who=ARTICLE,
        verdict="holds" if last.activated > 2 * first.activated and worst < _NEAR else "holds when",
        sentence=(
            f"On this machine a layer of {sizes.experts} experts, {sizes.used} for each token, activates "
            f"{digits(first.activated)} of them for 1 token and {digits(last.activated)} for {last.tokens}, and takes "
            f"{digits(last.seconds / first.seconds)} times as long. The time predicted from the activated experts has "
            f"a median error over batches of {worst:.0%}, D(B) itself one of {_off(even):.1%}."
        ),
        assumption=(
            "That caches hold no experts from one step to the next (they are flushed between runs), and that nothing "
            "else uses the processor: other work can only add time, so the least of several runs counts."
        ),
        table=StudyTable(
            ("router", "tokens", "experts activated", "expected", "ms measured", "ms predicted"),
            (*_rows(layers), *_toy_rows(toys), *_gpu_rows(gpu)),
        ),
        charts=(_times(layers), _activation_chart(layers), _routers(toys)),
        sources=(
            f"measured here: {even.machine.bandwidth / 1e9:.0f} GB/s of memory, NumPy on one thread, float32",
            "toy-moe-a and toy-moe-b of the package on its own held-out problems",
            *(("measured here: PyTorch on this machine's GPU, float16",) if gpu else ()),
        ),
        method=(
            "hardware/observed.py times one expert alone by its tokens and predicts the layer's time as the sum over "
            "the loads that a router of these popularities gives. room/experts/toy_routing.py records which "
            f"experts the toy models' routers choose. {_alike(drafts)}"
        ),
    )


def _error(seen: LayerObservation) -> float:
    """Return the median relative error of the predicted times."""
    return float(np.median([abs(each.predicted / each.seconds - 1) for each in seen.batches]))


def _off(seen: LayerObservation) -> float:
    """Return the median relative error of the expected activated experts."""
    return float(np.median([abs(each.expected / each.activated - 1) for each in seen.batches]))


def _rows(layers: Mapping[str, LayerObservation]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            f"{name} (alpha {seen.alpha:.2f})",
            f"{each.tokens}",
            digits(each.activated),
            digits(each.expected),
            digits(each.seconds * 1e3),
            digits(each.predicted * 1e3),
        )
        for name, seen in layers.items()
        for each in seen.batches
    )


def _toy_rows(toys: tuple[toy_routing.RoutingObservation, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (f"{toy.model}, {toy.experts} experts", f"{each.tokens}", digits(each.apart), digits(each.popularity), "-", "-")
        for toy in toys
        for each in toy.activated
    )


def _gpu_rows(gpu: tuple[tuple[int, float, float], ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        ("GPU of this machine", f"{tokens}", digits(activated), "-", digits(took * 1e3), "-")
        for tokens, activated, took in gpu
    )


def _alike(drafts: tuple[alike.DraftOverlap, ...]) -> str:
    last = drafts[-1]
    return (
        f"room/experts/alike.py: {last.proposers} drafts of one problem activate {digits(last.step)} experts per layer "
        f"at the same position of their texts and {digits(last.prompt)} at different positions; drafts of different "
        f"problems activate {digits(last.apart)} (even and independent tokens: {digits(last.even)})."
    )


def _times(layers: Mapping[str, LayerObservation]) -> Chart:
    series = []
    for name, seen in layers.items():
        tokens = tuple(each.tokens for each in seen.batches)
        series.append(
            Series(f"{name}, measured", tokens, tuple(each.seconds * 1e3 for each in seen.batches), kind="dots")
        )
        series.append(Series(f"{name}, predicted", tokens, tuple(each.predicted * 1e3 for each in seen.batches)))
    first = next(iter(layers.values()))
    plain = tuple(each.roofline * 1e3 for each in first.batches)
    series.append(Series("experts over plain bandwidth", tuple(each.tokens for each in first.batches), plain))
    return Chart(
        title="Time of one MoE layer on this machine",
        x="tokens in a step",
        y="ms",
        series=tuple(series),
        log_x=True,
        log_y=True,
    )


def _activation_chart(layers: Mapping[str, LayerObservation]) -> Chart:
    series = []
    for name, seen in layers.items():
        tokens = tuple(each.tokens for each in seen.batches)
        series.append(Series(f"{name}, counted", tokens, tuple(each.activated for each in seen.batches), kind="dots"))
        series.append(Series(f"{name}, expected", tokens, tuple(each.expected for each in seen.batches)))
    return Chart(
        title="Distinct activated experts, D(B)", x="tokens in a step", y="experts", series=tuple(series), log_x=True
    )


def _routers(toys: tuple[toy_routing.RoutingObservation, ...]) -> Chart:
    """Draw the shares of each layer's experts, most popular first, relative to an even router."""
    series = []
    for toy in toys:
        shares = array([sorted(layer.shares, reverse=True) for layer in toy.layers])
        ranks = tuple(range(1, toy.experts + 1))
        over = shares * toy.experts
        middle, low, high = (tuple(each.tolist()) for each in (over.mean(axis=0), over.min(axis=0), over.max(axis=0)))
        series.append(Series(toy.model, ranks, middle, low, high))
    return Chart(
        title="How often the toy models' routers choose each expert, relative to an even router",
        x="expert, most popular first",
        y="times its even share",
        series=tuple(series),
        note="Mean over layers; bands from the least to the greatest layer.",
    )
