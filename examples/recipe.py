"""Write a recipe of your own, keep it as a file, and ask it.

Two toys draft twice each and their final answers are counted: kind "vote" makes no call of its own.
"""

import asyncio
import tempfile
from pathlib import Path

from mixtura import Aggregator, Layer, Mixture, Policy, Proposer, Recipe

RECIPE = Recipe(
    name="counted",
    layers=(
        Layer(
            proposers=(
                Proposer(model="toy-dense", provider="toy", temperature=0.7, samples=2, seed=1),
                Proposer(model="toy-moe-b", provider="toy", temperature=0.7, samples=2, seed=1),
            )
        ),
    ),
    aggregator=Aggregator(kind="vote"),
    policy=Policy(deadline=30.0, stop_when_agree=True),
)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "counted.toml")
        path.write_text(RECIPE.to_toml())
        mixture = Mixture(path)
    answer = asyncio.run(mixture.ask("Leo owns 6 bags with 16 shells in each. How many shells does Leo have?"))
    print(answer.text)
    print("; ".join(note.reason for note in answer.decisions))
