"""What is trained, on how much, from which seeds: the family as it is shipped, and a small one for tests."""

from collections.abc import Mapping
from typing import NamedTuple

from training.export import Kept
from training.model import Shape

# Weights of the families of problems: what two of the proposers see more of.
_BUYING = {"money": 2.0, "units": 2.0, "compare": 2.0, "stock": 1.0, "reverse": 1.0, "share": 1.0}
_KEEPING = {"stock": 2.0, "reverse": 2.0, "share": 2.0, "money": 1.0, "units": 1.0, "compare": 1.0}


class Member(NamedTuple):
    """A model that solves problems by itself.

    `problems` is how many it sees, each once, the first of them of `seed`; `mix` how often each family; `kept` how its
    matrices are kept in the file.
    """

    name: str
    title: str
    shape: Shape
    problems: int
    seed: int
    kept: Kept
    mix: Mapping[str, float] | None = None


class Teaching(NamedTuple):
    """The aggregator: begins as the member `base` and learns from `problems` with drafts of all proposers."""

    name: str
    title: str
    base: str
    problems: int
    seed: int
    kept: Kept
    temperature: float = 0.7


class Plan(NamedTuple):
    """A whole family. `size` is tokens a batch; `held_out` how many problems each measurement takes."""

    proposers: tuple[Member, ...]
    aggregator: Teaching
    single: Member
    size: int
    held_out: int


FULL = Plan(
    proposers=(
        Member("toy-dense", "Toy, dense", Shape(4, 96, 3, 256), 150_000, 10_000_000, "f16"),
        Member("toy-moe-a", "Toy, 8 experts", Shape(4, 96, 3, 128, 8, 2), 150_000, 20_000_000, "q8_0", _BUYING),
        Member("toy-moe-b", "Toy, 4 experts", Shape(5, 96, 3, 96, 4, 2), 150_000, 30_000_000, "f16", _KEEPING),
    ),
    aggregator=Teaching("toy-aggregator", "Toy, aggregator", "toy-dense", 40_000, 40_000_000, "f16"),
    single=Member("toy-single", "Toy, one larger model", Shape(5, 192, 6, 512), 135_000, 50_000_000, "q8_0"),
    size=4096,
    held_out=1000,
)
"""The family in the package: hours on a CPU."""

SMOKE = Plan(
    proposers=tuple(member._replace(problems=600) for member in FULL.proposers),
    aggregator=FULL.aggregator._replace(problems=200),
    single=FULL.single._replace(problems=200),
    size=2048,
    held_out=20,
)
"""The same steps in two minutes; what comes of it can do nothing."""

PLANS = {"full": FULL, "smoke": SMOKE}
