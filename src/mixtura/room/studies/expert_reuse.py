"""Does each batch load a completely different set of experts?"""

from typing import NamedTuple

import numpy as np

from mixtura.hardware.routing import distinct, distinct_skewed, reuse
from mixtura.hardware.shape import ModelShape
from mixtura.hardware.shapes import shape
from mixtura.hardware.step import Array, array
from mixtura.room.draw.charts import Chart, Series
from mixtura.room.studies.study import ARTICLE, Study, StudyTable, Verdict, digits

_MODELS = (
    "gpt-oss-20b",
    "gpt-oss-120b",
    "deepseek-v3",
    "kimi-k2",
    "qwen3-235b-a22b",
    "mixtral-8x7b",
    "llama-4-maverick",
)
_DRAWN = ("gpt-oss-120b", "kimi-k2", "llama-4-maverick", "mixtral-8x7b")
_DENSE = "llama-3.3-70b"
_SHOWN = (1, 8, 32, 64, 256)
_ENOUGH = 8.0  # tokens per loaded expert from which reading it no longer dominates
_NEW = (
    0.9,
    0.1,
)  # share of newly read experts: above the first the set counts as different, below the second as the same
_SKEW = 1.0  # exponent of the power law in the assumption


class _MoeModel(NamedTuple):
    shape: ModelShape

    def activated_experts(self, batch: Array) -> Array:
        return distinct(batch, self.shape.experts, self.shape.used)

    def share(self, batch: Array) -> Array:
        return self.activated_experts(batch) / self.shape.experts

    def reuse(self, batch: Array) -> Array:
        return reuse(batch, self.shape.used, self.activated_experts(batch))

    def enough(self) -> float:
        """Return the least batch in which an expert serves `_ENOUGH` tokens."""
        batches = np.arange(1.0, 20_000.0)
        return float(batches[np.argmax(self.reuse(batches) >= _ENOUGH)])

    def row(self) -> tuple[str, ...]:
        shares = self.share(array(_SHOWN))
        return (
            self.shape.name,
            f"{self.shape.used} of {self.shape.experts}",
            *(f"{share:.0%}" for share in shares),
            *(f"{digits(float(each), 2)}" for each in self.reuse(array((8, 64, 256)))),
            digits(self.enough()),
        )


def study() -> Study:
    """Count distinct experts, tokens per expert, and bytes per token, by batch."""
    models = [_MoeModel(shape(name)) for name in _MODELS]
    model = models[_MODELS.index("gpt-oss-120b")]
    new = 1 - model.share(array(_SHOWN))
    verdict: Verdict = "holds" if new[-1] > _NEW[0] else "does not hold" if new[0] < _NEW[1] else "holds when"
    skewed = float(distinct_skewed(32, model.shape.experts, model.shape.used, _SKEW)) / model.shape.experts
    served = model.reuse(array((32, 256)))
    enough = [each.enough() for each in models]
    per_token = [_bytes_a_token(shape(name), array((1, 64))) / 1e9 for name in (_DENSE, "gpt-oss-120b")]
    return Study(
        name="expert-reuse",
        title="Expert reuse against the batch",
        claim="With mixture-of-experts models a GPU often has to load a completely different set of weights for one "
        "batch after another, so more data is moved.",
        who=ARTICLE,
        verdict=verdict,
        sentence=(
            f"It holds when batches are small: of the experts that a step of {model.shape.name} activates, "
            f"{new[0]:.0%} were not read in the step before with 1 token, {new[2]:.0%} with 32 and {new[4]:.2%} with "
            f"256. From a few dozen tokens on, every step reads most of each layer; what batching loses is reuse. A "
            f"loaded expert serves {served[0]:.1f} of 32 tokens and {served[1]:.1f} of 256, a dense layer all of them; "
            f"an expert serves {_ENOUGH:.0f} tokens in batches of {digits(min(enough))} to {digits(max(enough))}, "
            f"depending on the model. From 1 to 64 tokens the bytes per token fall by a factor of "
            f"{digits(float(per_token[0][0] / per_token[0][1]), 2)} in {_DENSE} and of "
            f"{digits(float(per_token[1][0] / per_token[1][1]), 2)} in {model.shape.name}."
        ),
        assumption="Tokens choose their experts evenly and independently. Real routers are skewed and tokens of one "
        f"text choose similarly, so they activate fewer experts: with a popularity of rank^-{_SKEW:g}, 32 tokens of "
        f"{model.shape.name} activate {skewed:.0%} of a layer instead of {1 - new[2]:.0%}.",
        table=StudyTable(
            (
                "model",
                "experts per token",
                *(f"read, {batch}" for batch in _SHOWN),
                *(f"tokens an expert, {batch}" for batch in (8, 64, 256)),
                f"batch for {_ENOUGH:.0f}",
            ),
            tuple(each.row() for each in models),
        ),
        charts=(_shares(), _reuses(), _bytes()),
        sources=(
            "config.json of each model, see `mixtura.hardware.shapes`",
            "expected distinct experts: MoESD, arXiv 2505.19645, section 3",
        ),
        method="Arithmetic alone, nothing is measured or fitted: B tokens of k experts each activate "
        "E (1 - (1 - k/E)^B) distinct experts of a layer. Consecutive steps are assumed independent, so the share of a "
        "step's experts that the step before did not read is 1 - D/E. Bytes are those of the released weights, without "
        "KV cache.",
    )


def _bytes_a_token(model: ModelShape, batch: Array) -> Array:
    """Return the bytes of weights read in a step over its tokens."""
    routed = model.memory() - model.unrouted_memory() - (0 if model.tied else 2.0 * model.embedding)
    share = _MoeModel(model).share(batch) if model.experts else 1.0
    return array((model.unrouted_memory() + routed * share) / batch)


def _batches() -> Array:
    return array(np.geomspace(1, 1024, 61))


def _shares() -> Chart:
    batches = _batches()
    return Chart(
        title="Share of a layer's experts that a step reads",
        x="tokens in the step",
        y="share of the experts, %",
        series=tuple(
            Series(name, batches.tolist(), (100 * _MoeModel(shape(name)).share(batches)).tolist()) for name in _DRAWN
        ),
        log_x=True,
        note="Expectation for even, independent routing. An expert that a step does not read is new to the next step.",
    )


def _reuses() -> Chart:
    batches = _batches()
    dense = Series("any dense layer", batches.tolist(), batches.tolist())
    return Chart(
        title="Tokens that share a loaded expert",
        x="tokens in the step",
        y="tokens per expert",
        series=(
            dense,
            *(Series(name, batches.tolist(), _MoeModel(shape(name)).reuse(batches).tolist()) for name in _DRAWN),
        ),
        log_x=True,
        log_y=True,
    )


def _bytes() -> Chart:
    batches = _batches()
    names = (_DENSE, "gpt-oss-120b", "deepseek-v3", "kimi-k2")
    return Chart(
        title="Bytes of weights read per token",
        x="tokens in the step",
        y="GB per token",
        series=tuple(
            Series(name, batches.tolist(), (_bytes_a_token(shape(name), batches) / 1e9).tolist()) for name in names
        ),
        log_x=True,
        log_y=True,
        note="Weights as released: bf16 for llama-3.3-70b, fp8 for deepseek-v3 and kimi-k2, about 4 bits for the "
        "experts of gpt-oss-120b.",
    )
