"""Does Kimi K2 fit 4,000 LPUs?"""

import numpy as np

from mixtura.hardware.chip import Chip, chip
from mixtura.hardware.lpu import chips_needed, step
from mixtura.hardware.onchip import OnChipLayout, bits_that_fit
from mixtura.hardware.precision import bits
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape
from mixtura.hardware.step import array
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, Verdict, digits, with_range

_CHIPS = 4000
_FORMATS = ("bf16", "fp8", "int4", "mxfp4")
_USERS, _CONTEXT = 64, 8192


def study() -> Study:
    """Count the chips that the model needs at each width of its weights, and the memory left for KV cache."""
    model, lpu = shape("kimi-k2"), chip("lpu_v1")
    widest = bits_that_fit(model, lpu, _CHIPS)
    served = bits_that_fit(model, lpu, _CHIPS, _USERS * float(model.kv_read(_CONTEXT)))
    released, narrow = bits(model.precision), bits("int4")
    verdict: Verdict = "holds" if served >= released else "does not hold" if widest < bits("mxfp4") else "holds when"
    speed = step(model, lpu, 1, _CONTEXT, OnChipLayout(chips=_CHIPS, bits=narrow))
    slow, fast = 1 / float(speed.high), 1 / float(speed.low)
    return Study(
        name="kimi-chips",
        title="Kimi K2 on 4,000 chips",
        claim="Kimi K2 runs on 4,000 LPUs, each of which holds a small part of the model.",
        who=ARTICLE,
        verdict=verdict,
        sentence=(
            f"It fits when a weight is stored in at most {widest:.2f} bits ({served:.2f} with the KV cache of {_USERS} "
            f"users of {_CONTEXT:,} tokens): {_CHIPS:,} LPUs hold {_CHIPS * lpu.memory / 1e12:.2f} TB for "
            f"{digits(model.weights / 1e9, 4)} billion weights. As released ({model.precision}, {released:g} bits) "
            f"the weights need {_chips_text(model, lpu, released)} chips before the first token of KV cache; in blocks "
            f"of {narrow:g} bits {_chips_text(model, lpu, narrow)}, which leaves room for "
            f"{digits(_tokens_left(model, lpu, narrow) / 1e6, 2)} million tokens. At these sizes the predicted speed "
            f"of one user is {with_range(1 / float(speed.seconds), slow, fast)} tokens per second."
        ),
        assumption="The width of a stored weight, which is not published. The published numerics (experts' weights in "
        "block floating point) suggest less than 8 bits; 4,000 may also be a rounded number of chips.",
        table=StudyTable(
            ("bits per weight", "weights", "chips needed", f"of {_CHIPS:,}", "room for KV cache, tokens"),
            tuple(_row(model, lpu, width) for width in sorted({*map(bits, _FORMATS), round(widest, 2), 6.0})[::-1]),
        ),
        charts=(_needs(model, lpu), _room(model, lpu)),
        sources=(
            "shape: Kimi K2's config.json; LPU: Groq's papers, ISCA 2020 and 2022 (SRAM of a chip)",
            "numerics: Groq's blog, 1 August 2025; speeds: recorded replies of its API",
        ),
        method="Arithmetic: weights times bits over the SRAM of a chip, all of it usable, although programs and "
        "activations need some. KV cache in bf16, latent as in the model. The speed comes from the LPU step model, "
        "whose latency per layer is fitted to recorded speeds of this and other models.",
    )


def _chips_text(model: ModelShape, lpu: Chip, width: float) -> str:
    return f"{_least(model, lpu, width):,.0f}"


def _least(model: ModelShape, lpu: Chip, width: float) -> float:
    """Return the chips that hold the weights alone."""
    return float(np.ceil(model.weights * width / 8 / lpu.memory))


def _tokens_left(model: ModelShape, lpu: Chip, width: float) -> float:
    """Return the tokens of KV cache that fit beside the weights; below 0 if the weights do not fit."""
    return (_CHIPS * lpu.memory - model.weights * width / 8) / model.kv_bytes()


def _row(model: ModelShape, lpu: Chip, width: float) -> tuple[str, ...]:
    left = _tokens_left(model, lpu, width)
    fits = _least(model, lpu, width) <= _CHIPS
    return (
        f"{width:g}",
        f"{model.weights * width / 8e12:.3f} TB",
        _chips_text(model, lpu, width),
        "fits" if fits else "does not fit",
        f"{max(0.0, left):,.0f}" if left < 1e4 else f"{left / 1e6:.2f} million",
    )


def _needs(model: ModelShape, lpu: Chip) -> Chart:
    widths = array(np.linspace(3, 10, 71))
    users = [float(chips_needed(model, lpu, _USERS, _CONTEXT, OnChipLayout(bits=float(width)))) for width in widths]
    return Chart(
        title="LPUs that Kimi K2 needs, by the width of a stored weight",
        x="bits per weight",
        y="chips",
        series=(
            Series("weights alone", widths.tolist(), [_least(model, lpu, float(width)) for width in widths]),
            Series(f"with {_USERS} users of {_CONTEXT:,} tokens", widths.tolist(), users),
            Series("the claim", [3.0, 10.0], [float(_CHIPS)] * 2),
            Series(
                "formats",
                [bits(name) for name in _FORMATS if bits(name) <= 10],
                [_least(model, lpu, bits(name)) for name in _FORMATS if bits(name) <= 10],
                kind="dots",
            ),
        ),
        note="Formats: mxfp4 with 4.25 bits, int4 and nvfp4 with 4.5, fp8 with 8; scales of their blocks included.",
    )


def _room(model: ModelShape, lpu: Chip) -> Chart:
    widths = array(np.linspace(3, bits_that_fit(model, lpu, _CHIPS), 61))
    left = [max(0.0, _tokens_left(model, lpu, float(width))) / 1e6 for width in widths]
    return Chart(
        title=f"Room for KV cache on {_CHIPS:,} LPUs",
        x="bits per weight",
        y="million tokens of context, all users together",
        series=(Series("room", widths.tolist(), left),),
        note=f"{model.kv_bytes():,.0f} bytes per token in bf16.",
    )
