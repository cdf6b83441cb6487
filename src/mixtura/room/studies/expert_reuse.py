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
_ENOUGH = 8.0  # tokens an expert once loaded serves, from which reading it is no longer the matter
_NEW = (0.9, 0.1)  # share of experts that were not just read: above the first a set is different, below the second not
_SKEW = 1.0  # exponent of the power law that the sentence tries


class _MoeModel(NamedTuple):
    shape: ModelShape

    def activated_experts(self, batch: Array) -> Array:
        return distinct(batch, self.shape.experts, self.shape.used)

    def share(self, batch: Array) -> Array:
        return self.activated_experts(batch) / self.shape.experts

    def reuse(self, batch: Array) -> Array:
        return reuse(batch, self.shape.used, self.activated_experts(batch))

    def enough(self) -> float:
        """Return the least batch with which an expert serves `_ENOUGH` tokens."""
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
    """Count distinct experts, how often each serves, and the bytes of a token, by batch."""
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
            f"It holds when batches are small: of the experts that a step of {model.shape.name} wakes, {new[0]:.0%} "
            f"were not read in the step before with 1 token, {new[2]:.0%} with 32 and {new[4]:.2%} with 256. From a "
            f"few dozen tokens on most of each layer is read at every step, and what is lost is reuse. An expert that "
            f"was loaded serves {served[0]:.1f} tokens of 32 and {served[1]:.1f} of 256, a dense layer all of "
            f"them; serving {_ENOUGH:.0f} takes {digits(min(enough))} to "
            f"{digits(max(enough))} tokens, depending on the model. From 1 to 64 tokens the bytes of a token fall "
            f"{digits(float(per_token[0][0] / per_token[0][1]), 2)} times in {_DENSE} and "
            f"{digits(float(per_token[1][0] / per_token[1][1]), 2)} times in {model.shape.name}."
        ),
        assumption="Tokens choose their experts evenly and independently. Real routers are skewed and tokens of one "
        f"text are alike, so that fewer experts wake: with a popularity of rank^-{_SKEW:g}, 32 tokens of "
        f"{model.shape.name} wake {skewed:.0%} of a layer in place of {1 - new[2]:.0%}.",
        table=StudyTable(
            (
                "model",
                "experts a token",
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
        method="Arithmetic alone, nothing is measured or fitted: E (1 - (1 - k/E)^B) distinct experts of a layer wake "
        "for B tokens of k experts each. Two steps in a row are taken as independent, so the share of a step's experts "
        "that the step before did not read is 1 - D/E. Bytes are of weights as released, KV cache not counted.",
    )


def _bytes_a_token(model: ModelShape, batch: Array) -> Array:
    """Return the bytes of weights read in a step, over the tokens that it makes."""
    routed = model.memory() - model.unrouted_memory() - (0 if model.tied else 2.0 * model.embedding)
    share = _MoeModel(model).share(batch) if model.experts else 1.0
    return array((model.unrouted_memory() + routed * share) / batch)


def _batches() -> Array:
    return array(np.geomspace(1, 1024, 61))


def _shares() -> Chart:
    batches = _batches()
    return Chart(
        title="How much of a layer's experts a step reads",
        x="tokens in the step",
        y="share of the experts, %",
        series=tuple(
            Series(name, batches.tolist(), (100 * _MoeModel(shape(name)).share(batches)).tolist()) for name in _DRAWN
        ),
        log_x=True,
        note="Expected for even, independent routing. What is not read in a step is what is new to the next.",
    )


def _reuses() -> Chart:
    batches = _batches()
    dense = Series("any dense layer", batches.tolist(), batches.tolist())
    return Chart(
        title="How many tokens share what was loaded",
        x="tokens in the step",
        y="tokens an expert serves",
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
        title="Bytes of weights read for a token",
        x="tokens in the step",
        y="GB a token",
        series=tuple(
            Series(name, batches.tolist(), (_bytes_a_token(shape(name), batches) / 1e9).tolist()) for name in names
        ),
        log_x=True,
        log_y=True,
        note="Weights as released: bf16 for llama-3.3-70b, fp8 for deepseek-v3 and kimi-k2, about 4 bits for the "
        "experts of gpt-oss-120b.",
    )
