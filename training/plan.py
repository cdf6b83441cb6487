"""What is trained, on how much, from which seeds: the family as it is shipped, and a small one for tests."""

from collections.abc import Mapping
from typing import NamedTuple

from training.export import StorageType
from training.model import ModelShape

# Weights of the families of problems: what two of the proposers see more of.
_MONEY_MIX = {"money": 2.0, "units": 2.0, "compare": 2.0, "stock": 1.0, "reverse": 1.0, "share": 1.0}
_STOCK_MIX = {"stock": 2.0, "reverse": 2.0, "share": 2.0, "money": 1.0, "units": 1.0, "compare": 1.0}


class SolverSpec(NamedTuple):
    """A model that solves problems by itself.

    `problems` is how many it sees, each once, the first of them of `seed`; `mix` how often each family; `kept` how its
    matrices are kept in the file.
    """

    name: str
    title: str
    shape: ModelShape
    problems: int
    seed: int
    kept: StorageType
    mix: Mapping[str, float] | None = None


class AggregatorSpec(NamedTuple):
    """The aggregator: begins as the member `base` and learns from `problems` with drafts of all proposers."""

    name: str
    title: str
    base: str
    problems: int
    seed: int
    kept: StorageType
    temperature: float = 0.7


class TrainingPlan(NamedTuple):
    """A whole family. `size` is tokens a batch; `held_out` how many problems each measurement takes."""

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
"""The family in the package: hours on a CPU."""

SMOKE = TrainingPlan(
    proposers=tuple(member._replace(problems=600) for member in FULL.proposers),
    aggregator=FULL.aggregator._replace(problems=200),
    single=FULL.single._replace(problems=200),
    size=2048,
    held_out=20,
)
"""The same steps in two minutes; what comes of it can do nothing."""

PLANS = {"full": FULL, "smoke": SMOKE}
