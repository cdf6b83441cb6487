"""Training plans: models, amounts of data and seeds. One plan is the shipped family, one is small and for tests."""

from collections.abc import Mapping
from typing import NamedTuple

from training.export import StorageType
from training.model import ModelShape

# The weights of the problem families in the training data of two proposers.
_MONEY_MIX = {"money": 2.0, "units": 2.0, "compare": 2.0, "stock": 1.0, "reverse": 1.0, "share": 1.0}
_STOCK_MIX = {"stock": 2.0, "reverse": 2.0, "share": 2.0, "money": 1.0, "units": 1.0, "compare": 1.0}


class SolverSpec(NamedTuple):
    """A model that solves problems without drafts.

    It is trained once on each of `problems` problems, starting at `seed`. `mix` weights the problem families, and
    `kept` is the storage type of its matrices in the file.
    """

    name: str
    title: str
    shape: ModelShape
    problems: int
    seed: int
    kept: StorageType
    mix: Mapping[str, float] | None = None


class AggregatorSpec(NamedTuple):
    """The aggregator. It starts from the weights of `base` and learns `problems` with drafts of all proposers."""

    name: str
    title: str
    base: str
    problems: int
    seed: int
    kept: StorageType
    temperature: float = 0.7


class TrainingPlan(NamedTuple):
    """A family of models. `size` is the tokens per batch, `held_out` the number of held-out problems to write."""

    proposers: tuple[SolverSpec, ...]
    aggregator: AggregatorSpec
    single: SolverSpec
    size: int
    held_out: int


FULL = TrainingPlan(
    proposers=(
        SolverSpec("toy-dense", "Toy, dense", ModelShape(4, 96, 3, 256), 150_000, 10_000_000, "f16"),
        SolverSpec(
            "toy-moe-a", "Toy, 8 experts", ModelShape(4, 96, 3, 128, 8, 2), 150_000, 20_000_000, "q8_0", _MONEY_MIX
        ),
        SolverSpec(
            "toy-moe-b", "Toy, 4 experts", ModelShape(5, 96, 3, 96, 4, 2), 150_000, 30_000_000, "f16", _STOCK_MIX
        ),
    ),
    aggregator=AggregatorSpec("toy-aggregator", "Toy, aggregator", "toy-dense", 40_000, 40_000_000, "f16"),
    single=SolverSpec("toy-single", "Toy, one larger model", ModelShape(5, 192, 6, 512), 135_000, 50_000_000, "q8_0"),
    size=4096,
    held_out=1000,
)
"""The family in the package. Training takes hours on a CPU."""

SMOKE = TrainingPlan(
    proposers=tuple(member._replace(problems=600) for member in FULL.proposers),
    aggregator=FULL.aggregator._replace(problems=200),
    single=FULL.single._replace(problems=200),
    size=2048,
    held_out=20,
)
"""The same steps in two minutes. The resulting models solve nothing."""

PLANS = {"full": FULL, "smoke": SMOKE}
